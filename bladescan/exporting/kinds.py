"""The table of the kinds of export, `EXPORTERS`, and what a user may ask of one.

To add a kind: a module beside this one with a class like `Exporter` (build, check, encode); here a function
that checks the options and makes it, and a line in `EXPORTERS`; the help of ``--to``; ``docs/gpu.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bladescan.base.errors import MissingDependencyError, UnknownNameError, UsageError
from bladescan.base.extras import need_learning_side
from bladescan.base.output_files import check_output
from bladescan.detectors.shipped import SAFETENSORS, named_detector
from bladescan.exporting.exporter import Exporter
from bladescan.exporting.quantisation import CropCutter, Int8Exporter
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.engine_file import SUFFIX
from bladescan.runtimes.registry import get_plugin
from bladescan.scanning.decoder_process import DecoderSettings

MOST_BATCH = 4096


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What the user asked of an export.

    Attributes:
        to: a key of `EXPORTERS`.
        precision: ``fp32``, ``fp16`` (tensorrt only), ``int8`` (needs photographs), or ``auto``: fp16 for
            tensorrt, else fp32.
        photographs: files and folders of those that set the ranges of int8, and show what it changes.
        max_batch: most faces that an engine scores at once.
        builder: of an engine: ``parser``, ``torch-tensorrt``, or ``auto``: the latter where it is installed.
        decoder: limits and face finder for the photographs; the crop rule is the detector's.
    """

    to: str = "onnx"
    precision: str = "auto"
    photographs: tuple[str, ...] = ()
    max_batch: int = 64
    builder: str = "auto"
    decoder: DecoderSettings = DecoderSettings()


def _to_onnx(
    detector: str | Path | None, output: Path, options: ExportOptions, cut: CropCutter
) -> Exporter[Any, Any]:
    precision = "fp32" if options.precision == "auto" else options.precision
    if precision == "fp16":
        raise UsageError("--precision fp16 is for --to tensorrt; ONNX is exported in fp32 or int8")
    if precision not in ("fp32", "int8"):
        raise UnknownNameError("precision", precision, ["fp32", "int8"])
    if (precision == "int8") != bool(options.photographs):
        raise UsageError("--precision int8 and --photos go together: int8 is calibrated on photographs")
    forms = (".onnx", ".safetensors") if options.photographs else (".safetensors",)
    path = named_detector(detector, forms) or SAFETENSORS
    check_output(output, ".onnx")
    if output.resolve() == path.resolve():
        raise UsageError(f"--output {output}: is the detector that is exported; give it another name")
    if precision == "int8":
        return Int8Exporter(_onnx_of(path), cut, where=path.name)
    need_learning_side("export")
    from bladescan.exporting.onnx import OnnxExporter
    from bladescan.heads.detector import load_detector

    return OnnxExporter(load_detector(path), where=output.name)


def _onnx_of(path: Path) -> bytes:
    """Build a detector as ONNX, to be checked by the backend that will open it or by the exporter."""
    if path.suffix.lower() == ".onnx":
        get_plugin("onnx").open(path, BackendSettings("cpu")).close()
        return path.read_bytes()
    try:
        from bladescan.exporting.onnx import OnnxExporter
        from bladescan.heads.detector import load_detector
    except ImportError as exc:
        what = "exporting a .safetensors detector"
        raise MissingDependencyError(what, "torch", "pip install 'bladescan[train]'") from exc
    exporter = OnnxExporter(load_detector(path), where=path.name)
    built = exporter.build()
    exporter.check(built)
    return built


def _to_engine(
    detector: str | Path | None, output: Path, options: ExportOptions, cut: CropCutter
) -> Exporter[Any, Any]:
    check_output(output, SUFFIX)
    if not 1 <= options.max_batch <= MOST_BATCH:
        raise UsageError(f"max_batch {options.max_batch}: expected 1 to {MOST_BATCH}")
    need_learning_side("export")
    from bladescan.exporting.tensorrt import EngineExporter

    return EngineExporter(
        named_detector(detector, (".safetensors",)) or SAFETENSORS,
        precision="fp16" if options.precision == "auto" else options.precision,
        max_batch=options.max_batch,
        cut=cut if options.photographs else None,
        photographs=options.photographs,
        builder=options.builder,
    )


MakeExporter = Callable[[str | Path | None, Path, ExportOptions, CropCutter], Exporter[Any, Any]]

EXPORTERS: Mapping[str, MakeExporter] = {"onnx": _to_onnx, "tensorrt": _to_engine}
"""By the values of ``--to``. Each is made with the detector (a name, a file, None: the default), the file to
write, the options, and what cuts crops from the photographs."""
