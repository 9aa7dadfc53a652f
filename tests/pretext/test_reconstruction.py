import cv2
import numpy as np
import pytest

from bladescan.pretext.autoencoders import Autoencoders
from bladescan.pretext.manipulations import AUTOENCODE, UNTOUCHED
from bladescan.pretext.reconstruction import (
    MULTIPLE,
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
    rng, asked = np.random.default_rng(seed), AutoencodeRecipe((str(blur),), **recipe)
    return reconstructed_pair(picture(), MARKS, Autoencoders(asked), asked, rng)


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
