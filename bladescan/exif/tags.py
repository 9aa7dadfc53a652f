"""The nine EXIF tags of a photograph, as numbers or as classes of the pretext tasks. Missing is missing.

It reads; it neither decodes pixels nor decides what a photograph without a tag is good for. Two doors lead
to the same rules: `read_exif` takes an image file's bytes, `exif_from_fields` the named fields of a dump.

- *Numbers*: ISO, f-number, seconds, millimetres. APEX values stand in where the plain tag is missing.
- *Classes*: ``docs/exif.md`` lists which code and which word means which class. The standard's metering
  "pattern" is ``multi-segment``; ``evaluative`` and the exposure modes by name (``program``,
  ``aperture-priority``, ``shutter-priority``, ``easy-shooting``) are Canon's own words and come from its
  maker note, which goes before the standard tag. Exposure programs without a class (not defined, creative,
  action, bulb) are missing.
- *Missing*: zero denominators, zeros, negative, infinite and absurd values, codes that the standard
  does not know, makers that are only a placeholder.

`bladescan.exif.raw_fields` gets the raw fields out of a file.

References:
    CIPA DC-008 / JEITA CP-3451 (Exif 2.32), section 4.6; Zou et al., arXiv:2507.22824, supplement.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

from bladescan.exif.raw_fields import fields_in
from bladescan.tasks.pretext_tasks import MANIPULATION_TASKS, TASKS

EXIF_TASKS: tuple[str, ...] = tuple(name for name in TASKS if name not in MANIPULATION_TASKS)
"""The nine tasks whose truth is an EXIF tag, in the order of `bladescan.tasks.pretext_tasks.TASKS`."""

Fields = Mapping[str, object]
"""Values by canonical name: those of `raw_fields.FIELDS`, and what `_canonical` makes of others."""

LIMITS: dict[str, tuple[float, float]] = {
    "iso_speed": (1, 1e7),
    "aperture": (0.5, 500),
    "exposure_time": (1e-6, 86_400),
    "focal_length": (0.5, 20_000),
}
"""Smallest and largest value that is believed, in ISO, f-number, seconds, millimetres."""

SATURATED_ISO = 65535
"""What a 16-bit tag says when the ISO does not fit: the 32-bit tags then hold it."""


@dataclass(frozen=True, slots=True)
class Exif:
    """What a photograph says of how it was taken.

    Attributes:
        tags: by task name: a number for an ordinal task (ISO, f-number, seconds, millimetres), a name from
            the task's classes for a categorical one. An absent key is missing.
        camera: make and model in lower case, the make once (``"nikon d70"``); ``""`` if unknown.
        software: as written, ``""`` if not.
    """

    tags: Mapping[str, float | str]
    camera: str
    software: str


def read_exif(data: bytes) -> Exif:
    """Read the tags of an image file: JPEG, TIFF, PNG, WebP, AVIF, HEIF (with pillow-heif), or bare EXIF.

    Args:
        data: the file's bytes, whole or cut short.

    Returns:
        What can be read. Broken EXIF raises nothing: what cannot be read is missing.
    """
    return _interpreted(fields_in(data))


def exif_from_fields(fields: Mapping[str, object]) -> Exif:
    """Read the tags from named fields, as exiftool, Flickr and other tools spell them.

    Values are words (``"1/60 sec"``, ``"f/2.8"``, ``"50.0 mm"``, ``"Center-weighted average"``) or numbers
    (``2.8``, ``(28, 10)``, ``5``). Names may carry a group (``"EXIF:FNumber"``, ``"Canon:MeteringMode"``);
    groups that are neither EXIF's nor Canon's are passed over. ``ApertureValue`` and ``ShutterSpeedValue``
    are APEX if they are rationals or say ``EV``, f-number and seconds otherwise, as exiftool prints them.
    """
    named: dict[str, object] = {}
    for name, value in fields.items():
        for key in _canonical(str(name)[:200], value):
            named.setdefault(key, value)
    return _interpreted(named)


# ------------------------------------------------------------------------------------------- names of fields

_ALIASES = {
    "aperture": "fnumber",
    "cameramake": "make",
    "cameramodel": "model",
    "cameramodelname": "model",
    "exposure": "exposuretime",
    "fstop": "fnumber",
    "isoequiv": "iso",
    "isospeedrating": "iso",
    "isospeedratings": "iso",
    "isovalue": "iso",
    "manufacturer": "make",
    "photographicsensitivity": "iso",
    "shutterspeed": "exposuretime",
}
_EXIF_GROUPS = frozenset(
    (
        "",
        "composite",
        "exif",
        "exififd",
        "ifd0",
        "image",
        "main",
        "photo",
        "subifd",
        "tiff",
        "xmpexif",
        "xmptiff",
    )
)
_MAKER_GROUPS = frozenset(("canon", "makernote", "makernotes"))
_MAKER_MODES = ("meteringmode", "exposuremode")
_APEX_TEXT = re.compile(r"(?!1/)\d+/\d+|.*\bEV\b.*", re.DOTALL)


def _canonical(name: str, value: object) -> tuple[str, ...]:
    """The canonical names that a field of a dump serves, none if it is of no use."""
    *groups, last = re.split(r"[:.]|(?<=EXIF) |(?<=Image) ", name.strip()) or [""]
    group, key = _letters("".join(groups[-1:])), _letters(last)
    if group in _MAKER_GROUPS:
        # A number without the maker's name cannot be read: makers count differently.
        known = key in _MAKER_MODES and (group == "canon" or _code(value) is None)
        return (f"canon{key}",) if known else (key,) if key == "canonexposuremode" else ()
    if group not in _EXIF_GROUPS:
        return ()
    if key == "aperturevalue":
        return ("apexaperture" if _is_apex(value) else "apertureagain",)
    if key == "shutterspeedvalue":
        return ("apexshutter" if _is_apex(value) else "exposureagain",)
    return (_ALIASES.get(key, key),)


def _is_apex(value: object) -> bool:
    if isinstance(value, (str, bytes)):
        return _APEX_TEXT.fullmatch(_text(value)) is not None
    return not isinstance(value, (int, float))


# ------------------------------------------------------------------------------------------- fields to tags

_METERING = {
    1: "average",
    2: "centre-weighted",
    3: "spot",
    4: "multi-spot",
    5: "multi-segment",
    6: "partial",
    255: "others",
}
_METERING_WORDS = {
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
_CANON_METERING_CODES = {1: "spot", 2: "average", 3: "evaluative", 4: "partial", 5: "centre-weighted"}
_EXPOSURE = {0: "auto", 1: "manual", 2: "auto-bracketing"}
_EXPOSURE_WORDS = {
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
_CANON_EXPOSURE_CODES = {
    0: "easy-shooting",
    1: "program",
    2: "shutter-priority",
    3: "aperture-priority",
    4: "manual",
    7: "manual",  # bulb
}
_WHITE_BALANCE = {0: "auto", 1: "manual"}
_WHITE_BALANCE_WORDS = {
    "auto": "auto",
    "awb": "auto",
    # The standard has two values only: a preset chosen by hand is manual.
    **dict.fromkeys(
        ("manual", "custom", "daylight", "sunny", "cloudy", "shade", "tungsten", "incandescent"), "manual"
    ),
    **dict.fromkeys(("fluorescent", "flash", "kelvin", "colortemperature", "preset"), "manual"),
}
_PROGRAM = {
    1: "manual control",
    2: "normal program",
    3: "aperture priority",
    4: "shutter priority",
    7: "portrait mode",
    8: "landscape mode",
}
_PROGRAM_WORDS = {
    "manual": "manual control",
    "normal": "normal program",
    "program": "normal program",
    "aperturepriority": "aperture priority",
    "shutterpriority": "shutter priority",
    "shutterspeedpriority": "shutter priority",
    "portrait": "portrait mode",
    "landscape": "landscape mode",
}
_MAKERS = {
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
_PLACEHOLDERS = frozenset(
    ("", "makername", "make", "modelname", "model", "unknown", "none", "null", "na", "undefined", "camera")
)
_NUMBER = r"\d+(?:\.\d+)?(?:e[-+]?\d{1,3})?|\.\d+"
_QUANTITY = re.compile(
    rf"(?:f\s*/?|iso|1:)?\s*(-?(?:{_NUMBER}))(?:\s*/\s*({_NUMBER}))?(?![.\d])(?!\s*-\s*\d)(?!\s+\d+/)"
)
_IN_BRACKETS = re.compile(r"\((?:f/)?(\d+(?:\.\d+)?(?:/\d+)?)(?: ?s(?:ec)?\.?)?\)")


def _interpreted(fields: Fields) -> Exif:
    values: dict[str, float | str | None] = {
        "iso_speed": _iso(fields),
        "aperture": _aperture(fields),
        "exposure_time": _exposure_time(fields),
        "focal_length": _within("focal_length", _number(fields.get("focallength"))),
        "make": _make(fields),
        "metering_mode": _metering_mode(fields),
        "exposure_mode": _exposure_mode(fields),
        "white_balance_mode": _class(fields.get("whitebalance"), _WHITE_BALANCE, _WHITE_BALANCE_WORDS),
        "exposure_program": _class(fields.get("exposureprogram"), _PROGRAM, _PROGRAM_WORDS),
    }
    tags = {name: value for name, value in values.items() if value is not None}
    return Exif(tags, _camera(fields), _text(fields.get("software")))


def _iso(fields: Fields) -> float | None:
    names = ("iso", "recommendedexposureindex", "standardoutputsensitivity", "isospeed")
    found = (_within("iso_speed", _number(_first(fields.get(name)))) for name in names)
    return next((iso for iso in found if iso is not None and iso != SATURATED_ISO), None)


def _aperture(fields: Fields) -> float | None:
    apex = _apex(fields.get("apexaperture"))
    candidates = (
        _number(fields.get("fnumber")),
        _number(fields.get("apertureagain")),
        apex and _engraved(_power_of_two(apex / 2)),  # N = 2^(Av / 2)
    )
    return _first_within("aperture", candidates)


def _exposure_time(fields: Fields) -> float | None:
    apex = _apex(fields.get("apexshutter"))
    candidates = (
        _seconds(fields.get("exposuretime")),
        _seconds(fields.get("exposureagain")),
        apex and _power_of_two(-apex),  # t = 2^-Tv
    )
    return _first_within("exposure_time", candidates)


def _apex(value: object) -> float | None:
    """An APEX value; 0 is what writers put who do not know."""
    return _number(value, signed=True) or None


def _engraved(f_number: float | None) -> float | None:
    """Two digits, as on lenses: so APEX 3 ranks as f/2.8, like the others, and not as f/2.828."""
    return f_number and float(f"{f_number:.2g}")


def _power_of_two(exponent: float) -> float | None:
    return 2.0**exponent if abs(exponent) < 64 else None


def _first_within(tag: str, candidates: Sequence[float | None]) -> float | None:
    return next((value for value in candidates if _within(tag, value) is not None), None)


def _within(tag: str, value: float | None) -> float | None:
    low, high = LIMITS[tag]
    return value if value is not None and low <= value <= high else None


def _metering_mode(fields: Fields) -> str | None:
    canon = _class(fields.get("canonmeteringmode"), _CANON_METERING_CODES, _METERING_WORDS)
    return canon or _class(fields.get("meteringmode"), _METERING, _METERING_WORDS)


def _exposure_mode(fields: Fields) -> str | None:
    standard = _class(fields.get("exposuremode"), _EXPOSURE, _EXPOSURE_WORDS)
    if standard == "auto-bracketing":
        return standard  # Canon's exposure mode does not know of bracketing
    return _class(fields.get("canonexposuremode"), _CANON_EXPOSURE_CODES, _EXPOSURE_WORDS) or standard


def _class(value: object, codes: Mapping[int, str], words: Mapping[str, str]) -> str | None:
    """The class of a code, or of the words that begin a text."""
    code = _code(value)
    if code is not None:
        return codes.get(code)
    text = _letters(_text(value))
    return next((name for start, name in words.items() if text.startswith(start)), None)


def _make(fields: Fields) -> str | None:
    make = _words(fields.get("make"))
    if _letters(make) in _PLACEHOLDERS:
        return None
    if make.startswith("ricoh") and "pentax" in _words(fields.get("model")):
        return "Pentax"
    known = [_MAKERS[word] for word in re.findall(r"[a-z]+", make) if word in _MAKERS]
    return "others" if not known or "others" in known else known[0]


def _camera(fields: Fields) -> str:
    make, model = _words(fields.get("make")), _words(fields.get("model"))
    if _letters(model) in _PLACEHOLDERS:
        model = ""
    maker = _make(fields)
    brand = make.split()[0] if maker == "others" else (maker or "").lower()
    return model if model.split()[:1] == [brand] else f"{brand} {model}".strip()


# ------------------------------------------------------------------------------------------ texts and numbers


def _text(value: object) -> str:
    """Printable text up to the first NUL, spaces joined; ``""`` for what is no text."""
    if isinstance(value, bytes):
        value = value[:400].decode("utf-8", "replace")
    if not isinstance(value, str):
        return ""
    shown = "".join(c if c.isprintable() else " " for c in value[:200].split("\0")[0])
    return " ".join(shown.replace("\ufffd", " ").split())


def _words(value: object) -> str:
    """Lower case, letters, digits, ``-`` and ``+``; other signs part words."""
    return " ".join(re.sub(r"[^\w+-]", " ", _text(value).lower()).split())


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _first(value: object) -> object:
    return value[0] if isinstance(value, (tuple, list)) and value else value


def _code(value: object) -> int | None:
    value = _first(value)
    if isinstance(value, (str, bytes)):
        value = int(text) if (text := _text(value)).isascii() and text.isdigit() else None
    number = _number(value)
    return int(number) if number is not None and number.is_integer() else None


def _number(value: object, *, signed: bool = False) -> float | None:
    """A finite number from a number, a ratio ``(a, b)``, a sequence (its first) or a text; else None.

    Args:
        value: what a reader or a dump gave.
        signed: whether negative numbers count.
    """
    try:
        number = _converted(value)
    except (ArithmeticError, TypeError, ValueError):
        return None
    return number if math.isfinite(number) and (signed or number >= 0) else None


def _converted(value: object) -> float:
    if isinstance(value, (tuple, list)):
        value = _first(value) if len(value) != 2 or isinstance(value[0], (tuple, list)) else value
    if isinstance(value, (tuple, list)) and len(value) == 2:
        return float(value[0]) / float(value[1])
    if isinstance(value, (str, bytes)):
        return _parsed(_text(value))
    if isinstance(value, Real) or hasattr(value, "__float__"):
        return float(value)
    raise TypeError(type(value).__name__)


def _parsed(text: str) -> float:
    """The number a text begins with, without what cameras and tools write before and behind it."""
    plain = text.lower().replace("\u0192", "f").replace("\u2013", "-")
    plain = re.sub(r"(?<=[1-9]),(?=\d{3}\b)", "", plain)
    plain = re.sub(r",(?=\d)", ".", plain)
    found = _QUANTITY.match(plain)
    if found is None:
        raise ValueError(text)
    return float(found[1]) / float(found[2] or 1)


def _seconds(value: object) -> float | None:
    """Seconds; a fraction in brackets is more exact than the rounded decimal before it."""
    text = _text(value)
    bracketed = _IN_BRACKETS.search(text)
    if bracketed and "/" in bracketed[1] and "/" not in text[: bracketed.start()]:
        return _number(bracketed[1])
    return _number(value)
