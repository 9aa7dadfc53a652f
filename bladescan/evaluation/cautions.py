"""Cautions of a report: one line each on what makes its numbers say less than they seem to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from bladescan.detectors.manifest import HeadName, Manifest
from bladescan.evaluation.baselines import (
    FileFacts,
)
from bladescan.evaluation.report import (
    NO_VARIANT,
    PHOTOGRAPHS,
    Baseline,
    CropMatch,
    HeadReport,
)
from bladescan.scanning.decoder_process import Ready

_T = TypeVar("_T")


def without_photographs(sets: Mapping[str, _T]) -> dict[str, _T]:
    """Leave the generators alone of everything by set."""
    return {name: part for name, part in sets.items() if name != PHOTOGRAPHS}


def finder_cautions(ready: Ready, manifest: Manifest) -> list[str]:
    """Warn of a face finder that is not the one the detector was fitted with."""
    cautions = [ready.notice] if ready.notice else []
    fitted = manifest.face_rule.finder
    if ready.finder not in (fitted, "none"):
        cautions.append(
            f"the detector was fitted on faces found by {fitted}, this evaluation uses {ready.finder}: "
            "false-alarm rates may differ"
        )
    return cautions


def duplicate_cautions(facts: Mapping[str, list[FileFacts]]) -> list[str]:
    """Warn of files that are in two sets, or twice in one."""
    ours = {fact.digest for fact in facts[PHOTOGRAPHS]}
    shared = {
        name: sum(fact.digest in ours for fact in part) for name, part in without_photographs(facts).items()
    }
    copies = {name: len(part) - len({fact.digest for fact in part}) for name, part in facts.items()}
    return [
        *(
            f"{n} of the files of {name} are also among the photographs: ignore all numbers about {name}"
            for name, n in shared.items()
            if n
        ),
        *(
            f"{n} of the files of {name} are copies of each other: intervals count them as one file"
            for name, n in copies.items()
            if n
        ),
    ]


_BASELINE_SEES = {
    "files": "file size, dimensions, format and JPEG quantisation",
    "compressed-size": "the bytes that a JPEG of the crop takes",
}


def baseline_cautions(
    heads: Mapping[HeadName, HeadReport],
    baselines: Mapping[str, Baseline],
    matched: CropMatch | None,
) -> list[str]:
    """Warn of each head that a baseline reaches or beats, and say the way out."""
    cautions = []
    for baseline, found in baselines.items():
        for head, report in heads.items():
            measured = report.variants[NO_VARIANT].generators
            areas = found.generators.items()
            beaten = [name for name, area in areas if area.value >= measured[name].auc.value]
            if beaten:
                cautions.append(
                    f"{_BASELINE_SEES[baseline]} alone reach the AUC of the {head} head on "
                    f"{', '.join(beaten)}: {_consequence(baseline, matched)}"
                )
    if cautions and matched is None:
        cautions.append("the classes differ in more than their faces: evaluate them with --match as well")
    return cautions


def _consequence(baseline: str, matched: CropMatch | None) -> str:
    if baseline == "files" and matched is not None:
        return "the sets differ that much as files, which the matched crops should hide"
    return "there its score does not show that it sees faces"
