"""Which names below a folder or a prefix are scanned. It looks at names alone, and opens nothing."""

from __future__ import annotations

import fnmatch
import os
import re
import unicodedata
from collections.abc import Iterator

from bladescan.images.formats import names_picture
from bladescan.sources.query import SourceQuery
from bladescan.sources.stored_objects import StoredObject

_UNFINISHED = re.compile(
    r"\.bladescan-[0-9a-f]{16}\.tmp|\..+\.bladescan-(lock|journal(-wal|-shm|-journal)?)", re.DOTALL
)
_LEDGER_SUFFIXES = ("", "-wal", "-shm", "-journal", ".lock")


class PathFilter:
    """Says which files, folders and objects below a folder are scanned. Globs ignore case.

    A glob without a slash is matched with the base name, one with a slash with the path below the
    folder that is walked; ``*`` also crosses slashes, ``**/`` may stand for no folder at all, and a
    final slash means everything below a folder of that name. A letter and its accent may be one character
    or two.
    """

    def __init__(self, query: SourceQuery) -> None:
        self.hidden = query.hidden
        self.follow_links = query.follow_links
        self._all_files = query.all_files
        self._own = set(_own_files(query))
        self._own_names = {os.path.basename(path) for path in self._own}
        self._include = [_glob(pattern) for pattern in query.include]
        self._exclude = [_glob(pattern) for pattern in query.exclude]
        self._last_folder = ("", True)

    def is_ours(self, folder: str, name: str) -> bool:
        """Tell whether a file is this scan's output, ledger or metrics, or any scan's unfinished output."""
        if name.startswith(".") and _UNFINISHED.fullmatch(name):
            return True
        return name in self._own_names and os.path.realpath(os.path.join(folder, name)) in self._own

    def keeps_file(self, relative: str) -> bool:
        """Tell whether a file is scanned, by its path below the folder that is walked."""
        path = "/" + _composed(relative)
        if any(glob.match(path) for glob in self._exclude):
            return False
        return not self._include or any(glob.match(path) for glob in self._include)

    def may_be_other(self, name: str) -> bool:
        """Tell whether a file may turn out to be no picture: its name does not say that it is one."""
        return not self._all_files and not names_picture(name)

    def keeps_folder(self, relative: str) -> bool:
        """Tell whether a folder is walked, by its path below the first one."""
        path = "/" + _composed(relative)
        return not any(glob.match(path) or glob.match(path + "/") for glob in self._exclude)

    def keeps_object(self, prefix: str, found: StoredObject) -> bool:
        """Tell whether an object below a prefix is scanned; an empty one whose key ends in / is a folder."""
        relative = found.key.removeprefix(prefix)
        folder, _, name = relative.rpartition("/")
        if found.key.endswith("/") and not found.size:
            return False
        if not self.hidden and _is_hidden(name):
            return False
        return self._keeps_folders(folder) and self.keeps_file(relative)

    def _keeps_folders(self, folder: str) -> bool:
        """Tell whether a walk would reach a folder; as objects come sorted, the last answer often serves."""
        if folder != self._last_folder[0]:
            self._last_folder = folder, self._walks_to(folder)
        return self._last_folder[1]

    def _walks_to(self, folder: str) -> bool:
        parts = folder.split("/") if folder else []
        if not self.hidden and any(map(_is_hidden, parts)):
            return False
        return all(self.keeps_folder("/".join(parts[:n])) for n in range(1, len(parts) + 1))


def _is_hidden(part: str) -> bool:
    """Tell whether a part of a key is a hidden name; ``.`` and ``..`` are ordinary ones in a bucket."""
    return part.startswith(".") and part not in (".", "..")


def _composed(name: str) -> str:
    """Write letters with accents in one way: macOS keeps them apart, keyboards type them as one (NFC)."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _own_files(query: SourceQuery) -> Iterator[str]:
    """Yield the real paths of the files that the scan itself writes."""
    if query.output:
        output = os.path.realpath(query.output)
        stem, suffix = os.path.splitext(output)
        yield from (output, f"{stem}.partial{suffix}")
    if query.ledger:
        yield from (os.path.realpath(query.ledger) + suffix for suffix in _LEDGER_SUFFIXES)
    if query.metrics:
        yield os.path.realpath(query.metrics)


def _glob(pattern: str) -> re.Pattern[str]:
    """Compile a glob to match ``"/" + path below the folder``."""
    body = _composed(pattern).removeprefix("./").removeprefix("/")
    if body.endswith("/"):
        choices = ["/" + body + "*", "*/" + body + "*"]
    elif "/" in body:
        choices = ["/" + body, "/" + body.replace("**/", "")]
    else:
        return re.compile(r"(?s:.*/)(?![^/]*/)" + fnmatch.translate(body), re.IGNORECASE)
    return re.compile("|".join(fnmatch.translate(choice) for choice in choices), re.IGNORECASE)
