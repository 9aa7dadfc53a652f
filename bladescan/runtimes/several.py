"""Several detectors that scan as one: which they are, what they are as one, and how they are opened."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bladescan.base.errors import DetectorError, UsageError
from bladescan.detectors.combination import bound, check_rule
from bladescan.detectors.combined_file import SUFFIX
from bladescan.detectors.manifest import (
    Combination,
    Component,
    Manifest,
    NetworkHead,
    decode_manifest,
    encode_manifest,
    network_heads,
)
from bladescan.detectors.parts import file_digest
from bladescan.runtimes.backend import Backend, BackendSettings
from bladescan.runtimes.combined import CombinedBackend
from bladescan.runtimes.registry import OpenedDetector, get_plugin, open_detector, open_file

_NO_NAME = re.compile(r"[^0-9A-Za-z-]+")
_TAKEN = frozenset({"detection"})
"""``detection_score`` is a column already."""


@dataclass(frozen=True, slots=True)
class SeveralDetectors:
    """Detectors that scan as one, without a file of their own. Crosses processes.

    Attributes:
        files: of the detectors.
        plugins: names of the backends that open them.
        described: manifest of all as one, encoded: settings of a scan must have a hash.
    """

    files: tuple[Path, ...]
    plugins: tuple[str, ...]
    described: str


def open_several(several: SeveralDetectors, settings: BackendSettings) -> CombinedBackend:
    """Load detectors that were chosen before.

    Raises:
        BladescanError: as `bladescan.runtimes.registry.open_file`.
    """
    opened: list[Backend] = []
    try:
        for file, plugin in zip(several.files, several.plugins, strict=True):
            opened.append(open_file(get_plugin(plugin), file, settings))
    except BaseException:
        _close(opened)
        raise
    return CombinedBackend(decode_manifest(several.described, where="several detectors"), opened)


def choose_several(
    detectors: Iterable[str | Path | None],
    rule: str,
    head: str = "auto",
    backend: str = "auto",
    settings: BackendSettings = BackendSettings(),  # noqa: B008 (it is frozen)
) -> tuple[SeveralDetectors, CombinedBackend]:
    """Load detectors to be combined, with a calibration that holds however they depend on each other.

    Args:
        detectors: names of shipped ones or paths.
        rule: of combination.
        head: of each, ``auto`` for its default, ``all`` for all.
        backend: name of a plugin, or ``auto``.
        settings: of the runtime.

    Raises:
        BladescanError: one cannot be loaded, or they do not go together.
    """
    opened: list[OpenedDetector] = []
    try:
        for one in detectors:
            opened.append(open_detector(one, backend, settings))
        _check_different([one.path for one in opened])
        named = [(one.path.stem, one.backend.manifest) for one in opened]
        manifest = manifest_of_several(named, rule, head)
    except BaseException:
        _close(one.backend for one in opened)
        raise
    files, plugins = tuple(one.path for one in opened), tuple(one.plugin for one in opened)
    parts = [one.backend for one in opened]
    return SeveralDetectors(files, plugins, encode_manifest(manifest)), CombinedBackend(manifest, parts)


def manifest_of_several(named: Sequence[tuple[str, Manifest]], rule: str, head: str = "auto") -> Manifest:
    """Describe detectors as one whose combined score decides.

    Args:
        named: of the detectors, each with the name of its file; a single one is combined of its heads.
        rule: of combination.
        head: of each, ``auto`` for its default, ``all`` for all.

    Raises:
        UsageError: there is but one score, or a detector lacks the head.
        DetectorError: they judge different things, or their crops have different sizes.
    """
    manifests = [manifest for _, manifest in named]
    _check_alike(manifests)
    components = _components(named, head if len(manifests) > 1 or head != "auto" else "all")
    if len(components) < 2:
        raise UsageError(
            f"--combine needs two scores or more, and {named[0][0]!r} gives one: name another detector"
        )
    combination = Combination(
        check_rule(rule),
        components,
        tuple(one.face_rule for one in manifests) if len(manifests) > 1 else (),
        seen_together=False,
    )
    first = manifests[0]
    return msgspec.structs.replace(
        first,
        name="+".join(name for name, _ in named),
        heads={"combined": bound(combination.rule, components)},
        default_head="combined",
        combination=combination,
        measured=(),
        licence=", ".join(dict.fromkeys(filter(None, (one.licence for one in manifests)))),
        provenance={"parts": [_described(one) for one in manifests]},
    )


def _components(named: Sequence[tuple[str, Manifest]], head: str) -> tuple[Component, ...]:
    found: list[Component] = []
    taken = set(_TAKEN)
    for part, (detector, manifest) in enumerate(named):
        heads = _heads(detector, manifest, head)
        for name in heads:
            label = _NO_NAME.sub("_", detector).strip("_") or "detector"
            if len(heads) > 1:
                label = f"{label}-{name}" if len(named) > 1 else name
            label = _free(label, taken)
            taken.add(label)
            found.append(Component(label, name, manifest.heads[name], part))
    return tuple(found)


def _free(label: str, taken: set[str]) -> str:
    """Add a number to a name that is taken: the columns of two detectors must differ."""
    numbered = (label, *(f"{label}-{i}" for i in range(2, len(taken) + 3)))
    return next(one for one in numbered if one not in taken)


def _heads(detector: str, manifest: Manifest, asked: str) -> list[NetworkHead]:
    there = network_heads(manifest)
    if not manifest.heads:
        raise UsageError(f"{detector!r} is a bare encoder without a calibrated head: run bladescan fit")
    if asked == "auto":
        asked = "all" if manifest.default_head == "combined" else str(manifest.default_head)
    wanted = [name for name in there if asked in (name, "all")]
    if wanted:
        return wanted
    if not there:
        raise UsageError(f"{detector!r} is combined already: name its detectors one by one")
    raise UsageError(
        f"the detector {detector!r} has no {asked} head to combine. Available: {', '.join(there)}."
    )


def _check_alike(manifests: Sequence[Manifest]) -> None:
    first = manifests[0]
    if any(one.subject == "image" for one in manifests):
        raise UsageError("only scores of faces can be combined: give a detector of whole pictures alone")
    for other in manifests[1:]:
        if other.subject != first.subject:
            raise DetectorError(
                f"{first.name!r} judges {first.subject}s and {other.name!r} {other.subject}s: their scores "
                "are not of one thing, and cannot be combined"
            )
        if other.preprocessing.size != first.preprocessing.size:
            raise DetectorError(
                f"{first.name!r} and {other.name!r} look at crops of {first.preprocessing.size} and "
                f"{other.preprocessing.size} pixels"
            )


def _check_different(files: Sequence[Path]) -> None:
    seen: dict[str, Path] = {}
    for file in files:
        if file.suffix.lower() == SUFFIX:
            raise UsageError(f"{file.name} is combined already: name its detectors one by one")
        earlier = seen.setdefault(file_digest(file), file)
        if earlier is not file:
            raise UsageError(
                f"{earlier.name} and {file.name} are the same detector: it says nothing that it has not said"
            )


def _described(part: Manifest) -> dict[str, object]:
    return {"name": part.name, "licence": part.licence, "encoder": part.encoder.name, **part.provenance}


def _close(backends: Iterable[Backend]) -> None:
    for backend in backends:
        backend.close()
