r"""How far an encoder's embedding moves when the picture is changed a little: a score that nobody trains.

RIGID adds Gaussian noise, Contrastive Blur blurs, MINDER takes the lesser of both distances. AEROBLADE gives
the picture to autoencoders and takes the least distance from what comes back. Each copy is compared with the
picture as it is by cosine distance,

.. math:: \delta = 1 - \frac{a \cdot b}{\|a\| \, \|b\|}
          = \tfrac12 \Bigl\| \frac{a}{\|a\|} - \frac{b}{\|b\|} \Bigr\|^2

of which the second form loses nothing where the two are nearly the same. The movement is
:math:`\log \delta`, one number. Whether AI-generated pictures move more or less is not said here: the heads
learn it.

References:
    RIGID: He, Chen and Ho, arXiv:2405.20112. Contrastive Blur and MINDER: Tsai et al., arXiv:2411.19117.
    AEROBLADE: see `bladescan.foreign.reconstruction`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bladescan.foreign.builder import GraphBuilder
from bladescan.foreign.layout import EncoderLayout
from bladescan.foreign.reconstruction import Reconstructor, add_reconstruction

NOISE_SEED = 0
"""The noise is always the same, so that a picture always has the same score."""

DISTANCES = "movement/distances"
"""Name of the tensor of cosine distances, float64 ``[k, n]``, a row for each changed copy: of noise, of blur,
of both in this order, or of each autoencoder."""

_KINDS = {"rigid": ("noise",), "blur": ("blur",), "minder": ("noise", "blur")}
_LEAST = 1e-12
"""Added to a distance: a picture of one colour does not move by blur."""


def copies_of(layout: EncoderLayout) -> tuple[str, ...]:
    """List how the picture is changed, one entry for each changed copy; nothing without a movement."""
    return _KINDS.get(layout.movement, ()) + ("reconstruction",) * len(layout.autoencoder)


def noise(side: int, sigma: float) -> NDArray[np.float32]:
    """Draw the noise, float32 ``[1, 3, side, side]``, of standard deviation ``sigma``."""
    drawn = np.random.default_rng(NOISE_SEED).standard_normal((1, 3, side, side))
    return (sigma * drawn).astype(np.float32)


def blur_reach(sigma: float) -> int:
    """Compute how many pixels to each side a blur looks: four standard deviations."""
    return math.ceil(4 * sigma)


def blur_kernel(sigma: float) -> NDArray[np.float32]:
    """Compute the Gaussian ``[m, m]`` of sum 1, of standard deviation ``sigma`` in pixels."""
    reach = blur_reach(sigma)
    line = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    line /= line.sum()
    return np.outer(line, line).astype(np.float32)


def add_copies(
    nodes: GraphBuilder, pixels: str, layout: EncoderLayout, reconstructors: Sequence[Reconstructor] = ()
) -> str:
    """Put changed copies behind pictures, along the axis of pictures.

    Args:
        nodes: where.
        pixels: normalised, float32 ``[n, 3, side, side]``.
        layout: completed; says which copies.
        reconstructors: of the layout's autoencoders.

    Returns:
        The name of pictures and copies, ``[(1 + k) n, 3, side, side]``.
    """
    made = [pixels]
    for kind in copies_of(layout):
        if kind == "noise":
            made.append(
                nodes.add("Add", pixels, nodes.constant(noise(layout.input or 0, layout.noise_sigma)))
            )
        elif kind == "blur":
            made.append(_blurred(nodes, pixels, layout.blur_sigma))
    for number, reconstructor in enumerate(reconstructors, 1):
        made.append(add_reconstruction(nodes, pixels, number, reconstructor, layout))
    return nodes.add("Concat", *made, axis=0)


def _blurred(nodes: GraphBuilder, pixels: str, sigma: float) -> str:
    kernel = blur_kernel(sigma)
    reach = len(kernel) // 2
    pads = nodes.constant([0, 0, reach, reach] * 2, "int64")
    padded = nodes.add("Pad", pixels, pads, mode="reflect")
    weights = nodes.constant(np.broadcast_to(kernel, (3, 1, *kernel.shape)))
    return nodes.add("Conv", padded, weights, group=3, kernel_shape=list(kernel.shape))


def add_movement(nodes: GraphBuilder, rows: str, n_copies: int, output: str) -> None:
    """Turn the embeddings of pictures and of their copies into one number for each picture.

    Args:
        nodes: where.
        rows: float32 ``[(1 + k) n, d]``, as `add_copies` puts them.
        n_copies: k.
        output: name of the movement, float32 ``[n, 1]``.
    """
    rows = nodes.cast(rows, "float64")
    squares = nodes.reduce("ReduceSum", nodes.add("Mul", rows, rows), [1], keep=True)
    least = nodes.constant(_LEAST, "float64")
    # A length of zero is no direction: such a row stays zero.
    directions = nodes.add("Div", rows, nodes.add("Max", nodes.add("Sqrt", squares), least))
    dim = nodes.add("Slice", nodes.add("Shape", rows), *(nodes.constant([i], "int64") for i in (1, 2)))
    shape = nodes.add("Concat", nodes.constant([1 + n_copies, -1], "int64"), dim, axis=0)
    apart = nodes.add("Reshape", directions, shape)  # [1 + k, n, d]
    first = nodes.add("Gather", apart, nodes.constant([0], "int64"), axis=0)
    others = nodes.add("Gather", apart, nodes.constant(range(1, 1 + n_copies), "int64"), axis=0)
    off = nodes.add("Sub", others, first)
    sums = nodes.reduce("ReduceSum", nodes.add("Mul", off, off), [2])
    distances = nodes.add("Mul", sums, nodes.constant(0.5, "float64"), output=DISTANCES)
    nearest = nodes.reduce("ReduceMin", nodes.add("Transpose", distances, perm=[1, 0]), [1], keep=True)
    # Not Log: runtimes compute it in packets, with another last bit in the remainder.
    moved = nodes.reduce("ReduceLogSum", nodes.add("Add", nearest, least), [1], keep=True)
    nodes.cast(moved, "float32", output=output)


def about_movement(layout: EncoderLayout, reconstructors: Sequence[Reconstructor] = ()) -> dict[str, Any]:
    """Say which movement it is, and of what changes, as plain JSON values; empty for none."""
    kinds = copies_of(layout)
    about: dict[str, Any] = {"movement": layout.movement} if kinds else {}
    if "noise" in kinds:
        about |= {"noise_sigma": layout.noise_sigma, "noise_seed": NOISE_SEED}
    if "blur" in kinds:
        about |= {"blur_sigma": layout.blur_sigma}
    if reconstructors:
        about["autoencoders"] = [one.about for one in reconstructors]
        about["autoencoder_range"] = list(layout.autoencoder_range)
    return about
