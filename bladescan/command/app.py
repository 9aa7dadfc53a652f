"""The ``bladescan`` command: every command registered, and how it is entered."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from bladescan import __version__
from bladescan.base.exit_codes import ExitCode
from bladescan.base.logs import LogSettings, install
from bladescan.command import (
    calibrate,
    evaluate,
    export,
    fit,
    import_checkpoint,
    info,
    inspect,
    ledger,
    photographs,
    train,
)
from bladescan.command import scan as scan_command
from bladescan.command.guard import prepare_streams, say_failed

app = typer.Typer(
    name="bladescan",
    help="Tell AI-generated faces from photographs, in batches.",
    epilog="Exit codes: 0 nothing flagged, 1 something flagged, 2 could not run, 3 some sources not scanned, "
    "4 both 1 and 3.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Panels are for people. A pipe gets plain lines, which grep likes and which take half the time.
    rich_markup_mode="markdown" if sys.stdout is not None and sys.stdout.isatty() else None,
)


def main() -> None:
    """Run the ``bladescan`` script."""
    prepare_streams()
    settings = LogSettings.of(_asked_format(sys.argv[1:]))
    install(settings)
    if settings.json:
        sys.exit(_without_rendering())
    app()


def _asked_format(arguments: Sequence[str]) -> str | None:
    """Look for ``--log-format`` before the options are parsed, for the errors of parsing itself."""
    asked = None
    for option, value in zip(arguments, [*arguments, ""][1:], strict=True):
        name, equals, attached = option.partition("=")
        chosen = attached if equals else value
        if name == "--log-format" and chosen in ("text", "json"):
            asked = chosen
    return asked


def _without_rendering() -> int:
    """Run the command; what Typer would draw in a box is one line of the log."""
    try:
        code = app(standalone_mode=False)
    except Exception as exc:
        if not hasattr(exc, "format_message"):  # the one mark of Typer's usage errors in all its versions
            raise
        say_failed(exc.format_message() or "nothing to do: see bladescan --help")
        return ExitCode.FAILED
    return code if isinstance(code, int) else ExitCode.CLEAN


def _version(asked: bool) -> None:
    if asked:
        print(f"bladescan {__version__}")
        raise typer.Exit


@app.callback()
def bladescan(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Tell AI-generated faces from photographs, in batches."""


LEARN = "Learn"
COMMANDS: dict[str, tuple[Callable[..., None], str | None]] = {
    "scan": (scan_command.scan, None),
    "inspect": (inspect.inspect, None),
    "info": (info.info, None),
    "backends": (info.backends, None),
    "doctor": (info.doctor, None),
    "demo": (info.demo, None),
    "index": (photographs.index, LEARN),
    "contact-sheet": (photographs.contact_sheet, LEARN),
    "train": (train.train, LEARN),
    "recipes": (train.recipes, LEARN),
    "fit": (fit.fit, LEARN),
    "calibrate": (calibrate.calibrate, LEARN),
    "export": (export.export, LEARN),
    "evaluate": (evaluate.evaluate, LEARN),
    "import": (import_checkpoint.import_checkpoint, LEARN),
}
"""The function of each command, and the panel of the help in which it stands."""

for _name, (_command, _panel) in COMMANDS.items():
    app.command(_name, rich_help_panel=_panel)(_command)
app.add_typer(ledger.app, name="ledger")  # the one with commands of its own
