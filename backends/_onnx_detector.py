"""``.onnx`` detectors, checked before a runtime sees them. It is shared by backends, and is none itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bladescan.base.errors import DetectorError
from bladescan.detectors.manifest import METADATA_KEY, Manifest, decode_manifest
from bladescan.runtimes.onnx_session import UnloadableGraphError, open_session

from ._onnx_file import read_onnx

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Operator sets that onnxruntime itself implements; any other would need foreign code."""

HEAD_OUTPUTS = {"one-class": "log_likelihood", "binary": "p_ai_generated"}


def read_onnx_detector(path: Path) -> tuple[bytes, Manifest]:
    """Read a detector file and check it.

    Returns:
        Its bytes and its manifest.

    Raises:
        DetectorError: it is no detector, it refers to other files, or it needs custom operators.
    """
    if path.is_dir():
        raise DetectorError(f"{path}: is a folder, expected a detector file (.onnx)")
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise DetectorError(f"{path}: cannot be read: {exc.strerror or exc}") from exc
    found = read_onnx(data, where=path.name)
    if METADATA_KEY not in found.metadata:
        raise DetectorError(f"{path.name}: not a bladescan detector: its metadata has no manifest")
    if found.has_external_data:
        raise DetectorError(f"{path.name}: refers to data in other files; a detector is one file")
    if foreign := sorted(found.domains - DOMAINS):
        raise DetectorError(f"{path.name}: needs custom operators of {foreign[0]!r}, which are never loaded")
    return data, decode_manifest(found.metadata[METADATA_KEY], where=path.name)


def open_heads(graph: bytes, *, where: str) -> Any:
    """Load the graph from embedding to scores, float64, in an onnxruntime session on one thread.

    Raises:
        DetectorError: onnxruntime cannot load it.
    """
    try:
        return open_session(graph, threads=1)
    except UnloadableGraphError as exc:
        raise DetectorError(f"{where}: its heads cannot be loaded: {exc}") from exc
