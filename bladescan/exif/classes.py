"""The classes of the categorical tags: which code and which word means which. It reads no field.

``docs/exif.md`` lists them for users.

References:
    CIPA DC-008 / JEITA CP-3451 (Exif 2.32), section 4.6; exiftool's tag tables for Canon.
"""

from __future__ import annotations

from collections.abc import Mapping

from bladescan.exif.values import as_code, as_text, letters

METERING = {
    1: "average",
    2: "centre-weighted",
    3: "spot",
    4: "multi-spot",
    5: "multi-segment",
    6: "partial",
    255: "others",
}
METERING_WORDS = {
    "centerweighted": "centre-weighted",
    "centreweighted": "centre-weighted",
    "average": "average",
    "spot": "spot",
    "multispot": "multi-spot",
    "multisegment": "multi-segment",
    "multizone": "multi-segment",
    "pattern": "multi-segment",
    "matrix": "multi-segment",
    "evaluative": "evaluative",
    "partial": "partial",
    "other": "others",
}
CANON_METERING = {1: "spot", 2: "average", 3: "evaluative", 4: "partial", 5: "centre-weighted"}
EXPOSURE = {0: "auto", 1: "manual", 2: "auto-bracketing"}
EXPOSURE_WORDS = {
    "autobracket": "auto-bracketing",
    "auto": "auto",
    "manual": "manual",
    "bulb": "manual",
    "program": "program",
    "aperturepriority": "aperture-priority",
    "shutterpriority": "shutter-priority",
    "shutterspeedpriority": "shutter-priority",
    "easy": "easy-shooting",
}
CANON_EXPOSURE = {
    0: "easy-shooting",
    1: "program",
    2: "shutter-priority",
    3: "aperture-priority",
    4: "manual",
    7: "manual",  # bulb
}
WHITE_BALANCE = {0: "auto", 1: "manual"}
WHITE_BALANCE_WORDS = {
    "auto": "auto",
    "awb": "auto",
    # The standard has two values only: a preset chosen by hand is manual.
    **dict.fromkeys(
        ("manual", "custom", "daylight", "sunny", "cloudy", "shade", "tungsten", "incandescent"), "manual"
    ),
    **dict.fromkeys(("fluorescent", "flash", "kelvin", "colortemperature", "preset"), "manual"),
}
PROGRAM = {
    1: "manual control",
    2: "normal program",
    3: "aperture priority",
    4: "shutter priority",
    7: "portrait mode",
    8: "landscape mode",
}
PROGRAM_WORDS = {
    "manual": "manual control",
    "normal": "normal program",
    "program": "normal program",
    "aperturepriority": "aperture priority",
    "shutterpriority": "shutter priority",
    "shutterspeedpriority": "shutter priority",
    "portrait": "portrait mode",
    "landscape": "landscape mode",
}
MAKERS = {
    "nikon": "Nikon",
    "apple": "Apple",
    "fuji": "FUJIFILM",
    "fujifilm": "FUJIFILM",
    "canon": "Canon",
    "samsung": "Samsung",
    "sony": "Sony",
    "panasonic": "Panasonic",
    "nokia": "Nokia",
    "hmd": "Nokia",
    "pentax": "Pentax",
    "asahi": "Pentax",
    "leica": "others",
    "ericsson": "others",
}
PLACEHOLDERS = frozenset(
    ("", "makername", "make", "modelname", "model", "unknown", "none", "null", "na", "undefined", "camera")
)


def class_of(value: object, codes: Mapping[int, str], words: Mapping[str, str]) -> str | None:
    """Find the class of a value.

    Args:
        value: a code, or a text that begins with one of the words; None if the field is missing.
        codes: classes by code.
        words: classes by word, written as `values.letters` gives them.

    Returns:
        None for a code or a text that stands for no class.
    """
    number = as_code(value)
    if number is not None:
        return codes.get(number)
    said = letters(as_text(value))
    return next((name for word, name in words.items() if said.startswith(word)), None)
