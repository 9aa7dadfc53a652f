"""One training from the user's pictures to what can be used: an encoder run, or a detector at once.

A network that learned what is AI-generated from labelled pictures answers by itself: its last layer is the
binary head. All that is left is a calibration, by photographs that it has not learned from.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import torch

from bladescan.base.errors import DetectorError
from bladescan.detectors.manifest import CalibratedHead
from bladescan.fitting.calibrate_job import CalibrateOptions, calibrate, save_calibrated
from bladescan.heads.detector import Detector, save_detector
from bladescan.networks.encoders import vision_state
from bladescan.processes.resources import n_cores
from bladescan.runtimes.backend import BackendSettings
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.sources.given import Given
from bladescan.tasks.recipe import Recipe
from bladescan.training import job
from bladescan.training.job import TrainOptions
from bladescan.training.runs import DETECTOR_FILE, load_encoder_run

_NO_CALIBRATION = CalibratedHead((0.0,), 1)
"""Stands in the file that scores the photographs, and nowhere else."""
_logger = logging.getLogger(__name__)


def train(
    photographs: Given,
    recipe: Recipe,
    options: TrainOptions,
    *,
    ai_generated: Given | None = None,
    seen: Callable[[int], None] = lambda n: None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> None:
    """Train an encoder and, if it learned what is AI-generated, make it a detector as well.

    Args:
        photographs: with a face or with EXIF tags.
        recipe: what to do.
        options: how to do it.
        ai_generated: labelled AI-generated pictures, for a recipe that learns to tell them; else None.
        seen: told of pictures that are indexed, so many more each time.
        progress: told of the training: speed and losses in words, steps done, steps in all.

    Raises:
        BladescanError: the pictures, the recipe, the device or the folder are of no use.
    """
    kept_out = job.train(
        photographs, recipe, options, ai_generated=ai_generated, seen=seen, progress=progress
    )
    if recipe.supervised and kept_out:
        path = options.out_dir / DETECTOR_FILE
        calibrate_trained(trained_detector(options.out_dir), kept_out, options.faces, path)
        next_step = f"bladescan export {path} --to onnx -o {recipe.name}.onnx"
        _logger.info("detector: %s; next: %s", path, next_step)


def trained_detector(run: Path) -> Detector:
    """Make a detector of a finished run that learned what is AI-generated; it is not calibrated.

    Args:
        run: its folder.

    Raises:
        DetectorError: there is no finished run, or it learned something else.
    """
    found = load_encoder_run(run)
    head = found.head
    if set(head) != {"weight", "bias"} or list(found.manifest.provenance.get("tasks", ())) != ["origin"]:
        raise DetectorError(f"{run}: learned from photographs alone: `bladescan fit` makes a detector of it")
    manifest = msgspec.structs.replace(
        found.manifest, heads={"binary": _NO_CALIBRATION}, default_head="binary"
    )
    classifier = {f"fc2.{key}": value.float() for key, value in head.items()}
    return Detector(manifest, vision_state(found.encoder), None, classifier)


def calibrate_trained(detector: Detector, photographs: Sequence[str], faces: str, path: Path) -> None:
    """Calibrate a detector by photographs that it has not learned from, and write it.

    Args:
        detector: its calibration is replaced.
        photographs: their names.
        faces: name of the face finder.
        path: where to.

    Raises:
        DataError: too few photographs.
        OutputError: it cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="bladescan-") as folder:
        bare = Path(folder) / "detector.safetensors"
        save_detector(detector, bare)
        asked = CalibrateOptions(
            bare,
            runtime=BackendSettings(threads=torch.get_num_threads()),
            decoder=DecoderSettings(faces=faces),
            n_decoders=n_cores(),
        )
        save_calibrated(calibrate(photographs, asked), path)
