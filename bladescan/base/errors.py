"""The one exception tree. Foreign exceptions are mapped to it at the edge, with ``from exc``.

::

    BladescanError                  the command cannot go on; exit code 2
    ├── UsageError                  options that contradict or mean nothing
    │   └── UnknownNameError        a name not in a registry: suggests the nearest
    ├── RecipeError                 a recipe with mistakes, all of them listed
    ├── DetectorError               a detector or run that is wrong, truncated, foreign or newer
    ├── BackendError                a runtime that failed
    │   ├── MissingDependencyError  names the ``pip install`` to run
    │   └── DeviceUnavailableError  the device asked for is not available
    ├── BucketError                 a bucket or server that cannot be listed or reached
    ├── DataError                   too little or unusable data to learn from
    ├── OutputError                 verdicts or files that cannot be written
    ├── TooManyErrorsError          a scan stopped by its limit of unreadable sources; exit code 3
    └── ImageError                  one image that cannot be read; becomes a row, never stops a scan
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from bladescan.base.records import Reason


class BladescanError(Exception):
    """Base of every error that bladescan raises on purpose; its text is one line for the user."""


class UsageError(BladescanError):
    """Options that contradict each other or mean nothing here."""


class UnknownNameError(UsageError):
    """A name that is in no registry.

    Args:
        kind: what was looked up, for example ``"backend"``.
        name: what the user wrote.
        available: the names that exist.
    """

    def __init__(self, kind: str, name: str, available: Iterable[str]) -> None:
        names = sorted(available)
        near = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        listed = ", ".join(names) or "none"
        super().__init__(f"unknown {kind} {name!r}.{hint} Available: {listed}.")
        self._parts = (kind, name, names)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), self._parts)


class RecipeError(BladescanError):
    """A recipe with one or more mistakes."""


class DetectorError(BladescanError):
    """A detector, export or encoder run that cannot be used."""


class BackendError(BladescanError):
    """A runtime that could not load or run a detector."""


class MissingDependencyError(BackendError):
    """A runtime or library that is not installed.

    Args:
        what: the capability that needs it.
        package: the import that failed.
        install: the command that installs it, for example ``pip install 'bladescan[train]'``.
    """

    def __init__(self, what: str, package: str, install: str) -> None:
        super().__init__(f"{what} needs {package}, which is not installed: {install}")
        self._parts = (what, package, install)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), self._parts)


def import_failed(exc: ImportError, what: str, package: str, install: str) -> BackendError:
    """Make the error of an import: of what is not installed, or is and cannot be loaded.

    Args:
        exc: what the import raised.
        what: the capability that needs it.
        package: the import that failed.
        install: the command that installs it.
    """
    if isinstance(exc, ModuleNotFoundError):
        return MissingDependencyError(what, exc.name or package, install)
    return BackendError(f"{what} needs {package}, which is installed but cannot be loaded: {first_line(exc)}")


class DeviceUnavailableError(BackendError):
    """The device or execution provider asked for is not available; there is no silent fallback."""


class BucketError(BladescanError):
    """A bucket or server that cannot be listed or reached, as opposed to one object in it."""


class DataError(BladescanError):
    """Data from which nothing can be learned or measured."""


class OutputError(BladescanError):
    """Output that could not be written."""


class TooManyErrorsError(BladescanError):
    """More sources are unreadable than the user allows; what was finished is kept."""


class ImageError(BladescanError):
    """One image that cannot be scanned.

    Args:
        reason: the code of the row.
        detail: one line for people.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.reason, self.detail))


def first_line(exc: Exception) -> str:
    """Return the first line of a foreign exception's text."""
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0]
