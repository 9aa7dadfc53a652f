"""The picture of embeddings: photographs against each generator by t-SNE, after the paper's Fig. 3."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bladescan.base.figures import as_png, missing, new_figure, nothing_to_draw
from bladescan.base.output_files import write_file
from bladescan.evaluation.plot_styles import (
    MARGIN,
    PALE,
    PHOTOGRAPHIC,
    Numbers,
    generator_styles,
    n_faces,
    short_name,
)
from bladescan.evaluation.report import PHOTOGRAPHS, Scored

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_POINTS = 2000
"""Most faces in a t-SNE: its time grows faster than their number."""
FEWEST_POINTS = 10
"""Fewest faces of which a t-SNE says anything."""
_TSNE_COLUMNS = 4
_PCA_COMPONENTS = 50
_PERPLEXITY = 30.0


def plot_tsne(scored: Scored, path: Path, *, seed: int = 0) -> None:
    """Write `tsne_figure` as a PNG file.

    Raises:
        MissingDependencyError: matplotlib or scikit-learn is not installed.
        OutputError: the file cannot be written.
    """
    write_file(path, as_png(tsne_figure(scored, seed=seed)))


def tsne_figure(scored: Scored, *, seed: int = 0) -> Figure:
    """Draw embeddings by t-SNE, photographs against each generator, after the paper's Fig. 3.

    All sets are laid out together, so that photographs stand at the same places in every panel. Of more than
    `MAX_POINTS` faces a part is drawn by lot, half of it photographs.

    Args:
        scored: with embeddings.
        seed: of the lot and of the layout.

    Raises:
        MissingDependencyError: matplotlib or scikit-learn is not installed.
    """
    sets = _chosen(scored.embeddings, seed)
    n = sum(len(rows) for rows in sets.values())
    if n < FEWEST_POINTS:
        return nothing_to_draw(
            f"{n_faces(n)} with embeddings are too few for a t-SNE: it takes {FEWEST_POINTS}"
        )
    together = np.concatenate(list(sets.values()))
    if not np.ptp(together, axis=0).any():
        return nothing_to_draw(f"no t-SNE: all {n} embeddings are equal")
    places = _tsne(together, seed)
    cuts = np.cumsum([len(rows) for rows in sets.values()])[:-1]
    return _scatter(dict(zip(sets, np.split(places, cuts), strict=True)), scored)


def _chosen(embeddings: Mapping[str, NDArray[np.float32]], seed: int) -> dict[str, Numbers]:
    """Choose finite embeddings, at most `MAX_POINTS`, half of them photographs; photographs first."""
    rng = np.random.default_rng(seed)
    names = [PHOTOGRAPHS, *(name for name in embeddings if name != PHOTOGRAPHS)]
    finite = {name: _finite_rows(embeddings[name]) for name in names if name in embeddings}
    places = _shares([len(rows) for rows in finite.values()], PHOTOGRAPHS in finite)
    return {
        name: rows[np.sort(rng.permutation(len(rows))[:n])]
        for (name, rows), n in zip(finite.items(), places, strict=True)
    }


def _finite_rows(rows: NDArray[np.float32]) -> Numbers:
    return np.asarray(rows[np.isfinite(rows).all(axis=1)], np.float64)


def _shares(sizes: Sequence[int], photographs_first: bool) -> list[int]:
    """Share out the points among the sets: photographs weigh as much as all generators together."""
    weights = np.ones(len(sizes))
    if photographs_first:
        weights[0] = max(1, len(sizes) - 1)
    left, open_sets, given = MAX_POINTS, set(range(len(sizes))), [0] * len(sizes)
    while open_sets:
        unit = left / sum(weights[i] for i in open_sets)
        small = {i for i in open_sets if sizes[i] <= unit * weights[i]}
        for i in small or open_sets:
            given[i] = sizes[i] if small else int(unit * weights[i])
        if not small:
            break
        left -= sum(sizes[i] for i in small)
        open_sets -= small
    return given


def _tsne(rows: Numbers, seed: int) -> Numbers:
    """Place embeddings ``[n, d]`` that are not all equal in the plane, ``[n, 2]``."""
    try:
        from sklearn.decomposition import PCA
        from sklearn.manifold import TSNE
        from threadpoolctl import threadpool_limits
    except ImportError as exc:
        raise missing("a t-SNE", "scikit-learn") from exc
    n, d = rows.shape
    reduced = PCA(min(_PCA_COMPONENTS, n, d), random_state=seed).fit_transform(rows)
    perplexity = min(_PERPLEXITY, (n - 1) / 3.0)
    init = "pca" if d > 1 else "random"
    # Threads that wait for each other on a busy machine make it ten times as long.
    with threadpool_limits(limits=1):
        places = TSNE(perplexity=perplexity, init=init, random_state=seed).fit_transform(reduced)
    return np.asarray(places, np.float64)


def _scatter(places: Mapping[str, Numbers], scored: Scored) -> Figure:
    """Draw one panel per generator, photographs below it."""
    generators = [name for name in places if name != PHOTOGRAPHS]
    colours = generator_styles(generators)
    n_rows = math.ceil(max(1, len(generators)) / _TSNE_COLUMNS)
    n_columns = math.ceil(max(1, len(generators)) / n_rows)
    figure = new_figure(max(5.2, 2.7 * n_columns), 2.75 * n_rows + 0.5)
    everything = np.concatenate(list(places.values()))
    for i, name in enumerate(generators or [PHOTOGRAPHS]):
        panel = figure.add_subplot(n_rows, n_columns, i + 1)
        for drawn, colour, marker in _layers(name, places, colours):
            x, y = places[drawn].T
            panel.scatter(x, y, s=9, c=colour, marker=marker, alpha=0.65, linewidths=0, label=drawn)
        _frame(panel, everything)
        n_all = len(scored.embeddings[name])
        part = f"{len(places[name]):,}" + (f" of {n_all:,}" if n_all > len(places[name]) else "")
        panel.set_title(
            f"▲ {short_name(name)} ({part})" if generators else f"photographs ({part})",
            fontsize=9,
            loc="left",
            color=colours[name][0] if generators else PHOTOGRAPHIC,
            parse_math=False,
        )
    said = f"t-SNE: ● {n_faces(len(places.get(PHOTOGRAPHS, ())), 'photographic')}, ▲ AI-generated"
    figure.suptitle(said, fontsize=11, x=0.01, ha="left")
    return figure


def _frame(panel: Axes, places: Numbers) -> None:
    """Show the same square part of the plane in every panel, without numbers, which mean nothing here."""
    low, high = places.min(axis=0), places.max(axis=0)
    margin = MARGIN * (high - low)
    panel.set_xlim(low[0] - margin[0], high[0] + margin[0])
    panel.set_ylim(low[1] - margin[1], high[1] + margin[1])
    panel.set_box_aspect(1)
    panel.set_xticks([])
    panel.set_yticks([])
    panel.spines[:].set_color(PALE)


def _layers(
    name: str, places: Mapping[str, Numbers], colours: Mapping[str, tuple[str, Any]]
) -> Iterator[tuple[str, str, str]]:
    """List what a panel shows, from the back: set, colour and marker."""
    if PHOTOGRAPHS in places:
        yield PHOTOGRAPHS, PALE, "o"
    if name != PHOTOGRAPHS:
        yield name, colours[name][0], "^"
