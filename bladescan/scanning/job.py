"""One scan from its options to a finished sink: resolve, run, count. It prints nothing itself."""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from bladescan import __version__
from bladescan.base import clock
from bladescan.base.errors import BladescanError, DetectorError, OutputError, UsageError
from bladescan.base.exit_codes import ExitCode
from bladescan.base.records import Cost, ImageRecord, Verdict
from bladescan.detectors.calibration import benjamini_hochberg, false_alarm_threshold
from bladescan.detectors.manifest import Manifest
from bladescan.ledger.earlier import EarlierOptions, EarlierVerdicts
from bladescan.ledger.entries import VerdictSettings
from bladescan.outputs.run import RunInfo, RunSummary
from bladescan.outputs.sink import Sink
from bladescan.processes.resources import n_cores
from bladescan.runtimes.backend import Backend, BackendSettings
from bladescan.runtimes.registry import choose_plugin, default_detector
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.scanning.pipeline import Scanner, ScanSettings, choose_head, judge_again, scan_in_processes
from bladescan.sources.source import Source

if TYPE_CHECKING:
    from bladescan.scanning.cluster import ClusterScan


@dataclass(frozen=True, slots=True)
class Decision:
    """How the user wants to decide; None leaves it to the detector."""

    head: str = "auto"
    false_alarm: float | None = None
    fdr: float | None = None


class TooManyErrorsError(BladescanError):
    """More sources are unreadable than the user puts up with; what was finished is to be kept."""


BATCH_SIZE, CUDA_BATCH_SIZE = 8, 64
STAGES = ("list", "fetch", "decode", "score", "write")


