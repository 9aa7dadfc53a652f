"""AEROBLADE: how far a picture's embedding is from that of what an autoencoder makes of it."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from bladescan.base.errors import DetectorError, RecipeError
from bladescan.fitting.features import open_encoder
from bladescan.foreign.fed_network import seeded
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.onnx_session import open_session
from tests.foreign.networks import MEAN, STD, save_convolution
from tests.foreign.test_encoder_graph import built, embedded, one_by_one, pixels_of
from tests.foreign.test_movement import convolution, naive_distance  # noqa: F401 (a fixture)

GAIN = 0.8
"""The autoencoders of these tests keep means of blocks, paler by so much about the middle of the range."""


def save_autoencoder(
    path,
    *,
    block=4,
    sides=("h", "w"),
    n="n",
    opset=17,
    middle=0.0,
    last=False,
    dtype=TensorProto.FLOAT,
    more=(),
):
    """Save what gives means of blocks back, ``GAIN (mean - middle) + middle``: averaged, then repeated."""
    mean = np.zeros((3, 3, block, block), np.float32)
    back = np.zeros((3, 3, block, block), np.float32)
    for c in range(3):
        mean[c, c], back[c, c] = 1 / block**2, 1
    weights = {
        "mean": mean,
        "back": back,
        "gain": np.float32(GAIN),
        "middle": np.array((1 - GAIN) * middle, np.float32),
        "shape": np.array([1, 3, 56, 56]),
    }
    x, nodes = "picture", []
    if dtype != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", [x], ["floats"], to=TensorProto.FLOAT))
        x = "floats"
    if last:
        nodes.append(helper.make_node("Transpose", [x], ["first"], perm=[0, 3, 1, 2]))
        x = "first"
    nodes += [
        helper.make_node("Conv", [x, "mean"], ["latent"], strides=[block, block]),
        helper.make_node("Mul", ["latent", "gain"], ["paler"]),
        helper.make_node("Add", ["paler", "middle"], ["coded"]),
        helper.make_node("ConvTranspose", ["coded", "back"], ["made"], strides=[block, block]),
        *more,
    ]
    end = nodes[-1].output[0]
    if last:
        nodes.append(helper.make_node("Transpose", [end], ["shown"], perm=[0, 2, 3, 1]))
        end = "shown"
    if dtype != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", [end], ["cast"], to=dtype))
        end = "cast"
    shape = [n, *sides, 3] if last else [n, 3, *sides]
    graph = helper.make_graph(
        nodes,
        "autoencoder",
        [helper.make_tensor_value_info("picture", dtype, shape)],
        [helper.make_tensor_value_info(end, dtype, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, path)
    return path


def naive_reconstruction(levels, block, middle=0.5):
    """Means of blocks of ``levels`` in 0 to 1, ``[h, w, 3]``; what stands over the edge is mirrored in."""
    height, width = levels.shape[:2]
    more = -height % block, -width % block
    x = np.pad(levels, ((0, more[0]), (0, more[1]), (0, 0)), mode="reflect")
    made = np.empty_like(x)
    for top in range(0, x.shape[0], block):
        for left in range(0, x.shape[1], block):
            part = x[top : top + block, left : left + block].mean((0, 1))
            made[top : top + block, left : left + block] = GAIN * (part - middle) + middle
    return np.clip(made[:height, :width], 0, 1)


def moved(path, autoencoders, *changes):
    files = ",".join(map(str, autoencoders))
    said = ("encoder.movement=reconstruction", f"encoder.autoencoder={files}", "encoder.output=vector")
    return built(path, *said, *changes)


def naive_scores(network, crops, blocks):
    """The least distance over autoencoders."""
    found = []
    for crop in crops:
        levels = crop / 255.0
        distances = [
            naive_distance(network(normalised(levels)), network(normalised(naive_reconstruction(levels, b))))
            for b in blocks
        ]
        found.append(min(distances))
    return found


def normalised(levels):
    return ((levels - MEAN) / STD).transpose(2, 0, 1)


@pytest.mark.parametrize(
    ("kind", "range_"),
    [({}, "-1,1"), ({"middle": 0.5}, "0,1"), ({"middle": 127.5}, "0,255"), ({"last": True}, "-1,1")],
)
def test_the_graph_gives_what_a_naive_loop_gives(convolution, tmp_path, kind, range_):  # noqa: F811
    path, network = convolution
    autoencoder = save_autoencoder(tmp_path / "a.onnx", **kind)
    crops = seeded(3)
    detector = moved(path, [autoencoder], f"encoder.autoencoder_range={range_}")
    found = embedded(detector.graph, crops)
    assert found.shape == (3, 1) and detector.manifest.encoder.embedding_dim == 1
    np.testing.assert_allclose(np.exp(found[:, 0]), naive_scores(network, crops, [4]), rtol=2e-3)


def test_of_several_autoencoders_the_least_distance_counts(convolution, tmp_path):  # noqa: F811
    path, network = convolution
    files = [save_autoencoder(tmp_path / f"{b}.onnx", block=b) for b in (2, 8, 4)]
    crops = seeded(2)
    found = np.exp(embedded(moved(path, files).graph, crops)[:, 0])
    np.testing.assert_allclose(found, naive_scores(network, crops, [2, 8, 4]), rtol=2e-3)
    alone = [np.exp(embedded(moved(path, [file]).graph, crops)[:, 0]) for file in files]
    np.testing.assert_allclose(found, np.min(alone, 0), rtol=1e-5)
    assert (np.argmin(alone, 0) == 0).all()


@pytest.mark.parametrize(("block", "sides", "side"), [(16, ("h", "w"), 64), (4, (72, 72), 72)])
def test_pictures_are_mirrored_at_the_edge_where_sides_do_not_fit(tmp_path, block, sides, side):
    path = tmp_path / "c.onnx"
    weights = torch.from_numpy(save_convolution(path)).double()

    def network(pixels):
        x = torch.from_numpy(np.asarray(pixels, float)[None])
        return torch.relu(torch.conv2d(x, weights, stride=8)).mean((2, 3))[0].numpy()

    # 56 is no multiple of 16, and the convolution of blocks cuts off what is over.
    autoencoder = save_autoencoder(tmp_path / "a.onnx", block=block, sides=sides)
    detector = moved(path, [autoencoder])
    assert detector.manifest.provenance["encoder"]["autoencoders"][0]["side"] == side
    crops = seeded(2)
    wanted = []
    for x in pixels_of(crops, 56).double().numpy():
        levels = x.transpose(1, 2, 0) * STD + MEAN
        made = naive_reconstruction(
            np.pad(levels, ((0, side - 56), (0, side - 56), (0, 0)), "reflect"), block
        )
        wanted.append(naive_distance(network(x), network(normalised(made[:56, :56]))))
    np.testing.assert_allclose(np.exp(embedded(detector.graph, crops)[:, 0]), wanted, rtol=0.03)


def test_places_are_compared_one_by_one_as_lpips_does(tmp_path):
    path = tmp_path / "c.onnx"
    weights = torch.from_numpy(save_convolution(path, shape=("n", 3, 224, 224))).double()
    crops = seeded(2)
    changes = ("encoder.output=map,conv", "encoder.tokens=places")
    found = embedded(moved(path, [save_autoencoder(tmp_path / "a.onnx")], *changes).graph, crops)

    def maps(levels):
        conv = torch.conv2d(torch.from_numpy(normalised(levels)[None]), weights, stride=8)[0].numpy()
        return np.maximum(conv, 0), conv

    for crop, row in zip(crops, found, strict=True):
        levels = crop / 255.0
        by_map = []
        for a, b in zip(maps(levels), maps(naive_reconstruction(levels, 4)), strict=True):
            a, b = (m / np.sqrt((m**2).sum(0) + 1e-12) for m in (a, b))
            here = (a**2).sum(0) > 0.5  # a place where all is zero has no direction
            assert here.mean() > 0.9
            by_map.append(((a - b) ** 2).sum(0).mean() / 2)
        assert np.exp(row[0]) == pytest.approx(np.mean(by_map), rel=0.05)


@pytest.mark.parametrize(("opset", "theirs"), [(11, 11), (13, 17), (17, 13), (20, 17)])
def test_a_row_is_the_same_in_any_batch_and_operator_sets_are_brought_together(tmp_path, opset, theirs):
    save_convolution(tmp_path / "c.onnx", opset=opset)
    files = [save_autoencoder(tmp_path / f"{b}.onnx", block=b, opset=theirs) for b in (2, 4)]
    detector = moved(tmp_path / "c.onnx", files)
    crops = seeded(7)
    together = embedded(detector.graph, crops)
    assert (together == one_by_one(detector, crops)).all() and len(np.unique(together)) == 7
    black = np.zeros((1, 224, 224, 3), np.uint8)
    assert np.isfinite(embedded(detector.graph, black)).all()


def test_half_precision_and_blue_first_are_taken(tmp_path):
    save_convolution(tmp_path / "c.onnx")
    half = save_autoencoder(tmp_path / "half.onnx", dtype=TensorProto.FLOAT16)
    full = save_autoencoder(tmp_path / "full.onnx")
    crops = seeded(2)
    wanted = embedded(moved(tmp_path / "c.onnx", [full]).graph, crops)
    np.testing.assert_allclose(embedded(moved(tmp_path / "c.onnx", [half]).graph, crops), wanted, atol=0.05)
    # This autoencoder treats colours alike: with blue first everywhere, the embedding alone differs.
    assert not np.allclose(
        embedded(moved(tmp_path / "c.onnx", [full], "encoder.bgr=true").graph, crops), wanted
    )


def test_what_was_used_is_stated_without_its_folder(tmp_path):
    save_convolution(tmp_path / "c.onnx")
    file = save_autoencoder(tmp_path / "a.onnx")
    about = moved(tmp_path / "c.onnx", [file]).manifest.provenance["encoder"]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert about["movement"] == "reconstruction" and about["autoencoder_range"] == [-1.0, 1.0]
    assert about["autoencoders"] == [{"file": "a.onnx", "sha256": digest, "side": 56}]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ({"sides": (48, 48)}, "takes 48 pixels, and the encoder 56 x 56"),
        ({"sides": (512, 512)}, "takes 512 pixels, and the encoder 56 x 56"),
        ({"sides": (56, 64)}, "takes 56 x 64 pixels: export it with open sides"),
        (
            {"n": 1, "more": [helper.make_node("Reshape", ["made", "shape"], ["flat"])]},
            "cannot run two pictures",
        ),
        ({"more": [helper.make_node("Neg", ["made"], ["dark"])]}, "does not give pictures back"),
        ({"more": [helper.make_node("RandomNormalLike", ["made"], ["r"])]}, "draws at random"),
        (
            {"more": [helper.make_node("GlobalAveragePool", ["made"], ["p"])]},
            r"gives \[2, 3, 1, 1\]",
        ),
        ({"dtype": TensorProto.UINT8}, "takes uint8"),
        ({"opset": 10}, "operator set 10; at least 11"),
    ],
)
def test_a_file_that_is_no_autoencoder_for_this_is_refused(tmp_path, kind, message):
    save_convolution(tmp_path / "c.onnx")
    save_autoencoder(tmp_path / "a.onnx", **kind)
    with pytest.raises(DetectorError, match=message) as raised:
        moved(tmp_path / "c.onnx", [tmp_path / "a.onnx"])
    assert "\n" not in str(raised.value)


def test_a_wrong_range_says_which_key_mends_it(tmp_path):
    save_convolution(tmp_path / "c.onnx")
    save_autoencoder(tmp_path / "a.onnx", middle=127.5)
    with pytest.raises(DetectorError, match="encoder.autoencoder_range=LOW,HIGH"):
        moved(tmp_path / "c.onnx", [tmp_path / "a.onnx"])


def test_hostile_files_are_one_clear_line(tmp_path):
    save_convolution(tmp_path / "c.onnx")
    file, other = tmp_path / "a.onnx", tmp_path / "classifier.onnx"
    whole = save_autoencoder(file).read_bytes()
    save_convolution(other)
    for data in (b"", b"\x00" * 64, whole[: len(whole) // 2], other.read_bytes()):
        file.write_bytes(data)
        with pytest.raises(DetectorError, match=r"^[^\n]*a\.onnx[^\n]*$"):
            moved(tmp_path / "c.onnx", [file])
    with pytest.raises(DetectorError, match="none.onnx: cannot be read"):
        moved(tmp_path / "c.onnx", [tmp_path / "none.onnx"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["encoder.movement=reconstruction"], "reconstruction needs an ONNX file"),
        (["encoder.autoencoder=a.onnx"], "give encoder.movement=reconstruction as well"),
        (["encoder.movement=rigid", "encoder.autoencoder=a.onnx"], "give encoder.movement=reconstruction"),
        (["encoder.autoencoder_range=1,0"], "encoder.autoencoder_range: got 1, 0"),
        (["encoder.tokens=places"], "places is for an encoder.movement, and stands alone"),
        (["encoder.movement=rigid", "encoder.tokens=mean,places"], "and stands alone"),
    ],
)
def test_keys_that_do_not_go_together_are_said(tmp_path, changes, message):
    save_convolution(tmp_path / "c.onnx")
    with pytest.raises(RecipeError, match=message):
        built(tmp_path / "c.onnx", *changes)


def test_the_file_holds_the_autoencoder_once_and_no_other_output(tmp_path):
    save_convolution(tmp_path / "c.onnx")
    model = onnx.load_from_string(moved(tmp_path / "c.onnx", [save_autoencoder(tmp_path / "a.onnx")]).graph)
    assert [o.name for o in model.graph.output] == ["embedding"] and len(model.graph.input) == 1
    assert sum(node.op_type == "ConvTranspose" for node in model.graph.node) == 1
    assert open_session(model.SerializeToString()).get_outputs()[0].name == "embedding"


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_every_backend_gives_the_same_movement(tmp_path, backend):
    if backend == "openvino":
        pytest.importorskip("openvino")
    save_convolution(tmp_path / "c.onnx")
    files = [save_autoencoder(tmp_path / f"{b}.onnx", block=b) for b in (2, 4)]
    detector, crops = moved(tmp_path / "c.onnx", files), seeded(3)
    with open_encoder(detector, backend, BackendSettings(threads=1)) as opened:
        found = opened.embed(crops)
    np.testing.assert_allclose(found, embedded(detector.graph, crops), atol=2e-3)
