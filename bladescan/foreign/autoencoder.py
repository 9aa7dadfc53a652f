"""A stranger's autoencoder in ONNX, picture in and picture out, as nodes that reconstruct normalised pixels.

References:
    AEROBLADE: Ricker, Lukovnikov and Fischer, "Training-Free Detection of Latent Diffusion Images Using
    Autoencoder Reconstruction Error", CVPR 2024, arXiv:2401.17879.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import DetectorError, first_line
from bladescan.detectors.onnx_metadata import import_onnx
from bladescan.foreign.builder import GraphBuilder, opset_of
from bladescan.foreign.fed_network import seeded
from bladescan.foreign.layout import EncoderLayout
from bladescan.foreign.onnx_graph import ForeignGraph, GraphInput, cut_down, in_opset, input_of
from bladescan.runtimes.onnx_session import UnloadableGraphError, open_session

_MULTIPLES = (1, 8, 16, 32, 64)
"""Of which autoencoders want their sides; tried in this order."""

_CHANCE = frozenset(
    ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")
)


class Autoencoder(NamedTuple):
    """An autoencoder that gives pictures back.

    Attributes:
        model: an ``onnx.ModelProto`` that may become part of another.
        given: its input.
        output: the tensor that holds the reconstruction.
        side: of the squares that it takes; where the encoder's are smaller, they are mirrored at the edge.
        about: what it is, as plain JSON values.
    """

    model: Any
    given: GraphInput
    output: str
    side: int
    about: dict[str, Any]


def in_one_opset(graphs: Sequence[ForeignGraph]) -> list[ForeignGraph]:
    """Bring graphs to the newest operator set among them; one graph has one operator set.

    Raises:
        DetectorError: one of them cannot be converted.
    """
    newest = max(opset_of(graph.model, where=graph.where) for graph in graphs)
    return [in_opset(graph, newest) for graph in graphs]


def tried_autoencoder(graph: ForeignGraph, layout: EncoderLayout) -> Autoencoder:
    """Make sure of an autoencoder by giving it pictures.

    Args:
        graph: of its file.
        layout: completed, of the encoder that it stands before.

    Raises:
        DetectorError: it takes or gives something else than pictures, or draws at random.
    """
    given, where = input_of(graph), graph.where
    outputs = [output.name for output in graph.model.graph.output]
    if given.dtype == "uint8" or 3 not in (given.shape[1], given.shape[3]) or len(outputs) != 1:
        raise DetectorError(
            f"{where}: an autoencoder takes floating-point pictures of 3 channels and gives one such tensor; "
            f"this takes {given.dtype} {_shown(given.shape)} and gives {len(outputs)} tensors"
        )
    if chance := sorted({node.op_type for node in graph.model.graph.node} & _CHANCE):
        raise DetectorError(
            f"{where}: draws at random ({chance[0]}), so a face would have another score each time: export "
            "the mean of its latent distribution"
        )
    side = _side_of(graph.model, given, outputs[0], layout, where=where)
    about = {"file": where, "sha256": graph.sha256, "side": side}
    return Autoencoder(graph.model, given, outputs[0], side, about)


def _side_of(model: Any, given: GraphInput, output: str, layout: EncoderLayout, *, where: str) -> int:
    """Find the side that an autoencoder takes and gives back, and check that it gives pictures back."""
    least = layout.input or 0
    first = given.shape[1] == 3
    said = {side for side in (given.shape[2:] if first else given.shape[1:3]) if side}
    sides = sorted(said) if said else sorted({-(-least // m) * m for m in _MULTIPLES})
    if len(sides) > 1 and said or sides[0] < least or sides[0] >= 2 * least:
        raise DetectorError(
            f"{where}: takes {' x '.join(map(str, sides))} pixels, and the encoder {least} x {least}: "
            "export it with open sides, or for that size"
        )
    try:
        session = open_session(model.SerializeToString())
    except UnloadableGraphError as exc:
        raise DetectorError(f"{where}: onnxruntime cannot load it: {exc}") from exc
    found = "gives nothing"
    for side in sides:
        pictures = _tried_pictures(side, layout, given)
        try:
            (made,) = session.run([output], {given.name: pictures})
        except Exception as exc:  # onnxruntime raises its own unrelated classes
            found = f"cannot run two pictures of {side} x {side} pixels: {first_line(exc)}"
            continue
        if made.shape == pictures.shape:
            _check_reconstruction(pictures, made, layout, where=where)
            return side
        found = f"gives {_shown(made.shape)} for pictures {_shown(pictures.shape)}"
    raise DetectorError(f"{where}: {found}: expected an autoencoder, picture in and the same size out")


def _tried_pictures(side: int, layout: EncoderLayout, given: GraphInput) -> NDArray[np.floating]:
    low, high = layout.autoencoder_range
    crops = np.pad(seeded(2), ((0, 0), (0, side), (0, side), (0, 0)), mode="wrap")[:, :side, :side]
    pictures = low + (high - low) / 255 * crops
    pictures = pictures.transpose(0, 3, 1, 2) if given.shape[1] == 3 else pictures
    return np.ascontiguousarray(pictures, given.dtype)


def _check_reconstruction(
    pictures: NDArray[np.floating], made: NDArray[np.floating], layout: EncoderLayout, *, where: str
) -> None:
    """Raise DetectorError where a reconstruction is no nearer to its picture than plain grey is."""
    wanted, found = pictures.astype(np.float64), made.astype(np.float64)
    error = np.square(found - wanted).mean()
    if not error < wanted.var():
        low, high = layout.autoencoder_range
        raise DetectorError(
            f"{where}: does not give pictures back: mean squared error {error:.3g}, that of plain grey "
            f"{wanted.var():.3g}. If its pixels do not go from {low:g} to {high:g}: "
            "--set encoder.autoencoder_range=LOW,HIGH"
        )


def add_reconstruction(
    nodes: GraphBuilder, pixels: str, number: int, autoencoder: Autoencoder, layout: EncoderLayout
) -> str:
    """Add an autoencoder, and give the name of the reconstruction.

    Args:
        nodes: where; its operator set is the autoencoder's.
        pixels: normalised, float32 ``[n, 3, side, side]``.
        number: of the autoencoder, for names.
        autoencoder: what reconstructs.
        layout: completed; says how pixels are normalised.

    Returns:
        Normalised pixels, float32 ``[n, 3, side, side]``.
    """
    onnx = import_onnx("an autoencoder")
    low, high = layout.autoencoder_range
    mean, std = (np.reshape(part or (), (1, -1, 1, 1)) for part in (layout.mean, layout.std))
    # One multiplication and one addition each way, between normalised pixels and the autoencoder's range.
    factor = std * layout.scale / 255 * (high - low)
    shift = mean * layout.scale / 255 * (high - low) + low
    x = nodes.add("Add", nodes.add("Mul", pixels, nodes.constant(factor)), nodes.constant(shift))
    side, more = layout.input or 0, autoencoder.side - (layout.input or 0)
    if layout.bgr:
        x = _reversed(nodes, x)
    if more:
        x = nodes.add("Pad", x, nodes.constant([0, 0, 0, 0, 0, 0, more, more], "int64"), mode="reflect")
    first = autoencoder.given.shape[1] == 3
    if not first:
        x = nodes.add("Transpose", x, perm=[0, 2, 3, 1])
    model, prefix = type(autoencoder.model)(), f"autoencoder{number}/"
    model.CopyFrom(autoencoder.model)
    cut_down(model, (autoencoder.output,))
    model = onnx.compose.add_prefix(model, prefix)
    nodes.cast(x, autoencoder.given.dtype, output=prefix + autoencoder.given.name)
    nodes.nodes.extend(model.graph.node)
    nodes.initializers.extend(model.graph.initializer)
    made = nodes.cast(prefix + autoencoder.output, "float32")
    if not first:
        made = nodes.add("Transpose", made, perm=[0, 3, 1, 2])
    if more:
        ends = (nodes.constant(values, "int64") for values in ([0, 0], [side, side], [2, 3]))
        made = nodes.add("Slice", made, *ends)
    if layout.bgr:
        made = _reversed(nodes, made)
    made = nodes.add("Clip", made, nodes.constant(min(low, high)), nodes.constant(max(low, high)))
    return nodes.add("Div", nodes.add("Sub", made, nodes.constant(shift)), nodes.constant(factor))


def _reversed(nodes: GraphBuilder, pixels: str) -> str:
    """Swap red and blue: the encoder wants blue first, an autoencoder red."""
    return nodes.add("Gather", pixels, nodes.constant([2, 1, 0], "int64"), axis=1)


def _shown(shape: tuple[int | None, ...]) -> str:
    return str(["n" if n is None else n for n in shape])
