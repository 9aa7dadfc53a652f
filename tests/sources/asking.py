"""What the sources are asked in tests: to list, and to fetch."""

from __future__ import annotations

import io
from concurrent.futures import wait

from bladescan.base.errors import ImageError
from bladescan.sources.fetching import Fetcher
from bladescan.sources.listing import list_sources
from bladescan.sources.query import SourceQuery
from bladescan.sources.source import Source


def listed(*paths: str, stdin: bytes | None = None, **options) -> list[Source]:
    stream = None if stdin is None else io.BytesIO(stdin)
    return list(list_sources(SourceQuery(paths, **options), stdin=stream))


def fetch(*sources: Source, max_bytes: int = 10**8, timeout_s: float = 20.0) -> list[bytes | ImageError]:
    """What comes of each source."""
    with Fetcher(max_bytes, timeout_s) as fetcher:
        begun = [fetcher.submit(source) for source in sources]
        for each in begun:
            each.body.add_done_callback(lambda _, ticket=each.ticket: fetcher.release(ticket))
        wait([each.body for each in begun], timeout=60)
        return [each.body.exception() or each.body.result().data for each in begun]


def object_in(bucket: str, name: str = "sub/&<y>.JPG") -> tuple[Source, bytes]:
    (source,) = listed(bucket + name)
    (data,) = fetch(source)
    assert isinstance(data, bytes) and len(data) == source.stamp.size > 1000
    return source, data
