"""The commands of the learning side, from photographs to an export. `app` registers them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bladescan.base.terminal import ProgressLine, say
from bladescan.command import options as o
from bladescan.command.guard import guarded
from bladescan.command.inputs import (
    calibrated_detector,
    check_new_folder,
    check_output,
    check_rate,
    named_folders,
    need_learning_side,
    printable_lines,
    raw_stdin,
    source_query,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bladescan.detectors.manifest import FaceRule


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
    copies: Annotated[
        int,
        typer.Option(min=0, max=16, metavar="N", help="Degraded copies of each face to learn from as well."),
    ] = 2,
    pseudo_outliers: Annotated[
        int, typer.Option(min=0, metavar="N", help="Unlikely draws of the mixture, shown as AI-generated.")
    ] = 0,
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
    need_learning_side("fit")
    from bladescan.fitting.fit import FitSettings
    from bladescan.fitting.job import FitOptions, run_fit
    from bladescan.heads.detector import save_detector
    from bladescan.runtimes.backend import BackendSettings
    from bladescan.scanning.decoder_process import DecoderSettings
    from bladescan.scanning.job import n_cores
    from bladescan.sources.listing import list_sources

    asked = FitOptions(
        encoder=encoder,
        name=name or output.stem,
        licence=licence,
        backend=backend,
        group_by=group_by,
        n_copies=copies,
        runtime=BackendSettings(device, threads=n_cores()),
        decoder=DecoderSettings(faces=faces, min_face=min_face),
        fit=FitSettings(
            covariance,
            components,
            held_out=held_out,
            false_alarm=false_alarm,
            n_outliers=pseudo_outliers,
            seed=seed,
        ),
        n_decoders=n_cores(),
    )
    check_output(output, ".safetensors")
    stdin = raw_stdin()
    with ProgressLine("embedding", quiet=quiet) as line:
        detector = run_fit(
            asked,
            list_sources(source_query(photos), stdin=stdin),
            list_sources(source_query(ai_generated), stdin=stdin) if ai_generated else None,
            list_sources(source_query(calibrate), stdin=stdin) if calibrate else None,
            seen=line.advance,
            progress=lambda stage, done, total: line.set(done, total, stage),
        )
    save_detector(detector, output)
    _print_fit(detector.manifest.provenance, output)


def _print_fit(provenance: dict[str, Any], output: Path) -> None:
    from bladescan.command.describe import as_text

    report = dict(provenance["fit"])
    for notice in report.pop("notices", ()):
        say(f"bladescan: note: {notice}")
    print(printable_lines(as_text({"images": provenance["images"], **report})))
    say(f"detector: {output}; next: bladescan export {output} --to onnx -o {output.with_suffix('.onnx')}")


@guarded
def calibrate(
    photos: o.Photos,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="The detector to write (.onnx or .safetensors)."),
    ],
    detector: Annotated[
        Path | None, typer.Argument(help="Detector whose heads are kept. Default: the one that ships.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the new detector. Default: the output's name.")] = "",
    false_alarm: Annotated[float, typer.Option(metavar="RATE", help="Its default rate.")] = 0.05,
    faces: o.Faces = "auto",
    min_face: o.MinFace = 32,
    backend: o.BackendName = "auto",
    device: o.Device = "auto",
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Set a detector's thresholds by your own photographs; what it has learned stays.

    Twenty faces are enough for a rate of 5%, a few hundred are better: see docs/calibration.md.
    """
    from bladescan.command.describe import as_text
    from bladescan.fitting.calibrate_job import CalibrateOptions, run_calibrate, save_calibrated
    from bladescan.runtimes.backend import BackendSettings
    from bladescan.scanning.decoder_process import DecoderSettings
    from bladescan.scanning.job import n_cores
    from bladescan.sources.listing import list_sources

    path = calibrated_detector(detector, output)
    asked = CalibrateOptions(
        detector=path,
        name=name or output.stem,
        false_alarm=check_rate(false_alarm),
        backend=backend,
        runtime=BackendSettings(device, threads=n_cores()),
        decoder=DecoderSettings(faces=faces, min_face=min_face),
        n_decoders=n_cores(),
    )
    with ProgressLine("scoring", quiet=quiet) as line:
        found = run_calibrate(asked, list_sources(source_query(photos), stdin=raw_stdin()), seen=line.advance)
    save_calibrated(path, found.manifest, output)
    print(printable_lines(as_text(found.report)))
    say(f"detector: {output}; next: bladescan scan --model {output} PATH")


