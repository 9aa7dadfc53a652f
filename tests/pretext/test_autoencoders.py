import pickle

import cv2
import numpy as np
import pytest
from onnx import TensorProto

from bladescan.base.errors import RecipeError
from bladescan.pretext.autoencoders import Autoencoders, autoencoder_files
from bladescan.pretext.reconstruction import sharpness
from bladescan.tasks.recipe import AutoencodeRecipe
from tests.foreign.test_reconstruction import naive_reconstruction, save_autoencoder
from tests.pretext import graphs
from tests.pretext.test_reconstruction import picture


def opened(*files, **recipe):
    return Autoencoders(AutoencodeRecipe(tuple(map(str, files)), **recipe))


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
        (graphs.halves, r"gives \[2, 3, 64, 64\] for pictures \[2, 3, 128, 128\]"),
        (graphs.flat, "expected pixels, float32 of 4"),
        (graphs.unit_range, r"manipulations.autoencode.range=\[LOW,HIGH\]"),
        (lambda path: path.write_bytes(b"no graph"), "not a complete ONNX model"),
    ],
)
def test_what_gives_no_picture_back_is_refused(tmp_path, make, said):
    make(tmp_path / "x.onnx")
    with pytest.raises(RecipeError, match=f"^manipulations.autoencode.files: .*x.onnx: .*{said}"):
        opened(tmp_path / "x.onnx").check()


def test_what_gives_the_picture_back_is_taken(tmp_path):
    opened(graphs.blur(tmp_path / "blur.onnx")).check()


@pytest.mark.parametrize(
    ("kind", "between", "multiple"),
    [
        ({"middle": 127.5}, (0.0, 255.0), 4),
        ({"middle": 0.5, "last": True, "block": 32}, (0.0, 1.0), 32),
        ({"dtype": TensorProto.FLOAT16, "block": 2}, (-1.0, 1.0), 2),
        ({"sides": (72, 72)}, (-1.0, 1.0), 1),
    ],
)
def test_what_an_encoder_takes_before_it_is_taken_here(tmp_path, kind, between, multiple):
    one = opened(save_autoencoder(tmp_path / "a.onnx", **kind), range=between)
    if kind.get("block") != 32:  # whose pictures are too coarse
        one.check()
    pixels = picture(64, 96)
    assert one.multiple(0) == multiple
    block = kind.get("block", 4)
    if "sides" not in kind:
        wanted = 255 * naive_reconstruction(pixels / 255, block)
        assert np.abs(one.reconstruct(0, pixels) - wanted).max() < 1.1
    assert one.reconstruct(0, pixels).shape == pixels.shape


def test_a_reconstruction_is_what_the_graph_computes(tmp_path):
    pixels = picture(48, 64)
    expected = cv2.blur(pixels.astype(np.float64), (3, 3), borderType=cv2.BORDER_REPLICATE)
    again = opened(graphs.blur(tmp_path / "blur.onnx")).reconstruct(0, pixels)
    assert np.abs(again - expected).max() < 0.51


def test_a_graph_of_one_size_is_given_that_size(tmp_path):
    fixed = opened(graphs.blur(tmp_path / "fixed.onnx", side=32))
    pixels = picture(48, 64)
    again = fixed.reconstruct(0, pixels)
    assert again.shape == pixels.shape and sharpness(again) < sharpness(pixels) / 2


def test_open_sessions_are_left_behind_where_autoencoders_are_sent(tmp_path):
    first_opened = opened(graphs.blur(tmp_path / "blur.onnx"))
    first = first_opened.reconstruct(0, picture(32, 32))
    sent = pickle.loads(pickle.dumps(first_opened))
    assert np.array_equal(sent.reconstruct(0, picture(32, 32)), first)
