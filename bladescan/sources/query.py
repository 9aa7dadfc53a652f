"""What the user asked to scan, as data. It lists nothing."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from bladescan.base.errors import UsageError


@dataclass(frozen=True, slots=True)
class SourceQuery:
    """What the user asked to scan.

    Attributes:
        paths: files, folders, or ``-`` for a list of names on standard input.
        files_from: a file with a list of names, ``-`` for standard input.
        null_separated: names in lists end with NUL, not with a line end; None: as a list itself shows.
        include: below folders, only files that match one of these globs; empty means all.
        exclude: below folders, no file and no folder that matches one of these.
        hidden: below folders, also names that begin with a dot.
        follow_links: below folders, also folders behind symbolic links.
        all_files: below folders, files that are no pictures have rows as well.
        shard: (i, n), 1 <= i <= n: only the i-th of n parts.
        output, ledger, metrics: files that the scan itself writes, which a walk leaves out.
    """

    paths: tuple[str, ...]
    files_from: str | None = None
    null_separated: bool | None = False
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    hidden: bool = False
    follow_links: bool = False
    all_files: bool = False
    shard: tuple[int, int] | None = None
    output: str | None = None
    ledger: str | None = None
    metrics: str | None = None


def option_queries(paths: Sequence[str]) -> list[SourceQuery]:
    """Make a query of what an option names, and one for each list ``@FILE``.

    A list says itself whether NUL separates its names. A folder whose name begins with ``@`` is ``./@NAME``.

    Raises:
        UsageError: an ``@`` without a name.
    """
    plain = tuple(path for path in paths if not path.startswith("@"))
    lists = [path.removeprefix("@") for path in paths if path.startswith("@")]
    if "" in lists or "-" in lists:
        raise UsageError("@ stands before the name of a list, such as @photographs.txt; - is standard input")
    found = [SourceQuery(plain)] if plain else []
    return [*found, *(SourceQuery((), files_from=each, null_separated=None) for each in lists)]


def parse_shard(text: str) -> tuple[int, int]:
    """Read ``"3/16"`` as ``(3, 16)``.

    Raises:
        UsageError: not I/N with 1 <= I <= N.
    """
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"shard {text!r}: expected I/N with 1 <= I <= N, for example 3/16")
    return int(match[1]), int(match[2])


def in_shard(name: str, shard: tuple[int, int]) -> bool:
    """Tell whether a name belongs to a shard: by a hash of its bytes as listed, never by its position."""
    digest = hashlib.blake2b(os.fsencode(name), digest_size=8).digest()
    return int.from_bytes(digest, "big") % shard[1] == shard[0] - 1
