"""The command: options, one call, rendering, exit codes. Nothing imports it; it imports late."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bladescan import __version__
from bladescan import options as o
from bladescan.errors import OutputError, UsageError
from bladescan.exit_codes import ExitCode
from bladescan.guard import Interrupted, guarded, interrupt_code, is_closed, prepare_streams
from bladescan.terminal import ProgressLine, printable, say

if TYPE_CHECKING:
    from bladescan.records import ImageRecord
    from bladescan.scan_job import ScanJob, Tally
    from bladescan.sinks import RunSummary, Sink
    from bladescan.sources import SourceQuery

app = typer.Typer(
    name="bladescan",
    help="Tell AI-generated faces from photographs, in batches.",
    epilog="Exit codes: 0 nothing flagged, 1 something flagged, 2 could not run, 3 some sources not scanned.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def main() -> None:
    """Entry point of the ``bladescan`` script."""
    prepare_streams()
    app()


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
    exit_zero: o.ExitZero = False,
    quiet: o.Quiet = False,
    backend: o.BackendName = "auto",
    device: o.Device = "auto",
    precision: o.Precision = "fp32",
    workers: o.Workers = 1,
    batch_size: o.BatchSize = 8,
    max_bytes: o.MaxBytes = "100M",
    max_pixels: o.MaxPixels = "100M",
    max_frames: o.MaxFrames = 8,
    timeout: o.Timeout = 30.0,
    debug: o.Debug = False,
) -> None:
    """Scan images and say which faces are AI-generated.

    Every source gets a row: photographic, ai-generated, no-face, or unreadable with a reason.
    """
    from bladescan.backend import BackendSettings
    from bladescan.scan_job import Decision, ScanJob, ScanOptions, n_cores

    query = _query(paths, files_from, null, include, exclude, hidden, follow_links, shard, output)
    asked = ScanOptions(
        model=model,
        backend=backend,
        decision=Decision(head, false_alarm, fdr),
        runtime=BackendSettings(device, precision=precision),
        decoder=_decoder(faces, min_face, max_bytes, max_pixels, max_frames, timeout),
        batch_size=batch_size,
        n_workers=workers or n_cores(),
    )
    job = ScanJob(asked)
    summary = _run(job, query, output, format, quiet)
    if not quiet:
        _say_summary(summary, job, output)
    code = ExitCode(summary.exit_code)
    raise typer.Exit(ExitCode.CLEAN if code is ExitCode.FLAGGED and exit_zero else code)


def _query(
    paths: list[str] | None,
    files_from: str | None = None,
    null: bool = False,
    include: list[str] | None = None,
    exclude: list[str] | None = None,
    hidden: bool = False,
    follow_links: bool = False,
    shard: str | None = None,
    output: str | None = None,
) -> SourceQuery:
    from bladescan.sources import SourceQuery, parse_shard

    if not paths and files_from is None:
        raise UsageError("nothing to scan: give files, folders, - or --files-from FILE")
    return SourceQuery(
        paths=tuple(paths or ()),
        files_from=files_from,
        null_separated=null,
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        hidden=hidden,
        follow_links=follow_links,
        shard=None if shard is None else parse_shard(shard),
        output=output,
    )


def _decoder(
    faces: str, min_face: int, max_bytes: str, max_pixels: str, max_frames: int, timeout: float
) -> Any:
    from bladescan.decoder_process import DecoderSettings
    from bladescan.images import Limits

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


def _run(job: ScanJob, query: SourceQuery, output: str | None, format: str, quiet: bool) -> RunSummary:
    from bladescan.scan_job import Tally
    from bladescan.sinks import open_sink
    from bladescan.sources import list_sources

    tally = Tally()
    try:
        sources = list_sources(query, stdin=_raw_stdin())
        if is_closed(1) and output in STDOUT:
            raise OutputError("standard output is closed: use -o FILE")
        with open_sink(output, format, job.run_info(), stream=sys.stdout.buffer) as sink:
            with ProgressLine("scanning", quiet=quiet) as progress, _keeping_partial(sink, tally):
                for notice in () if quiet else job.notices:
                    progress.say(f"bladescan: note: {notice}")
                silent = quiet or (output in STDOUT and sys.stdout.isatty())  # the table says it
                job.run(sources, sink, tally, functools.partial(_seen, progress, silent))
            summary = tally.summary()
            sink.finish(summary)
    finally:
        job.close()
    return summary


def _raw_stdin() -> Any:
    # Unbuffered: the thread that lists sources may still wait in a read when the process ends, and a
    # buffered reader's lock would then abort the interpreter.
    return None if is_closed(0) else open(0, "rb", buffering=0, closefd=False)


def _seen(progress: ProgressLine, silent: bool, record: ImageRecord) -> None:
    progress.advance()
    if record.reason is not None and not silent:
        detail = f": {record.detail}" if record.detail else ""
        progress.say(f"{record.source}: {record.reason.value}{detail}")


@contextmanager
def _keeping_partial(sink: Sink, tally: Tally) -> Iterator[None]:
    """On an interruption what was finished is kept, under another name when it was to be a file."""
    try:
        yield
    except Interrupted:
        try:
            kept = sink.keep_partial(tally.summary(interrupt_code()))
        except (OutputError, BrokenPipeError) as exc:
            kept = f"nothing more: {exc}"
        what = f"; kept {kept}" if kept else ""
        say(f"bladescan: interrupted after {tally.verdicts.total()} images{what}")
        raise


def _say_summary(summary: RunSummary, job: ScanJob, output: str | None) -> None:
    counts = ", ".join(f"{n} {verdict}" for verdict, n in summary.verdicts.items() if n)
    speed = summary.n_images / max(summary.seconds, 1e-9)
    say(
        f"{summary.n_images} images ({counts or 'nothing to scan'}), {summary.n_faces} faces "
        f"in {summary.seconds:.1f} s, {speed:.1f} images/s; {job.describe()}"
    )
    if summary.reasons:
        say("unreadable: " + ", ".join(f"{n} {reason}" for reason, n in summary.reasons.items()))
    if output not in STDOUT:
        say(f"verdicts: {output}")


@app.command()
@guarded
def info(
    path: Annotated[Path | None, typer.Argument(help="Detector, export or run. Default: what ships.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document, calibration included.")] = False,
    debug: o.Debug = False,
) -> None:
    """Print what a detector, an export or an encoder run says of itself."""
    from bladescan.describe import as_text, cost, describe, read_manifest
    from bladescan.detectors import default_detector
    from bladescan.manifest import encode_manifest

    manifest = read_manifest(path or default_detector())
    if as_json:
        print(encode_manifest(manifest))
        return
    counted = cost(manifest)
    shown = describe(manifest) | ({"complexity": counted} if counted else {})
    print(printable_lines(as_text(shown)))


def printable_lines(text: str) -> str:
    """Lines of a file from a stranger, without control characters."""
    return "\n".join(printable(line) for line in text.splitlines())


@app.command()
@guarded
def backends(debug: o.Debug = False) -> None:
    """List the runtimes, whether they are installed, and on which devices they can run."""
    from bladescan.backend import get_plugin, plugin_names

    for name in plugin_names():
        plugin = get_plugin(name)
        status = plugin.status()
        state = status.version or "not installed"
        devices = ", ".join(status.devices) or "-"
        hint = f"  {status.hint}" if status.hint else ""
        print(f"{name:10} {state:16} {devices:16} {' '.join(plugin.suffixes)}{hint}")


@app.command()
@guarded
def doctor(model: o.Model = None, faces: o.Faces = "auto", debug: o.Debug = False) -> None:
    """Check that this installation can scan: packages, backends, face finder, detector."""
    from bladescan.doctor import examine

    findings = examine(model, faces)
    for finding in findings:
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
    from bladescan.demo import write_samples

    for path in write_samples(folder):
        print(path)
    say(f"now: bladescan scan {folder}")


@app.command()
@guarded
def fit(
    photos: o.Photos,
    output: o.DetectorOutput,
    ai_generated: o.AiGenerated = None,
    calibrate: o.Calibrate = None,
    encoder: o.EncoderPath = "default",
    name: Annotated[str, typer.Option(help="Name of the new detector. Default: the output's name.")] = "",
    licence: Annotated[str, typer.Option(help="Licence of the new detector. Default: the encoder's.")] = "",
    covariance: Annotated[
        str, typer.Option(help="auto (by held-out likelihood), full (the paper), tied, diag, spherical.")
    ] = "auto",
    components: Annotated[int, typer.Option(min=1, help="Components of the mixture.")] = 10,
    held_out: Annotated[
        float, typer.Option(metavar="SHARE", help="Photographs kept for the calibration.")
    ] = 0.3,
    false_alarm: Annotated[float, typer.Option(metavar="RATE", help="Default rate of the detector.")] = 0.05,
    group_by: Annotated[
        str, typer.Option(metavar="file|folder", help="What is never split between fit and calibration.")
    ] = "file",
    faces: o.Faces = "auto",
    min_face: o.MinFace = 32,
    backend: o.BackendName = "pytorch",
    device: o.Device = "auto",
    seed: o.Seed = 0,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Fit and calibrate a detector on your own photographs.

    A Gaussian mixture learns your photographs; photographs held out from it set the threshold.

    With labelled AI-generated faces a binary head is fitted as well. Needs the extra `train`.
    """
    _need_learning_side("fit")
    from bladescan.backend import BackendSettings
    from bladescan.decoder_process import DecoderSettings
    from bladescan.detector import save_detector
    from bladescan.fit_job import FitOptions, run_fit
    from bladescan.fitting import FitSettings
    from bladescan.scan_job import n_cores
    from bladescan.sources import list_sources

    asked = FitOptions(
        encoder=encoder,
        name=name or output.stem,
        licence=licence,
        backend=backend,
        group_by=group_by,
        runtime=BackendSettings(device),
        decoder=DecoderSettings(faces=faces, min_face=min_face),
        fit=FitSettings(covariance, components, held_out=held_out, false_alarm=false_alarm, seed=seed),
        n_decoders=n_cores(),
    )
    _check_output(output, ".safetensors")
    stdin = _raw_stdin()
    with ProgressLine("embedding", quiet=quiet) as line:
        detector = run_fit(
            asked,
            list_sources(_query(photos), stdin=stdin),
            list_sources(_query(ai_generated), stdin=stdin) if ai_generated else None,
            list_sources(_query(calibrate), stdin=stdin) if calibrate else None,
            seen=line.advance,
            progress=lambda stage, done, total: line.set(done, total, stage),
        )
    save_detector(detector, output)
    _print_fit(detector.manifest.provenance, output)


