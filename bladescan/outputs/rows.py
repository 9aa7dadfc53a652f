"""What is said of an image and of a face: the columns and values that every format shares.

Numbers are rounded once, in `face_row`, so that every format says the same: six significant digits for a
score, six decimals for a share, one for a pixel. The threshold is exact, and so is a score that rounding
would move across it. What is not finite is left out.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from bladescan.base.records import ComponentVerdict, Explanation, FaceVerdict, ImageRecord
from bladescan.outputs.run import RunInfo

DECLARED_COLUMNS = ("declared", "declared_by", "declared_tool", "declared_signer", "c2pa_status")
IMAGE_COLUMNS = (
    *("path", "verdict", "reason", "detail", "format", "width", "height", "n_frames"),
    *("flagged_by", *DECLARED_COLUMNS),
)
FACE_COLUMNS = (
    *("face", "frame", "x0", "y0", "x1", "y1", "rotation", "detection_score"),
    *("subject", "tiles", "coverage"),
    *("face_verdict", "head", "score", "threshold", "p_value", "p_smooth", "stability"),
    *("log_likelihood", "p_ai_generated", "explanation", "decision", "decided_at"),
)
COLUMNS = (*IMAGE_COLUMNS, *FACE_COLUMNS, "path_bytes")
COMPONENT_NUMBERS = ("score", "p_value")
"""What is said of each of several combined scores."""
TEXT_COLUMNS = (
    *("path", "verdict", "reason", "detail", "format"),
    *("flagged_by", *DECLARED_COLUMNS, "subject", "face_verdict", "head", "explanation"),
    *("decision", "decided_at"),
)


def finite(value: float | None, rounded: Callable[[float], float]) -> float | None:
    """Round a number; None if there is none or it is not finite."""
    return None if value is None or not math.isfinite(value) else rounded(value) + 0.0


def _share(value: float | None) -> float | None:
    return finite(value, lambda number: round(number, 6))


def _pixels(value: float) -> float | None:
    return finite(value, lambda number: round(number, 1))


def image_row(record: ImageRecord) -> dict[str, Any]:
    """Return what is said of an image, by `IMAGE_COLUMNS`."""
    return {
        "path": record.source,
        "verdict": record.verdict.value,
        "reason": None if record.reason is None else record.reason.value,
        "detail": record.detail,
        "format": record.format,
        "width": record.width,
        "height": record.height,
        "n_frames": record.n_frames,
        "flagged_by": None if record.flagged_by is None else record.flagged_by.value,
        **{name: getattr(record.provenance, name, "") or None for name in DECLARED_COLUMNS},
    }


def face_row(index: int, face: FaceVerdict) -> dict[str, Any]:
    """Return what is said of a face, by `FACE_COLUMNS`.

    Args:
        index: of the face in its image.
        face: its verdict; numbers are rounded as the module says.
    """
    box = face.box
    corners = (None,) * 4 if box is None else tuple(map(_pixels, (box.x0, box.y0, box.x1, box.y1)))
    return {
        "face": index,
        "frame": face.frame,
        **dict(zip(("x0", "y0", "x1", "y1"), corners, strict=True)),
        "rotation": None if box is None else box.rotation,
        "detection_score": None if box is None else _share(box.score),
        "subject": face.subject,
        "tiles": face.tiles,
        "coverage": _share(face.coverage),
        "face_verdict": face.verdict.value,
        "head": face.head,
        "score": _beside(face.score, face.threshold),
        "threshold": finite(face.threshold, float),
        "p_value": _share(face.p_value),
        "p_smooth": finite(face.p_smooth, _six_digits),
        "stability": _share(face.stability),
        "log_likelihood": finite(face.log_likelihood, _six_digits),
        "p_ai_generated": _share(face.p_ai_generated),
        "explanation": None if face.explanation is None else explanation_fields(face.explanation),
        "decision": face.decision,
        "decided_at": face.decided_at,
    }


def explanation_fields(explanation: Explanation) -> dict[str, Any]:
    """Return what an explanation says; falls of the score to three significant digits."""
    return {
        "region": [_pixels(corner) for corner in explanation.region],
        "where": explanation.where,
        "fall": finite(explanation.fall, _three_digits),
        "grid": [[finite(fall, _three_digits) for fall in row] for row in explanation.grid],
        "stability": _share(explanation.stability),
        "flips": list(explanation.flips),
        "n_photographs": explanation.n_photographs,
        "n_as_suspicious": explanation.n_as_suspicious,
        "n_as_unlikely": explanation.n_as_unlikely,
        "nearest_degrees": [finite(angle, _three_digits) for angle in explanation.nearest_degrees],
        "n_as_far": explanation.n_as_far,
    }


def component_row(one: ComponentVerdict) -> dict[str, Any]:
    """Return what one of several combined scores says of a face, by `COMPONENT_NUMBERS`."""
    return {"score": finite(one.score, _six_digits), "p_value": _share(one.p_value)}


def component_columns(names: Iterable[str]) -> tuple[str, ...]:
    """Name the columns of combined scores, for example ``fast_score`` and ``fast_p_value``."""
    return tuple(f"{name}_{number}" for name in names for number in COMPONENT_NUMBERS)


def columns(run: RunInfo) -> tuple[str, ...]:
    """List the columns of a run: `COLUMNS`, and before the last those of each combined score."""
    return (*COLUMNS[:-1], *component_columns(run.components), COLUMNS[-1])


def _six_digits(number: float) -> float:
    return float(f"{number:.6g}")


def _three_digits(number: float) -> float:
    return float(f"{number:.3g}")


def _beside(score: float, threshold: float | None) -> float | None:
    """Round a score, unless that moved it to the other side of the threshold."""
    rounded = finite(score, _six_digits)
    if rounded is None or threshold is None or (rounded > threshold) == (score > threshold):
        return rounded
    return score


def rows(record: ImageRecord, components: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    r"""Yield a row of `columns` for each face of an image and for the whole, or one without either.

    ``components`` are the names of the run's combined scores.

    All text is UTF-8: a name that is not has its odd bytes written as ``\\xNN``, and is exact in
    ``path_bytes``, which is None for any other. An explanation is JSON in a text.
    """
    image = image_row(record)
    exact = {"path_bytes": None if is_utf8(record.source) else os.fsencode(record.source)}
    for name in ("path", "detail"):
        image[name] = image[name] and escaped(image[name])
    for index, face in enumerate(record.faces):
        told = face_row(index, face)
        if told["explanation"] is not None:
            told["explanation"] = json.dumps(told["explanation"], separators=(",", ":"))
        yield image | told | _components(face, components) | exact
    if not record.faces:
        yield image | dict.fromkeys((*FACE_COLUMNS, *component_columns(components))) | exact


def _components(face: FaceVerdict, names: Sequence[str]) -> dict[str, Any]:
    found = {one.name: component_row(one) for one in face.components}
    nothing = dict.fromkeys(COMPONENT_NUMBERS)
    return {f"{name}_{number}": value for name in names for number, value in found.get(name, nothing).items()}


def escaped(text: str) -> str:
    r"""Write the bytes of a text that are not UTF-8 as ``\\xNN``."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def is_utf8(name: str) -> bool:
    """Tell whether a name is UTF-8, as opposed to bytes kept as surrogate escapes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
