"""``bladescan report``: a page on which people look at what a scan found, and decide."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import bladescan
from bladescan.base.errors import UsageError
from bladescan.base.output_files import check_output
from bladescan.base.text import counted
from bladescan.command import options as o
from bladescan.command.guard import guarded
from bladescan.command.inputs import check_new_folder, image_limits
from bladescan.command.terminal import ProgressLine
from bladescan.processes.resources import n_cores

if TYPE_CHECKING:
    from bladescan.detectors.manifest import Manifest
    from bladescan.reviewing.review import ReviewCounts

_logger = logging.getLogger(__name__)


@guarded
def report(
    verdicts: Annotated[
        Path,
        typer.Argument(
            metavar="VERDICTS", help="What a scan wrote: a file in .csv, .json, .jsonl or .parquet."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="PAGE",
            help="The page: a name that ends in .html for one file of 5,000 faces at most, any other name "
            "for a new folder of any number.",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "--detector",
            metavar="NAME",
            help="Detector that made the verdicts, whose calibration is drawn behind each score. Default: "
            "the one that scans, if it made them.",
        ),
    ] = None,
    blur: Annotated[
        bool, typer.Option("--blur", help="Blur all faces until the reviewer asks for one.")
    ] = False,
    ledger: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Leave out what reviewers decided earlier, as `feedback --ledger FILE` has kept it.",
        ),
    ] = None,
    decided: Annotated[
        bool, typer.Option("--decided", help="Show what the ledger knows to be decided all the same.")
    ] = False,
    max_bytes: o.MaxBytes = "100M",
    max_pixels: o.MaxPixels = "100M",
    timeout: o.Timeout = 30.0,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Make a page for people of what a scan found.

    It shows each face beside its picture, the most suspicious first, copies of a picture once. Reviewers
    decide by keyboard and export their decisions. The page loads nothing from a network.

    Example: `bladescan report verdicts.jsonl -o review.html`
    """
    if decided and ledger is None:
        raise UsageError("--decided needs --ledger FILE, which keeps what was decided")
    check_page(output)
    limits = image_limits(max_bytes, max_pixels)
    with ProgressLine("looking again", quiet=quiet) as line:
        found = bladescan.write_review(
            verdicts,
            bladescan.ReviewOptions(
                output=output,
                manifest=calibration_of(model),
                blur=blur,
                limits=limits,
                timeout_s=timeout,
                n_processes=n_cores(),
                ledger=ledger,
                show_decided=decided,
            ),
            seen=line.advance,
        )
    say_written(found)


def check_page(output: Path) -> None:
    """Check now that a page can be written there, rather than after all pictures were looked at.

    Raises:
        UsageError, OutputError: as the checks of a file, or of a new folder.
    """
    from bladescan.reviewing.review import is_one_file

    if is_one_file(output):
        check_output(output, output.suffix.lower())
    else:
        check_new_folder(output)


def calibration_of(model: str | Path | None) -> Manifest:
    """Read what a detector says of itself; None is the default one.

    Raises:
        DetectorError: it is none.
        UsageError: it has no calibration to draw, or its name is none.
    """
    from bladescan.command.describe import read_manifest
    from bladescan.runtimes.registry import find_detector

    manifest = read_manifest(find_detector(model))
    if not manifest.heads:
        raise UsageError(f"--model {model}: an encoder run has no calibration; give a detector")
    return manifest


def say_written(found: ReviewCounts) -> None:
    """Say where the page is, and what it lacks."""
    if found.n_missing:
        _logger.warning("%s could not be read again: their cards say so", counted(found.n_missing, "row"))
    n_decided = found.n_decided + found.n_like_decided
    _logger.info(
        "%s for %s%s; open it in a browser: %s",
        counted(found.n_cards, "card"),
        counted(found.n_rows, "row"),
        f", {n_decided} decided earlier left out" if n_decided else "",
        found.page,
    )