def _print_fit(provenance: dict[str, Any], output: Path) -> None:
    from bladescan.describe import as_text

    report = dict(provenance["fit"])
    for notice in report.pop("notices", ()):
        say(f"bladescan: note: {notice}")
    print(printable_lines(as_text({"images": provenance["images"], **report})))
    say(f"detector: {output}; next: bladescan export {output} --to onnx -o {output.with_suffix('.onnx')}")


def _check_output(path: Path, suffix: str) -> None:
    """What would fail after an hour of work fails now."""
    if path.suffix.lower() != suffix:
        raise UsageError(f"--output {path}: expected a name that ends in {suffix}")
    if not path.parent.is_dir():
        raise UsageError(f"--output {path}: no folder {path.parent}")


def _need_learning_side(what: str) -> None:
    from importlib.util import find_spec

    from bladescan.errors import MissingDependencyError

    for package in ("torch", "sklearn", "safetensors"):
        if find_spec(package) is None:
            raise MissingDependencyError(f"bladescan {what}", package, "pip install 'bladescan[train]'")


@app.command()
@guarded
def export(
    detector: Annotated[Path, typer.Argument(help="Detector of `bladescan fit` (.safetensors).")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The export to write (.onnx).")
    ],
    to: Annotated[str, typer.Option(metavar="onnx", help="Kind of export.")] = "onnx",
    debug: o.Debug = False,
) -> None:
    """Export a detector to one ONNX graph, and check it against the detector and scikit-learn."""
    from dataclasses import asdict

    from bladescan.errors import UnknownNameError

    if to != "onnx":
        raise UnknownNameError("export", to, ["onnx"])
    _check_output(output, ".onnx")
    _need_learning_side("export")
    from bladescan.describe import as_text
    from bladescan.detector import load_detector
    from bladescan.export import export_onnx

    report = export_onnx(load_detector(detector), output)
    size = output.stat().st_size
    print(as_text({"export": str(output), "bytes": size, "largest difference": asdict(report)}))


