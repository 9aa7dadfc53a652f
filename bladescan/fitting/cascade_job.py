"""Two detectors and photographs to a cascade: scales, the score that clears, and one calibration for both."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import DataError, UsageError
from bladescan.base.output_files import write_file
from bladescan.detectors.calibration import (
    check_rate,
    compress_calibration,
    false_alarm_interval,
    needed_photographs,
)
from bladescan.detectors.cascade import (
    SUFFIX,
    Cascade,
    CascadeRule,
    PartScale,
    check_alike,
    encode_cascade,
)
from bladescan.detectors.combined_file import SUFFIX as COMBINED
from bladescan.detectors.manifest import CalibratedHead, Manifest
from bladescan.detectors.measured import rates_by_source
from bladescan.detectors.parts import part_of
from bladescan.detectors.suspicion import suspicion, suspicion_threshold
from bladescan.fitting.copies import CopyCount, without_copies
from bladescan.fitting.part_files import copy_beside
from bladescan.runtimes.backend import Backend, BackendSettings
from bladescan.runtimes.registry import OpenedDetector, open_detector
from bladescan.scanning.cut_faces import listed, with_faces
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.scanning.decoders import decoder_pool
from bladescan.scanning.pipeline import crops_of
from bladescan.scanning.scoring import score_in_batches
from bladescan.sources.given import Given, sources_of
from bladescan.sources.source import Source


@dataclass(frozen=True, slots=True)
class CascadeOptions:
    """What the user asked of a cascade.

    Attributes:
        first, second: the detectors, by the name of a shipped one or the path of a file.
        name: of the cascade.
        clear: share of the photographs' faces that the first clears alone, from 0 to less than 1.
        weight: of the second's score where both count, from 0 to 1; the first's is the rest.
        false_alarm: the cascade's default rate.
    """

    first: str | Path = "fast"
    second: str | Path = "accurate"
    name: str = "cascade"
    clear: float = 0.8
    weight: float = 0.5
    false_alarm: float = 0.05
    runtime: BackendSettings = BackendSettings()
    decoder: DecoderSettings = DecoderSettings()
    batch_size: int = 8
    n_decoders: int = 1

    def __post_init__(self) -> None:
        check_rate(self.false_alarm, "false-alarm rate")
        if not 0.0 <= self.clear < 1.0:
            raise UsageError(f"the share to clear must be 0 or more and less than 1, got {self.clear:g}")
        if not 0.0 <= self.weight <= 1.0:
            raise UsageError(f"the weight must lie from 0 to 1, got {self.weight:g}")


class MadeCascade(NamedTuple):
    """A cascade, and what the photographs said of it.

    Attributes:
        parts: the files of both detectors.
        report: plain JSON values, also in the manifest's provenance.
    """

    cascade: Cascade
    parts: tuple[Path, Path]
    report: dict[str, Any]


def make_cascade(
    photographs: Given,
    options: CascadeOptions = CascadeOptions(),  # noqa: B008 (it is frozen)
    *,
    seen: Callable[[int], None] = lambda n: None,
) -> MadeCascade:
    """Make two detectors one, and calibrate it on photographs.

    Args:
        photographs: camera photographs with a face.
        options: what the user asked.
        seen: told of each image scored.

    Raises:
        BladescanError: the detectors do not go together, or the photographs are too few or of no use.
    """
    with ExitStack() as stack:
        opened = []
        for one in (options.first, options.second):
            opened.append(open_detector(one, settings=options.runtime))
            stack.callback(opened[-1].backend.close)
        first, second = opened
        _check_parts(first, second)
        scored = _score(sources_of(photographs), first.backend, second.backend, options, seen)
    _check_enough(scored, options.false_alarm)
    rule = _rule(scored, options)
    report = _report(scored, rule, options)
    manifest = _manifest(first.backend.manifest, second.backend.manifest, scored, rule, report, options)
    cascade = Cascade(manifest, part_of(first.path), part_of(second.path), rule)
    return MadeCascade(cascade, (first.path, second.path), report)


def save_cascade(cascade: Cascade, parts: Iterable[Path], output: Path) -> None:
    """Write a cascade, and copies of its parts beside it where they are not there yet.

    Args:
        cascade: to write.
        parts: the files of its detectors.
        output: the file, ``.cascade``.

    Raises:
        OutputError: another file of a part's name lies there, or one cannot be written.
    """
    copy_beside(parts, output)
    write_file(output, encode_cascade(cascade))


@dataclass(frozen=True, slots=True)
class _Scored:
    """P(AI-generated) of both parts of the faces of some photographs, and photograph and folder of each."""

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    images: NDArray[np.intp]
    folders: list[str]
    finder: str
    skipped: dict[str, int]
    copies: CopyCount

    @property
    def n_images(self) -> int:
        return int(self.images[-1]) + 1 if len(self.images) else 0


def _check_parts(first: OpenedDetector, second: OpenedDetector) -> None:
    names = [first.path.name, second.path.name]
    if {SUFFIX, COMBINED} & {first.path.suffix.lower(), second.path.suffix.lower()}:
        raise UsageError("a cascade's parts are detectors, no cascades and nothing combined")
    if names[0] == names[1]:
        raise UsageError(f"both parts are called {names[0]}, and lie beside the cascade: rename one")
    if "image" in (first.backend.manifest.subject, second.backend.manifest.subject):
        raise UsageError("a cascade joins detectors of faces; one of whole pictures scans alone")
    check_alike(first.backend.manifest, second.backend.manifest, where=" and ".join(names))


def _score(
    sources: Iterable[Source],
    first: Backend,
    second: Backend,
    options: CascadeOptions,
    seen: Callable[[int], None],
) -> _Scored:
    found: list[list[NDArray[np.float64]]] = [[np.empty(0)], [np.empty(0)]]
    images: list[int] = []
    folders: list[str] = []
    skipped: Counter[str] = Counter()
    copies = CopyCount()
    decoder = msgspec.structs.replace(options.decoder.for_detector(first.manifest), identify=True)
    with decoder_pool(options.n_decoders, decoder) as pool:
        finder = pool.start().finder
        found_faces = with_faces(sources, pool, skipped, seen)
        for source, decoded in without_copies(found_faces, copies, skipped):
            crops = crops_of([decoded])
            images += [images[-1] + 1 if images else 0] * len(crops)
            folders += [os.path.basename(os.path.dirname(source.name))] * len(crops)
            for scores, backend in zip(found, (first, second), strict=True):
                part = score_in_batches(backend, crops, options.batch_size)
                assert part is not None and part.p_ai_generated is not None
                scores.append(part.p_ai_generated)
    of_first, of_second = (np.concatenate(scores) for scores in found)
    places = np.asarray(images, np.intp)
    return _Scored(of_first, of_second, places, folders, finder, dict(skipped), copies)


def _check_enough(scored: _Scored, rate: float) -> None:
    n, needed = len(scored.first), needed_photographs(rate)
    if n < needed:
        raise DataError(
            f"{n} faces in {scored.n_images} photographs ({listed(scored.skipped, 'none skipped')}), but a "
            f"false-alarm rate of {rate:g} needs at least {needed}: give more photographs"
        )


def _rule(scored: _Scored, options: CascadeOptions) -> CascadeRule:
    """Set the numbers so that the asked share is cleared, and ranks below every other photograph."""
    first = _scale(scored.first, 1.0 - options.weight, "first")
    second = _scale(scored.second, options.weight, "second")
    n_cleared = int(options.clear * len(scored.first))
    clear_below = float(np.sort(scored.first)[n_cleared])
    on = scored.first >= clear_below
    joint = [
        first.weight * first.standardised(p) + second.weight * second.standardised(q)
        for p, q in zip(scored.first[on].tolist(), scored.second[on].tolist(), strict=True)
    ]
    return CascadeRule(first, second, clear_below, first.standardised(clear_below) - min(joint))


def _scale(p: NDArray[np.float64], weight: float, which: str) -> PartScale:
    odds = suspicion(-p, "binary")
    spread = float(odds.std())
    if not spread > 0.0:
        raise DataError(f"the {which} detector gives all photographs the same score: it cannot be scaled")
    return PartScale(float(np.median(odds)), spread, weight)


def _report(scored: _Scored, rule: CascadeRule, options: CascadeOptions) -> dict[str, Any]:
    on, n = rule.goes_on(scored.first), len(scored.first)
    return {
        "n_images": scored.n_images,
        "n_faces": n,
        "skipped": scored.skipped,
        **({"notices": [f"copies are left out: {scored.copies.told()}"]} if scored.copies else {}),
        "faces_seen_by_second": float(on.mean()),
        "images_seen_by_second": len(np.unique(scored.images[on])) / scored.n_images,
        "false_alarm": options.false_alarm,
        "false_alarm_interval_95": list(false_alarm_interval(n, options.false_alarm)),
    }


def _manifest(
    first: Manifest,
    second: Manifest,
    scored: _Scored,
    rule: CascadeRule,
    report: dict[str, Any],
    options: CascadeOptions,
) -> Manifest:
    joined = rule.joined(scored.first, scored.second[rule.goes_on(scored.first)])
    head = CalibratedHead(compress_calibration(-joined), len(joined), {"clear": options.clear})
    report["threshold"] = suspicion_threshold(head, "binary", options.false_alarm)
    measured = rates_by_source("binary", -joined, scored.folders, options.false_alarm)
    return msgspec.structs.replace(
        first,
        name=options.name,
        heads={"binary": head},
        default_head="binary",
        combination=None,
        neighbours=None,
        default_false_alarm=options.false_alarm,
        measured=tuple(measured),
        face_rule=msgspec.structs.replace(first.face_rule, finder=scored.finder),
        licence=", ".join(dict.fromkeys(filter(None, (first.licence, second.licence)))),
        provenance={"first": _described(first), "second": _described(second), "calibrated": report},
    )


def _described(part: Manifest) -> dict[str, Any]:
    return {"name": part.name, "licence": part.licence, "encoder": part.encoder.name, **part.provenance}
