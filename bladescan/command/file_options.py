"""What a configuration file says of a command's options, checked: a key that means nothing is an error."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from bladescan.base.errors import UsageError
from bladescan.base.text import printable
from bladescan.command.configuration import Configuration
from bladescan.command.option_names import CommandPath, options

_PLAIN = (str, int, float)


def check(file: Configuration, root: Any) -> None:
    """Check every table and key of a file, of whatever command.

    Raises:
        UsageError: one means nothing, or a value is of another type than its option's.
    """
    _check_table(file, root, file.tables, ())


def _check_table(file: Configuration, group: Any, table: Mapping[str, Any], path: CommandPath) -> None:
    for name, inner in table.items():
        below = (*path, name)
        if not isinstance(inner, dict):
            raise wrong(file, f"{name!r}: options stand below their command, as [scan]")
        if name not in group.commands:
            hint = _nearest(name, group.commands) or "expected the name of a command"
            raise wrong(file, f"unknown table [{'.'.join(below)}]: {hint}")
        if hasattr(group.commands[name], "commands"):
            _check_table(file, group.commands[name], inner, below)
        else:
            values(file, below, group.commands[name])


def values(file: Configuration, path: CommandPath, command: Any) -> dict[str, Any]:
    """Return what a file says of a command as the command line would: text, lists of it, or True and False.

    Raises:
        UsageError: a key is no option, or its value is of another type than the option's.
    """
    known, where = options(command), ".".join(path)
    found = file.of(path)
    for name, value in found.items():
        if name not in known:
            hint = _nearest(name, known) or f"`bladescan {' '.join(path)} -h` lists the options"
            raise wrong(file, f"unknown key {name!r} in [{where}]: {hint}")
        expected = _expected(known[name], value)
        if expected:
            raise wrong(file, f"[{where}] {name} = {value!r}: expected {expected}")
    return {name: _as_given(known[name], value) for name, value in found.items()}


def _expected(option: Any, value: Any) -> str | None:
    """Say what an option takes in place of a value; None if it takes it, as far as the type goes."""
    if option.is_flag:
        return None if isinstance(value, bool) else "true or false"
    if option.multiple and isinstance(value, list):
        return None if all(type(item) in _PLAIN for item in value) else "a list of texts"
    return None if type(value) in _PLAIN else "a text or a number"


def _as_given(option: Any, value: Any) -> Any:
    if option.multiple:
        return [str(item) for item in (value if isinstance(value, list) else [value])]
    return value if option.is_flag else str(value)


def wrong(file: Configuration, what: str) -> UsageError:
    """Make the error that says what is wrong in a file."""
    return UsageError(printable(f"{file.path}: {what}"))


def _nearest(name: str, known: Iterable[str]) -> str | None:
    near = difflib.get_close_matches(name.replace("_", "-"), list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else None


def by_parameter(found: dict[str, Any], command: Any) -> dict[str, Any]:
    """Return values by the names of a command's parameters in place of those of its options."""
    return {options(command)[name].name: value for name, value in found.items()}
