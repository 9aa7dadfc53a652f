"""Folders on a disk, walked in an order that depends on the names alone. No file is opened."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator

from bladescan.base.errors import ImageError
from bladescan.base.records import Reason
from bladescan.sources.filters import PathFilter
from bladescan.sources.problems import problem_of, special_file
from bladescan.sources.source import Source


class _Names:
    """The names of one folder in the order of their bytes, in little more memory than those bytes.

    Packed in sorted runs that are merged as they are taken: a million Python strings would be six times that.
    A folder's name ends with one slash, with two what is neither folder nor regular file; neither counts in
    the order.
    """

    def __init__(self) -> None:
        self._runs: list[bytes] = []
        self._open: list[bytes] = []

    def add(self, name: str, mark: bytes) -> None:
        self._open.append(os.fsencode(name) + mark)
        if len(self._open) >= _RUN:
            self._pack()

    def __iter__(self) -> Iterator[bytes]:
        self._pack()
        return heapq.merge(*map(_unpacked, self._runs), key=_without_mark)

    def _pack(self) -> None:
        self._open.sort(key=_without_mark)
        if self._open:
            self._runs.append(b"\0".join(self._open))
        self._open = []


_RUN = 1 << 15
_REGULAR, _FOLDER, _OTHER = b"", b"/", b"//"


def _without_mark(name: bytes) -> bytes:
    return name.rstrip(b"/")


def _unpacked(run: bytes) -> Iterator[bytes]:
    start = 0
    while (end := run.find(b"\0", start)) >= 0:
        yield run[start:end]
        start = end + 1
    yield run[start:]


class _Folder:
    """A folder being walked: its names, sorted, with what each is."""

    def __init__(self, path: str, below: str, path_filter: PathFilter) -> None:
        self.path, self.below = path, below
        status = os.stat(path)
        self.identity = (status.st_dev, status.st_ino)
        names = _Names()
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith(".") and not path_filter.hidden:
                    continue
                regular = entry.is_file(follow_symlinks=False)
                if regular and not path_filter.keeps_file(below + entry.name):
                    continue
                if regular and path_filter.is_ours(path, entry.name):
                    continue
                names.add(entry.name, _REGULAR if regular else _mark(entry))
        self.names = iter(names)


def _mark(entry: os.DirEntry[str]) -> bytes:
    return _FOLDER if entry.is_dir(follow_symlinks=False) else _OTHER


def walk(top: str, path_filter: PathFilter) -> Iterator[Source]:
    """List a folder, depth first, each folder sorted by the bytes of its names.

    Args:
        top: the folder.
        path_filter: says what is left out below it.

    Returns:
        The sources, lazily; memory holds the names of the open folders and no more.
    """
    # A stack of its own: a path may nest deeper than Python recurses.
    stack: list[_Folder] = []
    yield from _enter(top, "", stack, path_filter)
    while stack:
        folder = stack[-1]
        packed = next(folder.names, None)
        if packed is None:
            stack.pop()
            continue
        name = os.fsdecode(_without_mark(packed))
        mark = packed[len(_without_mark(packed)) :]
        path, relative = os.path.join(folder.path, name), folder.below + name
        if mark == _REGULAR:
            yield Source(path, may_be_other=path_filter.may_be_other(name))
        elif mark == _FOLDER or os.path.isdir(path):
            if path_filter.keeps_folder(relative) and (path_filter.follow_links or mark == _FOLDER):
                yield from _enter(path, relative + "/", stack, path_filter)
        elif path_filter.keeps_file(relative):
            yield Source(path, _special_or_gone(path))


def _enter(path: str, below: str, stack: list[_Folder], path_filter: PathFilter) -> Iterator[Source]:
    """Put a folder on the stack, or yield why that cannot be."""
    try:
        folder = _Folder(path, below, path_filter)
    except (OSError, ValueError) as exc:
        yield Source(path, problem_of(exc, path, vanished=bool(below)))
        return
    if any(folder.identity == above.identity for above in stack):
        yield Source(path, ImageError(Reason.NOT_A_FILE, "a link to a folder that it lies in"))
        return
    stack.append(folder)


def _special_or_gone(path: str) -> ImageError | None:
    try:
        return special_file(os.stat(path).st_mode)
    except OSError as exc:
        return problem_of(exc, path, vanished=not os.path.islink(path))
