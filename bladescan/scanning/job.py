"""One scan from its options to a finished output: what is done, in which order. It prints nothing itself."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import BinaryIO

import msgspec

from bladescan.base.errors import OutputError, TooManyErrorsError
from bladescan.base.interrupts import Interrupted, exit_code_of
from bladescan.base.output_files import is_special
from bladescan.base.records import ImageRecord
from bladescan.base.text import counted
from bladescan.ledger.earlier import EarlierOptions, EarlierVerdicts
from bladescan.outputs.formats import choose_format
from bladescan.outputs.ordering import Ordering
from bladescan.outputs.run import RunInfo, RunSummary
from bladescan.outputs.sink import STDOUT_NAMES, Sink, open_sink
from bladescan.scanning.listener import BrokenOff, Listener
from bladescan.scanning.other_files import without_others
from bladescan.scanning.scan_options import ScanOptions
from bladescan.scanning.scanner import Scanner
from bladescan.scanning.tally import Tally
from bladescan.sources.addresses import is_url
from bladescan.sources.given import Given, sources_of
from bladescan.sources.source import Source

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Where verdicts go, and what need not be scanned again.

    Attributes:
        path: a file or a URL such as ``s3://bucket/v.csv``, complete or not at all; None or ``-`` for
            ``stream``.
        format: ``csv``, ``json``, ``jsonl``, ``parquet``, ``table``, or ``auto``: by the file's name.
        resume: go on where a killed run with the same output stopped.
        ledger: file that keeps verdicts; what has not changed since is not read again.
        show: rows for ``all`` sources, or for those that are ``new`` to the ledger.
        sort: ``listed`` for rows in the order of the sources, ``score`` for the most suspicious image first,
            or ``auto``: by score with ``top`` and for a table on a terminal.
        top: rows for that many of the most suspicious images only; None for all.
        stream: standard output, or what takes its place.
    """

    path: str | None = None
    format: str = "auto"
    resume: bool = False
    ledger: str | None = None
    show: str = "all"
    sort: str = "auto"
    top: int | None = None
    stream: BinaryIO = field(default_factory=lambda: sys.stdout.buffer, compare=False)

    def __post_init__(self) -> None:
        self.earlier_options()  # options that contradict each other are an error before any work
        self.ordering()

    def earlier_options(self) -> EarlierOptions:
        """Tell what to remember: a file that appears only when complete, on this machine, has a journal."""
        path = self.path
        streams = path is None or path in STDOUT_NAMES or is_special(path) or is_url(path)
        return EarlierOptions(None if streams else path, self.resume, self.ledger, self.show)

    def ordering(self, *, mixed: bool = False) -> Ordering:
        """Tell in which order rows come: a person at a terminal sees the most suspicious first.

        Args:
            mixed: two detectors make them.
        """
        for_people = False
        if self.path is None or self.path in STDOUT_NAMES:
            terminal = self.stream.isatty()
            for_people = terminal and choose_format(None, self.format, terminal) == "table"
        return Ordering(self.sort, self.top, for_people=for_people, mixed=mixed)


def run_scan(
    options: ScanOptions,
    query: Given,
    output: OutputOptions,
    listener: Listener | None = None,
    *,
    stdin: BinaryIO | None = None,
) -> RunSummary:
    """Scan all sources into an output, and tell a listener how it goes.

    The paths are looked at and the detector is loaded first; then the output is opened, and each source gets
    its row, in order. A scan that is broken off keeps what it has finished.

    Args:
        options: what scans.
        query: what to scan.
        output: where verdicts go.
        listener: is told of all that happens.
        stdin: where the path ``-`` reads names from.

    Returns:
        The summary, with the exit code that the command ends with.

    Raises:
        BladescanError: something cannot be had, read or written.
        Interrupted: a signal came; the listener has heard what was kept.
    """
    run = _Run(options, query, output, listener or Listener(), stdin)
    try:
        summary = run.to_its_end()
    except BaseException as exc:
        run.listener.closed(run.tally.summary(exit_code_of(exc), _reason(exc)), run.info)
        raise
    run.listener.closed(summary, run.info)
    return summary


