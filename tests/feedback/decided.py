"""Decisions and verdicts of which a test knows the truth."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bladescan.feedback.decision_files import read_decisions
from bladescan.feedback.scanned_faces import ScannedFaces, scanned_faces
from tests.reviewing.reviews import THRESHOLD, face, image, write_rows

AT = "2026-11-27T12:00:00+00:00"
PHOTO, AI, UNSURE = "photographic", "ai-generated", "unsure"


def digest(number: int) -> str:
    return f"{number:064x}"


def decision(path: str | Path, word: str, **more: Any) -> dict[str, Any]:
    """A line of a review's export."""
    told = {
        "schema": 1,
        "sha256": hashlib.sha256(os.fsencode(path)).hexdigest(),
        "face": 0,
        "path": str(path),
    }
    told |= {"decision": word, "decided_at": AT, "looked_at": True, "verdict": "not-flagged", "score": 0.0}
    looks = {"n_faces": 1, "place": [0.2, 0.2, 0.8, 0.8], "picture_hash": "0" * 16, "crop_hash": "f" * 16}
    return told | looks | more


def write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def scan_of(folder: Path, scores: Iterable[float], decided: dict[int, str], **more: Any) -> tuple[Path, Path]:
    """Write the verdicts of faces with these scores, one a picture, and decisions on some, by number."""
    names = [f"{number:04}.png" for number, _ in enumerate(scores)]
    rows = [image(name, face(score)) for name, score in zip(names, scores, strict=True)]
    lines = [decision(names[number], word, **more) for number, word in decided.items()]
    return write_rows(folder / "v.jsonl", rows), write_lines(folder / "d.jsonl", lines)


def read_scan(folder: Path, scores: Iterable[float], decided: dict[int, str]) -> ScannedFaces:
    verdicts, decisions = scan_of(folder, scores, decided)
    return scanned_faces([verdicts], read_decisions([decisions]))


def spread(n: int, low: float, high: float) -> NDArray[np.float64]:
    """Scores none of which is the threshold."""
    scores = np.linspace(low, high, n)
    assert THRESHOLD not in scores
    return scores
