"""IPTC's vocabulary of digital source types, and what each says of a picture. C2PA uses the same words.

References:
    https://cv.iptc.org/newscodes/digitalsourcetype/ ; C2PA specification 2.1, section 18.6 (its own terms).
"""

from __future__ import annotations

import re

from bladescan.base.provenance_record import Says

SOURCE_TYPES: dict[str, Says] = {
    # Made by a trained model, wholly or in part.
    "trainedAlgorithmicMedia": "ai-generated",
    "compositeWithTrainedAlgorithmicMedia": "ai-edited",
    "compositeSynthetic": "ai-edited",
    # From the light of a scene, and at most retouched.
    "digitalCapture": "captured",
    "computationalCapture": "captured",
    "negativeFilm": "captured",
    "positiveFilm": "captured",
    "print": "captured",
    "minorHumanEdits": "captured",
    # Neither: drawn, computed without training data, recorded from a screen, put together, or not said.
    "algorithmicMedia": "other",
    "algorithmicallyEnhanced": "other",
    "compositeCapture": "other",
    "composite": "other",
    "compositeWithHumanEdits": "other",
    "dataDrivenMedia": "other",
    "digitalArt": "other",
    "digitalCreation": "other",
    "empty": "other",
    "humanEdits": "other",
    "multiFrameComputationalCapture": "captured",
    "screenCapture": "other",
    "softwareImage": "other",
    "trainedAlgorithmicData": "other",
    "virtualRecording": "other",
}
"""By the last part of the term's address. ``trainedAlgorithmicData`` is no picture."""

_TERM = re.compile(
    r"(?:https?://cv\.iptc\.org/newscodes/digitalsource(?:file)?type/|https?://c2pa\.org/digitalsourcetype/"
    r"|digsrctype:)?([A-Za-z]{4,60})/?"
)
_LETTER_CASE = {term.lower(): term for term in SOURCE_TYPES}


def source_term(value: str) -> str | None:
    """Name the term that a value holds, as an address, an abbreviation or alone; None if it is not known."""
    found = _TERM.fullmatch(value.strip())
    return _LETTER_CASE.get(found[1].lower()) if found else None
