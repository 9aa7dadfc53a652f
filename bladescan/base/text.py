"""Text from strangers made safe to show: names of files, URLs, what libraries say."""

from __future__ import annotations

import json
import re
from typing import Any

_PASSWORD = re.compile(r"(?<=://)[^/?#@:]*:[^/?#]*@")

_SIGNATURE = re.compile(
    r"([?&](?:X-(?:Amz|Goog|OSS)-(?:Signature|Security-Token)|Signature|sig|token|access_token)=)[^&#\s'\"]+",
    re.IGNORECASE,
)


def printable(text: str) -> str:
    """Put a text on one line without control characters, so that a file's name cannot steer a terminal."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)
    return shown.encode("utf-8", "backslashreplace").decode()


def printable_lines(text: str) -> str:
    """Make each line of a text printable, and keep the lines."""
    return "\n".join(printable(line) for line in text.splitlines())


def without_password(url: str) -> str:
    """Replace a user and password in a URL, or in any line, by ``***``."""
    return _PASSWORD.sub("***@", url)


def without_signature(text: str) -> str:
    """Replace what opens a presigned address, in any line, by ``***``: who reads it could fetch the file."""
    return _SIGNATURE.sub(r"\1***", text)


def as_text(shown: dict[str, Any]) -> str:
    """Write nested values as indented ``key: value`` lines for people: numbers below 1000 to four digits."""
    return "\n".join(_lines(shown, 0))


def _lines(value: dict[str, Any], depth: int) -> list[str]:
    lines: list[str] = []
    for key, item in value.items():
        if isinstance(item, dict) and item:
            lines += [f"{'  ' * depth}{key}:", *_lines(item, depth + 1)]
        else:
            text = item if isinstance(item, str) else json.dumps(_rounded(item))
            lines.append(f"{'  ' * depth}{key}: {text}")
    return lines


def _rounded(item: Any) -> Any:
    if isinstance(item, float):
        return float(f"{item:.4g}") if abs(item) < 1000 else round(item, 1)
    return [_rounded(part) for part in item] if isinstance(item, (list, tuple)) else item


def counted(n: int, thing: str) -> str:
    """Write a number and what it counts, in the plural unless there is one."""
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"
