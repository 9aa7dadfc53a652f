"""The command: options, one call, rendering, exit codes. Nothing imports it; it imports late."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bladescan import __version__
from bladescan.base.errors import OutputError, UsageError
from bladescan.base.exit_codes import ExitCode
from bladescan.base.logs import QUIET_VARIABLE, configure_from, wants_json
from bladescan.base.terminal import printable, say
from bladescan.command import (
    calibrate,
    evaluate,
    export,
    fit,
    import_checkpoint,
    ledger,
    photographs,
    train,
)
from bladescan.command import options as o
from bladescan.command.guard import Interrupted, guarded, interrupt_code, is_closed, prepare_streams
from bladescan.command.inputs import check_apart, printable_lines, raw_stdin, source_query

if TYPE_CHECKING:
    from bladescan.command.scan_report import ScanReport
    from bladescan.ledger.earlier import EarlierOptions, EarlierVerdicts
    from bladescan.outputs.run import RunSummary
    from bladescan.outputs.sink import Sink
    from bladescan.scanning.job import ScanJob, Tally
    from bladescan.sources.query import SourceQuery

app = typer.Typer(
    name="bladescan",
    help="Tell AI-generated faces from photographs, in batches.",
    epilog="Exit codes: 0 nothing flagged, 1 something flagged, 2 could not run, 3 some sources not scanned.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Panels are for people. A pipe gets plain lines, which grep likes and which take half the time.
    rich_markup_mode="markdown" if sys.stdout is not None and sys.stdout.isatty() else None,
)


def main() -> None:
    """Entry point of the ``bladescan`` script."""
    prepare_streams()
    configure_from(sys.argv[1:])
    if wants_json():
        sys.exit(_without_rendering())
    app()


def _without_rendering() -> int:
    """Run the command; what Typer would draw in a box is one line of the log."""
    try:
        code = app(standalone_mode=False)
    except Exception as exc:
        if not hasattr(exc, "format_message"):  # the one mark of Typer's usage errors in all its versions
            raise
        say(
            exc.format_message() or "nothing to do: see bladescan --help",
            "error",
            "error",
            exit_code=int(ExitCode.FAILED),
        )
        return ExitCode.FAILED
    return code if isinstance(code, int) else ExitCode.CLEAN


def _version(asked: bool) -> None:
    if asked:
        print(f"bladescan {__version__}")
        raise typer.Exit


@app.callback()
def bladescan(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Tell AI-generated faces from photographs, in batches."""


