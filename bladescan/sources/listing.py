"""Where images come from: files, folders and lists of names. It lists; it opens no image.

Every name that the user gives, or that a folder turns out to hold, becomes one `Source`, in an order
that depends on the names alone. What cannot be listed is a `Source` with a problem, never a silent
skip. Left out on purpose, and only below a folder: hidden names, folders behind symbolic links, and
what ``include`` and ``exclude`` say; a name that the user wrote out is never filtered.

Names are ``str`` with undecodable bytes as surrogate escapes (`os.fsdecode`).
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import heapq
import os
import re
import select
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from bladescan.base.errors import BladescanError, ImageError, UsageError
from bladescan.base.logs import without_password
from bladescan.base.records import ImageRecord, Reason
from bladescan.sources.buckets import Address, first_object, is_url, object_at, open_store, parse_url, said_of
from bladescan.sources.retries import Transient
from bladescan.sources.stored_objects import StoredObject

LONGEST_NAME = 1 << 20
"""Bytes without a separator after which a list is taken for something else."""
_READ_SIZE = 1 << 16
_UNFINISHED = re.compile(
    r"\.bladescan-[0-9a-f]{16}\.tmp|\..+\.bladescan-(lock|journal(-wal|-shm|-journal)?)", re.DOTALL
)
_LEDGER_SUFFIXES = ("", "-wal", "-shm", "-journal", ".lock")
_SPECIAL = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True, slots=True)
class SourceQuery:
    """What the user asked to scan.

    Attributes:
        paths: files, folders, or ``-`` for a list of names on standard input.
        files_from: a file with a list of names, ``-`` for standard input.
        null_separated: names in lists end with NUL, not with a line end.
        include: below folders, only files that match one of these globs; empty means all.
        exclude: below folders, no file and no folder that matches one of these.
        hidden: below folders, also names that begin with a dot.
        follow_links: below folders, also folders behind symbolic links.
        shard: (i, n), 1 <= i <= n: only the i-th of n parts.
        output, ledger, metrics: what the scan itself writes, which is not scanned below a folder.
    """

    paths: tuple[str, ...]
    files_from: str | None = None
    null_separated: bool = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    hidden: bool = False
    follow_links: bool = False
    shard: tuple[int, int] | None = None
    output: str | None = None
    ledger: str | None = None
    metrics: str | None = None


class Stamp(NamedTuple):
    """What tells a changed source from an unchanged one without reading it.

    Attributes:
        size: in bytes.
        mark: an object's ETag, or the time of a file's last change in nanoseconds.
    """

    size: int
    mark: str


@dataclass(frozen=True, slots=True)
class Source:
    """One thing to scan.

    Attributes:
        name: as the user would type it.
        problem: why it cannot be scanned, where listing already tells.
        stamp: where listing already tells.
        known: its record, where it need not be read.
    """

    name: str
    problem: ImageError | None = None
    stamp: Stamp | None = None
    known: ImageRecord | None = None


def parse_shard(text: str) -> tuple[int, int]:
    """``"3/16"`` as ``(3, 16)``.

    Raises:
        UsageError: not I/N with 1 <= I <= N.
    """
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"shard {text!r}: expected I/N with 1 <= I <= N, for example 3/16")
    return int(match[1]), int(match[2])


def in_shard(name: str, shard: tuple[int, int]) -> bool:
    """Whether a name falls in that part: by a hash of its bytes as listed, never by its position."""
    digest = hashlib.blake2b(os.fsencode(name), digest_size=8).digest()
    return int.from_bytes(digest, "big") % shard[1] == shard[0] - 1


def list_sources(query: SourceQuery, *, stdin: BinaryIO | None) -> Iterator[Source]:
    """List lazily, in the order of the paths, each folder sorted by the bytes of its names.

    Args:
        query: what to list.
        stdin: where ``-`` reads names from, as they come.

    Returns:
        The sources; memory holds the names of the open folders and no more.

    Raises:
        UsageError: standard input asked for twice or not there, a list that cannot be opened (at once),
            or that turns out not to be a list (while listing).
        BucketError: a bucket among the paths that cannot be listed (at once).
    """
    for path in query.paths:
        if is_url(path) and not parse_url(path).is_web:
            first_object(parse_url(path))
    if [*query.paths, query.files_from].count("-") > 1:
        raise UsageError("standard input can be read once: give - once")
    if stdin is None and "-" in (*query.paths, query.files_from):
        raise UsageError("- reads names from standard input, which is closed")
    listed = query.files_from
    stream = _open_list(listed) if listed not in (None, "-") else stdin
    found = _list_all(query, stdin, stream)
    if query.shard is None:
        return found
    shard = query.shard
    return (source for source in found if in_shard(source.name, shard) or _concerns_all_shards(source))


def _concerns_all_shards(source: Source) -> bool:
    # A listing that broke off here did so in this run alone: no other part would tell of it.
    return source.problem is not None and source.problem.reason is Reason.READ_ERROR


def _list_all(query: SourceQuery, stdin: BinaryIO | None, listed: BinaryIO | None) -> Iterator[Source]:
    rules = _Rules(query)
    for path in query.paths:
        if path == "-" and stdin is not None:
            yield from _list_names(stdin, query.null_separated, rules)
        else:
            yield from _list_path(path, rules)
    if query.files_from is not None and listed is not None:
        try:
            yield from _list_names(listed, query.null_separated, rules)
        finally:
            if listed is not stdin:
                listed.close()


def _open_list(path: str | None) -> BinaryIO:
    assert path is not None
    try:
        return open(path, "rb", buffering=0)
    except (OSError, ValueError) as exc:
        raise UsageError(f"list of names {path}: {_why(exc)}") from exc


def _list_names(stream: BinaryIO, null_separated: bool, rules: _Rules) -> Iterator[Source]:
    for name in read_names(stream, null_separated):
        yield from _list_path(os.fsdecode(name), rules, from_list=True)


def read_names(stream: BinaryIO, null_separated: bool) -> Iterator[bytes]:
    """Names from a list, each as soon as it is there. Blank lines are skipped.

    A carriage return before a line end belongs to the line end; a name that ends with one, or holds a
    line end, needs ``null_separated``.
    """
    separator, rest = (b"\0" if null_separated else b"\n"), b""
    for block in _blocks(stream):
        *names, rest = (rest + block).split(separator)
        if len(rest) > LONGEST_NAME:
            raise UsageError(f"this is no list of names: {LONGEST_NAME} bytes without {separator!r}")
        yield from _without_blanks(names, null_separated)
    yield from _without_blanks([rest], null_separated)


def _without_blanks(names: Iterable[bytes], null_separated: bool) -> Iterator[bytes]:
    if not null_separated:
        names = (name.removesuffix(b"\r") for name in names)
    return (name for name in names if name)


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    # read1, where there is one: read(n) of a buffered pipe would wait until n bytes have come.
    read = getattr(stream, "read1", stream.read)
    while True:
        try:
            block = read(_READ_SIZE)
        except OSError as exc:
            raise UsageError(f"list of names: {_why(exc)}") from exc
        if block is None:  # a non-blocking stream with nothing yet, which is not its end
            select.select([stream], [], [])
        elif block:
            yield block
        else:
            return


def _list_path(name: str, rules: _Rules, *, from_list: bool = False) -> Iterator[Source]:
    if is_url(name):
        yield from _list_url(name, rules, from_list=from_list)
        return
    try:
        mode = os.stat(name).st_mode
    except (OSError, ValueError) as exc:
        yield Source(name, _problem(exc, name))
        return
    if stat.S_ISDIR(mode):
        yield from _walk(name, rules)
    else:
        yield Source(name, _special(mode))


def _list_url(name: str, rules: _Rules, *, from_list: bool) -> Iterator[Source]:
    """What a URL names. A bucket's listing that breaks off ends with a source that says so.

    In a list a URL without a final slash is an object that need not be looked for: a list may be long.
    """
    try:
        address = parse_url(name)
    except UsageError as exc:
        yield Source(without_password(name), ImageError(Reason.NOT_FOUND, said_of(exc, name)))
        return
    if address.is_web or (from_list and not address.is_prefix):
        yield Source(name)
    else:
        yield from _list_bucket(name, address, rules)


def _list_bucket(name: str, address: Address, rules: _Rules) -> Iterator[Source]:
    n_listed = 0
    try:
        store = open_store(address)
        found = None if address.is_prefix else object_at(address)
        if found is not None:
            yield _object(address.root, found)
            return
        below = address.key if address.is_prefix else address.key + "/"
        for page in store.pages(below):
            n_listed += len(page)
            yield from (_object(address.root, each) for each in page if rules.keeps_object(below, each))
    except (BladescanError, Transient) as exc:
        why = exc.detail if isinstance(exc, ImageError | Transient) else said_of(exc, name)
        yield _broken_off(name, address, n_listed, why)
    else:
        if not n_listed and not address.is_prefix:
            yield Source(name, ImageError(Reason.NOT_FOUND, "no such object, and nothing below it"))


def _broken_off(name: str, address: Address, n_listed: int, why: str) -> Source:
    if not address.is_prefix and not n_listed:
        return Source(name)  # who may not list may still read this one: reading tells
    return Source(
        name, ImageError(Reason.READ_ERROR, f"the listing broke off after {n_listed} objects: {why}")
    )


def _object(root: str, found: StoredObject) -> Source:
    return Source(f"{root}/{found.key}", stamp=Stamp(found.size, found.mark))


class _Rules:
    """What a walk leaves out. Globs ignore case.

    A glob without a slash is matched with the base name, one with a slash with the path below the
    folder that is walked; ``*`` also crosses slashes, ``**/`` may stand for no folder at all, and a
    final slash means everything below a folder of that name.
    """

    def __init__(self, query: SourceQuery) -> None:
        self.hidden = query.hidden
        self.follow_links = query.follow_links
        self._own = set(_own_files(query))
        self._own_names = {os.path.basename(path) for path in self._own}
        self._include = [_glob(pattern) for pattern in query.include]
        self._exclude = [_glob(pattern) for pattern in query.exclude]
        self._last_folder = ("", True)

    def is_ours(self, folder: str, name: str) -> bool:
        """Whether a file is this scan's output, ledger or metrics, or the unfinished output of any."""
        if name.startswith(".") and _UNFINISHED.fullmatch(name):
            return True
        return name in self._own_names and os.path.realpath(os.path.join(folder, name)) in self._own

    def keeps_file(self, relative: str) -> bool:
        if any(glob.match("/" + relative) for glob in self._exclude):
            return False
        return not self._include or any(glob.match("/" + relative) for glob in self._include)

    def keeps_folder(self, relative: str) -> bool:
        return not any(g.match("/" + relative) or g.match(f"/{relative}/") for g in self._exclude)

    def keeps_object(self, prefix: str, found: StoredObject) -> bool:
        """The same for an object below a prefix; objects without bytes whose key ends in / are folders."""
        relative = found.key.removeprefix(prefix)
        folder, _, name = relative.rpartition("/")
        if found.key.endswith("/") and not found.size:
            return False
        if not self.hidden and name.startswith("."):
            return False
        return self._keeps_folders(folder) and self.keeps_file(relative)

    def _keeps_folders(self, folder: str) -> bool:
        """Whether a walk would come to this folder. Objects come sorted, so the last answer mostly serves."""
        if folder != self._last_folder[0]:
            self._last_folder = folder, self._walks_to(folder)
        return self._last_folder[1]

    def _walks_to(self, folder: str) -> bool:
        parts = folder.split("/") if folder else []
        if not self.hidden and any(part.startswith(".") for part in parts):
            return False
        return all(self.keeps_folder("/".join(parts[:n])) for n in range(1, len(parts) + 1))


