"""``bladescan feedback``: what reviewers' decisions say of a scan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

import bladescan
from bladescan.command import options as o
from bladescan.command.guard import guarded
from bladescan.command.inputs import check_new_folder, check_rate, image_limits


@guarded
def feedback(
    decisions: Annotated[
        list[Path],
        typer.Argument(
            metavar="DECISIONS...",
            help="What reviewers exported: files in .jsonl or .csv. On one face the latest decision counts.",
        ),
    ],
    verdicts: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="What the reviewed scan wrote: rates of the whole scan and a threshold need it. Repeatable, "
            "for the parts of one scan.",
        ),
    ] = None,
    false_alarm: Annotated[
        float, typer.Option(metavar="RATE", help="False-alarm rate for which a threshold is proposed.")
    ] = 0.05,
    lists: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write photographs.txt, ai-generated.txt and calibration.txt into this new folder, for "
            "`fit --photos @FILE`, `fit --ai-generated @FILE` and `calibrate --photos @FILE`.",
        ),
    ] = None,
    ledger: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Keep the decisions in the ledger FILE: `scan --ledger FILE` then puts them on its rows, "
            "and `report --ledger FILE` does not ask again.",
        ),
    ] = None,
    max_bytes: o.MaxBytes = "100M",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    debug: o.Debug = False,
) -> None:
    """Measure a scan by its reviewers' decisions.

    Prints false alarms and misses with intervals, also by score and by folder, and proposes a threshold. Says
    what cannot be known from what was reviewed. See docs/feedback.md.

    Example: `bladescan feedback decisions.jsonl --verdicts verdicts.jsonl --lists lists`
    """
    from bladescan.command.feedback_tables import print_feedback
    from bladescan.feedback.job import as_json as document

    asked = bladescan.FeedbackOptions(
        verdicts=tuple(verdicts or ()),
        false_alarm=check_rate(false_alarm),
        lists=lists,
        ledger=ledger,
        limits=image_limits(max_bytes, "100M"),
    )
    if lists is not None:
        check_new_folder(lists, "--lists")
    found = bladescan.read_feedback(decisions, asked)
    if as_json:
        print(json.dumps(document(found)))
    else:
        print_feedback(found)