@app.command()
@guarded
def scan(
    paths: o.Paths = None,
    files_from: o.FilesFrom = None,
    null: o.Null = False,
    include: o.Include = None,
    exclude: o.Exclude = None,
    hidden: o.Hidden = False,
    follow_links: o.FollowLinks = False,
    shard: o.Shard = None,
    model: o.Model = None,
    head: o.Head = "auto",
    false_alarm: o.FalseAlarm = None,
    fdr: o.Fdr = None,
    faces: o.Faces = "auto",
    min_face: o.MinFace = 32,
    output: o.Output = None,
    format: o.Format = "auto",
    resume: o.Resume = False,
    ledger: o.LedgerFile = None,
    show: o.Show = "all",
    exit_zero: o.ExitZero = False,
    quiet: o.Quiet = False,
    backend: o.BackendName = "auto",
    device: o.Device = "auto",
    precision: o.Precision = "fp32",
    workers: o.Workers = 1,
    cluster: o.Cluster = None,
    batch_size: o.BatchSize = None,
    max_bytes: o.MaxBytes = "100M",
    max_pixels: o.MaxPixels = "100M",
    max_frames: o.MaxFrames = 8,
    timeout: o.Timeout = 30.0,
    max_errors: o.MaxErrors = None,
    log_format: o.LogFormat = None,
    log_paths: o.LogPaths = None,
    metrics: o.MetricsPath = None,
    debug: o.Debug = False,
) -> None:
    """Scan images and say which faces are AI-generated.

    Every source gets a row: photographic, ai-generated, no-face, or unreadable with a reason.
    """
    from bladescan.command.metrics import MetricsFile
    from bladescan.command.scan_report import ScanReport
    from bladescan.ledger.earlier import EarlierOptions
    from bladescan.processes.resources import n_cores
    from bladescan.runtimes.backend import BackendSettings
    from bladescan.scanning.job import Decision, ScanJob, ScanOptions, Tally

    if cluster is not None and workers != 1:
        raise UsageError("--cluster and --workers are two ways to scan: give one")
    if quiet:
        os.environ[QUIET_VARIABLE] = "1"
    query = source_query(
        paths, files_from, null, include, exclude, hidden, follow_links, shard, output, ledger, metrics
    )
    check_apart(model=model, output=output, ledger=ledger, metrics=metrics)
    remembered = EarlierOptions(_journalled(output), resume, ledger, show)
    asked = ScanOptions(
        model=model,
        backend=backend,
        decision=Decision(head, false_alarm, fdr),
        runtime=BackendSettings(device, precision=precision),
        decoder=_decoder(faces, min_face, max_bytes, max_pixels, max_frames, timeout),
        batch_size=batch_size,
        n_workers=workers or n_cores(),
        cluster=cluster,
        max_errors=max_errors,
    )
    tally = Tally()
    report = ScanReport(tally, output, quiet=quiet)
    with MetricsFile(metrics, tally) as measured:
        job = ScanJob(asked, functools.partial(_note, quiet))
        measured.run = job.run_info()
        summary = measured.summary = _run(job, query, remembered, output, format, report, tally)
    report.end(summary, job.describe())
    code = ExitCode(summary.exit_code)
    raise typer.Exit(ExitCode.CLEAN if code is ExitCode.FLAGGED and exit_zero else code)


def _note(quiet: bool, line: str) -> None:
    if not quiet:
        say(f"bladescan: note: {line}", "note", "warning")


def _decoder(
    faces: str, min_face: int, max_bytes: str, max_pixels: str, max_frames: int, timeout: float
) -> Any:
    from bladescan.images.limits import Limits
    from bladescan.scanning.decoder_process import DecoderSettings

    limits = Limits(
        max_bytes=_number(max_bytes, "--max-bytes"),
        max_pixels=_number(max_pixels, "--max-pixels"),
        max_frames=max_frames,
    )
    return DecoderSettings(faces=faces, min_face=min_face, limits=limits, timeout_s=timeout)


def _number(text: str, option: str) -> int:
    """A count with an optional suffix K, M or G (thousands)."""
    digits, factor = text.upper().removesuffix("B"), 1
    for suffix, power in (("K", 10**3), ("M", 10**6), ("G", 10**9)):
        if digits.endswith(suffix):
            digits, factor = digits[:-1], power
    try:
        number = int(float(digits) * factor)
    except (ValueError, OverflowError):
        number = 0
    if number < 1:
        raise UsageError(f"{option} {text!r}: expected a positive number such as 500K, 100M or 2G")
    return number


STDOUT = (None, "-")


def _journalled(output: str | None) -> str | None:
    """The output if it is a file that appears when it is complete, which a later run can go on with."""
    from bladescan.base.output_files import is_special
    from bladescan.outputs.sink import STDOUT_NAMES

    return None if output is None or output in STDOUT_NAMES or is_special(output) else output


def _run(
    job: ScanJob,
    query: SourceQuery,
    remembered: EarlierOptions,
    output: str | None,
    format: str,
    report: ScanReport,
    tally: Tally,
) -> RunSummary:
    from bladescan.outputs.sink import open_sink
    from bladescan.scanning.job import TooManyErrorsError
    from bladescan.sources.listing import list_sources

    tally.begin()
    try:
        sources = list_sources(query, stdin=raw_stdin())
        if is_closed(1) and output in STDOUT:
            raise OutputError("standard output is closed: use -o FILE")
        info = job.run_info()
        with (
            job.earlier_verdicts(remembered) as earlier,
            open_sink(output, format, info, stream=sys.stdout.buffer) as sink,
        ):
            notices = [*job.notices, *earlier.begin()]
            with report, _keeping_partial(sink, tally, earlier, report):
                report.begin(info, notices)
                job.run(sources, sink, tally, earlier, report.seen)
            summary = tally.summary()
            job.close()  # before the output is complete: a kill after that should find little left to do
            sink.finish(summary)
            earlier.commit()
    except TooManyErrorsError:
        summary = tally.summary(ExitCode.INCOMPLETE)
    finally:
        job.close()
    return summary