@app.command()
@guarded
def train(
    photos: o.Photos,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="RUN", help="Folder of the run.")],
    recipe: Annotated[str, typer.Option(metavar="NAME", help="A recipe's name or file.")] = "small",
    changes: o.SetOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on at the last checkpoint.")] = False,
    index: o.IndexFile = None,
    faces: o.Faces = "auto",
    device: o.Device = "auto",
    checkpoint_every: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Time between checkpoints within an epoch.")
    ] = 300.0,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write RUN/tensorboard as well.")
    ] = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Learn an encoder from photographs with a face, by a recipe. Needs the extra `train`.

    On several GPUs: `torchrun --nproc-per-node 4 -m bladescan train ...`
    """
    _need_learning_side("train")
    from bladescan.recipe import load_recipe
    from bladescan.sources import list_sources
    from bladescan.train_job import TrainOptions, run_train

    chosen = load_recipe(recipe, changes or [])
    options = TrainOptions(output, index, faces, device, resume, checkpoint_every, tensorboard)
    sources = list_sources(_query(photos), stdin=_raw_stdin())
    with ProgressLine("training", quiet=quiet) as line:
        run_train(chosen, sources, options, line)
    say(f"encoder run: {output}; next: bladescan fit --encoder {output} --photos DIR -o detector.safetensors")


@app.command()
@guarded
def index(
    photos: o.PhotoPaths,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The index to add to.")
    ] = Path("photographs.sqlite"),
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the summary as a PNG as well.")
    ] = None,
    faces: o.Faces = "auto",
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Find faces and EXIF tags of photographs once, for `train --index`; print a summary by tag."""
    _need_learning_side("index")
    from bladescan.indexing import format_summary, format_totals, summarise
    from bladescan.plots import plot_tags
    from bladescan.sources import list_sources
    from bladescan.train_job import fill_index

    if plot is not None:
        _check_output(plot, ".png")
    with ProgressLine("indexing", quiet=quiet) as line:
        opened, _ = fill_index(list_sources(_query(photos), stdin=_raw_stdin()), output, faces, line)
    entries = opened.entries()
    rows = summarise(entries)
    print(printable_lines(f"{format_totals(entries)}\n\n{format_summary(rows)}"))
    if plot is not None:
        plot_tags(rows, plot)


