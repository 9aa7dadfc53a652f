import pickle

import cv2
import numpy as np
import pytest

from bladescan.base.errors import RecipeError
from bladescan.pretext.manipulations import AUTOENCODE, UNTOUCHED
from bladescan.pretext.reconstruction import (
    MULTIPLE,
    Autoencoders,
    autoencoder_files,
    check_autoencoder,
    equally_sharp,
    reconstructed_pair,
    sharpness,
)
from bladescan.tasks.recipe import AutoencodeRecipe
from tests.pretext import graphs

MARKS = np.array([[85, 95], [135, 95], [110, 125], [92, 150], [128, 150]], np.float32)


def picture(height=230, width=220, seed=0):
    """Shapes and grain."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 20, width // 20, 3)).astype(np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def blur(tmp_path_factory):
    return graphs.blur(tmp_path_factory.mktemp("graphs") / "blur.onnx")


def pair(blur, seed=0, **recipe):
    rng = np.random.default_rng(seed)
    return reconstructed_pair(picture(), MARKS, Autoencoders((blur,)), AutoencodeRecipe(**recipe), rng)


# Files


def test_a_folder_stands_for_its_graphs_in_order(tmp_path):
    for name in ("b", "a"):
        graphs.blur(tmp_path / f"{name}.onnx")
    (tmp_path / "notes.txt").write_text("")
    assert autoencoder_files([str(tmp_path)]) == (tmp_path / "a.onnx", tmp_path / "b.onnx")


@pytest.mark.parametrize(("name", "said"), [("none.onnx", "no such file"), (".", "no .onnx file")])
def test_what_is_not_there_is_named(tmp_path, name, said):
    with pytest.raises(RecipeError, match=f"manipulations.autoencode.files: .*{said}"):
        autoencoder_files([str(tmp_path / name)])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (graphs.halves, r"gives \[1, 3, 64, 64\] for \[1, 3, 128, 128\]"),
        (graphs.flat, "one input"),
        (graphs.unit_range, "RGB from -1 to 1"),
        (lambda path: path.write_bytes(b"no graph") and path, "no autoencoder of pictures"),
    ],
)
def test_what_gives_no_picture_back_is_refused(tmp_path, make, said):
    path = tmp_path / "x.onnx"
    make(path)
    with pytest.raises(RecipeError, match=said):
        check_autoencoder(path)


def test_what_gives_the_picture_back_is_taken(blur):
    check_autoencoder(blur)


def test_a_reconstruction_is_what_the_graph_computes(blur):
    pixels = picture(48, 64)
    expected = cv2.blur(pixels.astype(np.float64), (3, 3), borderType=cv2.BORDER_REPLICATE)
    again = Autoencoders((blur,)).reconstruct(0, pixels)
    assert np.abs(again - expected).max() < 0.51


def test_a_graph_of_one_size_is_given_that_size(tmp_path):
    fixed = Autoencoders((graphs.blur(tmp_path / "fixed.onnx", side=32),))
    pixels = picture(48, 64)
    again = fixed.reconstruct(0, pixels)
    assert again.shape == pixels.shape and sharpness(again) < sharpness(pixels) / 2


def test_open_sessions_are_left_behind_where_autoencoders_are_sent(blur):
    opened = Autoencoders((blur,))
    first = opened.reconstruct(0, picture(32, 32))
    sent = pickle.loads(pickle.dumps(opened))
    assert np.array_equal(sent.reconstruct(0, picture(32, 32)), first)


# Pairs


def test_both_of_a_pair_have_the_drawn_size(blur):
    sides = set()
    for seed in range(12):
        made = pair(blur, seed, side=(96, 160))
        height, width = made.untouched.pixels.shape[:2]
        assert made.reconstructed.pixels.shape == (height, width, 3)
        assert height % MULTIPLE == width % MULTIPLE == 0 and 96 <= max(height, width) <= 160
        assert made.zoom == (width / 220, height / 230)
        sides.add(height)
    assert len(sides) > 2


def test_one_of_a_pair_is_manipulated_everywhere_and_one_is_not(blur):
    made = pair(blur)
    assert made.untouched[1:] == (UNTOUCHED, (0, 0, 0))
    assert made.reconstructed[1:] == (AUTOENCODE, (1, 1, 1))


def test_a_pair_differs_within_the_face_or_everywhere(blur):
    shares = [
        (made.untouched.pixels != made.reconstructed.pixels).any(-1).mean()
        for made in (pair(blur, seed, equal_sharpness=0.0) for seed in range(8))
    ]
    assert min(shares) < 0.6 and max(shares) > 0.9


def test_a_pair_depends_on_the_generator_alone(blur):
    first, again, other = pair(blur, 1), pair(blur, 1), pair(blur, 2)
    assert np.array_equal(first.reconstructed.pixels, again.reconstructed.pixels)
    assert first.reconstructed.pixels.shape != other.reconstructed.pixels.shape or not np.array_equal(
        first.reconstructed.pixels, other.reconstructed.pixels
    )


def test_neither_of_a_pair_is_sharper():
    photograph = picture()
    again = cv2.GaussianBlur(photograph, (0, 0), 0.8)
    kept, sharpened = 0, 0
    for seed in range(12):
        one, other = equally_sharp(photograph, again, np.random.default_rng(seed))
        assert sharpness(one) == pytest.approx(sharpness(other), rel=0.25)
        kept += other is again
        sharpened += sharpness(other) > 1.2 * sharpness(again)
    assert kept and sharpened


def test_a_reconstruction_that_is_sharper_already_leaves_the_photograph_as_it_is():
    photograph = picture()
    soft = cv2.GaussianBlur(photograph, (0, 0), 0.8)
    pairs = [equally_sharp(soft, photograph, np.random.default_rng(seed)) for seed in range(6)]
    unsharpened = [(one, other) for one, other in pairs if other is photograph]
    assert unsharpened and all(one is soft for one, _ in unsharpened)
