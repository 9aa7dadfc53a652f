"""What a scan tells Prometheus: a file for the textfile collector of its node exporter.

Written by hand: the text format is a comment and a number per line, and a cron container stays light. The
tests read it with Prometheus' own parser. No path of a scanned file is ever in it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from bladescan.base.errors import OutputError, UsageError
from bladescan.base.output_files import is_special, open_output, write_file
from bladescan.base.records import Reason
from bladescan.outputs.run import RunInfo, RunSummary
from bladescan.scanning.listener import Listener

_logger = logging.getLogger(__name__)
_RUN_LABELS = ("version", "detector", "detector_sha256", "backend", "device", "face_finder", "head")


class _Gauge(NamedTuple):
    """A family of samples, each with the labels that tell it from the others."""

    name: str
    help: str
    samples: Iterable[tuple[dict[str, str], float]]


class MetricsFile(Listener):
    """The metrics of one scan, written when it is over, however it ended.

    A file that cannot be made is an error before the scan; one that cannot be written after it is only said,
    for the verdicts are good.

    Args:
        path: the file.

    Raises:
        UsageError: the collector would not read a file of that name.
        OutputError: the file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if path.suffix != ".prom":
            raise UsageError(f"--metrics {path}: expected a name that ends in .prom")
        if is_special(str(path)):  # to open a pipe would wait for a reader
            raise UsageError(f"--metrics {path}: is a device or a pipe; give the name of a file")
        open_output(str(path)).discard()

    def closed(self, summary: RunSummary, run: RunInfo | None) -> None:
        """Write the file."""
        text = render(self._path.stem, summary, run, time.time())
        try:
            write_file(self._path, text.encode())
        except OutputError as error:
            _logger.warning("%s", error)


def render(scan: str, summary: RunSummary, run: RunInfo | None, ended: float) -> str:
    """Write the text of the file.

    Args:
        scan: tells this job's samples from those of others on the same machine.
        summary: of the run.
        run: what scanned; None where the scan failed before that was known.
        ended: seconds since 1970.
    """
    lines: list[str] = []
    for gauge in _gauges(summary, run, ended):
        name = f"bladescan_last_run_{gauge.name}"
        lines += [f"# HELP {name} {gauge.help}", f"# TYPE {name} gauge"]
        lines += [f"{name}{_labels({'scan': scan} | labels)} {value!r}" for labels, value in gauge.samples]
    return "\n".join(lines) + "\n"


def _gauges(summary: RunSummary, run: RunInfo | None, ended: float) -> Iterator[_Gauge]:
    def one(value: float) -> list[tuple[dict[str, str], float]]:
        return [({}, value)]

    reasons = {reason.value: summary.reasons.get(reason.value, 0) for reason in Reason}
    yield _Gauge("timestamp_seconds", "When the last scan ended, since 1970.", one(round(ended, 3)))
    yield _Gauge("duration_seconds", "Wall clock of the last scan.", one(summary.seconds))
    yield _Gauge("exit_code", "Exit code of the last scan.", one(summary.exit_code))
    yield _Gauge("complete", "1 if the last scan finished, else 0.", one(int(summary.complete)))
    yield _Gauge("images", "Images of the last scan by verdict.", _by("verdict", summary.verdicts))
    yield _Gauge("unreadable_images", "Unreadable images of the last scan by reason.", _by("reason", reasons))
    flagged, declared = _by("by", summary.flagged_by), _by("declared", summary.declared)
    yield _Gauge("flagged_images", "AI-generated images of the last scan by what made them so.", flagged)
    yield _Gauge("declared_images", "Images of the last scan by what their files say.", declared)
    yield _Gauge("unchanged_images", "Images that the ledger knew.", one(summary.n_unchanged))
    yield _Gauge("other_files", "Files below folders that are no pictures.", one(summary.n_other_files))
    yield _Gauge("faces", "Faces of the last scan.", one(summary.n_faces))
    yield _Gauge("whole_pictures", "Images that the last scan judged as a whole.", one(summary.n_pictures))
    yield _Gauge("read_bytes", "Bytes of files that the last scan read.", one(summary.bytes_read))
    stages = _by("stage", summary.stage_seconds)
    yield _Gauge("stage_seconds", "Seconds spent by stage, over all processes.", stages)
    if run is not None:
        labels = {name: str(getattr(run, name)) for name in _RUN_LABELS}
        yield _Gauge("info", "What made the verdicts of the last scan.", [(labels, 1)])


def _by(label: str, values: dict[str, int] | dict[str, float]) -> list[tuple[dict[str, str], float]]:
    return [({label: name}, value) for name, value in values.items()]


def _labels(labels: dict[str, str]) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    text = value.encode("utf-8", "backslashreplace").decode()
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
