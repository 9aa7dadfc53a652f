"""From a face crop to the input of a stranger's network, as nodes: resized, cut, normalised."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bladescan.foreign.builder import GraphBuilder

Change = Callable[[GraphBuilder, str], str]
"""Adds nodes that change normalised pixels ``[n, 3, h, w]``, given by name; gives the name of the result."""

_SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}


def resize_matrix(n_in: int, n_out: int, method: str = "bilinear") -> NDArray[np.float64]:
    """Compute the weights ``[n_out, n_in]`` by which Pillow resizes a line of pixels, antialiased.

    Resizing is linear and goes line by line, so a matrix on each side of a picture resizes it: with any
    operator set, in any runtime.
    """
    scale = n_in / n_out
    wide = max(scale, 1.0)
    centres = (np.arange(n_out) + 0.5) * scale
    distance = (np.arange(n_in)[None] + 0.5 - centres[:, None]) / wide
    kernel = _triangle(distance) if method == "bilinear" else _cubic(distance)
    kernel[np.abs(distance) >= _SUPPORT[method]] = 0.0
    weights: NDArray[np.float64] = kernel / kernel.sum(1, keepdims=True)
    return weights


def _triangle(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(0.0, 1.0 - np.abs(x))


def _cubic(x: NDArray[np.float64], a: float = -0.5) -> NDArray[np.float64]:
    x = np.abs(x)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x < 1, near, far)


def centre_matrix(n_in: int, n_out: int) -> NDArray[np.float64]:
    """Compute the matrix ``[n_out, n_in]`` that takes the middle ``n_out`` of a line of pixels.

    Raises:
        ValueError: there are fewer.
    """
    if n_out > n_in:
        raise ValueError(f"the middle {n_out} of {n_in} pixels")
    return np.eye(n_in)[(n_in - n_out) // 2 :][:n_out]


def line_matrix(n_in: int, resize: int, crop: int, method: str) -> NDArray[np.float64]:
    """Compute the matrix that resizes a line of pixels and then takes its middle."""
    return centre_matrix(resize, crop) @ resize_matrix(n_in, resize, method)


def add_pixels(
    nodes: GraphBuilder,
    crops: str,
    *,
    line: NDArray[np.float64] | None,
    scale: float,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    channels_first: bool,
    dtype: str,
    bgr: bool = False,
    change: Change | None = None,
) -> str:
    """Add what turns crops uint8 ``[n, size, size, 3]`` into what the network takes; give its name.

    Args:
        nodes: where.
        crops: name of the crops.
        line: of `line_matrix`; None leaves the size as it is.
        scale: what a pixel is divided by.
        mean: of each channel, which is then subtracted.
        std: of each channel, by which the rest is divided.
        channels_first: ``[n, 3, h, w]`` and not ``[n, h, w, 3]``.
        dtype: of the network's input; uint8 is not normalised.
        bgr: blue comes first.
        change: applied to the normalised pixels; None for nothing.
    """
    pixels = nodes.add("Transpose", nodes.cast(crops, "float32"), perm=[0, 3, 1, 2])
    if bgr:
        pixels = nodes.add("Gather", pixels, nodes.constant([2, 1, 0], "int64"), axis=1)
    if line is not None:
        # To whole grey levels after each side, as Pillow does.
        pixels = _grey_levels(nodes, nodes.add("MatMul", pixels, nodes.constant(line.T)))
        pixels = _grey_levels(nodes, nodes.add("MatMul", nodes.constant(line), pixels))
    if dtype != "uint8":
        pixels = nodes.add("Div", pixels, nodes.constant(scale))
        pixels = nodes.add("Sub", pixels, nodes.constant(np.reshape(mean, (1, -1, 1, 1))))
        pixels = nodes.add("Div", pixels, nodes.constant(np.reshape(std, (1, -1, 1, 1))))
    if change is not None:
        pixels = change(nodes, pixels)
    if not channels_first:
        pixels = nodes.add("Transpose", pixels, perm=[0, 2, 3, 1])
    return pixels if dtype == "float32" else nodes.cast(pixels, dtype)


def _grey_levels(nodes: GraphBuilder, pixels: str) -> str:
    rounded = nodes.add("Floor", nodes.add("Add", pixels, nodes.constant(0.5)))
    return nodes.add("Clip", rounded, nodes.constant(0.0), nodes.constant(255.0))
