"""The nine EXIF tags of a photograph, as numbers or as the classes of `bladescan.tasks`. Missing is missing.

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

The bytes may be a stranger's: the two directories that matter are first reduced to the tags that are read
here (`_pruned`), so that time and memory are bounded and a broken neighbour spoils nothing; then piexif
decodes them, and Pillow what piexif has not. XMP and the thumbnail's directory are not read.

References:
    CIPA DC-008 / JEITA CP-3451 (Exif 2.32), section 4.6; Zou et al., arXiv:2507.22824, supplement.
"""

from __future__ import annotations

import io
import math
import re
import struct
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

import piexif
from PIL import Image

from bladescan.tasks import MANIPULATION_TASKS, TASKS

EXIF_TASKS: tuple[str, ...] = tuple(name for name in TASKS if name not in MANIPULATION_TASKS)
"""The nine tasks whose truth is an EXIF tag, in the order of `bladescan.tasks.TASKS`."""

Fields = Mapping[str, object]
"""Values by canonical name: those of `_TAGS`, and of `_ALIASES`."""

LIMITS: dict[str, tuple[float, float]] = {
    "iso_speed": (1, 1e7),
    "aperture": (0.5, 500),
    "exposure_time": (1e-6, 86_400),
    "focal_length": (0.5, 20_000),
}
"""Smallest and largest value that is believed, in ISO, f-number, seconds, millimetres."""

SATURATED_ISO = 65535
"""What a 16-bit tag says when the ISO does not fit: the 32-bit tags then hold it."""

MAX_DECODED_PIXELS = 1 << 26
"""A PNG may carry its EXIF behind the pixels; larger ones are not decoded for it."""


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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _interpreted(_fields_of(_pruned(_exif_block(data))))
        except Exception:  # whatever a decoder makes of hostile bytes
            return _interpreted({})


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


# ------------------------------------------------------------------------------------------ bytes to fields

_EXIF_POINTER, _MAKER_NOTE = 0x8769, 0x927C
_TAGS = {
    0x010F: "make",
    0x0110: "model",
    0x0131: "software",
    0x829A: "exposuretime",
    0x829D: "fnumber",
    0x8822: "exposureprogram",
    0x8827: "iso",
    0x8831: "standardoutputsensitivity",
    0x8832: "recommendedexposureindex",
    0x8833: "isospeed",
    0x9201: "apexshutter",
    0x9202: "apexaperture",
    0x9207: "meteringmode",
    0x920A: "focallength",
    _MAKER_NOTE: "makernote",
    0xA402: "exposuremode",
    0xA403: "whitebalance",
}
_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_ASCII, _UNDEFINED, _LONG = 2, 7, 4
_TIFF_VERSION = 42
_MAX_COUNT = 4096
_MAX_SEGMENTS = 4096
_MARKER = re.compile(rb"\xff+([^\xff])(..)", re.DOTALL)


def _exif_block(data: bytes) -> bytes:
    """The TIFF structure that holds the EXIF; ``b""`` if there is none."""
    if data[:2] == b"\xff\xd8":
        return _jpeg_block(data)
    if data[:2] in (b"II", b"MM"):
        return data
    block = data if data[:4] == b"Exif" else _pillow_block(data)
    return re.sub(rb"\A(Exif\x00.){1,2}", b"", block, flags=re.DOTALL)


def _jpeg_block(data: bytes) -> bytes:
    at = 2
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.match(data, at)
        if found is None or found[1] in (b"\xda", b"\xd9"):
            return b""
        length = max(int.from_bytes(found[2], "big"), 2)
        if found[1] == b"\xe1" and data[found.end() : found.end() + 5] == b"Exif\x00":
            return data[found.end() + 6 : found.end() + length - 2]
        at = found.end() - 2 + length
    return b""


def _pillow_block(data: bytes) -> bytes:
    formats = ["PNG", "WEBP", "AVIF", *(["HEIF"] if _register_heif() else [])]
    with Image.open(io.BytesIO(data), formats=[name for name in formats if name in _openers()]) as image:
        block = image.info.get("exif") or b""
        if not block and image.format == "PNG" and image.width * image.height <= MAX_DECODED_PIXELS:
            exif = image.getexif()  # an eXIf chunk behind the pixels, or ImageMagick's profile
            block = image.info.get("exif") or exif.tobytes()
    return bytes(block)


def _openers() -> Mapping[str, object]:
    Image.init()
    return Image.OPEN


def _register_heif() -> bool:
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _pruned(tiff: bytes) -> bytes:
    """The block with new directories behind it that hold only entries that are read here and lie inside.

    Nothing moves, so offsets stay true; IFD1 and all other directories become unreachable.
    """
    order = _order(tiff)
    (first,) = struct.unpack_from(order + "L", tiff, 4)
    outer, exif = _entries(tiff, first)
    inner = _directory(_entries(tiff, exif)[0], order)
    outer.append(struct.pack(order + "HHLL", _EXIF_POINTER, _LONG, 1, len(tiff)))
    header = struct.pack(order + "2sHL", tiff[:2], _TIFF_VERSION, len(tiff) + len(inner))
    return header + tiff[8:] + inner + _directory(outer, order)