def _own_files(query: SourceQuery) -> Iterator[str]:
    """What the scan itself writes, by its real path."""
    if query.output:
        output = os.path.realpath(query.output)
        stem, suffix = os.path.splitext(output)
        yield from (output, f"{stem}.partial{suffix}")
    if query.ledger:
        yield from (os.path.realpath(query.ledger) + suffix for suffix in _LEDGER_SUFFIXES)
    if query.metrics:
        yield os.path.realpath(query.metrics)


def _glob(pattern: str) -> re.Pattern[str]:
    """Matches ``"/" + path below the folder``."""
    body = pattern.removeprefix("./").removeprefix("/")
    if body.endswith("/"):
        choices = ["/" + body + "*", "*/" + body + "*"]
    elif "/" in body:
        choices = ["/" + body, "/" + body.replace("**/", "")]
    else:
        return re.compile(r"(?s:.*/)(?![^/]*/)" + fnmatch.translate(body), re.IGNORECASE)
    return re.compile("|".join(fnmatch.translate(choice) for choice in choices), re.IGNORECASE)


class _Names:
    """Names of one folder in the order of their bytes, in little more memory than those bytes.

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

    def __init__(self, path: str, below: str, rules: _Rules) -> None:
        self.path, self.below = path, below
        status = os.stat(path)
        self.identity = (status.st_dev, status.st_ino)
        names = _Names()
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith(".") and not rules.hidden:
                    continue
                regular = entry.is_file(follow_symlinks=False)
                if regular and not rules.keeps_file(below + entry.name):
                    continue
                if regular and rules.is_ours(path, entry.name):
                    continue
                names.add(entry.name, _REGULAR if regular else _mark(entry))
        self.names = iter(names)


def _mark(entry: os.DirEntry[str]) -> bytes:
    return _FOLDER if entry.is_dir(follow_symlinks=False) else _OTHER


def _walk(top: str, rules: _Rules) -> Iterator[Source]:
    """Depth first with a stack of its own: a path may nest deeper than Python recurses."""
    stack: list[_Folder] = []
    yield from _enter(top, "", stack, rules)
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
            yield Source(path)
        elif mark == _FOLDER or os.path.isdir(path):
            if rules.keeps_folder(relative) and (rules.follow_links or mark == _FOLDER):
                yield from _enter(path, relative + "/", stack, rules)
        elif rules.keeps_file(relative):
            yield Source(path, _special_or_gone(path))


def _enter(path: str, below: str, stack: list[_Folder], rules: _Rules) -> Iterator[Source]:
    """Put a folder on the stack, or yield why that cannot be."""
    try:
        folder = _Folder(path, below, rules)
    except (OSError, ValueError) as exc:
        yield Source(path, _problem(exc, path, vanished=bool(below)))
        return
    if any(folder.identity == above.identity for above in stack):
        yield Source(path, ImageError(Reason.NOT_A_FILE, "a link to a folder that it lies in"))
        return
    stack.append(folder)


def _special_or_gone(path: str) -> ImageError | None:
    try:
        return _special(os.stat(path).st_mode)
    except OSError as exc:
        return _problem(exc, path, vanished=not os.path.islink(path))


def _special(mode: int) -> ImageError | None:
    if stat.S_ISREG(mode):
        return None
    kind = _SPECIAL.get(stat.S_IFMT(mode), "something else")
    return ImageError(Reason.NOT_A_FILE, f"{kind}, not a file or folder")


def _problem(exc: OSError | ValueError, path: str, *, vanished: bool = False) -> ImageError:
    if isinstance(exc, ValueError):
        return ImageError(Reason.NOT_FOUND, "a name with a NUL in it; lists with NULs need -0")
    if isinstance(exc, PermissionError):
        return ImageError(Reason.PERMISSION_DENIED, _why(exc))
    if exc.errno == errno.ELOOP:
        return ImageError(Reason.NOT_A_FILE, "a symbolic link that leads back to itself")
    if exc.errno in (errno.ENOENT, errno.ENOTDIR):
        if os.path.islink(path):
            return ImageError(Reason.NOT_FOUND, "a symbolic link to nothing")
        return ImageError(Reason.VANISHED if vanished else Reason.NOT_FOUND, _why(exc))
    return ImageError(Reason.NOT_FOUND if exc.errno == errno.ENAMETOOLONG else Reason.READ_ERROR, _why(exc))


def _why(exc: OSError | ValueError) -> str:
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
