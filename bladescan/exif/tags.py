"""The nine EXIF tags of a photograph, as numbers or as classes of the pretext tasks. Missing is missing.

It decodes no pixels, and does not decide what a photograph without a tag is good for. Two functions lead to
the same rules: `read_exif` takes an image file's bytes, `exif_from_fields` the named fields of a dump.

- *Numbers*: ISO, f-number, seconds, millimetres. APEX values are used where the plain tag is missing.
- *Classes*: codes and words by the tables of `classes`. The standard's metering "pattern" is
  ``multi-segment``; ``evaluative`` and the exposure modes by name (``program``, ``aperture-priority``,
  ``shutter-priority``, ``easy-shooting``) are Canon's own words and come from its maker note, which takes
  precedence over the standard tag. Exposure programs without a class (not defined, creative, action, bulb)
  are missing.
- *Missing*: zero denominators, zeros, negative, infinite and absurd values, codes that the standard does not
  define, makers that are only a placeholder.

References:
    CIPA DC-008 / JEITA CP-3451 (Exif 2.32), section 4.6; Zou et al., arXiv:2507.22824, supplement.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bladescan.exif import classes
from bladescan.exif.classes import class_of
from bladescan.exif.field_names import canonical_names
from bladescan.exif.raw_fields import fields_in
from bladescan.exif.values import as_number, as_seconds, as_text, as_words, first_of, letters
from bladescan.tasks.pretext_tasks import TASKS, WITHOUT_EXIF

EXIF_TASKS: tuple[str, ...] = tuple(name for name in TASKS if name not in WITHOUT_EXIF)
"""The tasks whose truth is an EXIF tag, in the order of `bladescan.tasks.pretext_tasks.TASKS`."""

Fields = Mapping[str, object]
"""Values by canonical name: those of `raw_fields.FIELDS`, and what `canonical_names` makes of others."""

LIMITS: dict[str, tuple[float, float]] = {
    "iso_speed": (1, 1e7),
    "aperture": (0.5, 500),
    "exposure_time": (1e-6, 86_400),
    "focal_length": (0.5, 20_000),
}
"""Smallest and largest value that is believed, in ISO, f-number, seconds, millimetres."""

SATURATED_ISO = 65535
"""Value of a 16-bit tag when the ISO does not fit: the 32-bit tags then hold it."""


@dataclass(frozen=True, slots=True)
class Exif:
    """What a photograph's EXIF says of how it was taken.

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
    groups that are neither EXIF's nor Canon's are ignored. ``ApertureValue`` and ``ShutterSpeedValue``
    are APEX if they are rationals or say ``EV``, f-number and seconds otherwise, as exiftool prints them.
    """
    named: dict[str, object] = {}
    for name, value in fields.items():
        for key in canonical_names(str(name)[:200], value):
            named.setdefault(key, value)
    return _interpreted(named)


def _interpreted(fields: Fields) -> Exif:
    values: dict[str, float | str | None] = {
        "iso_speed": _iso(fields),
        "aperture": _aperture(fields),
        "exposure_time": _exposure_time(fields),
        "focal_length": _within("focal_length", as_number(fields.get("focallength"))),
        "make": _make(fields),
        "metering_mode": _metering_mode(fields),
        "exposure_mode": _exposure_mode(fields),
        "white_balance_mode": _white_balance_mode(fields),
        "exposure_program": class_of(fields.get("exposureprogram"), classes.PROGRAM, classes.PROGRAM_WORDS),
    }
    tags = {name: value for name, value in values.items() if value is not None}
    return Exif(tags, _camera(fields), as_text(fields.get("software")))


def _iso(fields: Fields) -> float | None:
    names = ("iso", "recommendedexposureindex", "standardoutputsensitivity", "isospeed")
    found = (_within("iso_speed", as_number(first_of(fields.get(name)))) for name in names)
    return next((iso for iso in found if iso is not None and iso != SATURATED_ISO), None)


def _aperture(fields: Fields) -> float | None:
    apex = _apex(fields.get("apexaperture"))
    candidates = (
        as_number(fields.get("fnumber")),
        as_number(fields.get("apertureagain")),
        apex and _engraved(_power_of_two(apex / 2)),  # N = 2^(Av / 2)
    )
    return _first_within("aperture", candidates)


def _exposure_time(fields: Fields) -> float | None:
    apex = _apex(fields.get("apexshutter"))
    candidates = (
        as_seconds(fields.get("exposuretime")),
        as_seconds(fields.get("exposureagain")),
        apex and _power_of_two(-apex),  # t = 2^-Tv
    )
    return _first_within("exposure_time", candidates)


def _apex(value: object) -> float | None:
    """Read an APEX value; None for 0, which software writes for an unknown one."""
    return as_number(value, signed=True) or None


def _engraved(f_number: float | None) -> float | None:
    """Round to two digits, as on lenses, so that APEX 3 ranks with f/2.8 and not as f/2.828."""
    return f_number and float(f"{f_number:.2g}")


def _power_of_two(exponent: float) -> float | None:
    return 2.0**exponent if abs(exponent) < 64 else None


def _first_within(tag: str, candidates: Sequence[float | None]) -> float | None:
    return next((value for value in candidates if _within(tag, value) is not None), None)


def _within(tag: str, value: float | None) -> float | None:
    low, high = LIMITS[tag]
    return value if value is not None and low <= value <= high else None


def _metering_mode(fields: Fields) -> str | None:
    canon = class_of(fields.get("canonmeteringmode"), classes.CANON_METERING, classes.METERING_WORDS)
    return canon or class_of(fields.get("meteringmode"), classes.METERING, classes.METERING_WORDS)


def _exposure_mode(fields: Fields) -> str | None:
    standard = class_of(fields.get("exposuremode"), classes.EXPOSURE, classes.EXPOSURE_WORDS)
    if standard == "auto-bracketing":
        return standard  # Canon's exposure mode does not know of bracketing
    canon = class_of(fields.get("canonexposuremode"), classes.CANON_EXPOSURE, classes.EXPOSURE_WORDS)
    return canon or standard


def _white_balance_mode(fields: Fields) -> str | None:
    return class_of(fields.get("whitebalance"), classes.WHITE_BALANCE, classes.WHITE_BALANCE_WORDS)


def _make(fields: Fields) -> str | None:
    make = as_words(fields.get("make"))
    if letters(make) in classes.PLACEHOLDERS:
        return None
    if make.startswith("ricoh") and "pentax" in as_words(fields.get("model")):
        return "Pentax"
    known = [classes.MAKERS[word] for word in re.findall(r"[a-z]+", make) if word in classes.MAKERS]
    return "others" if not known or "others" in known else known[0]


def _camera(fields: Fields) -> str:
    make, model = as_words(fields.get("make")), as_words(fields.get("model"))
    if letters(model) in classes.PLACEHOLDERS:
        model = ""
    maker = _make(fields)
    brand = make.split()[0] if maker == "others" else (maker or "").lower()
    return model if model.split()[:1] == [brand] else f"{brand} {model}".strip()
