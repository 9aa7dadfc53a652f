"""Write what the documentation takes from the code: ``python .ci/generate_docs.py``; a test checks it.

The reference of the command (docs/cli.md), its manual page (man/bladescan.1), the table of rooms in
CONTRIBUTING.md, the public names in
docs/python-api.md, and the variables in docs/configuration.md.
"""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

from typer.main import get_command

import bladescan
from bladescan.base.exit_codes import MEANINGS
from bladescan.command.app import app
from bladescan.command.option_names import commands, options, variable

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "cli.md"
MANUAL = ROOT / "man" / "bladescan.1"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
RULE = """\
These are the defaults of `scan`; `--fail-on` and `--allow-empty` choose what counts, see
[operations](operations.md#exit-codes). Every other command ends with 0, 2 or the code of a signal.
Treat a code that you do not know as a failure: a later version may add one, and a process that is
killed outright ends with 128 plus the number of the signal (137)."""
PYTHON = ROOT / "docs" / "python-api.md"
CONFIGURATION = ROOT / "docs" / "configuration.md"
TABLE = re.compile(r"(?<=<!-- rooms -->\n).*(?=<!-- end of rooms -->)", re.DOTALL)
VARIABLES = re.compile(r"(?<=<!-- variables -->\n).*(?=<!-- end of variables -->)", re.DOTALL)
NAMES = re.compile(r"(?<=<!-- names -->\n).*(?=<!-- end of names -->)", re.DOTALL)


def reference() -> str:
    """Write the reference of the command as Markdown."""
    command = [sys.executable, "-m", "typer", "bladescan.command.app", "utils", "docs", "--name", "bladescan"]
    environment = dict(os.environ) | {"COLUMNS": "100"}
    out = subprocess.run(command, capture_output=True, check=True, text=True, env=environment).stdout
    out = out.replace("* `--help`:", "* `-h, --help`:")  # Typer's generator asks no context for its names
    codes = "\n".join(f"| {code.value} | {meaning} |" for code, meaning in MEANINGS.items())
    return f"{out.strip()}\n\n## Exit codes\n\n| code | means |\n|---|---|\n{codes}\n\n{RULE}\n"


def manual() -> str:
    """Write the manual page of the command."""
    return str(runpy.run_path(str(ROOT / ".ci" / "manual.py"))["manual"](RULE))


def contributing(page: str, rooms: list[str]) -> str:
    """Replace the table of rooms in a page by a new one.

    Args:
        page: with the two comments between which the table stands.
        rooms: from the ground up; the table begins at the top.
    """
    lines = [f"| `{room}` | {_purpose(room)} | {_modules(room)} |\n" for room in reversed(rooms)]
    return TABLE.sub(lambda _: "| room | what it is | modules |\n|---|---|---|\n" + "".join(lines), page)


def python_api(page: str) -> str:
    """Replace the table of public names in a page by a new one: functions, then classes."""
    functions = [name for name in bladescan.__all__ if name[0].islower()]
    others = [name for name in bladescan.__all__ if not name[0].islower()]
    lines = [f"| `{name}` | {_meaning(name)} |\n" for name in functions + others]
    return NAMES.sub(lambda _: "| name | what it is |\n|---|---|\n" + "".join(lines), page)


def configuration(page: str) -> str:
    """Replace the table of variables in a page by a new one."""
    lines = [
        f"| `{variable(path, name)}` | `{' '.join([*path, ''])}--{name}` |\n"
        for path, command in commands(get_command(app))
        for name in options(command)
    ]
    return VARIABLES.sub(lambda _: "| variable | option |\n|---|---|\n" + "".join(lines), page)


def _meaning(name: str) -> str:
    """Read the first line of a public name's docstring, without loading its module."""
    home = bladescan._HOMES.get(name)
    path = ROOT / "bladescan" / (f"{home.replace('.', '/')}.py" if home else "__init__.py")
    body = ast.parse(path.read_text()).body
    for node, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            text = ast.get_docstring(node) or ""
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            text = ast.literal_eval(after.value) if isinstance(after, ast.Expr) else ""
        else:
            continue
        return text.splitlines()[0].replace("``", "`").replace("|", "\\|") if text else ""
    raise LookupError(f"{path}: no {name}")


def _purpose(room: str) -> str:
    tree = ast.parse((ROOT / "bladescan" / room / "__init__.py").read_text())
    return (ast.get_docstring(tree) or "").splitlines()[0]


def _modules(room: str) -> str:
    names = sorted(path.stem for path in (ROOT / "bladescan" / room).glob("*.py"))
    return ", ".join(f"`{name}`" for name in names if name != "__init__")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from tests.test_house import ROOMS

    REFERENCE.write_text(reference())
    MANUAL.write_text(manual())
    CONTRIBUTING.write_text(contributing(CONTRIBUTING.read_text(), ROOMS))
    PYTHON.write_text(python_api(PYTHON.read_text()))
    CONFIGURATION.write_text(configuration(CONFIGURATION.read_text()))
