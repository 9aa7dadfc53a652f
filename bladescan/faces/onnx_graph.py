"""A writer of small ONNX models: what onnxruntime takes, without the package onnx.

It knows the few fields of ``onnx.proto`` that a network of convolutions needs, and nothing of any network.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Attribute = int | str | list[int]

_IR_VERSION, _OPSET = 8, 17
_FLOAT = 1
_ANY_SHAPE: list[int | str] = [""] * 4
# Numbers of fields, and of the types of attributes.
_MODEL_IR_VERSION, _MODEL_GRAPH, _MODEL_OPSET, _OPSET_VERSION = 1, 7, 8, 2
_GRAPH_NODE, _GRAPH_NAME, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 1, 2, 5, 11, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_TYPE, _NODE_ATTRIBUTE = 1, 2, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INT, _ATTRIBUTE_STRING, _ATTRIBUTE_INTS, _ATTRIBUTE_TYPE = 1, 3, 4, 8, 20
_INT, _STRING, _INTS = 2, 3, 7
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 8, 9


class OnnxGraph:
    """A graph of float32 tensors in the making; names are given by it.

    Args:
        input_name: of the one input.
        input_shape: a number for each fixed dimension, a name for each free one.
    """

    def __init__(self, input_name: str, input_shape: list[int | str]) -> None:
        self._input = _value(input_name, input_shape)
        self._nodes = b""
        self._constants = b""
        self._n_names = 0

    def constant(self, values: NDArray[np.float32]) -> str:
        """The name of a new constant."""
        name = self._new_name()
        dims = b"".join(_number(_TENSOR_DIMS, size) for size in values.shape)
        raw = np.ascontiguousarray(values, "<f4").tobytes()
        tensor = dims + _number(_TENSOR_TYPE, _FLOAT) + _text(_TENSOR_NAME, name) + _bytes(_TENSOR_RAW, raw)
        self._constants += _bytes(_GRAPH_INITIALIZER, tensor)
        return name

    def add(self, operator: str, *inputs: str, **attributes: Attribute) -> str:
        """Add an operator; the name of its output."""
        output = self._new_name()
        node = b"".join(_text(_NODE_INPUT, name) for name in inputs)
        node += _text(_NODE_OUTPUT, output) + _text(_NODE_TYPE, operator)
        for name, value in attributes.items():
            node += _bytes(_NODE_ATTRIBUTE, _text(_ATTRIBUTE_NAME, name) + _attribute(value))
        self._nodes += _bytes(_GRAPH_NODE, node)
        return output

    def to_bytes(self, outputs: list[str]) -> bytes:
        """The model as a file's bytes.

        Args:
            outputs: names of the tensors of four dimensions that it gives, in this order.
        """
        graph = self._nodes + _text(_GRAPH_NAME, "network") + self._constants
        graph += _bytes(_GRAPH_INPUT, self._input)
        graph += b"".join(_bytes(_GRAPH_OUTPUT, _value(name, _ANY_SHAPE)) for name in outputs)
        opset = _bytes(_MODEL_OPSET, _number(_OPSET_VERSION, _OPSET))
        return _number(_MODEL_IR_VERSION, _IR_VERSION) + _bytes(_MODEL_GRAPH, graph) + opset

    def _new_name(self) -> str:
        self._n_names += 1
        return str(self._n_names)


def _varint(value: int) -> bytes:
    low = b""
    while value > 0x7F:
        low += bytes([value & 0x7F | 0x80])
        value >>= 7
    return low + bytes([value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _attribute(value: Attribute) -> bytes:
    if isinstance(value, int):
        return _number(_ATTRIBUTE_INT, value) + _number(_ATTRIBUTE_TYPE, _INT)
    if isinstance(value, str):
        return _text(_ATTRIBUTE_STRING, value) + _number(_ATTRIBUTE_TYPE, _STRING)
    return b"".join(_number(_ATTRIBUTE_INTS, item) for item in value) + _number(_ATTRIBUTE_TYPE, _INTS)


def _value(name: str, shape: list[int | str]) -> bytes:
    """A ValueInfoProto of float32; a dimension without a name or number may have any size."""
    sizes = (_number(1, size) if isinstance(size, int) else _text(2, size) if size else b"" for size in shape)
    tensor = _number(1, _FLOAT) + _bytes(2, b"".join(_bytes(1, size) for size in sizes))
    return _text(1, name) + _bytes(2, _bytes(1, tensor))
