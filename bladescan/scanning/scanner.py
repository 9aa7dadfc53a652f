"""A detector loaded for scanning, on this machine's processes or a cluster's: sources in, records out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bladescan import __version__
from bladescan.base import clock
from bladescan.base.closing import Closing
from bladescan.base.errors import BackendError, TooManyErrorsError, UsageError
from bladescan.base.records import ROTATIONS, ImageRecord, Verdict
from bladescan.detectors.calibration import held_out_told
from bladescan.detectors.combination import check_reachable, least_p_value
from bladescan.detectors.discovery_rate import least_flagged_share
from bladescan.detectors.manifest import Manifest, Subject
from bladescan.detectors.measured import rates_of, told
from bladescan.detectors.parts import file_digest
from bladescan.detectors.shipped import is_shipped
from bladescan.detectors.suspicion import suspicion_threshold
from bladescan.ledger.entries import VerdictSettings
from bladescan.outputs.run import ImageDetector, RunInfo
from bladescan.processes.resources import check_semaphores, check_threads, n_cores, threads_needed
from bladescan.runtimes.registry import OpenedDetector, open_detector
from bladescan.runtimes.several import SeveralDetectors, choose_several
from bladescan.scanning.declarations import described
from bladescan.scanning.discovery import Discovered, flag_by_discovery_rate
from bladescan.scanning.judging import choose_head
from bladescan.scanning.other_files import OtherFiles, without_others
from bladescan.scanning.pipeline import ImageSettings, Pipeline, ScanSettings
from bladescan.scanning.scan_options import Decision, ScanOptions
from bladescan.scanning.subjects import check_subject, judged
from bladescan.scanning.workers import scan_in_processes
from bladescan.sources.given import Given, sources_of
from bladescan.sources.source import Source

if TYPE_CHECKING:
    from bladescan.scanning.cluster import ClusterScan

BATCH_SIZE, CUDA_BATCH_SIZE = 8, 64


class Scanner(Closing):
    """A scan whose detector, device and face finder have been shown to work.

    Everything is loaded once before the first image, so that what is wrong is an error and not rows.

    Args:
        options: what the user asks.

    Attributes:
        n_other_files: files below folders that were no pictures, over all calls of `scan`.
        threshold: the score above which a face is flagged; None where no score is high enough, and under a
            false-discovery rate until the batch is known.

    Raises:
        BladescanError: the detector, the backend, the device, the head, the face finder, the trust list or
            the cluster cannot be had.
    """

    def __init__(self, options: ScanOptions = ScanOptions()) -> None:  # noqa: B008 (it is frozen)
        self.n_other_files = 0
        self._n_workers = options.n_workers or n_cores()
        self._cluster: ClusterScan | None = None
        self._fdr, self._storey = options.decision.fdr, options.decision.storey
        self._discovered: Discovered | None = None
        self._max_errors = options.max_errors
        self._declared = options.provenance.declared
        _check_room(self._n_workers)
        with ExitStack() as opened:
            detector, several, image = _open_detectors(options, self._n_workers, opened)
            backend = detector.backend
            if options.explain and backend.manifest.subject == "image":
                raise UsageError("--explain says what a face's verdict rests on: no face is judged here")
            self.settings = _settings(options, detector, several, image, self._n_workers)
            self.threshold = _threshold(self.settings, backend.manifest, self._fdr)
            self._pipeline = Pipeline(self.settings, backend, image and image.backend)
            opened.pop_all()
        self.finder = self._pipeline.ready.finder
        said = (
            self._pipeline.ready.notice,
            self._finder_warning(),
            self._bound_notice(),
            self._discovery_notice(),
        )
        self.notices = [line for line in said if line]
        if options.cluster is not None:
            self._cluster = self._join(options.cluster, options)
            self.notices.append(self._cluster.notice)

    def scan(self, given: Given) -> Iterator[ImageRecord]:
        """Scan files, folders or buckets; yield a record for each image, in order.

        Under a false-discovery rate the first comes after the last was scanned. Files below folders that are
        no pictures have no record; ``n_other_files`` counts them.

        Args:
            given: what to scan.

        Raises:
            TooManyErrorsError: the limit of unreadable sources is passed, after their records.
        """
        alone = self.judged_alone(sources_of(given))
        return self.judged_together(without_others(alone, self._count_other))

    def judged_alone(self, sources: Iterable[Source]) -> Iterator[ImageRecord]:
        """Scan sources without looking at the batch: flagged at the false-alarm rate, whatever ``fdr`` says.

        Files below folders that are no pictures have records here, with ``is_other``.

        Raises:
            TooManyErrorsError: as `scan`.
        """
        others = OtherFiles()
        records = others.marked(self._records(others.listed(sources)))
        return records if self._max_errors is None else _stopped_after(records, self._max_errors)

    def judged_together(self, records: Iterable[ImageRecord]) -> Iterator[ImageRecord]:
        """Judge what `judged_alone` yielded by its batch, where a false-discovery rate is asked for."""
        if self._fdr is None:
            return iter(records)
        judge = self._pipeline.judge
        return flag_by_discovery_rate(records, self._fdr, judge, self._decided, storey=self._storey)

    def _decided(self, found: Discovered) -> None:
        self._discovered, self.threshold = found, found.judge.threshold()

    def late_notices(self) -> list[str]:
        """List lines on what the batch as a whole came to."""
        return [self._discovered.notice] if self._discovered and self._discovered.notice else []

    def _count_other(self, record: ImageRecord) -> None:
        self.n_other_files += 1

    @property
    def holds_back(self) -> bool:
        """No row is known before the last image is scanned."""
        return self._fdr is not None

    def run_info(self) -> RunInfo:
        """Describe what scans: the head of the output."""
        manifest, settings = self._pipeline.backend.manifest, self.settings
        components = tuple(one.name for one in self._pipeline.judge.components)
        return RunInfo(
            version=__version__,
            detector=manifest.name,
            detector_sha256=self._detector_sha256,
            backend="+".join(settings.backends),
            device=self.device,
            face_finder=self.finder,
            head=settings.head,
            false_alarm=None if self._fdr is not None else settings.false_alarm,
            fdr=self._fdr,
            threshold=self.threshold,  # under a false-discovery rate the summary has it
            started=clock.now().isoformat(timespec="seconds"),
            components=components,
            combined_by=manifest.combination.rule if manifest.combination and components else "",
            measured=told(rates_of(manifest, settings.head)),
            subject=settings.decoder.subject,
            image_detector=self._image_detector(),
            storey=self._storey,
            stability=None if settings.stability is None else settings.stability.limit,
            **described(self._declared, settings.decoder.provenance),
        )

    def _image_detector(self) -> ImageDetector | None:
        image = self.settings.image
        if image is None:
            return None
        part = self._pipeline.parts[1]
        return ImageDetector(
            detector=part.backend.manifest.name,
            detector_sha256=file_digest(image.detector),
            backend=image.backend,
            head=image.head,
            false_alarm=image.false_alarm,
            threshold=part.judge.threshold(),
        )

    def deciding(self) -> VerdictSettings:
        """Collect what decides what a record says: the records of runs that differ in it are not alike.

        Under a false-discovery rate that is the verdict before it: the batch's threshold is found anew.
        """
        settings, decoder = self.settings, self.settings.decoder
        return VerdictSettings.of(
            {
                "version": __version__,
                "detector": self._pipeline.backend.manifest.name,
                "detector_sha256": self._detector_sha256,
                "backend": "+".join(settings.backends),
                "precision": settings.runtime.precision,
                "head": settings.head,
                "false_alarm": settings.false_alarm,
                "face_finder": self.finder,
                "min_face": decoder.min_face,
                "rotations": ROTATIONS,
                "limits": asdict(decoder.limits) | {"formats": sorted(decoder.limits.formats)},
                "stability": settings.stability and settings.stability.limit,
                "views_up_to": settings.stability and settings.stability.highest,
                "explain": settings.explaining is not None,
                "explain_up_to": settings.explaining and settings.explaining.highest,
                "subject": decoder.subject,
                "image_detector": (image := self._image_detector()) and asdict(image),
                "prompts": decoder.provenance is not None and decoder.provenance.prompts,
                **described(self._declared, decoder.provenance),
            }
        )

    def describe(self) -> str:
        """Describe the detector and where it ran in a few words: what ``auto`` took."""
        manifest, settings = self._pipeline.backend.manifest, self.settings
        rule = f"false alarms {settings.false_alarm:g}" if self._fdr is None else f"fdr {self._fdr:g}"
        if self._storey and self._discovered is not None:
            rule += f", photographs estimated at {self._discovered.share:.0%}"
        said = (
            f"{manifest.name}, {settings.head} head, {_shown(self.threshold)} ({rule}), "
            f"{'+'.join(settings.backends)} on {self.device}, "
            + ("whole pictures" if settings.decoder.subject == "image" else f"faces by {self.finder}")
        )
        image = self._image_detector()
        if image is None:
            return said
        rule = f"false alarms {image.false_alarm:g}"
        return (
            f"{said}; whole pictures by {image.detector}, {image.head} head, "
            f"{_shown(image.threshold)} ({rule})"
        )

    def close(self) -> None:
        """End the decoders and free the runtime. Closing twice is fine."""
        self._pipeline.close()
        if self._cluster is not None:
            self._cluster.close()

    @property
    def device(self) -> str:
        """Where the detector runs: here, or on the workers of a cluster."""
        return self._pipeline.backend.device if self._cluster is None else self._cluster.device

    def _join(self, address: str, options: ScanOptions) -> ClusterScan:
        """Have a cluster scan: what ``auto`` became here is what every worker must have."""
        from bladescan.scanning.cluster import ClusterScan

        self._pipeline.close()
        asked = options.decoder.faces
        # As asked, for a finder's own name does not hold the folder of its file.
        faces = self.finder if asked == "auto" else asked
        decoder = msgspec.structs.replace(self.settings.decoder, faces=faces)
        settings = replace(self.settings, decoder=decoder, runtime=replace(options.runtime, threads=1))
        return ClusterScan(address, settings, shipped=tuple(map(is_shipped, settings.files)))

    def _records(self, sources: Iterable[Source]) -> Iterator[ImageRecord]:
        if self._cluster is not None:
            return self._cluster.scan(sources)
        if self._n_workers == 1:
            return self._pipeline.scan(sources)
        self._pipeline.close()  # it has shown that all is well; the workers open their own
        return scan_in_processes(sources, self.settings, self._n_workers)

    @cached_property
    def _detector_sha256(self) -> str:
        several = self.settings.several
        if several is None:
            return file_digest(self.settings.detector)
        told = [*map(file_digest, several.files), several.described]
        return hashlib.sha256("\n".join(told).encode()).hexdigest()

    def _finder_warning(self) -> str:
        fitted = self._pipeline.backend.manifest.face_rule.finder
        if self.finder in (fitted, "none"):
            return ""
        return (
            f"the detector was fitted on faces found by {fitted}, this scan uses {self.finder}: "
            "false-alarm rates may differ"
        )

    def _bound_notice(self) -> str:
        manifest = self._pipeline.backend.manifest
        combination = manifest.combination
        if combination is None or combination.seen_together or self.settings.head != "combined":
            return ""
        return (
            "how much these scores depend on each other on photographs is not known: their combined p-value "
            "holds whatever it is, and finds less; bladescan combine learns it from photographs"
        )

    def _discovery_notice(self) -> str:
        if self._fdr is None:
            return ""
        head = self._pipeline.backend.manifest.heads[self.settings.head]
        share = least_flagged_share(head, self._fdr, self._pipeline.judge.least_p_value)
        what = "of the number of photographs" if self._storey else "of the faces"
        return (
            f"the detector has {held_out_told(head)}: --fdr {self._fdr:g} flags "
            f"{share:.1%} {what} or more, or none"
        )


def _check_room(n_workers: int) -> None:
    """Check what a scan needs of the machine, so that its lack is an error and not rows.

    Raises:
        BackendError: too few threads or processes are allowed, or several cannot work together.
    """
    try:
        check_threads(threads_needed(n_workers))
    except BackendError as exc:
        raise BackendError(f"{exc}: raise ulimit -u, or the container's limit of processes") from exc
    if n_workers > 1:
        try:
            check_semaphores()
        except BackendError as exc:
            hint = "mount it, or use --workers 1, which decodes on every core as well"
            raise BackendError(f"--workers {n_workers}: {exc}; {hint}") from exc


def _open_detectors(
    options: ScanOptions, n_workers: int, opened: ExitStack
) -> tuple[OpenedDetector, SeveralDetectors | None, OpenedDetector | None]:
    """Load the detector, and that of whole pictures beside it; ``opened`` closes them."""
    # A cluster's workers have the device; here the detector only says what it is.
    device = options.runtime.device if options.cluster is None else "auto"
    runtime = replace(options.runtime, device=device, threads=_n_threads(n_workers))

    def load(model: str | Path | None, wanted: Subject | None, option: str) -> OpenedDetector:
        detector = open_detector(model, options.backend, runtime)
        opened.callback(detector.backend.close)
        check_subject(detector.backend.manifest, wanted, option)
        return detector

    chosen = options.chosen_models()
    image = None if chosen.image is None else load(chosen.image, "image", "--image-model")
    if options.combine is None:
        option = "--model" if options.models != (None,) or chosen.main == (None,) else "--image-model"
        return load(chosen.main[0], chosen.wanted, option), None, image
    asked = options.decision.head
    several, backend = choose_several(chosen.main, options.combine, asked, options.backend, runtime)
    opened.callback(backend.close)
    return OpenedDetector(several.files[0], several.plugins[0], backend), several, image


def _n_threads(n_workers: int) -> int:
    """Of one model run: a runtime left to itself counts the machine's cores, quotas or not."""
    return max(1, n_cores() // n_workers)


def _settings(
    options: ScanOptions,
    detector: OpenedDetector,
    several: SeveralDetectors | None,
    image: OpenedDetector | None,
    n_workers: int,
) -> ScanSettings:
    decision, backend = options.decision, detector.backend
    manifest = backend.manifest
    whole = manifest if image is None else image.backend.manifest
    return ScanSettings(
        detector=detector.path,
        backend=detector.plugin,
        head=choose_head(manifest, decision.head if several is None else "combined"),
        false_alarm=_rate(decision, manifest),
        image=None
        if image is None
        else ImageSettings(
            image.path, image.plugin, choose_head(whole, decision.head), _rate(decision, whole)
        ),
        runtime=replace(options.runtime, threads=_n_threads(n_workers)),
        decoder=msgspec.structs.replace(
            options.decoder.for_detector(manifest),
            subject=judged(manifest, image and whole),
            picture_rule=whole.picture_rule,
            provenance=options.provenance.settings(),
            views=decision.stability is not None or options.explain,
        ),
        batch_size=options.batch_size or _batch_size(options.runtime.device, backend.device),
        n_decoders=n_cores() if n_workers == 1 else 1,
        flags_declared=options.provenance.declared == "flag",
        stability=decision.stability_rule(),
        explaining=options.explaining(),
        several=several,
    )


def _rate(decision: Decision, manifest: Manifest) -> float:
    return manifest.default_false_alarm if decision.false_alarm is None else decision.false_alarm


def _batch_size(asked: str, had: str) -> int:
    """Choose a batch: a GPU idles between small ones, on a CPU larger ones only wait longer."""
    return CUDA_BATCH_SIZE if (had if asked == "auto" else asked).startswith("cuda") else BATCH_SIZE


def _threshold(settings: ScanSettings, manifest: Manifest, fdr: float | None) -> float | None:
    """Find the score that decides, None under ``fdr``; a rate that can flag nothing is an error."""
    head = manifest.heads[settings.head]
    combination = manifest.combination if settings.head == "combined" else None
    if fdr is not None:
        least = None if combination is None else least_p_value(combination, head)
        least_flagged_share(head, fdr, least)
        return None
    threshold = suspicion_threshold(head, settings.head, settings.false_alarm)
    if combination is not None:
        check_reachable(combination, head, settings.false_alarm)
    return threshold


def _shown(threshold: float | None) -> str:
    return "no score is flagged" if threshold is None else f"flagged above a score of {threshold:.6g}"


def _stopped_after(records: Iterable[ImageRecord], max_errors: int) -> Iterator[ImageRecord]:
    n_images = n_unreadable = 0
    for record in records:
        yield record
        if record.is_other:
            continue
        n_images += 1
        n_unreadable += record.verdict is Verdict.UNREADABLE
        if n_unreadable > max_errors:
            raise TooManyErrorsError(
                f"stopped: {n_unreadable} of {n_images} images could not be read, more than --max-errors "
                f"{max_errors}"
            )
