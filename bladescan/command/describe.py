"""What a detector, an export or an encoder run says of itself, read without running it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from bladescan.base.errors import DetectorError
from bladescan.detectors.calibration import lowest_p_value
from bladescan.detectors.cascade import SUFFIX as CASCADE
from bladescan.detectors.cascade import read_cascade
from bladescan.detectors.combined_file import SUFFIX as COMBINED
from bladescan.detectors.combined_file import read_combined
from bladescan.detectors.manifest import METADATA_KEY, Manifest, decode_manifest
from bladescan.detectors.measured import rates_of, told
from bladescan.detectors.shipped import DETECTORS, default_file, shipped_files, shipped_names
from bladescan.detectors.suspicion import suspicion_threshold
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.engine_file import SUFFIX, read_engine
from bladescan.runtimes.registry import choose_plugin

ENCODER_FILE = "encoder.safetensors"


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of a detector file or of an encoder run.

    Raises:
        DetectorError: there is none, or it is not one of ours.
    """
    if path.is_dir():
        if not (path / ENCODER_FILE).is_file():
            raise DetectorError(f"{path}: a folder without {ENCODER_FILE}: not an encoder run")
        return read_manifest(path / ENCODER_FILE)
    if path.suffix.lower() == CASCADE:
        return read_cascade(path).manifest
    if path.suffix.lower() == COMBINED:
        return read_combined(path).manifest
    if path.suffix.lower() == SUFFIX:
        return read_engine(path).manifest
    if path.suffix.lower() != ".safetensors":
        opened = choose_plugin("auto", path).open(path, BackendSettings(device="cpu"))
        opened.close()
        return opened.manifest
    return _read_safetensors_manifest(path)


def describe(manifest: Manifest) -> dict[str, Any]:
    """Prepare a manifest for people: curves become their range, and every rate is said as it is."""
    shown: dict[str, Any] = msgspec.to_builtins(manifest)
    del shown["neighbours"]
    if manifest.neighbours is not None:
        shown["n_neighbours"] = manifest.neighbours.n
    rate = manifest.default_false_alarm
    for name, head in manifest.heads.items():
        _shorten(shown["heads"][name])
        if lowest_p_value(head) <= rate:
            shown["heads"][name]["threshold"] = suspicion_threshold(head, name, rate)
    for component in (shown["combination"] or {}).get("components", ()):
        _shorten(component["calibration"])
    del shown["measured"]
    return shown | (measured_rates(manifest) if manifest.heads else {})


def _shorten(head: dict[str, Any]) -> None:
    """Replace the curves of a calibration by their ends, and leave out what a plain one has not."""
    curve, steps = head.pop("calibration"), head.pop("steps")
    head["calibration_range"] = [curve[0], curve[-1]]
    if steps:
        head["lowest_false_alarm"] = steps[0]
    else:
        del head["by"], head["n_folders"]


def measured_rates(manifest: Manifest) -> dict[str, Any]:
    """Say for each head what its false-alarm rate was on photographs unlike those of the calibration."""
    if not manifest.measured:
        return {"measured": "nothing on photographs unlike those of the calibration"}
    return {
        "measured": {
            f"{head} head": {"in short": told(rates)}
            | {rate.photographs: f"{rate.flagged:.1%} of {rate.n_faces} faces" for rate in rates}
            for head in manifest.heads
            if (rates := rates_of(manifest, head))
        }
    }


def shipped() -> dict[str, str]:
    """Say of every detector that ships what it is, in which forms there is, and which one scans."""
    scans, found = default_file(), {}
    for name in shipped_names():
        files = shipped_files(name)
        marked = "; scans unless another is named" if scans in files else ""
        found[name] = f"{DETECTORS[name]} ({', '.join(file.suffix for file in files)}){marked}"
    return found


def cost(manifest: Manifest) -> dict[str, int]:
    """Parameters, and multiply-adds per face, of the encoder and its binary head.

    Counted as in the paper's Table 6, see `bladescan.networks.encoders.complexity`; nothing is run. Empty
    without PyTorch, and for an architecture that exists as an export only.
    """
    try:
        import torch
    except ImportError:
        return {}
    from bladescan.heads.classifier import HIDDEN, Classifier
    from bladescan.networks.encoders import VISION_ENCODERS, complexity, new_vision_encoder

    spec = manifest.encoder
    if spec.name not in VISION_ENCODERS:
        return {}
    with torch.device("meta"):
        n_parameters, n_multiply_adds = complexity(
            new_vision_encoder(spec.name, spec.width, spec.embedding_dim)
        )
        if "binary" in manifest.heads:
            settings = manifest.heads["binary"].settings
            hidden = 0 if settings.get("kind") == "logistic" else int(settings.get("hidden", HIDDEN))
            head = [p.numel() for p in Classifier(spec.embedding_dim, hidden).parameters()]
            n_parameters += sum(head)
            n_multiply_adds += sum(head)  # one product or sum for each
    return {"parameters": n_parameters, "multiply_adds": n_multiply_adds}


def _read_safetensors_manifest(path: Path) -> Manifest:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
    except FileNotFoundError as exc:
        raise DetectorError(f"{path}: no such file") from exc
    except (SafetensorError, OSError) as exc:
        raise DetectorError(f"{path}: not a bladescan detector: {exc}") from exc
    if text is None:
        raise DetectorError(f"{path}: a safetensors file, but not a bladescan detector: it has no manifest")
    return decode_manifest(text, where=str(path))