@app.command()
@guarded
def contact_sheet(
    photos: o.Photos,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The PNG to write.")],
    recipe: Annotated[str, typer.Option(metavar="NAME", help="A recipe's name or file.")] = "small",
    changes: o.SetOption = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Most examples on the sheet.")] = 48,
    index: o.IndexFile = None,
    faces: o.Faces = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Which photographs are shown.")] = 0,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Draw what the encoder sees in a training: manipulated faces, augmented, with labels and tags."""
    _need_learning_side("contact-sheet")
    from bladescan.contact_sheet import recipe_sheet
    from bladescan.recipe import load_recipe
    from bladescan.sources import list_sources
    from bladescan.train_job import INDEX_FILE, fill_index

    _check_output(output, ".png")
    chosen = load_recipe(recipe, changes or [])
    with ProgressLine("indexing", quiet=quiet) as line:
        sources = list_sources(_query(photos), stdin=_raw_stdin())
        opened, indexed = fill_index(sources, index or output.parent / INDEX_FILE, faces, line)
    drawn = recipe_sheet(chosen, opened, indexed, output, n=n, seed=seed)
    say(f"{drawn} examples: {output}")


@app.command()
@guarded
def recipes(
    name: Annotated[str, typer.Argument(help="Print this recipe, resolved.")] = "", debug: o.Debug = False
) -> None:
    """List the recipes that ship, or print one with all its defaults."""
    from bladescan.recipe import dump_recipe, load_recipe, shipped_recipes

    if name:
        print(dump_recipe(load_recipe(name)), end="")
        return
    for known, text in shipped_recipes().items():
        print(f"{known:16} {text.splitlines()[0].lstrip('# ')}")