@dataclass(slots=True)
class Tally:
    """Counts of a scan and what it spends; owns its exit code."""

    verdicts: Counter[Verdict] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    n_faces: int = 0
    n_unchanged: int = 0
    bytes_read: int = 0
    stage_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    started: float = field(default_factory=time.monotonic)

    def begin(self) -> None:
        """The detector is loaded: the clock starts."""
        self.started = time.monotonic()

    def count(self, record: ImageRecord) -> None:
        """Count one image."""
        self.verdicts[record.verdict] += 1
        self.n_faces += len(record.faces)
        if record.reason is not None:
            self.reasons[record.reason.value] += 1
        if record.cost is not None:
            self._spend(record.cost)

    def _spend(self, cost: Cost) -> None:
        self.bytes_read += cost.n_bytes
        for stage, seconds in (("fetch", cost.fetch_s), ("decode", cost.decode_s), ("score", cost.score_s)):
            self.stage_seconds[stage] += seconds

    @contextmanager
    def spending(self, stage: str) -> Iterator[None]:
        """What happens meanwhile is of this stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.stage_seconds[stage] += time.perf_counter() - started

    def listing(self, sources: Iterable[Source]) -> Iterator[Source]:
        """The same sources; what it takes to have the next one is listing."""
        iterator = iter(sources)
        while True:
            with self.spending("list"):
                source = next(iterator, None)
            if source is None:
                return
            yield source

    def exit_code(self) -> ExitCode:
        """What the shell is told of a scan that ran to its end."""
        if self.verdicts[Verdict.UNREADABLE] or not (self.verdicts.total() or self.n_unchanged):
            return ExitCode.INCOMPLETE
        return ExitCode.FLAGGED if self.verdicts[Verdict.AI_GENERATED] else ExitCode.CLEAN

    def summary(self, exit_code: ExitCode | None = None) -> RunSummary:
        """The summary record; an exit code given here means that the scan did not reach its end."""
        seconds = round(time.monotonic() - self.started, 3)
        n_images, n_faces = self.verdicts.total(), self.n_faces
        return RunSummary(
            n_images=n_images,
            n_faces=n_faces,
            verdicts={verdict.value: self.verdicts[verdict] for verdict in Verdict},
            reasons=dict(sorted(self.reasons.items())),
            seconds=seconds,
            exit_code=int(self.exit_code() if exit_code is None else exit_code),
            complete=exit_code is None,
            n_unchanged=self.n_unchanged,
            bytes_read=self.bytes_read,
            images_per_second=round(n_images / max(seconds, 1e-3), 3),
            faces_per_second=round(n_faces / max(seconds, 1e-3), 3),
            stage_seconds={stage: round(spent, 3) for stage, spent in self.stage_seconds.items()},
        )


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """What the user asked of a scan, before anything is loaded.

    Attributes:
        model: the detector file, None for the one that ships.
        backend: name of a plugin, or ``auto``.
        n_workers: processes that scan; 1 is this one.
        cluster: ``dask:ADDRESS`` or ``ray:ADDRESS`` of a cluster that scans instead.
        batch_size: most crops in one model run; None for what suits the device.
        max_errors: most sources that may be unreadable; None for any number.
    """

    model: Path | None = None
    backend: str = "auto"
    decision: Decision = Decision()
    runtime: BackendSettings = BackendSettings()
    decoder: DecoderSettings = DecoderSettings()
    batch_size: int | None = None
    n_workers: int = 1
    cluster: str | None = None
    max_errors: int | None = None


def _unsaid(_: str) -> None:
    pass


class ScanJob:
    """A scan whose detector, device and face finder have been shown to work.

    Everything is loaded once before the first image, so that what is wrong is an error and not rows.

    Args:
        options: what the user asked.
        note: is told, in a line, what a longer wait is for.

    Raises:
        BladescanError: the detector, the backend, the device, the head, the face finder or the cluster
            cannot be had.
    """

    def __init__(self, options: ScanOptions, note: Callable[[str], None] = _unsaid) -> None:
        self._n_workers = options.n_workers
        self._cluster: ClusterScan | None = None
        self._fdr, self._max_errors = options.decision.fdr, options.max_errors
        backend = _open_backend(options)
        try:
            self.settings = _settings(options, backend)
            self.threshold = _threshold(self.settings, backend.manifest, self._fdr)
            self._scanner = Scanner(self.settings, backend)
        except BaseException:
            backend.close()
            raise
        self.finder = self._scanner.ready.finder
        self.notices = [line for line in (self._scanner.ready.notice, self._finder_warning()) if line]
        if options.cluster is not None:
            self._cluster = self._join(options.cluster, options, note)
            self.notices.append(self._cluster.notice)

    def run_info(self) -> RunInfo:
        """The head of the output."""
        manifest, settings = self._scanner.backend.manifest, self.settings
        return RunInfo(
            version=__version__,
            detector=manifest.name,
            detector_sha256=self._detector_sha256,
            backend=settings.backend,
            device=self.device,
            face_finder=self.finder,
            head=settings.head,
            false_alarm=None if self._fdr is not None else settings.false_alarm,
            fdr=self._fdr,
            threshold=self.threshold,
            started=clock.now().isoformat(timespec="seconds"),
        )

    def earlier_verdicts(self, options: EarlierOptions) -> EarlierVerdicts:
        """What earlier runs know that decided as this one does.

        Under a false-discovery rate that is the verdict before it: the batch's threshold is found anew.
        """
        settings, decoder = self.settings, self.settings.decoder
        decides = VerdictSettings.of(
            {
                "version": __version__,
                "detector": self._scanner.backend.manifest.name,
                "detector_sha256": self._detector_sha256,
                "backend": settings.backend,
                "precision": settings.runtime.precision,
                "head": settings.head,
                "false_alarm": settings.false_alarm,
                "face_finder": self.finder,
                "min_face": decoder.min_face,
                "limits": asdict(decoder.limits) | {"formats": sorted(decoder.limits.formats)},
            }
        )
        return EarlierVerdicts(options, decides, holds_back=self._fdr is not None)

    def describe(self) -> str:
        """The detector and where it ran, in a few words: what ``auto`` took."""
        manifest, settings = self._scanner.backend.manifest, self.settings
        rule = f"fdr {self._fdr:g}" if self._fdr is not None else f"false alarms {settings.false_alarm:g}"
        return (
            f"{manifest.name}, {settings.head} head, {rule}, {settings.backend} on "
            f"{self.device}, faces by {self.finder}"
        )

    def run(
        self,
        sources: Iterable[Source],
        sink: Sink,
        tally: Tally,
        earlier: EarlierVerdicts,
        seen: Callable[[ImageRecord], None],
    ) -> None:
        """Scan every source into the sink, in order, but for what need not be read again.

        Raises:
            TooManyErrorsError: the limit of unreadable sources is passed; their rows are written.
        """
        records = self._records(tally.listing(earlier.look_up(sources)))
        if self._max_errors is not None:
            records = _stopped_after(records, self._max_errors)
        records = earlier.keep(records)  # the one that stops the scan too
        if self._fdr is not None:
            records = _flag_by_discovery_rate(records, self._fdr)
        try:
            for record in records:
                tally.count(record)
                with tally.spending("write"):
                    sink.write(record)
                seen(record)
        finally:
            tally.n_unchanged = earlier.n_unchanged

    def close(self) -> None:
        """End the decoders and free the runtime. Closing twice is fine."""
        self._scanner.close()
        if self._cluster is not None:
            self._cluster.close()

    @property
    def device(self) -> str:
        """Where the detector runs: here, or on the workers of a cluster."""
        return self._scanner.backend.device if self._cluster is None else self._cluster.device

    def _join(self, address: str, options: ScanOptions, note: Callable[[str], None]) -> ClusterScan:
        """Have a cluster scan: what ``auto`` became here is what every worker must have."""
        from bladescan.scanning.cluster import ClusterScan

        self._scanner.close()
        decoder = msgspec.structs.replace(self.settings.decoder, faces=self.finder)
        settings = replace(self.settings, decoder=decoder, runtime=replace(options.runtime, threads=1))
        return ClusterScan(address, settings, shipped=options.model is None, note=note)

    def _records(self, sources: Iterable[Source]) -> Iterator[ImageRecord]:
        if self._cluster is not None:
            return self._cluster.scan(sources)
        if self._n_workers == 1:
            return self._scanner.scan(sources)
        self._scanner.close()  # it has shown that all is well; the workers open their own
        return scan_in_processes(sources, self.settings, self._n_workers)

    @cached_property
    def _detector_sha256(self) -> str:
        return hashlib.sha256(self.settings.detector.read_bytes()).hexdigest()

    def _finder_warning(self) -> str:
        fitted = self._scanner.backend.manifest.face_rule.finder
        if self.finder in (fitted, "none"):
            return ""
        return (
            f"the detector was fitted on faces found by {fitted}, this scan uses {self.finder}: "
            "false-alarm rates may differ"
        )


def _open_backend(options: ScanOptions) -> Backend:
    path = default_detector(options.backend) if options.model is None else options.model
    if path.is_dir():
        raise DetectorError(f"{path}: is a folder; expected a detector file (.onnx or .safetensors)")
    if not path.is_file():
        raise DetectorError(f"{path}: no such detector file; leave --model out for the one that ships")
    # A cluster's workers have the device; here the detector only says what it is.
    device = options.runtime.device if options.cluster is None else "auto"
    runtime = replace(options.runtime, device=device, threads=_n_threads(options))
    return choose_plugin(options.backend, path).open(path, runtime)


def _n_threads(options: ScanOptions) -> int:
    """Of one model run: a runtime left to itself counts the machine's cores, quotas or not."""
    return max(1, n_cores() // options.n_workers)


def _settings(options: ScanOptions, backend: Backend) -> ScanSettings:
    decision, manifest = options.decision, backend.manifest
    if decision.fdr is not None and decision.false_alarm is not None:
        raise UsageError("--fdr and --false-alarm are two ways to decide: give one")
    path = default_detector(options.backend) if options.model is None else options.model
    cores = n_cores()
    rule = manifest.face_rule
    decoder = msgspec.structs.replace(options.decoder, crop_scale=rule.scale, crop_resize=rule.resize)
    return ScanSettings(
        detector=path,
        backend=choose_plugin(options.backend, path).name,
        head=choose_head(manifest, decision.head),
        false_alarm=manifest.default_false_alarm if decision.false_alarm is None else decision.false_alarm,
        runtime=replace(options.runtime, threads=_n_threads(options)),
        decoder=decoder,
        batch_size=options.batch_size or _batch_size(options.runtime.device, backend.device),
        n_decoders=cores if options.n_workers == 1 else 1,
    )


def _batch_size(asked: str, had: str) -> int:
    """A GPU idles between small batches; on a CPU larger ones only wait longer. On a cluster, as asked."""
    return CUDA_BATCH_SIZE if (had if asked == "auto" else asked).startswith("cuda") else BATCH_SIZE


def _threshold(settings: ScanSettings, manifest: Manifest, fdr: float | None) -> float | None:
    """The score that decides, for the record; a rate that the calibration cannot tell is an error."""
    if fdr is not None:
        return None
    return false_alarm_threshold(manifest.heads[settings.head], settings.false_alarm)


def _stopped_after(records: Iterable[ImageRecord], max_errors: int) -> Iterator[ImageRecord]:
    n_unreadable = 0
    for n_images, record in enumerate(records, 1):
        yield record
        n_unreadable += record.verdict is Verdict.UNREADABLE
        if n_unreadable > max_errors:
            raise TooManyErrorsError(
                f"stopped: {n_unreadable} of {n_images} images could not be read, more than --max-errors "
                f"{max_errors}"
            )


def _flag_by_discovery_rate(records: Iterable[ImageRecord], rate: float) -> Iterator[ImageRecord]:
    """Hold all records back in a private temporary file until the batch's threshold is known.

    When the scan is broken off there is no batch to judge: what was finished comes out as the detector's own
    false-alarm rate decided it.
    """
    p_values: list[float] = []
    with _spool() as spool:
        try:
            for record in records:
                p_values += [face.p_value for face in record.faces]
                spool.write(record)
        except TooManyErrorsError:
            yield from spool.read()
            raise
        except (Exception, GeneratorExit):
            raise
        except BaseException:
            yield from spool.read()
            raise
        threshold = benjamini_hochberg(p_values, rate)
        yield from (judge_again(record, threshold) for record in spool.read())


class _Spool:
    """Records in a file. JSON, not MessagePack: its escapes keep names that are not UTF-8."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, record: ImageRecord) -> None:
        with _mapped():
            self._file.write(json.dumps(asdict(record)).encode() + b"\n")

    def read(self) -> Iterator[ImageRecord]:
        with _mapped():
            self._file.seek(0)
        for line in self._file:
            yield msgspec.convert(json.loads(line), ImageRecord)


@contextmanager
def _spool() -> Iterator[_Spool]:
    with _mapped():
        file = tempfile.TemporaryFile(prefix="bladescan-")
    try:
        yield _Spool(file)
    finally:
        with suppress(OSError):  # what a full disk would not take is not wanted any more
            file.close()


@contextmanager
def _mapped() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise OutputError(
            f"--fdr holds rows back in a temporary file, which fails: {exc.strerror}; set TMPDIR to a folder "
            "with room"
        ) from exc
