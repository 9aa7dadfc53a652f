"""Colours, names and labels that the pictures of an evaluation share.

Every picture is a figure builder and a writer of that figure. A generator has the same colour in all of them,
its place in the order given. Scores and embeddings that are not finite are left out, except that an infinite
score keeps its rank; where nothing is left to draw, the picture says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bladescan.base.figures import GREY
from bladescan.detectors.manifest import HeadName
from bladescan.evaluation.report import PHOTOGRAPHS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Numbers = NDArray[np.float64]

PHOTOGRAPHIC = "#5A5A5A"
PALE = "#A0A0A0"
# Colours of Okabe and Ito, which people with any colour vision tell apart, dark enough for thin lines on
# white; once they are used up, a dash tells the second and third round from the first.
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#B8558F", "#B38600")
_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)))
_LONGEST_NAME = 24

MARGIN = 0.04
"""Room around what is drawn, as a share of its width."""


def split_sets(sets: Mapping[str, Numbers]) -> tuple[Numbers, dict[str, Numbers]]:
    """Split scores into those of the photographs and of every generator, without NaN."""
    known = {name: scores[~np.isnan(scores)] for name, scores in sets.items()}
    return known.pop(PHOTOGRAPHS, np.empty(0)), known


def generator_styles(generators: Iterable[str]) -> dict[str, tuple[str, Any]]:
    """Give every generator a colour and a dash, by its place."""
    return {
        name: (_COLOURS[i % len(_COLOURS)], _DASHES[i // len(_COLOURS) % len(_DASHES)])
        for i, name in enumerate(generators)
    }


def head_title(head: HeadName) -> str:
    """Name a head in words."""
    return f"{head} head"


def label_chance(axes: Axes, x: float, y: float) -> None:
    """Label the line of chance, readable on top of what crosses it."""
    background = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
    axes.text(x, y, "chance", color=GREY, fontsize=8, va="center", bbox=background, zorder=5)


def n_faces(n: int, kind: str = "") -> str:
    """Write a count in words."""
    return " ".join(word for word in (f"{n:,}", kind, "face" if n == 1 else "faces") if word)


def short_name(name: str) -> str:
    """Shorten a name from the command line to what a font can draw and a label can hold."""
    clean = " ".join(name.encode("utf-8", "replace").decode().split())
    return clean if len(clean) <= _LONGEST_NAME else f"{clean[: _LONGEST_NAME - 1]}…"
