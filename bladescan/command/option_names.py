"""What an option is called: on the command line, in a configuration file, and in the environment.

The option ``--fail-on`` of ``scan`` is the key ``fail-on`` of the file's table ``[scan]``, and the variable
``BLADESCAN_SCAN_FAIL_ON``. Commands and contexts are Typer's, which has no public types for them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

PREFIX = "BLADESCAN"
CommandPath = tuple[str, ...]
"""The words of a command after ``bladescan``."""
_OF_EVERY_COMMAND = {"help", "config", "no-config"}


def path_of(context: Any) -> CommandPath:
    """Name the command of a context, and the groups above it."""
    return () if context.parent is None else (*path_of(context.parent), context.info_name)


def options(command: Any) -> dict[str, Any]:
    """Return the options that a file or a variable may set, by their long names without the dashes."""
    found = {
        next(name for name in option.opts if name.startswith("--"))[2:]: option
        for option in command.params
        if option.param_type_name == "option"
    }
    return {name: option for name, option in found.items() if name not in _OF_EVERY_COMMAND}


def variable(path: CommandPath, name: str) -> str:
    """Name the environment variable of an option."""
    return "_".join([PREFIX, *path, name]).upper().replace("-", "_")


def name_variables(command: Any, path: CommandPath) -> None:
    """Let every option of a command be set by its variable, before any variable that it has already."""
    for name, option in options(command).items():
        others = [option.envvar] if isinstance(option.envvar, str) else option.envvar or []
        option.envvar = list(dict.fromkeys([variable(path, name), *others]))


def variable_in_use(option: Any) -> str | None:
    """Name the variable that sets an option; None if none does."""
    return next((name for name in option.envvar or () if os.environ.get(name)), None)


def commands(group: Any, above: CommandPath = ()) -> Iterator[tuple[CommandPath, Any]]:
    """Yield every command below a group with its path."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*above, name))
        else:
            yield (*above, name), command
