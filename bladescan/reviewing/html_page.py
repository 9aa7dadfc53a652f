"""Pages that open from a disk and ask no network for anything: their shell, and the policy that sees to it.

Every text from outside is escaped twice over: by the template (autoescape), or as JSON in which no character
means anything to HTML. Scripts and styles run by their digests alone, so that a text which got through would
still do nothing.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

SHELL = Path(__file__).parent / "page"
"""Folder of the shell's own templates, styles and scripts."""


def render_page(
    folder: Path,
    template: str,
    *,
    title: str,
    scripts: Iterable[str] = (),
    styles: Iterable[str] = (),
    loads_scripts: bool = False,
    **told: Any,
) -> Iterator[bytes]:
    """Render a page piece by piece, so that no more than a piece is in memory.

    Args:
        folder: of the template; those of the shell are found as well.
        template: its name; it extends ``shell.html.jinja``.
        title: of the page.
        scripts: names of files in ``folder`` or the shell, which become one script in this order.
        styles: the same of styles, after the shell's own.
        loads_scripts: whether the page's own script may load others (from files beside it).
        told: what else the template uses; iterators are read as the page is written.
    """
    folders = [folder, SHELL]
    script = "".join(_read(folders, name) for name in scripts)
    style = "".join(_read(folders, name) for name in ("shell.css", *styles))
    environment = Environment(
        loader=FileSystemLoader(folders), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    pieces = environment.get_template(template).generate(
        title=title,
        policy=_policy(script, style, loads_scripts=loads_scripts),
        script=Markup(script),
        style=Markup(style),
        **told,
    )
    return (piece.encode("utf-8", "backslashreplace") for piece in pieces)


def as_inert_json(value: Any) -> str:
    """Encode a value as JSON that stands in a script element or a script file and can end neither.

    It is ASCII; lone surrogates stay what they are, as escapes.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character, escaped in _MARKUP.items():
        text = text.replace(character, escaped)
    return text


_MARKUP = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "'": "\\u0027"}


def data_url(picture: bytes, kind: str) -> str:
    """Write a picture into its own address; ``kind`` as in ``image/webp``."""
    return f"data:{kind};base64,{base64.b64encode(picture).decode()}"


def _policy(script: str, style: str, *, loads_scripts: bool) -> str:
    """Write the Content-Security-Policy: nothing but this script, this style and pictures in the page."""
    trusted = "require-trusted-types-for 'script'; trusted-types rows"
    more = " 'strict-dynamic'" if loads_scripts else ""
    run = f"script-src '{_digest(script)}'{more}; {trusted}" if script else "script-src 'none'"
    return (
        f"default-src 'none'; {run}; style-src '{_digest(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _read(folders: Iterable[Path], name: str) -> str:
    path = next(folder / name for folder in folders if (folder / name).is_file())
    return path.read_text(encoding="utf-8")
