"""Runs and images as JSON values, for the formats that hold JSON."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import asdict
from typing import Any

from bladescan.base.provenance_record import Provenance
from bladescan.base.records import ImageRecord
from bladescan.outputs.rows import component_row, face_row, finite, image_row, is_utf8
from bladescan.outputs.run import RunInfo


def as_json(value: dict[str, Any]) -> bytes:
    """Encode one value on one line, as UTF-8; ASCII alone where a name is not UTF-8."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8: lone surrogates, escaped
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def image_fields(record: ImageRecord) -> dict[str, Any]:
    """Return an image, what its file says, and its faces.

    ``path_bytes``, in Base64, is there if the name is not UTF-8; ``prompts`` if there are any.
    """
    image = image_row(record)
    if not is_utf8(record.source):
        image["path_bytes"] = base64.b64encode(os.fsencode(record.source)).decode()
    faces = [face_row(index, face) for index, face in enumerate(record.faces)]
    for face in faces:  # nested in its face, the name is clear without the prefix
        face["verdict"] = face.pop("face_verdict")
    for face, judged in zip(faces, record.faces, strict=True):
        if judged.components:
            face["components"] = {one.name: component_row(one) for one in judged.components}
    return image | _statements(record.provenance) | {"faces": faces}


def _statements(provenance: Provenance | None) -> dict[str, Any]:
    """Return what led to the declared columns; null if it was not read."""
    if provenance is None:
        return {"evidence": None, "camera": None}
    said = asdict(provenance)
    names = ("evidence", "camera", *(("prompts",) if provenance.prompts else ()))
    return {name: said[name] for name in names}


def run_fields(run: RunInfo) -> dict[str, Any]:
    """Return what made the verdicts, the schema version first."""
    return {"schema_version": run.schema_version, **asdict(run)} | {"threshold": finite(run.threshold, float)}
