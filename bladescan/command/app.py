"""The ``bladescan`` command: every command registered, and how it is entered."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import zip_longest
from typing import Annotated

import typer

from bladescan.base.errors import UsageError
from bladescan.base.exit_codes import ExitCode
from bladescan.base.logs import FORMAT_VARIABLE, LogSettings, install
from bladescan.command import (
    calibrate,
    cascade,
    combine,
    config,
    evaluate,
    export,
    feedback,
    fit,
    import_checkpoint,
    info,
    inspect,
    ledger,
    photographs,
    report,
    train,
)
from bladescan.command import scan as scan_command
from bladescan.command.configuration import find
from bladescan.command.configured import ConfigFile, ConfiguredCommand, NoConfigFile
from bladescan.command.guard import end_json_lines, expect_json_lines, prepare_streams, say_failed
from bladescan.command.option_names import variable

app = typer.Typer(
    name="bladescan",
    help="Tell AI-generated faces from photographs, in batches.",
    epilog="Exit codes: 0 nothing flagged, 1 something flagged, 2 could not run, 3 some sources not scanned, "
    "4 both 1 and 3.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    # Panels are for people. A pipe gets plain lines, which grep likes and which take half the time.
    rich_markup_mode="markdown" if sys.stdout is not None and sys.stdout.isatty() else None,
)


def main() -> None:
    """Run the ``bladescan`` script."""
    prepare_streams()
    log_format = _asked("--log-format") or _configured("log-format", FORMAT_VARIABLE)
    settings = LogSettings.of(log_format if log_format in ("text", "json") else None)
    install(settings)
    output = _asked("--output", "-o") or _configured("output")
    if (_asked("--format") or _configured("format")) == "jsonl" and output in _STDOUT_NAMES:
        expect_json_lines()
    elif not settings.json:
        app(prog_name=_NAME)
    sys.exit(_without_rendering(settings))


_NAME = "bladescan"
_STDOUT_NAMES = (None, "-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def _asked(name: str, short: str = "") -> str | None:
    """Look for the value of an option before the options are parsed, for the errors of parsing itself."""
    asked = None
    for argument, following in zip_longest(sys.argv[1:], sys.argv[2:], fillvalue=""):
        option, equals, attached = argument.partition("=")
        if option == name:
            asked = attached if equals else following
        elif short and argument.startswith(short):
            asked = argument.removeprefix(short) or following
    return asked


def _configured(name: str, *more_variables: str) -> str | None:
    """Look for the value of an option of scan that is not given, for the same errors."""
    if "scan" not in sys.argv:
        return None
    for one in (variable(("scan",), name), *more_variables):
        if os.environ.get(one):
            return os.environ[one]
    with suppress(UsageError):  # which is said when the command begins
        found = find(_asked("--config"), none="--no-config" in sys.argv).of(("scan",)).get(name)
        return found if isinstance(found, str) else None
    return None


def _without_rendering(settings: LogSettings) -> int:
    """Run the command; a usage error, which Typer would draw in a box, is told to programs as well."""
    try:
        code = app(standalone_mode=False, prog_name=_NAME)
    except Exception as exc:
        if not hasattr(exc, "format_message"):  # the one mark of Typer's usage errors in all its versions
            raise
        message = exc.format_message() or "nothing to do: see bladescan --help"
        if settings.json:
            say_failed(message)
        else:
            exc.show()  # type: ignore[attr-defined]
            end_json_lines(ExitCode.FAILED, message)
        return ExitCode.FAILED
    return code if isinstance(code, int) else ExitCode.CLEAN


def _version(asked: bool) -> None:
    if asked:
        from bladescan.command.versions import versions

        print(versions())
        raise typer.Exit


@app.callback()
def bladescan(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_version,
            is_eager=True,
            help="Print the versions of all that decides a verdict.",
        ),
    ] = False,
    config: ConfigFile = None,
    no_config: NoConfigFile = False,
) -> None:
    """Tell AI-generated faces from photographs, in batches."""


LEARN = "Learn"
COMMANDS: dict[str, tuple[Callable[..., None], str | None]] = {
    "scan": (scan_command.scan, None),
    "report": (report.report, None),
    "feedback": (feedback.feedback, None),
    "inspect": (inspect.inspect, None),
    "info": (info.info, None),
    "backends": (info.backends, None),
    "doctor": (info.doctor, None),
    "demo": (info.demo, None),
    "config": (config.config, None),
    "index": (photographs.index, LEARN),
    "contact-sheet": (photographs.contact_sheet, LEARN),
    "train": (train.train, LEARN),
    "recipes": (train.recipes, LEARN),
    "fit": (fit.fit, LEARN),
    "calibrate": (calibrate.calibrate, LEARN),
    "cascade": (cascade.cascade, LEARN),
    "combine": (combine.combine, LEARN),
    "export": (export.export, LEARN),
    "evaluate": (evaluate.evaluate, LEARN),
    "import": (import_checkpoint.import_checkpoint, LEARN),
}
"""The function of each command, and the panel of the help in which it stands."""

for _name, (_command, _panel) in COMMANDS.items():
    app.command(_name, cls=ConfiguredCommand, rich_help_panel=_panel)(_command)
app.add_typer(ledger.app, name="ledger")  # the one with commands of its own
