"""Frozen records that pass between rooms. They have no behaviour and need no heavy import."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from bladescan.base.provenance_record import Provenance

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CROP_SIZE = 224
"""Side in pixels of the square face crop that every backend takes."""

ROTATIONS = (0, 90, 180, 270)
"""Degrees clockwise by which a face may be turned in its picture: those in which faces are searched."""


class Verdict(str, Enum):
    """The verdict on an image or on one face."""

    NOT_FLAGGED = "not-flagged"
    UNSURE = "unsure"
    AI_GENERATED = "ai-generated"
    NO_FACE = "no-face"
    UNREADABLE = "unreadable"


class FlaggedBy(str, Enum):
    """What made an image ``ai-generated``: its faces, what the file says of itself, or both."""

    DETECTOR = "detector"
    DECLARED = "declared"
    BOTH = "detector+declared"


class Reason(str, Enum):
    """Why an image is ``unreadable``."""

    TRUNCATED = "truncated"
    CORRUPT = "corrupt"
    EMPTY = "empty"
    NOT_AN_IMAGE = "not-an-image"
    FORMAT_NOT_ALLOWED = "format-not-allowed"
    TOO_MANY_PIXELS = "too-many-pixels"
    TOO_MANY_FRAMES = "too-many-frames"
    TOO_MANY_BYTES = "too-many-bytes"
    TOO_SMALL = "too-small"
    TIMEOUT = "timeout"
    DECODER_CRASHED = "decoder-crashed"
    PERMISSION_DENIED = "permission-denied"
    NOT_FOUND = "not-found"
    VANISHED = "vanished"
    NOT_A_FILE = "not-a-file"
    READ_ERROR = "read-error"


@dataclass(frozen=True, slots=True)
class FaceBox:
    """A face in an oriented image.

    Attributes:
        x0, y0, x1, y1: corners in pixels of the oriented frame; may reach past its border.
        score: detection score in [0, 1].
        landmarks: five (x, y) points in pixels (left eye, right eye, nose tip, left and right mouth
            corner, as seen once the face is upright), or None if the face finder gives none.
        rotation: one of `ROTATIONS`: 0 upright, 180 on its head, 90 or 270 lying.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    score: float
    landmarks: tuple[tuple[float, float], ...] | None = None
    rotation: int = 0

    @property
    def side(self) -> float:
        """The longer side in pixels."""
        return max(self.x1 - self.x0, self.y1 - self.y0)


@dataclass(frozen=True, slots=True)
class FaceCrop:
    """A face cut out for the encoder.

    Attributes:
        frame: index of the frame it was seen in; 0 for a still image.
        box: where it was, None for an image that *is* a face crop (``--faces none``).
        pixels: uint8 ``[224, 224, 3]`` RGB.
    """

    frame: int
    box: FaceBox | None
    pixels: NDArray[np.uint8]


