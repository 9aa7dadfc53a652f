"""How many sources a query names, counted beside a scan. It asks no server and reads no pipe."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable

from bladescan.base.errors import BladescanError
from bladescan.sources.addresses import is_url, parse_url
from bladescan.sources.listing import list_sources
from bladescan.sources.name_lists import open_list, read_names
from bladescan.sources.query import SourceQuery

_BREATH = 500
"""Sources between two pauses, so that the scan, which shares the interpreter, goes first."""
_PAUSE_S = 0.002


def count_sources(query: SourceQuery, is_wanted: Callable[[], bool] = lambda: True) -> int | None:
    """Count what a listing would yield, by listing it once more; memory does not grow with it.

    Args:
        query: what to count.
        is_wanted: asked now and then whether to go on.

    Returns:
        None if that cannot be known beforehand: names that arrive in a pipe, or a bucket, which a second
        listing would cost requests; and if the count was not wanted any more.
    """
    try:
        if not _is_countable(query):
            return None
        n = 0
        for n, _ in enumerate(list_sources(query, stdin=None), 1):
            if n % _BREATH == 0:
                time.sleep(_PAUSE_S)
                if not is_wanted():
                    return None
        return n
    except (BladescanError, OSError):  # the scan says it
        return None


def _is_countable(query: SourceQuery) -> bool:
    if "-" in (*query.paths, query.files_from) or any(map(_is_in_bucket, query.paths)):
        return False
    if query.files_from is None:
        return True
    if not stat.S_ISREG(os.stat(query.files_from).st_mode):  # a pipe can be read once
        return False
    with open_list(query.files_from) as file:
        names = map(os.fsdecode, read_names(file, query.null_separated))
        return not any(is_url(name) and name.endswith("/") for name in names)


def _is_in_bucket(path: str) -> bool:
    return is_url(path) and not parse_url(path).is_web
