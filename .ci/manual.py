"""The manual page of the command, ``man/bladescan.1``, written from the tree of commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from bladescan.base.exit_codes import MEANINGS
from bladescan.command.app import app

LINK = re.compile(r"\[(.*?)\]\(.*?\)")
HEAD = '.TH BLADESCAN 1 "" "bladescan" "User Commands"\n'


def manual(rule: str) -> str:
    """Write the page in the language of man (roff).

    Args:
        rule: what is said below the exit codes, as Markdown.
    """
    root = get_command(app)
    context = root.make_context("bladescan", [], resilient_parsing=True)
    return HEAD + "".join(f"{line}\n" for line in _page(root, context, rule))


def _page(root: Any, context: Any, rule: str) -> Iterator[str]:
    yield ".SH NAME"
    yield "bladescan \\- tell AI\\-generated faces from photographs, in batches"
    yield ".SH SYNOPSIS"
    yield ".B bladescan"
    yield "[\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGS\\fR]..."
    yield ".SH OPTIONS"
    yield from _options(root, context)
    yield ".SH COMMANDS"
    yield from _commands(root, context)
    yield ".SH EXIT STATUS"
    for code, meaning in MEANINGS.items():
        yield f".TP\n.B {code.value}\n{_text(meaning)}"
    yield f".PP\n{_text(LINK.sub(lambda link: link[1], rule))}"


def _commands(group: Any, context: Any) -> Iterator[str]:
    """Describe each command below a group, and those below it."""
    for name, command in group.commands.items():
        inner = command.context_class(command, info_name=name, parent=context)
        yield f".SS {_text(f'{inner.command_path} ' + ' '.join(command.collect_usage_pieces(inner)))}"
        for paragraph in (command.help or "").split("\n\n"):
            yield f"{_text(paragraph)}\n.PP"
        if hasattr(command, "commands"):
            yield from _commands(command, inner)
        else:
            yield from _options(command, inner)


def _options(command: Any, context: Any) -> Iterator[str]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            yield f".TP\n.B {_text(record[0])}\n{_text(record[1])}"


def _text(text: str) -> str:
    """Make text safe in roff: no escape, no request at the start of a line; `code` becomes bold."""
    safe = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", re.sub(r"`([^`]*)`", r"\\fB\1\\fR", safe))
