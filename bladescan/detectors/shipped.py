"""The detectors that ship with the package, by name, and what a user's word for a detector means."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from bladescan.base.errors import UnknownNameError, UsageError

FOLDER = Path(__file__).parent
MODEL_CARD = FOLDER / "MODEL_CARD.md"
ENTRY_POINT_GROUP = "bladescan.detectors"
"""Under which a package with detector files says so, for one that is too large for this package."""
FORMS = (".cascade", ".onnx", ".safetensors")
"""Suffixes of detector files, first what a scan takes where nothing else is asked."""
DETECTORS = {
    "cascade": "the fast one looks at every face, the accurate one at those that it does not clear",
    "fast": "a small network for every face",
    "accurate": "a large network, for few pictures or a GPU",
    "blades": "the method of the paper: a head that has learned from photographs alone, and a binary one",
}
"""What each is, by name. Those whose files are not there do not ship."""
DEFAULTS = ("cascade", "fast", "blades")
"""The first of these that there is scans where nobody names a detector."""


def shipped_names() -> list[str]:
    """List the detectors that ship."""
    return [name for name in DETECTORS if shipped_files(name)]


def shipped_files(name: str, forms: Sequence[str] = FORMS) -> list[Path]:
    """List the files of a shipped detector, one for each of the forms that it has, in their order."""
    named = [folder / f"{name}{form}" for form in forms for folder in (FOLDER, *_data_folders())]
    return [path for path in named if path.is_file()]


@cache
def _data_folders() -> tuple[Path, ...]:
    """Find the folders of installed data packages; none of their code is run."""
    found = []
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        spec = find_spec(entry.module)
        if spec is not None and spec.origin is not None:
            found.append(Path(spec.origin).parent)
    return tuple(dict.fromkeys(found))


def shipped_detector(name: str, forms: Sequence[str] = FORMS) -> Path:
    """Find a shipped detector in the first of some forms that it has.

    Raises:
        UnknownNameError: none has this name.
        UsageError: it has none of the forms.
    """
    if name not in shipped_names():
        raise UnknownNameError("shipped detector", name, shipped_names())
    found = shipped_files(name, forms)
    if not found:
        have = ", ".join(path.suffix for path in shipped_files(name))
        able = [other for other in shipped_names() if shipped_files(other, forms)]
        raise UsageError(
            f"the shipped detector {name!r} has no form {' or '.join(forms)}, only {have}; "
            f"{', '.join(able) or 'none'} would do"
        )
    return found[0]


def is_shipped(path: Path) -> bool:
    """Tell whether a file is one of a shipped detector."""
    return path.parent in (FOLDER, *_data_folders()) and path.stem in DETECTORS


def default_file(forms: Sequence[str] = FORMS) -> Path | None:
    """Find the file that stands for no detector named, in one of some forms; None if none ships in them."""
    found = [path for name in DEFAULTS for path in shipped_files(name, forms)]
    return found[0] if found else None


def named_detector(asked: str | Path | None, forms: Sequence[str] = FORMS) -> Path | None:
    """Find the file of the detector that a user asks for.

    Args:
        asked: a shipped detector's name or a path; with a suffix or a separator it is a path, and a `Path`
            always is. None for the default.
        forms: suffixes that a shipped one may have, preferred first.

    Returns:
        The file, which may not be there if it is the user's own; None if nothing is asked and no default has
        such a form.

    Raises:
        UnknownNameError: neither a name nor a path.
        UsageError: a shipped detector that has none of the forms.
    """
    if asked is None:
        return default_file(forms)
    if isinstance(asked, Path) or (asked not in DETECTORS and _is_path(asked)):
        return Path(asked)
    return shipped_detector(asked, forms)


def _is_path(asked: str) -> bool:
    return bool(Path(asked).suffix) or os.sep in asked or os.path.exists(asked)


ONNX = default_file((".onnx",)) or FOLDER / "blades.onnx"
SAFETENSORS = default_file((".safetensors",)) or FOLDER / "blades.safetensors"
"""The default detector in these forms."""