class _Run:
    """The state of one scan."""

    def __init__(
        self,
        options: ScanOptions,
        query: Given,
        output: OutputOptions,
        listener: Listener,
        stdin: BinaryIO | None,
    ) -> None:
        if output.ledger is not None:  # by which decisions on a file's content are found, wherever it is
            options = replace(options, decoder=msgspec.structs.replace(options.decoder, digest=True))
        self.options, self.output, self.listener = options, output, listener
        self.query, self.stdin = query, stdin
        self.tally = Tally(options.exit_rule)
        self.ordering = output.ordering(mixed=options.chosen_models().image is not None)
        self.info: RunInfo | None = None

    def to_its_end(self) -> RunSummary:
        sources = sources_of(self.query, self.stdin)  # a path that does not exist is said before any work
        with Scanner(self.options) as scanner:
            self.info = scanner.run_info()
            self.tally.begin()
            try:
                summary = self._scan(scanner, self.info, sources)
            except TooManyErrorsError as exc:
                summary = self.tally.summary(self.tally.exit_code(is_stopped=True), str(exc))
            self.listener.ended(summary, scanner.describe())
        return summary

    def _scan(self, scanner: Scanner, info: RunInfo, sources: Iterable[Source]) -> RunSummary:
        output, asked = self.output, self.output.earlier_options()
        holds_back = scanner.holds_back or self.ordering.sorts
        with (
            EarlierVerdicts(asked, scanner.deciding(), holds_back=holds_back) as earlier,
            open_sink(output.path, output.format, info, stream=output.stream) as sink,
        ):
            found = earlier.begin()
            self.listener.began(info, self.tally)
            with self._keeping_partial(sink, earlier):
                for notice in [*scanner.notices, *found]:
                    _logger.warning("%s", notice)
                self._write(scanner, sources, sink, earlier)
            self.listener.scanned()
            for notice in scanner.late_notices():
                _logger.warning("%s", notice)
            summary = self.tally.summary()
            scanner.close()  # before the output is complete: a kill after that should find little left to do
            sink.finish(summary)
            earlier.commit()
        return summary

    def _write(
        self, scanner: Scanner, sources: Iterable[Source], sink: Sink, earlier: EarlierVerdicts
    ) -> None:
        """Scan every source into the sink, in the order asked for, but for what need not be read again."""
        tally = self.tally
        tally.n_left_out = lambda: earlier.n_left_out
        records = scanner.judged_alone(tally.listing(earlier.look_up(sources)))
        records = earlier.keep(records)  # before the batch is judged, and the one that stops the scan too
        records = without_others(tally.passing(records), tally.count_other)
        try:
            counted = self._counted(scanner.judged_together(records))
            for record in self.ordering.ordered(counted):
                with tally.spending("write"):
                    sink.write(record)
        finally:
            tally.threshold, tally.n_below_top = scanner.threshold, self.ordering.n_below_top
            tally.n_unchanged = earlier.n_unchanged
            tally.n_other_files += earlier.n_other_left_out

    def _counted(self, records: Iterable[ImageRecord]) -> Iterator[ImageRecord]:
        """Count each record and tell of it, whether its row is out now or waits for the others."""
        for record in records:
            self.tally.count(record)
            yield record
            self.listener.seen(record)

    @contextmanager
    def _keeping_partial(self, sink: Sink, earlier: EarlierVerdicts) -> Iterator[None]:
        """Keep what was finished when the scan is broken off; what was to be a file gets another name."""
        try:
            yield
        except (Interrupted, KeyboardInterrupt, TooManyErrorsError) as exc:
            stopped = isinstance(exc, TooManyErrorsError)
            code = self.tally.exit_code(is_stopped=True) if stopped else exit_code_of(exc)
            n_done = self.tally.verdicts.total()
            why = str(exc) if stopped else f"interrupted after {counted(n_done, 'image')}"
            kept: str | None
            try:
                kept = sink.keep_partial(self.tally.summary(code, why))
            except (OutputError, BrokenPipeError) as error:
                kept = f"nothing more: {error}"
            event = "stopped" if stopped else "interrupted"
            self.listener.broken_off(BrokenOff(event, why, kept, earlier.resumable, int(code)))
            raise


def _reason(exc: BaseException) -> str:
    return str(exc) or type(exc).__name__


def scan(given: Given, options: ScanOptions = ScanOptions()) -> Iterator[ImageRecord]:  # noqa: B008 (frozen)
    """Scan files, folders or buckets; yield a record for each image, in order.

    Args:
        given: what to scan.
        options: what scans; by default the detector that ships.

    Raises:
        BladescanError: something cannot be had or read; when the first record is asked for.
    """
    with Scanner(options) as scanner:
        yield from scanner.scan(given)
