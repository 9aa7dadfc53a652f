"""Buckets and web servers by their URL: what a URL means, which store it belongs to, what is there.

It knows no image and no scan; how each kind of store is listed and read stands in `s3`, `object_store` and
`web`. Nothing here or there prints a credential.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from typing import NamedTuple, Protocol

from bladescan.base.errors import (
    BucketError,
    ImageError,
    MissingDependencyError,
    UnknownNameError,
    UsageError,
)
from bladescan.base.logs import without_password
from bladescan.base.records import Reason
from bladescan.sources.object_store import ObstoreBucket
from bladescan.sources.retries import Transient, patiently
from bladescan.sources.s3 import S3Bucket
from bladescan.sources.stored_objects import StoredObject
from bladescan.sources.web import WebFiles

_BUCKET_SCHEMES = ("s3", "gs", "az", "abfs", "abfss")
_WEB_SCHEMES = ("http", "https")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_INSTALL = "pip install 'bladescan[buckets]'"


class Address(NamedTuple):
    """A URL taken apart, never decoded.

    Attributes:
        scheme: in small letters.
        root: ``s3://bucket``; ``root + "/" + key`` is the URL of a bucket's object again.
        key: below the bucket; of a web address the whole URL.
    """

    scheme: str
    root: str
    key: str

    @property
    def is_prefix(self) -> bool:
        """Whether it means all that lies below it: a bucket, or a prefix that ends with a slash."""
        return self.scheme in _BUCKET_SCHEMES and (not self.key or self.key.endswith("/"))

    @property
    def is_web(self) -> bool:
        """Whether it is one file on a web server."""
        return self.scheme in _WEB_SCHEMES


def is_url(name: str) -> bool:
    """Whether a name is ``scheme://...``, not a file's."""
    return _SCHEME.match(name) is not None


def said_of(exc: Exception, url: str) -> str:
    """An error's line without the URL that it begins with, for a row has it already and a log may hide it."""
    return str(exc).removeprefix(f"{without_password(url)}: ")


def parse_url(url: str) -> Address:
    """Take a URL apart.

    Raises:
        UsageError: a scheme that is not known, no bucket, or a password in it.
    """
    match = _SCHEME.match(url)
    if match is None:
        raise UsageError(f"{url}: expected a URL such as s3://bucket/prefix/")
    scheme = match[1].lower()
    if scheme not in _BUCKET_SCHEMES + _WEB_SCHEMES:
        raise UnknownNameError("URL scheme", scheme, (*_BUCKET_SCHEMES, *_WEB_SCHEMES))
    if without_password(url) != url:
        raise UsageError(
            f"{without_password(url)}: a password in a URL would end up in the output; leave it out"
        )
    bucket, _, key = url[match.end() :].partition("/")
    if not bucket:
        raise UsageError(f"{url}: names no {'server' if scheme in _WEB_SCHEMES else 'bucket'}")
    if scheme in _WEB_SCHEMES:
        return Address(scheme, f"{scheme}://{bucket}", url)
    return Address(scheme, f"{scheme}://{bucket}", key)


class Store(Protocol):
    """One bucket or web server. Errors: `Transient`, `ImageError` for one object, `BucketError` for all."""

    def find(self, key: str) -> StoredObject | None:
        """The object of just this key."""

    def pages(self, prefix: str) -> Iterator[list[StoredObject]]:
        """All below a prefix (empty, or ending with a slash), in the order of the keys."""

    async def read(self, key: str, listed: StoredObject | None, max_bytes: int, stall_s: float) -> bytes:
        """The whole object, in one attempt."""


def open_store(address: Address) -> Store:
    """The store of an address, kept for the next call.

    Raises:
        MissingDependencyError: a library is not installed.
        BucketError: no credentials, or a configuration that means nothing.
    """
    needed = ("urllib3",) if address.is_web else ("obstore", "botocore")[: 1 + (address.scheme == "s3")]
    for package in needed:
        if find_spec(package) is None:
            raise MissingDependencyError(f"{address.scheme}://", package, _INSTALL)
    if address.is_web:
        return WebFiles()
    with _stores_lock:
        import obstore.store  # noqa: F401 -- once as a whole: another thread would find it half imported

        if address.root not in _stores:
            kind = S3Bucket if address.scheme == "s3" else ObstoreBucket
            _stores[address.root] = kind(address.root)
        return _stores[address.root]


def close_stores() -> None:
    """Forget all stores and close their connections."""
    with _stores_lock:
        for store in _stores.values():
            if isinstance(store, S3Bucket):
                store.close()
        _stores.clear()


_stores: dict[str, S3Bucket | ObstoreBucket] = {}
_stores_lock = threading.Lock()


def check_bucket(url: str) -> str:
    """Ask for one object of a URL and say what is there.

    Raises:
        BladescanError: it cannot be listed or read, in one line.
    """
    first = first_object(parse_url(url))
    if first is None:
        return f"{url}: can be listed, and holds nothing there"
    return f"{url}: can be listed; the first object is {first.key!r}, {first.size} bytes"


def first_object(address: Address) -> StoredObject | None:
    """The object of an address, or the first one below it.

    Raises:
        BladescanError: it cannot be listed, in one line.
    """
    url = address.key if address.is_web else f"{address.root}/{address.key}"
    try:
        return _look(address)
    except ImageError as exc:
        if exc.reason is Reason.PERMISSION_DENIED and not address.is_prefix:
            return None  # who may not list may still read
        raise BucketError(f"{url}: cannot be listed: {exc.detail}") from exc
    except Transient as exc:
        raise BucketError(f"{url}: cannot be listed: {exc.detail}") from exc


def _look(address: Address) -> StoredObject | None:
    if not address.is_prefix:
        found = object_at(address)
        if found is not None or address.is_web:
            return found
    below = address.key if address.is_prefix else address.key + "/"
    return next((page[0] for page in open_store(address).pages(below) if page), None)


def object_at(address: Address) -> StoredObject | None:
    """The object of just this key.

    Raises:
        Transient: nobody can say now.
        BladescanError: nobody can say.
    """
    url = address.key if address.is_web else f"{address.root}/{address.key}"
    return patiently(lambda: open_store(address).find(address.key), url)
