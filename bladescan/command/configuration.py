"""The configuration file: where it is, what it may hold, and whom it may belong to. It knows no Typer."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bladescan.base.errors import UsageError

FILE_NAME = "bladescan.toml"
FILE_VARIABLE = "BLADESCAN_CONFIG"
NO_FILE_VARIABLE = "BLADESCAN_NO_CONFIG"
_YES = ("1", "true", "yes", "on")


@dataclass(frozen=True, slots=True)
class Configuration:
    """A file of options, read.

    Attributes:
        path: where it is, None where there is none.
        tables: of the file, by the name of a command.
    """

    path: Path | None = None
    tables: Mapping[str, Any] = field(default_factory=dict)

    def of(self, command: Iterable[str]) -> dict[str, Any]:
        """Return what it says of a command, by the names of the options without their dashes."""
        table: Any = self.tables
        for name in command:
            table = table.get(name) if isinstance(table, dict) else None
        return table if isinstance(table, dict) else {}


def find(named: str | None, *, none: bool) -> Configuration:
    """Read the file that holds, if there is one.

    That is the one named, else the one that ``BLADESCAN_CONFIG`` names, else ``bladescan.toml`` in the
    working folder, else the one in the user's folder for such files. Only one is read.

    Args:
        named: on the command line.
        none: read no file.

    Raises:
        UsageError: it cannot be read, is no TOML, or lies in the working folder and may be somebody else's.
    """
    if named is not None and none:
        raise UsageError("--config and --no-config exclude each other")
    named = named or os.environ.get(FILE_VARIABLE) or None
    if none or (named is None and os.environ.get(NO_FILE_VARIABLE, "").lower() in _YES):
        return Configuration()
    if named is not None:
        return Configuration(Path(named), _read(Path(named)))
    here = Path(FILE_NAME)
    if os.path.lexists(here):
        _check_owner(here)
        return Configuration(here, _read(here))
    path = user_file()
    return Configuration(path, _read(path)) if os.path.exists(path) else Configuration()


def user_file() -> Path:
    """Name the file in the user's folder for such files, which need not be there."""
    folder = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(folder, "bladescan", FILE_NAME)


def _check_owner(path: Path) -> None:
    """Refuse a file that a stranger may have left in a folder of uploads: it could switch anything off.

    Raises:
        UsageError: it belongs to another user, or anybody may write it.
    """
    try:
        status = path.stat()
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read: {exc.strerror}") from exc
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & stat.S_IWOTH:
        whose = "anybody may write it" if status.st_mode & stat.S_IWOTH else "it belongs to another user"
        raise UsageError(f"{path} is not trusted: {whose}; give --config {path} to use it, or --no-config")


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise UsageError(f"{path}: cannot be read: {exc.strerror}") from exc
    except ValueError as exc:  # no TOML, or no UTF-8
        raise UsageError(f"{path}: not TOML: {exc}") from exc
