"""A command whose options may also come from the environment or a file: the command line goes before both."""

from __future__ import annotations

import difflib
import os
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from bladescan.base.errors import BladescanError
from bladescan.base.exit_codes import ExitCode
from bladescan.base.logs import LogSettings, install, installed
from bladescan.command.configuration import FILE_NAME, Configuration, find
from bladescan.command.file_options import by_parameter, check, values, wrong
from bladescan.command.guard import say_failed, say_first
from bladescan.command.option_names import (
    CommandPath,
    name_variables,
    options,
    path_of,
    variable,
    variable_in_use,
)

CONFIGURATION = "Configuration"
FILE = "bladescan.configuration"
"""Where a context's ``meta`` has the file that holds."""
ConfigFile = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help=f"Take options from this file. Default: {FILE_NAME} in the working folder, else in "
        "~/.config/bladescan.",
        rich_help_panel=CONFIGURATION,
        allow_from_autoenv=False,
    ),
]
NoConfigFile = Annotated[
    bool,
    typer.Option(
        "--no-config",
        help=f"Read no {FILE_NAME}.",
        rich_help_panel=CONFIGURATION,
        allow_from_autoenv=False,
    ),
]
_own = typer.Typer(add_completion=False)


@_own.command()
def _files(config: ConfigFile = None, no_config: NoConfigFile = False) -> None:
    """Hold the two options that every command has; nothing runs it."""


class ConfiguredCommand(TyperCommand):
    """A command with ``--config`` and ``--no-config``, and with a variable for each of its other options."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for option in typer.main.get_command(_own).params:
            option.expose_value = False
            self.params.append(option)
        for option in options(self).values():
            option.show_envvar = False  # docs/configuration.md has them all

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the file's options and the names of the variables in place, then parse."""
        path = path_of(ctx)
        name_variables(self, path)
        given, _, order = self.make_parser(ctx).parse_args(args=list(args))
        _check_given_once(ctx, order)
        if not given.get("help") and not ctx.resilient_parsing:
            try:
                ctx.default_map = self._from_file(ctx, path, given)
            except BladescanError as exc:
                if installed() is None:  # the command begins only later
                    install(LogSettings.of())
                say_failed(str(exc))
                raise typer.Exit(ExitCode.FAILED) from None
            for note in _unknown_variables(path, self):
                say_first(note, is_warning=True)
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as exc:
            _name_variable(exc, ctx)
            raise

    def _from_file(self, ctx: Any, path: CommandPath, given: dict[str, Any]) -> dict[str, Any]:
        """Return the file's options, by parameter, and say which: a forgotten file must not surprise."""
        root = ctx.find_root()
        named, none = (given.get(name) or root.params.get(name) for name in ("config", "no_config"))
        file = find(named, none=bool(none))
        check(file, root.command)
        ctx.meta[FILE] = file
        found = values(file, path, self)
        for name, value in found.items():
            _check_value(file, ctx, options(self)[name], f"[{'.'.join(path)}] {name} = {value!r}", value)
        if found:
            say_first(f"options from {file.path}: {', '.join(found)}")
        return by_parameter(found, self)


_TAKES_ONE = {"--config", "--files-from", "--image-model", "--model", "--trust-list"}
"""Options of which somebody may mean several: the last alone would count. Others may be overridden so."""


def _check_given_once(ctx: Any, order: list[Any]) -> None:
    """Raise BadParameter for an option that takes one value, is given again, and may have meant both."""
    for option in order:
        if not option.multiple and _TAKES_ONE.intersection(option.opts) and order.count(option) > 1:
            raise typer.BadParameter(
                f"given {order.count(option)} times, but {ctx.info_name} takes one", ctx=ctx, param=option
            )


def _name_variable(exc: typer.BadParameter, ctx: Any) -> None:
    """Add to an error about an option's value that it stands in a variable, if it does."""
    source = exc.param and ctx.get_parameter_source(exc.param.name)
    if source is not None and source.name == "ENVIRONMENT":
        exc.message += f" (in the variable {variable_in_use(exc.param)})"


def _check_value(file: Configuration, ctx: Any, option: Any, shown: str, value: Any) -> None:
    """Let the option judge the value, so that an error names the file and not the command line.

    Raises:
        UsageError: it is out of range, or no number.
    """
    try:
        option.process_value(ctx, value)
    except typer.BadParameter as exc:
        raise wrong(file, f"{shown}: {exc.message}") from exc


def _unknown_variables(path: CommandPath, command: Any) -> list[str]:
    """Say which variables look like an option's of this command, and are none."""
    known = {variable(path, name) for name in options(command)}
    begin = variable(path, "")
    notes = []
    for name in sorted(os.environ):
        if name.startswith(begin) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            notes.append(f"{name} is no option" + (f": did you mean {near[0]}?" if near else ""))
    return notes
