"""A stranger's ONNX graph: read, searched for its input and its transformer blocks, and cut to what is used.

Nothing in it is run here, and nothing but tensors and the operators that onnxruntime has is let in.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import DetectorError, UnknownNameError, first_line
from bladescan.detectors.onnx_metadata import import_onnx
from bladescan.foreign.builder import opset_of
from bladescan.runtimes.onnx_session import open_session

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Operator sets that onnxruntime itself has; any other would need foreign code."""

MOST_BYTES = (1 << 31) - 1
"""What one ONNX file can hold."""

_AXES_INPUT_OPSET = 18
"""Since which all reductions have their axes as an input."""

PREFIX = "network/"
"""Of every name of the stranger's graph once it is part of ours."""

BLOCK = re.compile(r"block(-?\d+)")
"""How a transformer block is called whose tensor nobody needs to look up: block1 is the first."""


class ForeignGraph(NamedTuple):
    """A graph that has been read.

    Attributes:
        model: an ``onnx.ModelProto`` with all its weights inside.
        sha256: of the file, without those weights that lie in other files.
        where: the file's name, for errors.
    """

    model: Any
    sha256: str
    where: str


class GraphInput(NamedTuple):
    """The one input of a graph: pixels.

    Attributes:
        name: of the tensor.
        dtype: ``float32``, ``float16`` or ``uint8``.
        shape: a number, or None for what the file leaves open.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]


def read_graph(path: Path) -> ForeignGraph:
    """Read an ONNX file, with the weights that lie beside it.

    Raises:
        DetectorError: it is no ONNX model, is too large, or needs custom operators.
        MissingDependencyError: onnx is not installed.
    """
    onnx = import_onnx("a foreign network")
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        model = onnx.load(path)
    except OSError as exc:
        raise DetectorError(f"{path}: cannot be read: {exc.strerror or exc}") from exc
    except Exception as exc:  # protobuf's DecodeError, and onnx's own for what lies beside the file
        raise DetectorError(f"{path}: not a complete ONNX model: {first_line(exc)}") from exc
    return _modern(checked(ForeignGraph(model, sha256, path.name)))


def _modern(graph: ForeignGraph) -> ForeignGraph:
    """Bring a graph to operator set 18 if OpenVINO would misread our nodes in its own.

    Of the sets 13 to 17 it takes the axes of ReduceLogSum and ReduceLogSumExp for an input, and
    none is there, so it reduces over all axes. A graph that cannot be converted stays as it is.
    """
    if opset_of(graph.model, where=graph.where) not in range(13, _AXES_INPUT_OPSET):
        return graph
    try:
        return in_opset(graph, _AXES_INPUT_OPSET)
    except DetectorError:
        return graph


def in_opset(graph: ForeignGraph, opset: int) -> ForeignGraph:
    """Write a graph in a newer operator set; one that is written in it stays as it is.

    Raises:
        DetectorError: it cannot be converted, or computes something else then.
    """
    onnx = import_onnx("a foreign network")
    if opset_of(graph.model, where=graph.where) == opset:
        return graph
    try:
        if strange := {one.domain for one in graph.model.opset_import} - {"", "ai.onnx"}:
            raise ValueError(f"it has operators of {min(strange)!r}")
        model = onnx.inliner.inline_local_functions(graph.model) if graph.model.functions else graph.model
        converted = graph._replace(model=onnx.version_converter.convert_version(model, opset))
        _check_alike(graph, converted)
        return converted
    except Exception as exc:  # the converter's and onnxruntime's own unrelated classes, or AssertionError
        raise DetectorError(
            f"{graph.where}: cannot be converted to operator set {opset}: export it in that one, or the "
            f"other files in its own ({first_line(exc)})"
        ) from exc


def _check_alike(graph: ForeignGraph, converted: ForeignGraph) -> None:
    """Raise AssertionError if two graphs differ on one picture; where the first cannot run, nobody knows."""
    given = _made_up(input_of(graph))
    try:
        wanted = _outputs(graph, given)
    except Exception:  # whoever uses the graph says what it cannot run
        return
    for before, after in zip(wanted, _outputs(converted, given), strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)


def _made_up(given: GraphInput) -> dict[str, NDArray[Any]]:
    """Make up one picture; what the file leaves open is one picture, three channels, 224 pixels."""
    usual = (1, 3, 224, 224) if given.shape[3] != 3 or given.shape[1] == 3 else (1, 224, 224, 3)
    shape = [n or usual[axis] for axis, n in enumerate(given.shape)]
    picture = np.random.default_rng(0).random(shape) * (255 if given.dtype == "uint8" else 1)
    return {given.name: picture.astype(given.dtype)}


def _outputs(graph: ForeignGraph, given: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    found: list[NDArray[Any]] = open_session(graph.model.SerializeToString()).run(None, given)
    return found


def checked(graph: ForeignGraph) -> ForeignGraph:
    """Raise DetectorError unless the graph can become part of a detector; return it."""
    model, where = graph.model, graph.where
    if not model.graph.node:
        raise DetectorError(f"{where}: not a complete ONNX model: no graph")
    used = {node.domain for node in _all_nodes(model.graph)}
    used |= {node.domain for function in model.functions for node in function.node}
    own = {function.domain for function in model.functions}
    if foreign := sorted(used - DOMAINS - own):
        raise DetectorError(f"{where}: needs custom operators of {foreign[0]!r}, which are never loaded")
    if model.ByteSize() > MOST_BYTES:
        raise DetectorError(f"{where}: has more than 2 GB, which one ONNX file cannot hold")
    return graph


def input_of(graph: ForeignGraph) -> GraphInput:
    """Find the input that takes pixels.

    Raises:
        DetectorError: there is not exactly one, or it takes something else.
    """
    onnx = import_onnx("a foreign network")
    weights = {tensor.name for tensor in graph.model.graph.initializer}
    inputs = [given for given in graph.model.graph.input if given.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(given.name for given in inputs) or "none"
        raise DetectorError(f"{graph.where}: expected one input, for pixels; found {names}")
    tensor = inputs[0].type.tensor_type
    shape = tuple(dim.dim_value if dim.dim_value > 0 else None for dim in tensor.shape.dim)
    dtype = str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)) if tensor.elem_type else "none"
    if dtype not in ("float32", "float16", "uint8") or len(shape) != 4:
        raise DetectorError(
            f"{graph.where}: its input {inputs[0].name} is {dtype} of {len(shape)} dimensions; "
            "expected pixels, float32 of 4"
        )
    return GraphInput(inputs[0].name, dtype, shape)


def tensors_named(graph: ForeignGraph, wanted: Sequence[str]) -> tuple[str, ...]:
    """Turn what the user calls outputs into names of tensors.

    Args:
        graph: where they are.
        wanted: tensors by name, or ``blockN``; empty for the graph's own outputs.

    Raises:
        UnknownNameError: no node computes such a tensor.
        DetectorError: it has no transformer blocks, or fewer.
    """
    computed = {name for node in graph.model.graph.node for name in node.output}
    if not wanted:
        return tuple(output.name for output in graph.model.graph.output)
    found = []
    for name in wanted:
        block = BLOCK.fullmatch(name)
        if block and name not in computed:
            found.append(_block(graph, int(block[1])))
        elif name in computed:
            found.append(name)
        else:
            raise _unknown_tensor(graph, name, computed)
    return tuple(found)


def _unknown_tensor(graph: ForeignGraph, name: str, computed: set[str]) -> UnknownNameError:
    """Name the outputs, the blocks and what is spelt nearly so: a graph has thousands of tensors."""
    outputs = {output.name for output in graph.model.graph.output}
    blocks = {f"block{i + 1}" for i in range(len(transformer_blocks(graph.model.graph)))}
    near = difflib.get_close_matches(name, computed, n=3)
    return UnknownNameError(f"tensor of {graph.where}", name, {*outputs, *blocks, *near})


def _block(graph: ForeignGraph, number: int) -> str:
    blocks = transformer_blocks(graph.model.graph)
    place = number - 1 if number > 0 else number + len(blocks)
    if number == 0 or not 0 <= place < len(blocks):
        known = f"block1 to block{len(blocks)}, or names of tensors" if blocks else "names of tensors instead"
        raise DetectorError(
            f"{graph.where}: {len(blocks) or 'no'} transformer blocks are found in it, block{number} is not "
            f"among them: give {known}"
        )
    return blocks[place]


def transformer_blocks(graph: Any) -> list[str]:
    """Find what each block of a transformer gives to the next.

    A block adds twice to the stream of tokens that runs through all of them: what its attention says and what
    its perceptron says. So the stream is the longest chain of additions of two tensors that both depend on
    the pixels, and every second one of them ends a block. A chain of fewer than four is none.
    """
    depends = _dependent(graph)
    parents: dict[str, list[str]] = {}
    aliases: dict[str, str] = {}
    length: dict[str, int] = {}
    for node in graph.node:
        if node.op_type == "Identity":
            aliases[node.output[0]] = aliases.get(node.input[0], node.input[0])
        if node.op_type == "Add" and depends.issuperset(node.input):
            above = [aliases.get(name, name) for name in node.input]
            parents[node.output[0]] = [name for name in above if name in length]
            length[node.output[0]] = 1 + max((length[name] for name in parents[node.output[0]]), default=0)
    if max(length.values(), default=0) < 4:
        return []
    chain = [max(length, key=lambda name: length[name])]
    while parents[chain[-1]]:
        chain.append(max(parents[chain[-1]], key=lambda name: length[name]))
    return chain[0::2][: len(chain) // 2][::-1]


def _dependent(graph: Any) -> set[str]:
    """Names of the tensors whose values, not only shapes, depend on the input."""
    weights = {tensor.name for tensor in graph.initializer}
    found = {given.name for given in graph.input if given.name not in weights}
    for node in graph.node:
        if node.op_type not in ("Shape", "Size") and found.intersection(node.input):
            found.update(node.output)
    return found


def cut_down(model: Any, outputs: Iterable[str]) -> None:
    """Drop, in place, the nodes and weights that none of these tensors needs, and what is said of shapes.

    Nodes without a name get one: whoever puts some of them into integers has to say which.
    """
    graph = model.graph
    needed, kept = set(outputs), []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(_read_by(node))
    nodes = [type(node).FromString(node.SerializeToString()) for node in reversed(kept)]
    for place, node in enumerate(nodes):
        node.name = node.name or f"{node.op_type.lower()}_{place}"
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    weights = [type(tensor).FromString(tensor.SerializeToString()) for tensor in weights]
    for field in (graph.node, graph.initializer, graph.value_info, graph.output):
        del field[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)


def _read_by(node: Any) -> Iterator[str]:
    """Names that a node reads, those from within its bodies included."""
    yield from node.input
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs):
            for inner in body.node:
                yield from _read_by(inner)
            yield from (output.name for output in body.output)


def _all_nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from _all_nodes(body)
