"""A stranger's network fed with our face crops, as one graph that is tried before it is used."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import DetectorError, first_line
from bladescan.base.records import CROP_SIZE
from bladescan.detectors.onnx_metadata import import_onnx
from bladescan.foreign.builder import GraphBuilder, opset_of
from bladescan.foreign.layout import PixelLayout
from bladescan.foreign.onnx_graph import PREFIX, ForeignGraph, GraphInput, cut_down
from bladescan.foreign.pixels import Change, add_pixels
from bladescan.runtimes.onnx_session import UnloadableGraphError, open_session

AnyLayout = TypeVar("AnyLayout", bound=PixelLayout)

CROPS, EMBEDDING = "crops", "embedding"
_TRIED = (1, 3, 5)
"""Batch sizes in which every row has to come out alike; else crops are run one by one."""


def completed(layout: AnyLayout, given: GraphInput, *, key: str, where: str) -> AnyLayout:
    """Fill in what the graph tells, and ask for what neither it nor the recipe does.

    Args:
        layout: what is known.
        given: the input of the graph.
        key: what its keys begin with on the command line.
        where: the file's name, for errors.

    Raises:
        DetectorError: sizes that contradict each other, or a mean and deviation that nobody knows.
    """
    channels = layout.channels or ("last" if given.shape[3] == 3 and given.shape[1] != 3 else "first")
    sides = {side for side in (given.shape[2:] if channels == "first" else given.shape[1:3]) if side}
    if len(sides) > 1 or (layout.input and sides and layout.input not in sides):
        said = f", {key}.input={layout.input}" if layout.input else ""
        raise DetectorError(f"{where}: takes {' x '.join(map(str, sorted(sides)))} pixels{said}")
    side = layout.input or next(iter(sides), CROP_SIZE)
    if given.dtype == "uint8":
        layout = replace(layout, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    if layout.mean is None or layout.std is None:
        raise DetectorError(
            f"{where}: mean and deviation of its pixels are not known: give --set {key}.mean=R,G,B and "
            f"--set {key}.std=R,G,B, or a known layout by --set {key}.recipe=NAME"
        )
    return replace(layout, channels=channels, input=side)


def with_pixels(
    network: ForeignGraph,
    given: GraphInput,
    layout: PixelLayout,
    line: NDArray[np.float64] | None,
    names: tuple[str, ...],
    change: Change | None = None,
) -> Any:
    """Copy the part of a network that some tensors need, fed with face crops.

    Args:
        network: it stays as it is.
        given: its input.
        layout: completed, see `completed`.
        line: how a line of pixels is resized and cut, see `bladescan.foreign.pixels.line_matrix`.
        names: of the tensors.
        change: applied to the normalised pixels; None for nothing.
    """
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
    assert layout.mean is not None and layout.std is not None
    nodes = GraphBuilder(opset_of(model, where=network.where), "pixels/")
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
        change=change,
    )
    nodes.add("Identity", pixels, output=PREFIX + given.name)
    _set_crops_input(model, CROP_SIZE)
    _prepend(model, nodes)
    return model


def _set_crops_input(model: Any, size: int) -> None:
    """Make crops the only input of a model."""
    onnx = import_onnx("a foreign network")
    del model.graph.input[:]
    kind = onnx.TensorProto.UINT8
    model.graph.input.append(onnx.helper.make_tensor_value_info(CROPS, kind, ["n", size, size, 3]))


def _prepend(model: Any, nodes: GraphBuilder) -> None:
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


def tried(data: bytes, output: str, batch: int | None, *, where: str) -> tuple[tuple[int, ...], int]:
    """Run a graph on made-up crops, alone and in batches.

    Args:
        data: ONNX.
        output: the tensor that is looked at.
        batch: most crops in one run if that is known.
        where: the file's name, for errors.

    Returns:
        The shape of the output for one crop, without the axis of crops, and the most crops in one run: 1 if
        a row depends on its batch or only one crop can be run, 0 for any number.

    Raises:
        DetectorError: it cannot run, or gives what is no number.
    """
    crops = seeded(max(_TRIED))
    try:
        session = open_session(data)
    except UnloadableGraphError as exc:
        raise DetectorError(f"{where}: onnxruntime cannot load it: {exc}") from exc
    alone = _run(session, output, crops, 1, where=where)
    if not np.isfinite(alone).all():
        raise DetectorError(f"{where}: gives numbers that are not finite")
    if batch is not None:
        return alone.shape[1:], batch
    try:
        alike = all((_run(session, output, crops, size, where=where) == alone).all() for size in _TRIED[1:])
    except (DetectorError, ValueError):
        alike = False
    return alone.shape[1:], 0 if alike else 1


def _run(
    session: Any, output: str, crops: NDArray[np.uint8], size: int, *, where: str
) -> NDArray[np.float32]:
    try:
        parts = [session.run([output], {CROPS: crops[i : i + size]})[0] for i in range(0, len(crops), size)]
    except Exception as exc:  # onnxruntime raises its own unrelated classes
        raise DetectorError(f"{where}: onnxruntime cannot run it: {first_line(exc)}") from exc
    found: NDArray[np.float32] = np.concatenate(parts)
    return found


def seeded(n: int) -> NDArray[np.uint8]:
    """Make up crops: coloured fields with grain."""
    rng = np.random.default_rng(0)
    fields = rng.integers(0, 200, (n, 7, 7, 3)).repeat(CROP_SIZE // 7, 1).repeat(CROP_SIZE // 7, 2)
    return (fields + rng.integers(0, 56, (n, CROP_SIZE, CROP_SIZE, 3))).astype(np.uint8)
