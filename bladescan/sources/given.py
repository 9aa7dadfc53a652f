"""Sources as a Python program gives them: a path, several, a query, or sources themselves."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from bladescan.base.errors import DataError
from bladescan.sources.listing import check_paths, list_sources
from bladescan.sources.query import SourceQuery
from bladescan.sources.source import Source

Given = SourceQuery | str | os.PathLike[str] | Iterable[str | os.PathLike[str] | Source]
"""Files, folders, URLs, lists (``-``), a query with its rules, or what was listed before."""


def sources_of(given: Given, stdin: BinaryIO | None = None) -> Iterator[Source]:
    """List what is given, in its order.

    Args:
        given: paths are listed by the rules of a query of their own, folders recursively. One of several that
            does not exist becomes a source with a problem.
        stdin: where the path ``-`` reads names from.

    Raises:
        BladescanError: a query names a path that does not exist; also see
            `bladescan.sources.listing.list_sources`.
    """
    if isinstance(given, str | os.PathLike):
        given = SourceQuery((os.fspath(given),))
    if isinstance(given, SourceQuery):
        check_paths(given.paths)
        return list_sources(given, stdin=stdin)
    return _each(given, stdin)


def sources_there(given: Given, what: str) -> list[Source]:
    """List all that is given, at once: a list whose names lead nowhere is an error before any work.

    Args:
        given: what to list.
        what: it is, for the error.

    Raises:
        DataError: there is nothing, or none of it is there.
        BladescanError: as `sources_of`.
    """
    found = list(sources_of(given))
    if not found:
        raise DataError(f"{what}: nothing is listed")
    gone = [source for source in found if source.problem is not None]
    if len(gone) == len(found):
        first = gone[0]
        raise DataError(f"{what}: none of {len(gone)} can be read; the first, {first.name}: {first.problem}")
    return found


def _each(given: Iterable[str | os.PathLike[str] | Source], stdin: BinaryIO | None) -> Iterator[Source]:
    for item in given:
        if isinstance(item, Source):
            yield item
        else:
            yield from list_sources(SourceQuery((os.fspath(item),)), stdin=stdin)