def _order(tiff: bytes) -> str:
    return "<" if tiff[:2] == b"II" else ">"


def _entries(tiff: bytes, offset: int) -> tuple[list[bytes], int]:
    """The entries to keep of the directory at ``offset``, and where its Exif IFD is (0: nowhere)."""
    order = _order(tiff)
    if not 8 <= offset <= len(tiff) - 2:
        return [], 0
    (n_entries,) = struct.unpack_from(order + "H", tiff, offset)
    kept: dict[int, bytes] = {}
    exif = 0
    for at in range(offset + 2, min(offset + 2 + 12 * n_entries, len(tiff)) - 11, 12):
        tag, kind, count, value = struct.unpack_from(order + "HHLL", tiff, at)
        if tag == _EXIF_POINTER:
            exif = value
        elif tag in _TAGS and tag not in kept and _fits(tag, kind, count, value, len(tiff)):
            # Text as raw bytes: decoders cut its last letter where it lacks its NUL.
            kind = _UNDEFINED if kind == _ASCII else kind
            kept[tag] = struct.pack(order + "HH", tag, kind) + tiff[at + 4 : at + 12]
    return list(kept.values()), exif


def _directory(entries: Sequence[bytes], order: str) -> bytes:
    return struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)


def _fits(tag: int, kind: int, count: int, value: int, size: int) -> bool:
    """Whether an entry is of a known type, not absurdly long and inside the block."""
    n_bytes = count * _TYPE_SIZES.get(kind, 0)
    if not n_bytes or (count > _MAX_COUNT and tag != _MAKER_NOTE):
        return False
    return n_bytes <= 4 or value + n_bytes <= size


def _fields_of(tiff: bytes) -> dict[str, object]:
    found: dict[str, object] = {}
    for read in (_piexif_tags, _pillow_tags):
        try:
            tags = read(tiff)
        except Exception:  # see `read_exif`; the other reader may still make sense of it
            continue
        found = {_TAGS[tag]: value for tag, value in tags.items() if tag in _TAGS} | found
    note = found.pop("makernote", None)
    if isinstance(note, bytes) and _words(found.get("make")).startswith("canon"):
        found |= _canon_fields(note, tiff)
    return found


def _piexif_tags(tiff: bytes) -> dict[int, object]:
    directories = piexif.load(b"Exif\x00\x00" + tiff)
    return {**directories["0th"], **directories["Exif"]}


def _pillow_tags(tiff: bytes) -> dict[int, object]:
    exif = Image.Exif()
    exif.load(b"Exif\x00\x00" + tiff)
    return {**dict(exif), **exif.get_ifd(_EXIF_POINTER)}


_CANON_SETTINGS, _SHORT = 1, 3
_CANON_METERING, _CANON_EXPOSURE = 17, 20  # places in the array of camera settings
_MAX_CANON_ENTRIES = 256


def _canon_fields(note: bytes, tiff: bytes) -> dict[str, object]:
    """Metering and exposure mode from Canon's maker note: a directory of which entry 1 holds the settings.

    The settings begin with their own length in bytes, which is the proof that they were found: editors move
    the note without mending its offsets (from the TIFF header), and change the byte order around it.
    """
    for order in "<>":
        for n_bytes, offset in _canon_settings(note, order):
            for start in (offset - tiff.find(note), offset - _noted_offset(note, order)):
                settings = note[max(start, 0) : max(start, 0) + n_bytes]
                values = struct.unpack(f"{order}{len(settings) // 2}H", settings)
                if values[:1] == (n_bytes,) and len(settings) == n_bytes:
                    modes = (values[_CANON_METERING], values[_CANON_EXPOSURE])
                    return dict(zip(("canonmeteringmode", "canonexposuremode"), modes, strict=True))
    return {}


def _canon_settings(note: bytes, order: str) -> Iterator[tuple[int, int]]:
    """Length in bytes and offset of what may be the array of settings."""
    (n_entries,) = struct.unpack_from(order + "H", note) if len(note) > 1 else (0,)
    for at in range(2, min(2 + 12 * min(n_entries, _MAX_CANON_ENTRIES), len(note)) - 11, 12):
        tag, kind, count, offset = struct.unpack_from(order + "HHLL", note, at)
        if tag == _CANON_SETTINGS and kind == _SHORT and _CANON_EXPOSURE < count < _MAX_COUNT:
            yield 2 * count, offset


def _noted_offset(note: bytes, order: str) -> int:
    """Where the note stood when the camera wrote it: its last four bytes, behind a TIFF header."""
    if note[-8:-4] not in (b"II*\x00", b"MM\x00*"):
        return 0
    (offset,) = struct.unpack(order + "L", note[-4:])
    return int(offset)


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
