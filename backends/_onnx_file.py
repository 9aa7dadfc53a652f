"""A look into an ONNX file without the onnx package: metadata, operator domains, external data.

It follows the protobuf wire format along the few fields that matter, so that a bad file is refused before a
runtime acts on it. It does not check the graph: the runtime does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from bladescan.base.errors import DetectorError

# Field numbers of onnx.proto3.
_MODEL_GRAPH, _MODEL_OPSET, _MODEL_METADATA, _MODEL_FUNCTIONS = 7, 8, 14, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_FUNCTION_NODE, _FUNCTION_OPSET = 7, 9
_NODE_ATTRIBUTE, _ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH = 5, 5, 6
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES = 10, 11, 22, 23
_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION = 13, 14

# Message by message, the fields that lead to a tensor: field number -> kind of the message in it.
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {_MODEL_GRAPH: "graph", _MODEL_FUNCTIONS: "function"},
    "graph": {_GRAPH_NODE: "node", _GRAPH_INITIALIZER: "tensor", _GRAPH_SPARSE: "sparse"},
    "function": {_FUNCTION_NODE: "node"},
    "node": {_NODE_ATTRIBUTE: "attribute"},
    "attribute": {
        _ATTRIBUTE_TENSOR: "tensor",
        _ATTRIBUTE_TENSORS: "tensor",
        _ATTRIBUTE_GRAPH: "graph",
        _ATTRIBUTE_GRAPHS: "graph",
        _ATTRIBUTE_SPARSE: "sparse",
        _ATTRIBUTE_SPARSES: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
}
_MAX_DEPTH = 32
_WIRE_VARINT, _WIRE_BYTES = 0, 2
_WIRE_FIXED = {1: 8, 5: 4}  # wire type -> bytes


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """What a walk through an ONNX file found.

    Attributes:
        metadata: ``metadata_props``.
        domains: of the operator sets that the model imports; ``""`` is ONNX's own.
        has_external_data: whether any tensor's values lie in another file.
    """

    metadata: dict[str, str]
    domains: frozenset[str]
    has_external_data: bool


def read_onnx(data: bytes, *, where: str) -> OnnxFile:
    """Walk through an ONNX model without loading it.

    Args:
        data: the file.
        where: its name, for the error.

    Raises:
        DetectorError: it is not a complete ONNX model.
    """
    try:
        fields = list(_fields(memoryview(data)))
        if not any(number == _MODEL_GRAPH for number, _ in fields):
            raise ValueError("no graph")
        return OnnxFile(
            metadata=dict(_text_pair(value) for number, value in fields if number == _MODEL_METADATA),
            domains=_domains(fields),
            has_external_data=_is_external(memoryview(data), "model", 0),
        )
    except (ValueError, IndexError, TypeError) as exc:
        raise DetectorError(f"{where}: not a complete ONNX model ({exc})") from exc


def _domains(fields: list[tuple[int, memoryview | int]]) -> frozenset[str]:
    opsets = [value for number, value in fields if number == _MODEL_OPSET]
    for number, function in fields:
        if number == _MODEL_FUNCTIONS:
            opsets += [value for key, value in _fields(_view(function)) if key == _FUNCTION_OPSET]
    return frozenset(_text_field(opset, 1) for opset in opsets)


def _is_external(message: memoryview, kind: str, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    if kind == "tensor":
        return any(
            number == _TENSOR_EXTERNAL_DATA or (number == _TENSOR_DATA_LOCATION and value != 0)
            for number, value in _fields(message)
        )
    children = _CHILDREN[kind]
    return any(
        _is_external(_view(value), children[number], depth + 1)
        for number, value in _fields(message)
        if number in children
    )


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Yield number and value (bytes or integer) of every field of a protobuf message."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        if key & 7 == _WIRE_VARINT:
            value, at = _varint(message, at)
            yield key >> 3, value
            continue
        if key & 7 == _WIRE_BYTES:
            size, at = _varint(message, at)
        else:
            size = _WIRE_FIXED.get(key & 7) or _bad_field()
        if at + size > len(message):
            raise ValueError("cut short")
        yield key >> 3, message[at : at + size]
        at += size


def _bad_field() -> NoReturn:
    raise ValueError("bad field")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("bad number")


def _view(value: memoryview | int) -> memoryview:
    if isinstance(value, int):
        _bad_field()
    return value


def _text_field(value: memoryview | int, number: int) -> str:
    return next((bytes(_view(v)).decode() for key, v in _fields(_view(value)) if key == number), "")


def _text_pair(value: memoryview | int) -> tuple[str, str]:
    return _text_field(value, 1), _text_field(value, 2)
