"""For mkdocs: pages from outside docs/ become part of the site, and links are the same in both places.

Links in the sources are relative to the files of the repository, where people read them as well. A link to a
file that the site does not have (code, notices) becomes its name; one to a file that is not there is left as
it is, so that a strict build fails.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {
    "README.md": "introduction.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "bladescan/detectors/MODEL_CARD.md": "model-card.md",
}
"""Pages of the repository by their names in the site."""
_LINK = re.compile(r"\[([^\]]*)\]\((?!\w+:)([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from outside."""
    for name, page in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turn links between files of the repository into links between pages."""
    name = page.file.src_uri
    source = next((path for path, to in OUTSIDE.items() if to == name), f"docs/{name}")
    return _LINK.sub(lambda match: in_site(match, Path(source).parent), markdown)


def in_site(match: re.Match[str], folder: Path) -> str:
    """Write one link of a page in a folder of the repository as the site has it."""
    text, target, anchor = match[1], match[2], match[3] or ""
    path = Path(os.path.normpath(folder / target))
    if path.as_posix() in OUTSIDE:
        return f"[{text}]({OUTSIDE[path.as_posix()]}{anchor})"
    if path.parts[0] == "docs":
        return f"[{text}]({path.relative_to('docs').as_posix()}{anchor})"
    return f"{text} (`{path}`)" if (ROOT / path).exists() else match[0]
