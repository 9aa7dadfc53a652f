"""Any image encoder in ONNX to one graph from face crops to an embedding, tried before it is used."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import DetectorError, first_line
from bladescan.base.records import CROP_SIZE
from bladescan.detectors.manifest import GRAPH_ENCODER, EncoderSpec
from bladescan.detectors.onnx_metadata import import_onnx
from bladescan.foreign.builder import GraphBuilder, opset_of
from bladescan.foreign.layout import EncoderLayout
from bladescan.foreign.onnx_graph import (
    PREFIX,
    ForeignGraph,
    GraphInput,
    cut_down,
    input_of,
    tensors_named,
)
from bladescan.foreign.pixels import add_pixels, line_matrix
from bladescan.runtimes.onnx_session import UnloadableGraphError, open_session

CROPS, EMBEDDING = "crops", "embedding"
_TINY = 1e-12
_TRIED = (1, 3, 5)
"""Batch sizes in which every row has to come out alike; else crops are run one by one."""


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
    """

    name: str
    shape: tuple[int, ...]
    batch_axis: int


def build_encoder_graph(network: ForeignGraph, layout: EncoderLayout) -> EncoderGraph:
    """Put pixels before an encoder and one embedding behind it, and run the result.

    Raises:
        DetectorError: something has to be said of the encoder that its file does not tell, or it cannot run.
        UnknownNameError: an output is not in it.
        MissingDependencyError: onnx is not installed.
    """
    given = input_of(network)
    layout = _completed(layout, given, where=network.where)
    names = tensors_named(network, layout.output)
    model = _with_pixels(network, given, layout, names)
    outputs = _measured(model, [PREFIX + name for name in names], where=network.where)
    nodes = GraphBuilder(opset_of(model, where=network.where), "embedding/")
    parts = [part for output in outputs for part in _pooled(nodes, output, layout, network.where)]
    nodes.add("Concat", *parts, output=EMBEDDING, axis=1)
    append(model, nodes)
    set_outputs(model, {EMBEDDING: ("float32", ["n", None])})
    data: bytes = model.SerializeToString(deterministic=True)
    dim, batch = _tried(data, layout.batch, where=network.where)
    set_outputs(model, {EMBEDDING: ("float32", ["n", dim])})
    about = _about(network, layout, names, batch)
    spec = EncoderSpec(GRAPH_ENCODER, 0, dim, normalise=False, batch=batch)
    return EncoderGraph(model.SerializeToString(deterministic=True), spec, about)


