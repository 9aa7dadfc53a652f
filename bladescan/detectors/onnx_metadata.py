"""A detector's manifest in the metadata of an ONNX model, read and written. It looks at no graph."""

from __future__ import annotations

from typing import Any

from bladescan.base.errors import DetectorError, import_failed
from bladescan.detectors.manifest import METADATA_KEY, Manifest, decode_manifest, encode_manifest


def import_onnx(what: str) -> Any:
    """Import the package that reads and writes ONNX models.

    Args:
        what: needs it.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import onnx
    except ImportError as exc:
        raise import_failed(exc, what, "onnx", "pip install onnx") from exc
    return onnx


def with_manifest(model: Any, manifest: Manifest) -> bytes:
    """Encode an ``onnx.ModelProto`` with the manifest for its only metadata."""
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, encode_manifest(manifest)
    encoded: bytes = model.SerializeToString(deterministic=True)
    return encoded


def manifest_of(model: Any, *, where: str) -> Manifest:
    """Read the manifest of an ``onnx.ModelProto``.

    Raises:
        DetectorError: it has none that is whole.
    """
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            return decode_manifest(entry.value, where=where)
    raise DetectorError(f"{where}: not a bladescan detector: its metadata has no manifest")
