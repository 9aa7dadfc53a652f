"""Sources as a Python program gives them: a path, several, a query, or sources themselves."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO

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


def _each(given: Iterable[str | os.PathLike[str] | Source], stdin: BinaryIO | None) -> Iterator[Source]:
    for item in given:
        if isinstance(item, Source):
            yield item
        else:
            yield from list_sources(SourceQuery((os.fspath(item),)), stdin=stdin)