@guarded
def export(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The export to write (.onnx or .engine).")
    ],
    detector: Annotated[
        Path | None,
        typer.Argument(
            help="Detector (.safetensors; for int8 to ONNX also .onnx). Default: the one that ships."
        ),
    ] = None,
    to: Annotated[str, typer.Option(metavar="onnx|tensorrt", help="Kind of export.")] = "onnx",
    precision: Annotated[
        str,
        typer.Option(
            metavar="fp32|fp16|int8",
            help="fp16: for tensorrt, its default. int8: the encoder in 8-bit integers; needs --photos.",
        ),
    ] = "auto",
    photos: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR", help="Photographs that set the ranges of int8. Repeatable."),
    ] = None,
    max_batch: Annotated[
        int, typer.Option(min=1, max=4096, help="Most faces in one run of a TensorRT engine.")
    ] = 64,
    faces: o.Faces = "auto",
    min_face: o.MinFace = 32,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Export a detector to one ONNX graph, or to a TensorRT engine, and check it against the detector.

    `--precision int8` makes it quicker, and photographs that set no range show what that changes.
    """
    from bladescan.base.errors import UnknownNameError, UsageError
    from bladescan.command.describe import as_text
    from bladescan.detectors.shipped import ONNX, SAFETENSORS

    if detector is None:
        detector = ONNX if to == "onnx" and photos else SAFETENSORS
    if to == "tensorrt":
        with ProgressLine("cutting faces out", quiet=quiet) as line:
            built = _export_engine(
                detector, output, precision, max_batch, photos, (faces, min_face), line.advance
            )
        print(printable_lines(as_text({"export": str(output), "bytes": output.stat().st_size, **built})))
        return
    if to != "onnx":
        raise UnknownNameError("export", to, ["onnx", "tensorrt"])
    precision = "fp32" if precision == "auto" else precision
    if precision == "fp16":
        raise UsageError("--precision fp16 is for --to tensorrt; ONNX is exported in fp32 or int8")
    if precision not in ("fp32", "int8"):
        raise UnknownNameError("precision", precision, ["fp32", "int8"])
    if (precision == "int8") != bool(photos):
        raise UsageError("--precision int8 and --photos go together: int8 is calibrated on photographs")
    check_output(output, ".onnx")
    if output.resolve() == detector.resolve():
        raise UsageError(f"--output {output}: is the detector that is exported; give it another name")
    if photos:
        from bladescan.exporting.int8 import export_int8
        from bladescan.scanning.decoder_process import DecoderSettings
        from bladescan.scanning.job import n_cores
        from bladescan.sources.listing import list_sources

        sources, decoder = (
            list_sources(source_query(photos), stdin=raw_stdin()),
            DecoderSettings(faces, min_face),
        )
        with ProgressLine("cutting faces out", quiet=quiet) as line:
            told = export_int8(detector, output, sources, decoder, n_decoders=n_cores(), seen=line.advance)
    else:
        told = {"largest difference": _export_onnx(detector, output)}
    print(as_text({"export": str(output), "bytes": output.stat().st_size, **told}))


def _export_engine(
    detector: Path,
    output: Path,
    precision: str,
    max_batch: int,
    photos: list[str] | None,
    finder: tuple[str, int],
    seen: Callable[[int], None],
) -> dict[str, Any]:
    from dataclasses import asdict

    from bladescan.runtimes.engine_file import SUFFIX
    from bladescan.scanning.decoder_process import DecoderSettings
    from bladescan.scanning.job import n_cores
    from bladescan.sources.listing import list_sources

    check_output(output, SUFFIX)
    need_learning_side("export")
    from bladescan.exporting.int8 import cut_faces
    from bladescan.exporting.tensorrt import export_tensorrt

    def crops(rule: FaceRule) -> NDArray[np.uint8]:
        sources = list_sources(source_query(photos or []), stdin=raw_stdin())
        return cut_faces(sources, rule, DecoderSettings(*finder), n_decoders=n_cores(), seen=seen)

    report = export_tensorrt(
        detector,
        output,
        precision="fp16" if precision == "auto" else precision,
        max_batch=max_batch,
        crops=crops if photos else None,
        photos=photos or (),
    )
    return asdict(report)


def _export_onnx(detector: Path, output: Path) -> dict[str, Any]:
    need_learning_side("export")
    from dataclasses import asdict

    from bladescan.exporting.onnx import export_onnx
    from bladescan.heads.detector import load_detector

    return asdict(export_onnx(load_detector(detector), output))


@guarded
def evaluate(
    photos: o.Photos,
    ai_generated: o.Generators,
    output: o.ReportOutput,
    detector: Annotated[
        Path | None,
        typer.Argument(help="Detector file (.onnx or .safetensors). Default: the one that ships."),
    ] = None,
    match: o.Matched = False,
    false_alarm: o.FalseAlarm = None,
    faces: o.Faces = "auto",
    min_face: o.MinFace = 32,
    backend: o.BackendName = "auto",
    device: o.Device = "auto",
    seed: o.Seed = 0,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Measure a detector on photographs against the images of each generator.

    Prints the main table; the folder gets report.md, report.json and plots. Needs the extra `train`.
    """
    need_learning_side("evaluate")
    folders, stdin = named_folders(ai_generated, "--ai-generated"), raw_stdin()
    check_new_folder(output)
    from bladescan.evaluation.job import EvaluateOptions, run_evaluation, write_evaluation
    from bladescan.evaluation.page import summary
    from bladescan.runtimes.backend import BackendSettings
    from bladescan.scanning.decoder_process import DecoderSettings
    from bladescan.scanning.job import n_cores
    from bladescan.sources.listing import list_sources

    asked = EvaluateOptions(
        detector=detector,
        backend=backend,
        runtime=BackendSettings(device, threads=n_cores()),
        decoder=DecoderSettings(faces=faces, min_face=min_face),
        false_alarm=false_alarm,
        match=match,
        n_decoders=n_cores(),
        seed=seed,
    )
    photographs = list_sources(source_query(photos), stdin=stdin)
    sets = {name: list_sources(source_query(paths), stdin=stdin) for name, paths in folders.items()}
    with ProgressLine("finding faces", quiet=quiet) as line:
        found = run_evaluation(
            asked,
            photographs,
            sets,
            seen=line.advance,
            progress=lambda stage, done, total: line.set(done, total, stage),
        )
    write_evaluation(found, output, seed=seed)
    print(printable_lines(summary(found.report)))
    for warning in () if quiet else found.report.warnings:
        say(f"bladescan: note: {warning}")
    say(f"report: {output / 'report.md'}")


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
    need_learning_side("train")
    from bladescan.sources.listing import list_sources
    from bladescan.tasks.recipe_files import load_recipe
    from bladescan.training.job import TrainOptions, run_train

    chosen = load_recipe(recipe, changes or [])
    options = TrainOptions(output, index, faces, device, resume, checkpoint_every, tensorboard)
    sources = list_sources(source_query(photos), stdin=raw_stdin())
    with ProgressLine("training", quiet=quiet) as line:
        run_train(chosen, sources, options, line)


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
    need_learning_side("index")
    from bladescan.photographs.indexing import format_summary, format_totals, summarise
    from bladescan.sources.listing import list_sources
    from bladescan.training.job import fill_index
    from bladescan.training.plots import plot_tags

    if plot is not None:
        check_output(plot, ".png")
    with ProgressLine("indexing", quiet=quiet) as line:
        opened, _ = fill_index(list_sources(source_query(photos), stdin=raw_stdin()), output, faces, line)
    entries = opened.entries()
    rows = summarise(entries)
    print(printable_lines(f"{format_totals(entries)}\n\n{format_summary(rows)}"))
    if plot is not None:
        plot_tags(rows, plot)


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
    need_learning_side("contact-sheet")
    from bladescan.pretext.contact_sheet import recipe_sheet
    from bladescan.sources.listing import list_sources
    from bladescan.tasks.recipe_files import load_recipe
    from bladescan.training.job import INDEX_FILE, fill_index

    check_output(output, ".png")
    chosen = load_recipe(recipe, changes or [])
    with ProgressLine("indexing", quiet=quiet) as line:
        sources = list_sources(source_query(photos), stdin=raw_stdin())
        opened, indexed = fill_index(sources, index or output.parent / INDEX_FILE, faces, line)
    drawn = recipe_sheet(chosen, opened, indexed, output, n=n, seed=seed)
    say(f"{drawn} examples: {output}")


