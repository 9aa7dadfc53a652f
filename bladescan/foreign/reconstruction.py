"""An autoencoder as nodes before an encoder, which reconstruct normalised pixels.

References:
    AEROBLADE: Ricker, Lukovnikov and Fischer, "Training-Free Detection of Latent Diffusion Images Using
    Autoencoder Reconstruction Error", CVPR 2024, arXiv:2401.17879.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bladescan.base.errors import DetectorError
from bladescan.detectors.onnx_metadata import import_onnx
from bladescan.foreign.autoencoder import Autoencoder, check_alike, tried_autoencoder
from bladescan.foreign.builder import GraphBuilder, opset_of
from bladescan.foreign.layout import EncoderLayout
from bladescan.foreign.onnx_graph import ForeignGraph, cut_down, in_opset


class Reconstructor(NamedTuple):
    """An autoencoder that stands before an encoder.

    Attributes:
        graph: of its file.
        autoencoder: what it takes.
        side: of the squares that it is given; where the encoder's are smaller, they are mirrored at the edge.
    """

    graph: ForeignGraph
    autoencoder: Autoencoder
    side: int

    @property
    def about(self) -> dict[str, Any]:
        """What it is, as plain JSON values."""
        return {"file": self.graph.where, "sha256": self.graph.sha256, "side": self.side}


def in_one_opset(graphs: Sequence[ForeignGraph]) -> list[ForeignGraph]:
    """Bring graphs to the newest operator set among them; one graph has one operator set.

    Raises:
        DetectorError: one of them cannot be converted.
    """
    newest = max(opset_of(graph.model, where=graph.where) for graph in graphs)
    return [in_opset(graph, newest) for graph in graphs]


def fitting_reconstructor(graph: ForeignGraph, layout: EncoderLayout) -> Reconstructor:
    """Make sure of an autoencoder, and find the side at which it stands before an encoder.

    Args:
        graph: of its file.
        layout: completed, of the encoder.

    Raises:
        DetectorError: it is no autoencoder, or takes too small or too large pictures.
    """
    autoencoder = tried_autoencoder(graph, layout.autoencoder_range)
    check_alike(autoencoder, "encoder.autoencoder_range=LOW,HIGH", where=graph.where)
    least = layout.input or 0
    side = autoencoder.side or -(-least // autoencoder.multiple) * autoencoder.multiple
    if not least <= side < 2 * least:
        raise DetectorError(
            f"{graph.where}: takes {side} pixels, and the encoder {least} x {least}: export it with open "
            "sides, or for that size"
        )
    return Reconstructor(graph, autoencoder, side)


def add_reconstruction(
    nodes: GraphBuilder, pixels: str, number: int, reconstructor: Reconstructor, layout: EncoderLayout
) -> str:
    """Add an autoencoder, and give the name of the reconstruction.

    Args:
        nodes: where; its operator set is the autoencoder's.
        pixels: normalised, float32 ``[n, 3, side, side]``.
        number: of the autoencoder, for names.
        reconstructor: an autoencoder that fits.
        layout: completed; says how pixels are normalised.

    Returns:
        Normalised pixels, float32 ``[n, 3, side, side]``.
    """
    onnx = import_onnx("an autoencoder")
    autoencoder = reconstructor.autoencoder
    low, high = autoencoder.between
    mean, std = (np.reshape(part or (), (1, -1, 1, 1)) for part in (layout.mean, layout.std))
    # One multiplication and one addition each way, between normalised pixels and the autoencoder's range.
    factor = std * layout.scale / 255 * (high - low)
    shift = mean * layout.scale / 255 * (high - low) + low
    x = nodes.add("Add", nodes.add("Mul", pixels, nodes.constant(factor)), nodes.constant(shift))
    side, more = layout.input or 0, reconstructor.side - (layout.input or 0)
    if layout.bgr:
        x = _reversed(nodes, x)
    if more:
        x = nodes.add("Pad", x, nodes.constant([0, 0, 0, 0, 0, 0, more, more], "int64"), mode="reflect")
    if autoencoder.last:
        x = nodes.add("Transpose", x, perm=[0, 2, 3, 1])
    model, prefix = type(reconstructor.graph.model)(), f"autoencoder{number}/"
    model.CopyFrom(reconstructor.graph.model)
    cut_down(model, (autoencoder.output,))
    model = onnx.compose.add_prefix(model, prefix)
    nodes.cast(x, autoencoder.given.dtype, output=prefix + autoencoder.given.name)
    nodes.nodes.extend(model.graph.node)
    nodes.initializers.extend(model.graph.initializer)
    made = nodes.cast(prefix + autoencoder.output, "float32")
    if autoencoder.last:
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