def _completed(layout: EncoderLayout, given: GraphInput, *, where: str) -> EncoderLayout:
    """Fill in what the graph tells, and ask for what neither it nor the recipe does."""
    channels = layout.channels or ("last" if given.shape[3] == 3 and given.shape[1] != 3 else "first")
    sides = {side for side in (given.shape[2:] if channels == "first" else given.shape[1:3]) if side}
    if len(sides) > 1 or (layout.input and sides and layout.input not in sides):
        said = f", encoder.input={layout.input}" if layout.input else ""
        raise DetectorError(f"{where}: takes {' x '.join(map(str, sorted(sides)))} pixels{said}")
    side = layout.input or next(iter(sides), CROP_SIZE)
    if given.dtype == "uint8":
        layout = replace(layout, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    if layout.mean is None or layout.std is None:
        raise DetectorError(
            f"{where}: mean and deviation of its pixels are not known: give --set encoder.mean=R,G,B and "
            "--set encoder.std=R,G,B, or a known layout by --set encoder.recipe=NAME"
        )
    return replace(layout, channels=channels, input=side)


def _with_pixels(
    network: ForeignGraph, given: GraphInput, layout: EncoderLayout, names: tuple[str, ...]
) -> Any:
    """Copy the part of a network that these tensors need, fed with face crops."""
    onnx = import_onnx("a foreign network")
    model = type(network.model)()
    model.CopyFrom(network.model)
    cut_down(model, names)
    weights = {tensor.name for tensor in model.graph.initializer}
    spare = [one for one in model.graph.input if one.name != given.name]
    for one in spare:  # old files list their weights among the inputs
        model.graph.input.remove(one)
    assert given.name not in weights
    model = onnx.compose.add_prefix(model, PREFIX)
    assert layout.input is not None and layout.mean is not None and layout.std is not None
    nodes = GraphBuilder(opset_of(model, where=network.where), "pixels/")
    line = (
        None
        if layout.input == CROP_SIZE
        else line_matrix(CROP_SIZE, layout.input, layout.input, layout.resize)
    )
    pixels = add_pixels(
        nodes,
        CROPS,
        line=line,
        scale=layout.scale,
        mean=layout.mean,
        std=layout.std,
        channels_first=layout.channels == "first",
        dtype=given.dtype,
        bgr=layout.bgr,
    )
    nodes.add("Identity", pixels, output=PREFIX + given.name)
    set_crops_input(model, CROP_SIZE)
    prepend(model, nodes)
    return model


def set_crops_input(model: Any, size: int) -> None:
    """Make crops the only input of a model."""
    onnx = import_onnx("a foreign network")
    del model.graph.input[:]
    kind = onnx.TensorProto.UINT8
    model.graph.input.append(onnx.helper.make_tensor_value_info(CROPS, kind, ["n", size, size, 3]))


def prepend(model: Any, nodes: GraphBuilder) -> None:
    """Put nodes before those of a model."""
    theirs = [type(node).FromString(node.SerializeToString()) for node in model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend([*nodes.nodes, *theirs])
    model.graph.initializer.extend(nodes.initializers)


def append(model: Any, nodes: GraphBuilder) -> None:
    """Put nodes behind those of a model."""
    model.graph.node.extend(nodes.nodes)
    model.graph.initializer.extend(nodes.initializers)


def set_outputs(model: Any, outputs: dict[str, tuple[str, list[Any]]]) -> None:
    """Make these tensors the outputs of a model: type and shape by name."""
    onnx = import_onnx("a foreign network")
    del model.graph.output[:]
    for name, (dtype, shape) in outputs.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, kind, shape))


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
    return [_Output(n, tuple(a), _batch_axis(a, b)) for n, a, b in zip(names, one, two, strict=True)]


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


def _tried(data: bytes, batch: int | None, *, where: str) -> tuple[int, int]:
    """Run the encoder; return the length of the embedding and the most crops in one run, 0 for any number."""
    crops = seeded(max(_TRIED))
    try:
        session = open_session(data)
    except UnloadableGraphError as exc:
        raise DetectorError(f"{where}: onnxruntime cannot load it: {exc}") from exc
    alone = _run(session, crops, 1, where=where)
    if not np.isfinite(alone).all():
        raise DetectorError(f"{where}: gives numbers that are not finite")
    if batch is not None:
        return alone.shape[1], batch
    try:
        alike = all((_run(session, crops, size, where=where) == alone).all() for size in _TRIED[1:])
    except (DetectorError, ValueError):
        alike = False
    return alone.shape[1], 0 if alike else 1


def _run(session: Any, crops: NDArray[np.uint8], size: int, *, where: str) -> NDArray[np.float32]:
    try:
        parts = [
            session.run([EMBEDDING], {CROPS: crops[i : i + size]})[0] for i in range(0, len(crops), size)
        ]
    except Exception as exc:  # onnxruntime raises its own unrelated classes
        raise DetectorError(f"{where}: onnxruntime cannot run it: {first_line(exc)}") from exc
    found: NDArray[np.float32] = np.concatenate(parts)
    return found


def seeded(n: int) -> NDArray[np.uint8]:
    """Make up crops: coloured fields with grain."""
    rng = np.random.default_rng(0)
    fields = rng.integers(0, 200, (n, 7, 7, 3)).repeat(CROP_SIZE // 7, 1).repeat(CROP_SIZE // 7, 2)
    return (fields + rng.integers(0, 56, (n, CROP_SIZE, CROP_SIZE, 3))).astype(np.uint8)


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
