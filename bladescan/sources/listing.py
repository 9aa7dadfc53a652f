"""From what the user asked for to sources: files, folders, lists of names, URLs. It opens no image.

Every name that the user gives, or that a folder turns out to hold, becomes one `Source`, in an order that
depends on the names alone. What cannot be listed is a `Source` with a problem, never silently skipped. Only
below a folder are names left out: hidden ones, folders behind symbolic links, and what ``include`` and
``exclude`` say (`filters`). A name that the user wrote out is never filtered.
"""

from __future__ import annotations

import errno
import os
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import BinaryIO

from bladescan.base.errors import BladescanError, ImageError, UsageError
from bladescan.base.records import Reason
from bladescan.base.text import without_password
from bladescan.sources.addresses import Address, is_url, parse_url, without_url
from bladescan.sources.buckets import first_object, object_at, open_store
from bladescan.sources.filters import PathFilter
from bladescan.sources.folders import walk
from bladescan.sources.name_lists import open_list, read_names
from bladescan.sources.problems import problem_of, special_file
from bladescan.sources.query import SourceQuery, in_shard, option_queries
from bladescan.sources.retries import TransientError
from bladescan.sources.source import Source, Stamp
from bladescan.sources.stored_objects import StoredObject


def list_sources(query: SourceQuery, *, stdin: BinaryIO | None) -> Iterator[Source]:
    """List what a query names, lazily: in the order of its paths, each folder sorted by the bytes of names.

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
        raise UsageError("standard input can be read only once: give - only once")
    if stdin is None and "-" in (*query.paths, query.files_from):
        raise UsageError("- reads names from standard input, which is closed")
    listed = query.files_from
    stream = stdin if listed in (None, "-") else open_list(listed)
    found = _list_all(query, stdin, stream)
    if query.shard is None:
        return found
    shard = query.shard
    return (source for source in found if in_shard(source.name, shard) or _concerns_all_shards(source))


def list_option(paths: Sequence[str], *, stdin: BinaryIO | None) -> Iterator[Source]:
    """List what an option of folders, files or lists (``-``, ``@FILE``) names; the lists come last.

    Args:
        paths: as the user wrote them.
        stdin: where ``-`` reads names from.

    Raises:
        UsageError: a path or a list is not there: at once, and not after an hour of work.
    """
    queries = option_queries(paths)
    for query in queries:
        check_paths(query.paths)
    return chain.from_iterable([list_sources(query, stdin=stdin) for query in queries])


def check_paths(paths: Iterable[str]) -> None:
    """Check that paths which the user wrote out exist, before any work. Names in lists may be gone.

    Raises:
        UsageError: one does not.
    """
    for path in paths:
        if path != "-" and not is_url(path) and _is_missing(path):
            raise UsageError(f"{path}: no such file or folder")


def _is_missing(path: str) -> bool:
    try:
        os.stat(as_on_disk(path))
    except ValueError:  # a NUL
        return True
    except OSError as exc:
        return exc.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
    return False


def as_on_disk(name: str) -> str:
    """Return a name as the disk has it: with letters and accents together, or apart, if only that exists.

    macOS takes them apart, keyboards and most other systems put them together.
    """
    if name.isascii() or os.path.lexists(name):
        return name
    others = (unicodedata.normalize(form, name) for form in ("NFC", "NFD"))
    return next((other for other in others if other != name and os.path.lexists(other)), name)


def _concerns_all_shards(source: Source) -> bool:
    # A listing that broke off here did so in this run alone: no other part would tell of it.
    return source.problem is not None and source.problem.reason is Reason.READ_ERROR


def _list_all(query: SourceQuery, stdin: BinaryIO | None, listed: BinaryIO | None) -> Iterator[Source]:
    path_filter = PathFilter(query)
    for path in query.paths:
        if path == "-" and stdin is not None:
            yield from _list_names(stdin, query.null_separated, path_filter)
        else:
            yield from _list_path(path, path_filter)
    if query.files_from is not None and listed is not None:
        try:
            yield from _list_names(listed, query.null_separated, path_filter)
        finally:
            if listed is not stdin:
                listed.close()


def _list_names(stream: BinaryIO, null_separated: bool | None, path_filter: PathFilter) -> Iterator[Source]:
    for name in read_names(stream, null_separated):
        yield from _list_path(os.fsdecode(name), path_filter, from_list=True)


def _list_path(name: str, path_filter: PathFilter, *, from_list: bool = False) -> Iterator[Source]:
    if is_url(name):
        yield from _list_url(name, path_filter, from_list=from_list)
        return
    try:
        name = as_on_disk(name)
        mode = os.stat(name).st_mode
    except (OSError, ValueError) as exc:
        yield Source(name, problem_of(exc, name))
        return
    if stat.S_ISDIR(mode):
        yield from walk(name, path_filter)
    else:
        yield Source(name, special_file(mode))


def _list_url(name: str, path_filter: PathFilter, *, from_list: bool) -> Iterator[Source]:
    """List what a URL names. A bucket's listing that breaks off ends with a source that says so.

    In a list, a URL without a final slash is taken for an object without asking: a list may be long.
    """
    try:
        address = parse_url(name)
    except UsageError as exc:
        yield Source(without_password(name), ImageError(Reason.NOT_FOUND, without_url(exc, name)))
        return
    if address.is_web or (from_list and not address.is_prefix):
        yield Source(name)
    else:
        yield from _list_bucket(name, address, path_filter)


def _list_bucket(name: str, address: Address, path_filter: PathFilter) -> Iterator[Source]:
    n_listed = 0
    try:
        store = open_store(address)
        found = None if address.is_prefix else object_at(address)
        if found is not None:
            yield _object_source(address.root, found)
            return
        below = address.key if address.is_prefix else address.key + "/"
        for page in store.pages(below):
            n_listed += len(page)
            yield from (
                _object_source(address.root, each, path_filter.may_be_other(each.key))
                for each in page
                if path_filter.keeps_object(below, each)
            )
    except (BladescanError, TransientError) as exc:
        why = exc.detail if isinstance(exc, ImageError | TransientError) else without_url(exc, name)
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


def _object_source(root: str, found: StoredObject, may_be_other: bool = False) -> Source:
    return Source(f"{root}/{found.key}", stamp=Stamp(found.size, found.mark), may_be_other=may_be_other)
