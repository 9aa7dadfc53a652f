"""``bladescan config``: which options hold, and where each comes from, as a configuration file of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from bladescan.base.errors import UnknownNameError, UsageError
from bladescan.base.text import printable
from bladescan.command import options as o
from bladescan.command.configuration import FILE_NAME, Configuration
from bladescan.command.configured import FILE
from bladescan.command.file_options import by_parameter, values
from bladescan.command.guard import guarded
from bladescan.command.option_names import (
    CommandPath,
    commands,
    name_variables,
    options,
    variable_in_use,
)

DEFAULT = "default"


class Setting(NamedTuple):
    """One option that holds.

    Attributes:
        value: as the command line would have it; None if there is none.
        whence: a variable, a file, or ``default``.
        metavar: what would stand for its value in the help.
    """

    command: str
    option: str
    value: Any
    whence: str
    metavar: str


@guarded
def config(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="COMMAND...", help="Only this command, for example scan or ledger counts."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also the options that are left at their defaults.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    debug: o.Debug = False,
) -> None:
    """Print the options that hold, and whence.

    They come from environment variables, else from a bladescan.toml. The output is such a file; with
    --all it has every option.

    Example: `bladescan config scan --all > my.toml`
    """
    file: Configuration = ctx.meta[FILE]
    root: Any = ctx.find_root()
    known, path = dict(commands(root.command)), tuple(names or ())
    chosen = {at: command for at, command in known.items() if at[: len(path)] == path}
    if not chosen:
        raise UnknownNameError("command", " ".join(path), [" ".join(at) for at in known])
    found = [one for at, command in chosen.items() for one in _settings(file, root, at, command)]
    shown = [one for one in found if everything or one.whence != DEFAULT]
    if as_json:
        document = [one._asdict() for one in shown]
        print(json.dumps({"file": file.path and str(file.path), "options": document}, indent=2))
    else:
        print("\n".join(_as_toml(file, shown)))


def _settings(file: Configuration, root: Any, path: CommandPath, command: Any) -> Iterator[Setting]:
    """Ask each option of a command as a run without arguments would."""
    name_variables(command, path)
    context = command.context_class(command, info_name=path[-1], parent=root)
    context.default_map = by_parameter(values(file, path, command), command)
    for name, option in options(command).items():
        value, source = option.consume_value(context, {})
        whence = {"ENVIRONMENT": variable_in_use(option), "DEFAULT_MAP": str(file.path)}.get(source.name)
        try:
            value = None if value is None else option.process_value(context, value)
        except typer.BadParameter as exc:
            raise UsageError(printable(f"{whence}: {exc.message}")) from exc
        value = str(value) if isinstance(value, Path) else value
        yield Setting(" ".join(path), name, value, whence or DEFAULT, option.metavar or name.upper())


def _as_toml(file: Configuration, settings: list[Setting]) -> Iterator[str]:
    """Write lines of a configuration file; what is only a default is a comment."""
    yield f"# {printable(str(file.path)) if file.path else f'there is no {FILE_NAME}'}"
    for command, group in groupby(settings, lambda one: one.command):
        yield f"\n[{command.replace(' ', '.')}]"
        for one in group:
            value = one.metavar if one.value is None else _value(one.value)
            if one.whence == DEFAULT:
                yield f"# {one.option} = {value}"
            else:
                yield f"{one.option} = {value}  # {printable(one.whence)}"


def _value(value: Any) -> str:
    """Write a value in TOML, whose numbers, truths, lists and texts without odd bytes are those of JSON."""
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(printable(str(value)), ensure_ascii=False)
