"""bladescan: tell AI-generated faces from photographs, in batches.

Implements BLADES (Zou et al., "Bi-Level Optimization for Self-Supervised AI-Generated Face Detection", ICCV
2025). The command is ``bladescan``; the names below are what Python programs may rely on, see
docs/python-api.md. Each is loaded when it is first used: ``import bladescan`` alone costs next to nothing.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # for type checkers that of `typing`, whose import costs more than all else here
if TYPE_CHECKING:
    from bladescan.base.errors import (
        BackendError,
        BladescanError,
        BucketError,
        DataError,
        DetectorError,
        DeviceUnavailableError,
        ImageError,
        MissingDependencyError,
        OutputError,
        RecipeError,
        TooManyErrorsError,
        UnknownNameError,
        UsageError,
    )
    from bladescan.base.exit_codes import ExitCode, ExitRule
    from bladescan.base.provenance_record import CameraEvidence, Evidence, Provenance
    from bladescan.base.records import (
        ComponentVerdict,
        Cost,
        Explanation,
        FaceBox,
        FaceCrop,
        FaceVerdict,
        FlaggedBy,
        ImageRecord,
        Reason,
        Scores,
        Verdict,
    )
    from bladescan.detectors.cascade import Cascade, CascadeRule, PartScale
    from bladescan.detectors.combined_file import CombinedFile
    from bladescan.detectors.manifest import PictureRule
    from bladescan.detectors.parts import DetectorPart
    from bladescan.evaluation.job import EvaluateOptions, Evaluation, evaluate, save_evaluation
    from bladescan.exporting.job import export
    from bladescan.exporting.kinds import ExportOptions
    from bladescan.exporting.reports import EngineReport, ParityReport, QuantisationReport
    from bladescan.feedback.job import Feedback, FeedbackOptions, read_feedback
    from bladescan.fitting.calibrate_job import Calibrated, CalibrateOptions, calibrate, save_calibrated
    from bladescan.fitting.cascade_job import CascadeOptions, MadeCascade, make_cascade, save_cascade
    from bladescan.fitting.combine_job import CombineOptions, MadeCombined, combine, save_combined
    from bladescan.fitting.fit_settings import FitSettings
    from bladescan.fitting.job import FitOptions, fit, save_fitted
    from bladescan.fitting.train_job import train
    from bladescan.heads.detector import Detector, load_detector, save_detector
    from bladescan.images.limits import Limits
    from bladescan.outputs.run import ImageDetector, RunInfo, RunSummary
    from bladescan.reviewing.review import ReviewCounts, ReviewOptions, write_review
    from bladescan.runtimes.backend import (
        Backend,
        BackendPlugin,
        BackendSettings,
        BackendStatus,
        PendingScores,
    )
    from bladescan.runtimes.registry import OpenedDetector, open_detector
    from bladescan.scanning.declarations import ProvenanceOptions
    from bladescan.scanning.decoder_process import DecoderSettings
    from bladescan.scanning.job import OutputOptions, run_scan, scan
    from bladescan.scanning.listener import BrokenOff, Listener, Listeners
    from bladescan.scanning.scan_options import Decision, ScanOptions
    from bladescan.scanning.scanner import Scanner
    from bladescan.scanning.tally import Tally
    from bladescan.sources.query import SourceQuery
    from bladescan.sources.source import Source
    from bladescan.tasks.recipe import Recipe
    from bladescan.tasks.recipe_files import load_recipe
    from bladescan.training.job import TrainOptions

# onnxruntime keeps usage records for its maker unless told not to. What is scanned here is nobody's business.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.2.0"
"""The version of this package."""

_ROOMS = {
    "base.errors": "BackendError BladescanError BucketError DataError DetectorError DeviceUnavailableError "
    "ImageError MissingDependencyError OutputError RecipeError TooManyErrorsError UnknownNameError "
    "UsageError",
    "base.exit_codes": "ExitCode ExitRule",
    "base.provenance_record": "CameraEvidence Evidence Provenance",
    "base.records": "ComponentVerdict Cost Explanation FaceBox FaceCrop FaceVerdict FlaggedBy ImageRecord "
    "Reason Scores Verdict",
    "detectors.cascade": "Cascade CascadeRule PartScale",
    "detectors.combined_file": "CombinedFile",
    "detectors.manifest": "PictureRule",
    "detectors.parts": "DetectorPart",
    "evaluation.job": "EvaluateOptions Evaluation evaluate save_evaluation",
    "exporting.job": "export",
    "exporting.kinds": "ExportOptions",
    "exporting.reports": "EngineReport ParityReport QuantisationReport",
    "feedback.job": "Feedback FeedbackOptions read_feedback",
    "fitting.calibrate_job": "CalibrateOptions Calibrated calibrate save_calibrated",
    "fitting.cascade_job": "CascadeOptions MadeCascade make_cascade save_cascade",
    "fitting.combine_job": "CombineOptions MadeCombined combine save_combined",
    "fitting.fit_settings": "FitSettings",
    "fitting.job": "FitOptions fit save_fitted",
    "fitting.train_job": "train",
    "heads.detector": "Detector load_detector save_detector",
    "images.limits": "Limits",
    "outputs.run": "ImageDetector RunInfo RunSummary",
    "reviewing.review": "ReviewCounts ReviewOptions write_review",
    "runtimes.backend": "Backend BackendPlugin BackendSettings BackendStatus PendingScores",
    "runtimes.registry": "OpenedDetector open_detector",
    "scanning.declarations": "ProvenanceOptions",
    "scanning.decoder_process": "DecoderSettings",
    "scanning.job": "OutputOptions run_scan scan",
    "scanning.listener": "BrokenOff Listener Listeners",
    "scanning.scan_options": "Decision ScanOptions",
    "scanning.scanner": "Scanner",
    "scanning.tally": "Tally",
    "sources.query": "SourceQuery",
    "sources.source": "Source",
    "tasks.recipe": "Recipe",
    "tasks.recipe_files": "load_recipe",
    "training.job": "TrainOptions",
}
_HOMES = {name: module for module, names in _ROOMS.items() for name in names.split()}
"""The module of each public name."""

__all__ = [
    "Backend",
    "BackendError",
    "BackendPlugin",
    "BackendSettings",
    "BackendStatus",
    "BladescanError",
    "BrokenOff",
    "BucketError",
    "CalibrateOptions",
    "Calibrated",
    "CameraEvidence",
    "Cascade",
    "CascadeOptions",
    "CascadeRule",
    "CombineOptions",
    "CombinedFile",
    "ComponentVerdict",
    "Cost",
    "DataError",
    "Decision",
    "DecoderSettings",
    "Detector",
    "DetectorError",
    "DetectorPart",
    "DeviceUnavailableError",
    "EngineReport",
    "EvaluateOptions",
    "Evaluation",
    "Evidence",
    "ExitCode",
    "ExitRule",
    "Explanation",
    "ExportOptions",
    "FaceBox",
    "FaceCrop",
    "FaceVerdict",
    "Feedback",
    "FeedbackOptions",
    "FitOptions",
    "FitSettings",
    "FlaggedBy",
    "ImageDetector",
    "ImageError",
    "ImageRecord",
    "Limits",
    "Listener",
    "Listeners",
    "MadeCascade",
    "MadeCombined",
    "MissingDependencyError",
    "OpenedDetector",
    "OutputError",
    "OutputOptions",
    "ParityReport",
    "PartScale",
    "PendingScores",
    "PictureRule",
    "Provenance",
    "ProvenanceOptions",
    "QuantisationReport",
    "Reason",
    "Recipe",
    "RecipeError",
    "ReviewCounts",
    "ReviewOptions",
    "RunInfo",
    "RunSummary",
    "ScanOptions",
    "Scanner",
    "Scores",
    "Source",
    "SourceQuery",
    "Tally",
    "TooManyErrorsError",
    "TrainOptions",
    "UnknownNameError",
    "UsageError",
    "Verdict",
    "__version__",
    "calibrate",
    "combine",
    "evaluate",
    "export",
    "fit",
    "load_detector",
    "load_recipe",
    "make_cascade",
    "open_detector",
    "read_feedback",
    "run_scan",
    "save_calibrated",
    "save_cascade",
    "save_combined",
    "save_detector",
    "save_evaluation",
    "save_fitted",
    "scan",
    "train",
    "write_review",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'bladescan' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"bladescan.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