class Scores(NamedTuple):
    """The scores of ``n`` crops. Those of a head that the detector lacks are None.

    Attributes:
        log_likelihood: float64 ``[n]``; higher is more photographic.
        p_ai_generated: float64 ``[n]`` in [0, 1].
        embedding: float32 ``[n, d]``.
        components: float64 ``[n, k]``, photographic scores of what is combined, if anything is.
        combined: float64 ``[n]``, their combination; higher is more photographic.
    """

    log_likelihood: NDArray[np.float64] | None
    p_ai_generated: NDArray[np.float64] | None
    embedding: NDArray[np.float32]
    components: NDArray[np.float64] | None = None
    combined: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class ComponentVerdict:
    """What one of several combined scores says of a face.

    Attributes:
        name: of its columns in the output.
        score: higher is more AI-generated (`bladescan.detectors.suspicion`).
        p_value: conformal p-value of this score alone.
    """

    name: str
    score: float
    p_value: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the score of one flagged face rests on (`bladescan.scanning.explaining`). Unit: that of the score.

    Attributes:
        grid: how far the score falls where a cell of the upright crop is covered, rows from the top; what
            raises it is negative.
        region: corners (x0, y0, x1, y1) in pixels of the oriented frame of the window that counts most.
        where: that window in words, for example ``middle left (left eye)``.
        fall: how far the score falls when it is covered.
        nearest_degrees: angles of the embedding to those of the nearest photographs of the calibration, the
            nearest first; empty where the detector keeps no sketches of them.
        n_as_far: how many of these photographs are as far from the nearest of the others, or farther; None
            without sketches.
        stability: share of the views of the face whose verdict is the same; None where there are no views.
        flips: views whose verdict is another, of `bladescan.faces.views.VIEWS`.
        n_photographs: photographs held out for the calibration.
        n_as_suspicious: how many of them score as high or higher; rounded up between stored quantiles.
        n_as_unlikely: how many of them are as unlikely or less likely by the one-class head, whichever head
            decides; None without that head.
    """

    grid: tuple[tuple[float, ...], ...]
    region: tuple[float, float, float, float]
    where: str
    fall: float
    n_photographs: int
    n_as_suspicious: int
    n_as_unlikely: int | None = None
    nearest_degrees: tuple[float, ...] = ()
    n_as_far: int | None = None
    stability: float | None = None
    flips: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FaceVerdict:
    """One face, or the picture as a whole, and what was decided.

    Attributes:
        frame: index of the frame; of a whole picture the first that was seen.
        box: None for an image that is itself a crop.
        log_likelihood: one-class score, None without that head.
        p_ai_generated: binary score, None without that head.
        p_value: conformal p-value of the head that decides: the share of held-out photographs that score as
            low or lower, counting this face (`bladescan.detectors.calibration.p_values`). It decides.
        verdict: ai-generated, not-flagged, or unsure (`bladescan.scanning.stability`).
        head: the head that decides.
        score: of that head; higher is more AI-generated (`bladescan.detectors.suspicion`).
        threshold: in the same unit: a face is flagged exactly if its score is above it. None where no score
            would be flagged.
        p_smooth: the p-value without its steps, never below it (`bladescan.detectors.smoothing`).
        stability: share of the views of the face that agree on which side of the threshold it is; None where
            none was scored.
        views: their p-values, in the order of `bladescan.faces.views.VIEWS`.
        explanation: what the score rests on; None where none was asked for, or the face is not flagged.
        components: what each of several combined scores says alone.
        subject: ``face``, or ``image`` for the picture as a whole, which has no box.
        tiles: crops whose scores were joined, of a whole picture.
        coverage: pixels of them over those of the picture (`bladescan.faces.tiles`), of a whole picture.
        decision, decided_at: what a reviewer decided of this very face in this very file, and when
            (ISO 8601); None if nobody did. They change no verdict.
    """

    frame: int
    box: FaceBox | None
    log_likelihood: float | None
    p_ai_generated: float | None
    p_value: float
    verdict: Verdict
    head: str
    score: float
    threshold: float | None
    p_smooth: float
    stability: float | None = None
    views: tuple[float, ...] = ()
    explanation: Explanation | None = None
    components: tuple[ComponentVerdict, ...] = ()
    subject: str = "face"
    tiles: int | None = None
    coverage: float | None = None
    decision: str | None = None
    decided_at: str | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What one image cost, in whichever process. Summed over processes, seconds exceed the elapsed time.

    Attributes:
        n_bytes: read from the disk or the bucket.
        fetch_s: reading.
        decode_s: decoding, finding faces and cutting them out.
        score_s: its share of the model runs, by faces.
    """

    n_bytes: int = 0
    fetch_s: float = 0.0
    decode_s: float = 0.0
    score_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One source and its verdict.

    Attributes:
        source: the name as listed; undecodable bytes are surrogate escapes.
        verdict: ai-generated if any face is, or if the file says so and that counts; else unsure if any is.
        reason, detail: why it is unreadable, else None.
        format: container format as decoded (``"JPEG"``), None if unknown.
        width, height: oriented size in pixels, None if unknown.
        n_frames: frames in the file, None if unknown.
        faces: in order of frame, then of detection score, highest first; then the whole picture, if it was
            judged.
        flagged_by: why it is ai-generated, else None.
        provenance: what the file says of itself, also of an unreadable one; None if it was not read.
        cost: what this run spent on it, None if nothing; it is no part of the verdict.
        sha256: of the file in hexadecimal digits, "" where it was not computed: with a ledger it is.
        is_other: a file below a folder that is no picture by name nor content: counted, but not an image.
    """

    source: str
    verdict: Verdict
    reason: Reason | None = None
    detail: str | None = None
    format: str | None = None
    width: int | None = None
    height: int | None = None
    n_frames: int | None = None
    faces: tuple[FaceVerdict, ...] = ()
    flagged_by: FlaggedBy | None = None
    provenance: Provenance | None = None
    cost: Cost | None = field(default=None, compare=False)
    sha256: str = ""
    is_other: bool = False
