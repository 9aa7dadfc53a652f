"""Detectors and photographs to one detector: their p-values combined, calibrated on the photographs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bladescan.base.errors import UsageError
from bladescan.base.output_files import write_file
from bladescan.detectors.calibration import check_rate
from bladescan.detectors.combination import check_rule
from bladescan.detectors.combined_file import CombinedFile, encode_combined
from bladescan.detectors.parts import part_of
from bladescan.fitting.calibrate_job import CalibrateOptions, calibrate_backend
from bladescan.fitting.part_files import copy_beside
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.several import choose_several
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.sources.given import Given


@dataclass(frozen=True, slots=True)
class CombineOptions:
    """What the user asked of a combination.

    Attributes:
        detectors: by the names of shipped ones or the paths of files; a single one is combined of its heads.
        rule: ``stouffer`` or ``min``, see `bladescan.detectors.combination`.
        head: of each detector, ``auto`` for its default, ``all`` for all.
        name: of the combination.
        false_alarm: its default rate.
    """

    detectors: tuple[str | Path, ...] = ("fast", "blades")
    rule: str = "stouffer"
    head: str = "auto"
    name: str = "combined"
    false_alarm: float = 0.05
    runtime: BackendSettings = BackendSettings()
    decoder: DecoderSettings = DecoderSettings()
    n_decoders: int = 1

    def __post_init__(self) -> None:
        check_rule(self.rule)
        check_rate(self.false_alarm, "false-alarm rate")


class MadeCombined(NamedTuple):
    """A combination, and what the photographs said of it.

    Attributes:
        combined: what its file holds.
        parts: the files of the detectors.
        report: plain JSON values, also in the manifest's provenance.
    """

    combined: CombinedFile
    parts: tuple[Path, ...]
    report: dict[str, Any]


def combine(
    photographs: Given,
    options: CombineOptions = CombineOptions(),  # noqa: B008 (it is frozen)
    *,
    seen: Callable[[int], None] = lambda n: None,
) -> MadeCombined:
    """Make detectors one, and calibrate it on photographs.

    Args:
        photographs: camera photographs with a face, like those that will be scanned.
        options: what the user asked.
        seen: told of each image scored.

    Raises:
        BladescanError: the detectors do not go together, or the photographs are too few or of no use.
    """
    several, backend = choose_several(options.detectors, options.rule, options.head, settings=options.runtime)
    try:
        _check_names(several.files)
        asked = CalibrateOptions(
            name=options.name,
            false_alarm=options.false_alarm,
            decoder=options.decoder,
            n_decoders=options.n_decoders,
        )
        manifest, report = calibrate_backend(backend, photographs, asked, seen=seen)
    finally:
        backend.close()
    manifest = msgspec.structs.replace(manifest, default_false_alarm=options.false_alarm)
    return MadeCombined(CombinedFile(manifest, tuple(map(part_of, several.files))), several.files, report)


def save_combined(combined: CombinedFile, parts: tuple[Path, ...], output: Path) -> None:
    """Write a combination, and copies of its detectors beside it where they are not there yet.

    Args:
        combined: to write.
        parts: the files of its detectors.
        output: the file, ``.combined``.

    Raises:
        OutputError: another file of a part's name lies there, or one cannot be written.
    """
    copy_beside(parts, output)
    write_file(output, encode_combined(combined))


def _check_names(files: tuple[Path, ...]) -> None:
    names = [file.name for file in files]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two detectors are called {name}, and lie beside the combination: rename one")
