"""The table of URL schemes. A new one is a module with a class like `Store`, and a line here.

It opens no store: `buckets.open_store` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from bladescan.sources.object_store import ObstoreBucket
from bladescan.sources.s3 import S3Bucket
from bladescan.sources.stored_objects import StoredObject
from bladescan.sources.web import WebFiles


class Store(Protocol):
    """One bucket, or files on web servers.

    Raises, from every method: `TransientError` for what may go well the next time, `ImageError` for what is
    wrong with one object, `BucketError` for what is wrong with all of them.
    """

    def find(self, key: str) -> StoredObject | None:
        """Look for the object with exactly this key."""

    def pages(self, prefix: str) -> Iterator[list[StoredObject]]:
        """List everything below a prefix (empty, or ending with a slash), in the order of the keys."""

    async def read(self, key: str, listed: StoredObject | None, max_bytes: int, stall_s: float) -> bytes:
        """Read a whole object, in one attempt.

        Args:
            key: of the object.
            listed: the object as a listing showed it, None if it was not listed.
            max_bytes: a larger object raises TooLargeError.
            stall_s: how long the server may send nothing.
        """

    def write(self, key: str, path: Path) -> None:
        """Make an object of a file, whole or not at all, in one attempt. What was there is replaced."""

    def close(self) -> None:
        """Close its connections. Closing twice is fine."""


class Scheme(NamedTuple):
    """One kind of URL.

    Attributes:
        make: the store of a root such as ``s3://bucket``.
        packages: import names that it needs.
        is_web: whether a URL is one file on a web server, not an object in a bucket or a prefix.
    """

    make: Callable[[str], Store]
    packages: tuple[str, ...]
    is_web: bool = False


SCHEMES = {
    "s3": Scheme(S3Bucket, ("obstore", "botocore")),
    "gs": Scheme(ObstoreBucket, ("obstore",)),
    "az": Scheme(ObstoreBucket, ("obstore",)),
    "abfs": Scheme(ObstoreBucket, ("obstore",)),
    "abfss": Scheme(ObstoreBucket, ("obstore",)),
    "http": Scheme(WebFiles, ("urllib3",), is_web=True),
    "https": Scheme(WebFiles, ("urllib3",), is_web=True),
}
"""By the part of a URL before ``://``, in small letters."""