@guarded
def import_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(help="OC.pth, BC.pth or the checkpoint of AIGFD-EXIF.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="OUT", help="Folder of the run, or the detector."),
    ],
    photos: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR", help="Photographs that calibrate BC.pth's binary head. Repeatable."),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the run or the detector.")] = "",
    false_alarm: Annotated[float, typer.Option(metavar="RATE", help="Default rate of the detector.")] = 0.05,
    faces: o.Faces = "auto",
    min_face: o.MinFace = 32,
    backend: o.BackendName = "pytorch",
    device: o.Device = "auto",
    quiet: o.Quiet = False,
    debug: o.Debug = False,
) -> None:
    """Turn a checkpoint of the method's authors into an encoder run, or with --photos into a detector.

    Every tensor is checked; nothing in the file is run. Needs the extra `train`.
    """
    need_learning_side("import")
    from bladescan.fitting.authors import ImportOptions, run_import
    from bladescan.runtimes.backend import BackendSettings
    from bladescan.scanning.decoder_process import DecoderSettings
    from bladescan.scanning.job import n_cores
    from bladescan.sources.listing import list_sources

    asked = ImportOptions(
        checkpoint=checkpoint,
        out=output,
        name=name,
        backend=backend,
        runtime=BackendSettings(device, threads=n_cores()),
        decoder=DecoderSettings(faces=faces, min_face=min_face),
        n_decoders=n_cores(),
        false_alarm=false_alarm,
    )
    photographs = list_sources(source_query(photos), stdin=raw_stdin()) if photos else None
    with ProgressLine("embedding", quiet=quiet) as line:
        imported = run_import(asked, photographs, seen=line.advance)
    for notice in imported.notices:
        say(f"bladescan: note: {notice}")
    say(f"imported: {imported.path}")


@guarded
def recipes(
    name: Annotated[str, typer.Argument(help="Print this recipe, resolved.")] = "", debug: o.Debug = False
) -> None:
    """List the recipes that ship, or print one with all its defaults."""
    from bladescan.tasks.recipe_files import dump_recipe, load_recipe, shipped_recipes

    if name:
        print(dump_recipe(load_recipe(name)), end="")
        return
    for known, text in shipped_recipes().items():
        print(f"{known:16} {text.splitlines()[0].lstrip('# ')}")
