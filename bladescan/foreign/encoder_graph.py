"""Any image encoder in ONNX to one graph from face crops to an embedding, tried before it is used."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any, NamedTuple

from bladescan.base.errors import DetectorError, first_line
from bladescan.base.records import CROP_SIZE
from bladescan.detectors.manifest import GRAPH_ENCODER, EncoderSpec
from bladescan.detectors.onnx_metadata import import_onnx
from bladescan.foreign.builder import GraphBuilder, opset_of
from bladescan.foreign.fed_network import (
    CROPS,
    EMBEDDING,
    append,
    completed,
    seeded,
    set_outputs,
    tried,
    with_pixels,
)
from bladescan.foreign.layout import EncoderLayout
from bladescan.foreign.movement import about_movement, add_copies, add_movement, blur_reach, copies_of
from bladescan.foreign.onnx_graph import (
    MOST_BYTES,
    PREFIX,
    ForeignGraph,
    GraphInput,
    input_of,
    read_graph,
    tensors_named,
)
from bladescan.foreign.pixels import line_matrix
from bladescan.foreign.reconstruction import Reconstructor, fitting_reconstructor, in_one_opset
from bladescan.runtimes.onnx_session import open_session

_TINY = 1e-12


class EncoderGraph(NamedTuple):
    """An encoder that runs.

    Attributes:
        data: ONNX from ``crops`` uint8 ``[n, 224, 224, 3]`` to ``embedding`` float32 ``[n, d]``.
        spec: for the manifest.
        about: what was found and used, as plain JSON values, for the manifest's provenance.
    """

    data: bytes
    spec: EncoderSpec
    about: dict[str, Any]


class _Output(NamedTuple):
    """A tensor of the network, and its shape for one crop.

    Attributes:
        name: of the tensor.
        shape: for one crop.
        batch_axis: where crops are counted.
        grows: two crops make it longer; otherwise the network runs one crop alone.
    """

    name: str
    shape: tuple[int, ...]
    batch_axis: int
    grows: bool


def build_encoder_graph(network: ForeignGraph, layout: EncoderLayout) -> EncoderGraph:
    """Put pixels before an encoder and one embedding behind it, and run the result.

    Raises:
        DetectorError: something has to be said of the encoder that its file does not tell, or it cannot run.
        UnknownNameError: an output is not in it.
        MissingDependencyError: onnx is not installed.
    """
    graphs = [read_graph(Path(name)) for name in layout.autoencoder]
    if graphs:
        network, *graphs = in_one_opset([network, *graphs])
    given = input_of(network)
    layout = completed(layout, given, key="encoder", where=network.where)
    side = layout.input or CROP_SIZE
    names = tensors_named(network, layout.output)
    line = None if side == CROP_SIZE else line_matrix(CROP_SIZE, side, side, layout.resize)
    model = with_pixels(network, given, layout, line, names)
    outputs = _measured(model, [PREFIX + name for name in names], where=network.where)
    n_copies = len(copies_of(layout))
    reconstructors: list[Reconstructor] = []
    if n_copies:
        _check_movable(given, outputs, layout, where=network.where)
        reconstructors = [fitting_reconstructor(graph, layout) for graph in graphs]
        change = functools.partial(add_copies, layout=layout, reconstructors=reconstructors)
        model = with_pixels(network, given, layout, line, names, change)
        _admit(model, reconstructors, where=network.where)
    nodes = GraphBuilder(opset_of(model, where=network.where), "embedding/")
    parts = [part for output in outputs for part in _pooled(nodes, output, layout, network.where)]
    rows = nodes.add("Concat", *parts, output="" if n_copies else EMBEDDING, axis=1)
    if n_copies:
        add_movement(nodes, rows, n_copies, EMBEDDING)
    append(model, nodes)
    set_outputs(model, {EMBEDDING: ("float32", ["n", None])})
    data: bytes = model.SerializeToString(deterministic=True)
    (dim, *_), batch = tried(data, EMBEDDING, layout.batch, where=network.where)
    set_outputs(model, {EMBEDDING: ("float32", ["n", dim])})
    about = _about(network, layout, names, batch) | about_movement(layout, reconstructors)
    spec = EncoderSpec(GRAPH_ENCODER, 0, dim, normalise=False, batch=batch)
    return EncoderGraph(model.SerializeToString(deterministic=True), spec, about)


def _measured(model: Any, names: list[str], *, where: str) -> list[_Output]:
    """Run one crop, and two if it can, to see the shapes of tensors and on which axis crops are counted."""
    onnx = import_onnx("a foreign network")
    probe = type(model)()
    probe.CopyFrom(model)
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names))
    try:
        session = open_session(probe.SerializeToString())
        one = [value.shape for value in session.run(names, {CROPS: seeded(1)})]
    except Exception as exc:  # UnloadableGraphError, and onnxruntime's own unrelated classes
        raise DetectorError(f"{where}: onnxruntime cannot run it: {first_line(exc)}") from exc
    try:
        two = [value.shape for value in session.run(names, {CROPS: seeded(2)})]
    except Exception:  # a batch of one is written into the file
        two = one
    return [_Output(n, tuple(a), _batch_axis(a, b), a != b) for n, a, b in zip(names, one, two, strict=True)]


def _check_movable(given: GraphInput, outputs: list[_Output], layout: EncoderLayout, *, where: str) -> None:
    """Raise DetectorError unless a picture and its changed copies can go through the network together."""
    side = layout.input or CROP_SIZE
    if given.dtype == "uint8":
        raise DetectorError(
            f"{where}: takes bytes, and encoder.movement changes normalised pixels: export it without its "
            "own preprocessing"
        )
    if not all(output.grows for output in outputs):
        raise DetectorError(
            f"{where}: runs one picture at a time, and encoder.movement compares a picture with its copies "
            "in one run: export it with an open batch axis"
        )
    if "blur" in copies_of(layout) and blur_reach(layout.blur_sigma) >= side:
        raise DetectorError(
            f"{where}: a blur of encoder.blur_sigma={layout.blur_sigma:g} reaches "
            f"{blur_reach(layout.blur_sigma)} pixels, and it takes {side}"
        )


def _admit(model: Any, reconstructors: list[Reconstructor], *, where: str) -> None:
    """Declare the operator sets of autoencoders in the model that they are part of now.

    Raises:
        DetectorError: two of them disagree, or all is too large together.
    """
    known = {opset.domain: opset.version for opset in model.opset_import}
    for graph in (one.graph for one in reconstructors):
        model.ir_version = max(model.ir_version, graph.model.ir_version)
        for opset in graph.model.opset_import:
            if known.setdefault(opset.domain, opset.version) != opset.version and opset.domain:
                raise DetectorError(f"{graph.where}: and {where} want different versions of {opset.domain!r}")
            if opset.domain not in {one.domain for one in model.opset_import}:
                model.opset_import.append(opset)
    if model.ByteSize() > MOST_BYTES:
        raise DetectorError(f"{where}: with its autoencoders has more than 2 GB, which one file cannot hold")


def _batch_axis(one: tuple[int, ...], two: tuple[int, ...]) -> int:
    """Find the axis that grew; for a file made for one crop, the first that is 1 long."""
    grown = [axis for axis, (a, b) in enumerate(zip(one, two, strict=False)) if (a, b) == (1, 2)]
    return (grown or [axis for axis, a in enumerate(one) if a == 1] or [0])[0]


def _pooled(nodes: GraphBuilder, output: _Output, layout: EncoderLayout, where: str) -> list[str]:
    """Add what makes vectors ``[n, d]`` of one tensor of the network."""
    shape, tensor = list(output.shape), nodes.cast(output.name, "float32")
    if not 2 <= len(shape) <= 4 or shape[output.batch_axis] != 1:
        raise DetectorError(
            f"{where}: {output.name.removeprefix(PREFIX)} is {shape} for one crop: expected a vector, a "
            "sequence of tokens or a map of features: choose tensors by --set encoder.output=NAME,NAME"
        )
    if output.batch_axis:
        order = [output.batch_axis, *(axis for axis in range(len(shape)) if axis != output.batch_axis)]
        tensor, shape = nodes.add("Transpose", tensor, perm=order), [shape[axis] for axis in order]
    if len(shape) == 2:
        return [tensor]
    if "places" in layout.tokens:
        return [_of_places(nodes, tensor, shape)]
    if len(shape) == 4:
        last = shape[1] == shape[2] != shape[3]
        return _spread(nodes, tensor, [1, 2] if last else [2, 3], layout)
    return _of_tokens(nodes, tensor, shape[1], layout, where)


def _of_tokens(nodes: GraphBuilder, tensor: str, n: int, layout: EncoderLayout, where: str) -> list[str]:
    """Take the class token and the patches apart: patches fill a square, what stands before them is none."""
    n_before = n - math.isqrt(n) ** 2
    found = []
    if "class" in layout.tokens and (n_before or n == 1):
        found.append(nodes.add("Gather", tensor, nodes.constant(0, "int64"), axis=1))
    elif "class" in layout.tokens and layout.tokens == ("class",):
        raise DetectorError(f"{where}: {n} tokens are patches alone: give --set encoder.tokens=mean")
    if n > 1 and set(layout.tokens) - {"class"}:
        if n_before:
            ends = (nodes.constant([value], "int64") for value in (n_before, n, 1))
            tensor = nodes.add("Slice", tensor, *ends)
        found += _spread(nodes, tensor, [1], layout)
    return found


def _of_places(nodes: GraphBuilder, tensor: str, shape: list[int]) -> str:
    """Add the direction of every token, or of every place of a map, one behind the other.

    As in LPIPS, without its learned weights: cosine distance of such rows is the mean over places of that of
    their features. Each is divided by the root of their number, so that several tensors count alike.
    """
    axis = 1 if len(shape) == 4 and not shape[1] == shape[2] != shape[3] else len(shape) - 1
    n_places = math.prod(shape[1:]) // shape[axis]
    squares = nodes.reduce("ReduceSum", nodes.add("Mul", tensor, tensor), [axis], keep=True)
    length = nodes.add("Sqrt", nodes.add("Add", squares, nodes.constant(_TINY)))
    directions = nodes.add("Div", tensor, nodes.add("Mul", length, nodes.constant(n_places**0.5)))
    return nodes.add("Flatten", directions, axis=1)


def _spread(nodes: GraphBuilder, tensor: str, axes: list[int], layout: EncoderLayout) -> list[str]:
    """Add the mean of patches, and the deviation from it."""
    found = []
    mean = nodes.reduce("ReduceMean", tensor, axes, keep=True)
    if "mean" in layout.tokens or "deviation" not in layout.tokens:
        found.append(nodes.reduce("ReduceMean", tensor, axes))
    if "deviation" in layout.tokens:
        off = nodes.add("Sub", tensor, mean)
        variance = nodes.reduce("ReduceMean", nodes.add("Mul", off, off), axes)
        found.append(nodes.add("Sqrt", nodes.add("Add", variance, nodes.constant(_TINY))))
    return found


def _about(
    network: ForeignGraph, layout: EncoderLayout, names: tuple[str, ...], batch: int
) -> dict[str, Any]:
    return {
        "file": network.where,
        "sha256": network.sha256,
        "name": layout.name,
        "source": layout.source,
        "input": layout.input,
        "channels": layout.channels,
        "scale": layout.scale,
        "mean": list(layout.mean or ()),
        "std": list(layout.std or ()),
        "resize": layout.resize,
        "output": list(names),
        "tokens": list(layout.tokens),
        "batch": batch,
    }
