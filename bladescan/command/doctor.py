"""Is this installation able to scan? Each check runs the real thing and answers with one line."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from bladescan import __version__
from bladescan.base.errors import BladescanError, UsageError
from bladescan.base.records import CROP_SIZE
from bladescan.command import machine
from bladescan.runtimes.backend import Backend, BackendPlugin, BackendSettings
from bladescan.runtimes.registry import choose_plugin, find_detector, get_plugin, open_file, plugin_names
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.scanning.decoders import decoder_process

_MACHINE: dict[str, Callable[[], tuple[bool | None, str]]] = {
    "temporary folder": machine.check_temporary_folder,
    "memory": machine.check_memory,
    "cores": machine.check_cores,
    "open files": machine.check_descriptors,
    "processes": machine.check_processes,
    "shared memory": machine.check_shared_memory,
}
PACKAGES = ("numpy", "pillow", "onnxruntime", "joblib", "torch", "pyarrow", "c2pa-python")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        ok: True, False, or None for a thing that is merely not installed.
    """

    name: str
    ok: bool | None
    detail: str


def examine(model: str | Path | None, faces: str, urls: Sequence[str] = ()) -> list[Finding]:
    """Check installation, machine, backends on each of their devices, face finder, detector and buckets.

    Args:
        model: the detector, by name or path; None for the default.
        faces: name of the face finder.
        urls: buckets, or folders in them, that shall be scanned.
    """
    findings = [Finding("bladescan", True, f"{__version__}, Python {sys.version.split()[0]}, {_machine()}")]
    findings.append(Finding("packages", True, ", ".join(_package(name) for name in PACKAGES)))
    findings += [_try(name, check) for name, check in _MACHINE.items()]
    findings += [_try(f"backend {name}", partial(_backend, name, model)) for name in plugin_names()]
    findings.append(_try("face finder", lambda: _face_finder(faces)))
    findings.append(_try("detector", lambda: _detector(model)))
    findings += [_try("bucket", partial(_bucket, url)) for url in urls]
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


def _backend(name: str, model: str | Path | None) -> tuple[bool | None, str]:
    plugin = get_plugin(name)
    status = plugin.status()
    if status.version is None:
        return None, status.hint
    path = _file_for(name, model)
    opens = path.suffix.lower() in plugin.suffixes
    tried = [_on_device(plugin, path, device) if opens else (True, device) for device in status.devices]
    said = "; ".join([f"{status.version}, on {', '.join(text for _, text in tried)}", status.hint])
    return all(ok for ok, _ in tried), said.removesuffix("; ")


def _file_for(backend: str, model: str | Path | None) -> Path:
    """Find the detector in the form that a backend opens, or in another, on which it is then not tried."""
    try:
        return find_detector(model, backend)
    except UsageError:
        return find_detector(model)


def _on_device(plugin: BackendPlugin, path: Path, device: str) -> tuple[bool, str]:
    """Run the detector there: a device that is listed may still refuse."""
    try:
        backend = plugin.open(path, BackendSettings(device))
        try:
            return _scores(backend), f"{device} (detector runs)"
        finally:
            backend.close()
    except BladescanError as exc:
        return False, f"{device} ({exc})"


def _bucket(url: str) -> tuple[bool, str]:
    from bladescan.sources.buckets import check_bucket

    return True, check_bucket(url)


def _scores(backend: Backend) -> bool:
    """Whether a made-up picture has an embedding."""
    gradient = np.linspace(0, 255, CROP_SIZE * CROP_SIZE * 3).astype(np.uint8)
    embedding = backend.embed(gradient.reshape(1, CROP_SIZE, CROP_SIZE, 3))
    return bool(np.isfinite(embedding).all())


def _face_finder(faces: str) -> tuple[bool, str]:
    process = decoder_process(DecoderSettings(faces=faces))
    try:
        return True, f"{process.start().finder}, in a process of its own"
    finally:
        process.kill()


def _detector(model: str | Path | None) -> tuple[bool, str]:
    path = find_detector(model)
    backend = open_file(choose_plugin("auto", path), path, BackendSettings())
    try:
        heads = ", ".join(backend.manifest.heads) or "no head"
        return _scores(backend), f"{backend.manifest.name} ({heads}) runs on {backend.device}"
    finally:
        backend.close()
