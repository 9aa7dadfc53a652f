"""The names that tools give to EXIF fields, and the one name by which the tags are found here."""

from __future__ import annotations

import re

from bladescan.exif.values import as_code, as_text, letters

ALIASES = {
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
    ("", "composite", "exif", "exififd", "ifd0", "image", "main", "photo", "subifd", "tiff")
    + ("xmpexif", "xmptiff")
)
_MAKER_GROUPS = frozenset(("canon", "makernote", "makernotes"))
_MAKER_MODES = ("meteringmode", "exposuremode")
_APEX_TEXT = re.compile(r"(?!1/)\d+/\d+|.*\bEV\b.*", re.DOTALL)


def canonical_names(name: str, value: object) -> tuple[str, ...]:
    """Return the canonical name of a field of a dump; an empty tuple if it is of no use.

    Args:
        name: as the tool spells it, perhaps with a group (``"EXIF:FNumber"``).
        value: of the field, which decides whether an aperture or shutter speed is in APEX units.
    """
    *groups, last = re.split(r"[:.]|(?<=EXIF) |(?<=Image) ", name.strip()) or [""]
    group, key = letters("".join(groups[-1:])), letters(last)
    if group in _MAKER_GROUPS:
        # A number without the maker's name cannot be read: makers count differently.
        known = key in _MAKER_MODES and (group == "canon" or as_code(value) is None)
        return (f"canon{key}",) if known else (key,) if key == "canonexposuremode" else ()
    if group not in _EXIF_GROUPS:
        return ()
    if key == "aperturevalue":
        return ("apexaperture" if _is_apex(value) else "apertureagain",)
    if key == "shutterspeedvalue":
        return ("apexshutter" if _is_apex(value) else "exposureagain",)
    return (ALIASES.get(key, key),)


def _is_apex(value: object) -> bool:
    if isinstance(value, (str, bytes)):
        return _APEX_TEXT.fullmatch(as_text(value)) is not None
    return not isinstance(value, (int, float))
