"""A report of an evaluation as one page for a browser: tables, plots and the worst mistakes in one file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from bladescan.base.text import printable
from bladescan.evaluation.degradations import VARIANT_WORDS
from bladescan.evaluation.markdown_report import PICTURES
from bladescan.evaluation.metrics import SCORE_NAMES
from bladescan.evaluation.mistakes import Mistake
from bladescan.evaluation.report import METRIC_TITLES, NO_VARIANT, Interval, Report, Stratum, VariantReport
from bladescan.images.jpeg import encode_jpeg
from bladescan.reviewing.html_page import data_url, render_page

PAGE = Path(__file__).parent / "page"
_QUALITY = 90

CAPTIONS = {
    "roc": "Each curve is one generator against the photographs: to the right the share of photographs that "
    "are flagged (false alarms), upwards the share of AI-generated faces that are found. The axis of the "
    "false alarms is drawn in square roots, for a detector is used at its left end; dots mark 1% and 5%. The "
    "area under a curve is its AUC: 0.5 is chance, 1 is perfect.",
    "scores": "How many faces of each set have which score. Dark is flagged, the line is the detector's "
    "threshold. A good detector has photographs and generators on different sides. P(AI-generated) is drawn "
    "by its log-odds, for most of it lies next to 0 and 1.",
    "tsne": "Every face is a dot; dots that lie close have similar embeddings, dots far apart mean little. "
    "If a generator lies among the photographs, the encoder does not tell them apart.",
    "robustness": "AUC of each generator after the crops were changed as pictures are on their way through "
    "the world; bars are 95% intervals. A line that falls to 0.5 says that nothing is left to find.",
}
"""What the axes of each plot of `PICTURES` mean."""


def as_html(report: Report, mistakes: Sequence[Mistake], plots: Mapping[str, bytes]) -> Iterator[bytes]:
    """Write the page piece by piece.

    Args:
        report: all numbers.
        mistakes: faces to show.
        plots: PNG files by their names in `PICTURES`.
    """
    return render_page(
        PAGE,
        "evaluation.html.jinja",
        title=f"Evaluation of {printable(report.detector)}",
        styles=("evaluation.css",),
        report=report,
        generators=list(report.ai_generated),
        measures=METRIC_TITLES,
        plain=NO_VARIANT,
        variants=VARIANT_WORDS,
        plots=[(PICTURES[name], CAPTIONS[name], data_url(plot, "image/png")) for name, plot in plots.items()],
        mistakes=[_shown(mistake) for mistake in mistakes],
        cell=_cell,
        named=_named,
        rows=_rows,
        stratum=_stratum,
    )


_WRONG = {"missed": "are missed", "false alarm": "are flagged"}


def _shown(mistake: Mistake) -> dict[str, Any]:
    picture = encode_jpeg(Image.fromarray(mistake.crop), _QUALITY)
    return {
        "head": mistake.head,
        "kind": mistake.kind,
        "group": _named(mistake.group),
        "name": _named(Path(mistake.name).name),
        "said": f"{SCORE_NAMES[mistake.head]} {mistake.score:.4g}",
        "share": f"{mistake.n_wrong} of {mistake.n_faces} faces {_WRONG[mistake.kind]}",
        "picture": data_url(picture, "image/jpeg"),
    }


def _named(text: str) -> str:
    return printable(" ".join(text.split()))


def _cell(value: Interval | None) -> str:
    return "-" if value is None else f"{value.value:.3f} ({value.low:.3f} to {value.high:.3f})"


def _rows(variant: VariantReport) -> list[tuple[str, list[str]]]:
    """List every metric by generator, the mean last."""
    found = [(_named(name), metrics) for name, metrics in variant.generators.items()]
    return [
        (name, [_cell(getattr(metrics, measure)) for measure in METRIC_TITLES])
        for name, metrics in [*found, ("mean", variant.mean)]
    ]


def _stratum(part: Stratum) -> list[str]:
    return [
        str(part.n_photographs),
        _cell(part.false_alarm),
        str(part.n_ai_generated),
        _cell(part.found),
    ]
