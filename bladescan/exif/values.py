"""Texts and numbers out of what files and tools write in EXIF fields. It does not know what a field means."""

from __future__ import annotations

import math
import re
from numbers import Real

_NUMBER = r"\d+(?:\.\d+)?(?:e[-+]?\d{1,3})?|\.\d+"
_QUANTITY = re.compile(
    rf"(?:f\s*/?|iso|1:)?\s*(-?(?:{_NUMBER}))(?:\s*/\s*({_NUMBER}))?(?![.\d])(?!\s*-\s*\d)(?!\s+\d+/)"
)
_IN_BRACKETS = re.compile(r"\((?:f/)?(\d+(?:\.\d+)?(?:/\d+)?)(?: ?s(?:ec)?\.?)?\)")


def as_text(value: object) -> str:
    """Return printable text up to the first NUL, spaces joined; ``""`` for what is no text."""
    if isinstance(value, bytes):
        value = value[:400].decode("utf-8", "replace")
    if not isinstance(value, str):
        return ""
    shown = "".join(c if c.isprintable() else " " for c in value[:200].split("\0")[0])
    return " ".join(shown.replace("\ufffd", " ").split())


def as_words(value: object) -> str:
    """Return the words of a text: lower-case letters, digits, ``-`` and ``+``, one space between words."""
    return " ".join(re.sub(r"[^\w+-]", " ", as_text(value).lower()).split())


def letters(text: str) -> str:
    """Return the lower-case letters and digits of a text, and nothing else."""
    return re.sub(r"[^a-z0-9]", "", text.lower())


def first_of(value: object) -> object:
    """Return the first item of a sequence, or a value that is none."""
    return value[0] if isinstance(value, (tuple, list)) and value else value


def as_code(value: object) -> int | None:
    """Read an EXIF code: a whole number, not negative, alone, first in a sequence or in digits."""
    value = first_of(value)
    if isinstance(value, (str, bytes)):
        value = int(text) if (text := as_text(value)).isascii() and text.isdigit() else None
    number = as_number(value)
    return int(number) if number is not None and number.is_integer() else None


def as_number(value: object, *, signed: bool = False) -> float | None:
    """Read a finite number from a number, a ratio ``(a, b)``, a sequence (its first) or a text; else None.

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
        value = first_of(value) if len(value) != 2 or isinstance(value[0], (tuple, list)) else value
    if isinstance(value, (tuple, list)) and len(value) == 2:
        return float(value[0]) / float(value[1])
    if isinstance(value, (str, bytes)):
        return _parsed(as_text(value))
    if isinstance(value, Real) or hasattr(value, "__float__"):
        return float(value)
    raise TypeError(type(value).__name__)


def _parsed(text: str) -> float:
    """Read the number that a text begins with, without what cameras and tools write around it."""
    plain = text.lower().replace("\u0192", "f").replace("\u2013", "-")
    plain = re.sub(r"(?<=[1-9]),(?=\d{3}\b)", "", plain)
    plain = re.sub(r",(?=\d)", ".", plain)
    found = _QUANTITY.match(plain)
    if found is None:
        raise ValueError(text)
    return float(found[1]) / float(found[2] or 1)


def as_seconds(value: object) -> float | None:
    """Read seconds; a fraction in brackets is more exact than the rounded decimal before it."""
    text = as_text(value)
    bracketed = _IN_BRACKETS.search(text)
    if bracketed and "/" in bracketed[1] and "/" not in text[: bracketed.start()]:
        return as_number(bracketed[1])
    return as_number(value)