@contextmanager
def _keeping_partial(
    sink: Sink, tally: Tally, earlier: EarlierVerdicts, report: ScanReport
) -> Iterator[None]:
    """When a scan is broken off what was finished is kept, under another name when it was to be a file."""
    from bladescan.scanning.job import TooManyErrorsError

    try:
        yield
    except (Interrupted, TooManyErrorsError) as exc:
        interrupted = isinstance(exc, Interrupted)
        code = interrupt_code() if interrupted else ExitCode.INCOMPLETE
        kept: str | None
        try:
            kept = sink.keep_partial(tally.summary(code))
        except (OutputError, BrokenPipeError) as error:
            kept = f"nothing more: {error}"
        why = f"interrupted after {tally.verdicts.total()} images" if interrupted else str(exc)
        event = "interrupted" if interrupted else "stopped"
        report.broken_off(event, why, kept, resumable=earlier.resumable)
        raise


@app.command()
@guarded
def info(
    path: Annotated[Path | None, typer.Argument(help="Detector, export or run. Default: what ships.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document, calibration included.")] = False,
    debug: o.Debug = False,
) -> None:
    """Print what a detector, an export or an encoder run says of itself."""
    from bladescan.command.describe import as_text, cost, describe, read_manifest
    from bladescan.detectors.manifest import encode_manifest
    from bladescan.runtimes.registry import default_detector

    manifest = read_manifest(path or default_detector())
    if as_json:
        print(encode_manifest(manifest))
        return
    counted = cost(manifest)
    shown = describe(manifest) | ({"complexity": counted} if counted else {})
    print(printable_lines(as_text(shown)))


@app.command()
@guarded
def backends(debug: o.Debug = False) -> None:
    """List the runtimes, whether they are installed, and on which devices they can run."""
    from bladescan.runtimes.registry import get_plugin, plugin_names

    for name in plugin_names():
        plugin = get_plugin(name)
        status = plugin.status()
        state = status.version or "not installed"
        devices = ", ".join(status.devices) or "-"
        hint = f"  {status.hint}" if status.hint else ""
        print(f"{name:10} {state:16} {devices:16} {' '.join(plugin.suffixes)}{hint}")


@app.command()
@guarded
def doctor(
    urls: Annotated[
        list[str] | None, typer.Argument(help="Buckets to look into, for example s3://bucket/prefix.")
    ] = None,
    model: o.Model = None,
    faces: o.Faces = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    debug: o.Debug = False,
) -> None:
    """Check that this installation can scan: machine, packages, backends, face finder, detector, buckets."""
    from bladescan.command.doctor import examine

    findings = examine(model, faces, urls or ())
    if as_json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    for finding in () if as_json else findings:
        mark = {True: "ok", False: "FAILED", None: "-"}[finding.ok]
        print(f"{mark:7}{finding.name:20}{printable(finding.detail)}")
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(ExitCode.FAILED)


@app.command()
@guarded
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to put them.")] = Path("samples"),
    debug: o.Debug = False,
) -> None:
    """Make five sample pictures to scan: three with a face, one without, one cut off."""
    from bladescan.command.demo import write_samples

    for path in write_samples(folder):
        print(path)
    say(f"now: bladescan scan {folder}")


app.add_typer(ledger.app, name="ledger")
_LEARNING: dict[str, Callable[..., None]] = {
    "index": photographs.index,
    "contact-sheet": photographs.contact_sheet,
    "train": train.train,
    "recipes": train.recipes,
    "fit": fit.fit,
    "calibrate": calibrate.calibrate,
    "export": export.export,
    "evaluate": evaluate.evaluate,
    "import": import_checkpoint.import_checkpoint,
}
for _name, _command in _LEARNING.items():
    app.command(_name, rich_help_panel="Learn")(_command)
