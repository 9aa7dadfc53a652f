"""Open stores: the buckets and web servers behind addresses, and a first look into them.

It knows no image and no scan; how each kind of store is listed and read is in `s3`, `object_store` and `web`.
Nothing here or there prints a credential.
"""

from __future__ import annotations

import threading
from importlib.util import find_spec

from bladescan.base.errors import BucketError, ImageError, MissingDependencyError
from bladescan.base.records import Reason
from bladescan.sources.addresses import Address, parse_url
from bladescan.sources.retries import TransientError, retry
from bladescan.sources.schemes import SCHEMES, Store
from bladescan.sources.stored_objects import StoredObject

_INSTALL = "pip install 'bladescan[buckets]'"
_stores: dict[str, Store] = {}
_stores_lock = threading.Lock()


def open_store(address: Address) -> Store:
    """Open the store of an address. A bucket's stays open for the next call.

    Raises:
        MissingDependencyError: a library is not installed.
        BucketError: no credentials, or a configuration that means nothing.
    """
    scheme = SCHEMES[address.scheme]
    for package in scheme.packages:
        if find_spec(package) is None:
            raise MissingDependencyError(f"{address.scheme}://", package, _INSTALL)
    if scheme.is_web:
        return scheme.make(address.root)
    with _stores_lock:
        import obstore.store  # noqa: F401 -- once as a whole: another thread would find it half imported

        if address.root not in _stores:
            _stores[address.root] = scheme.make(address.root)
        return _stores[address.root]


def close_stores() -> None:
    """Forget all stores and close their connections."""
    with _stores_lock:
        for store in _stores.values():
            store.close()
        _stores.clear()


def check_bucket(url: str) -> str:
    """Ask for one object of a URL.

    Returns:
        One line on what is there.

    Raises:
        BladescanError: it cannot be listed or read, in one line.
    """
    first = first_object(parse_url(url))
    if first is None:
        return f"{url}: can be listed, and is empty"
    return f"{url}: can be listed; the first object is {first.key!r}, {first.size} bytes"


def first_object(address: Address) -> StoredObject | None:
    """Find the object of an address, or the first one below it.

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
    except TransientError as exc:
        raise BucketError(f"{url}: cannot be listed: {exc.detail}") from exc


def _look(address: Address) -> StoredObject | None:
    if not address.is_prefix:
        found = object_at(address)
        if found is not None or address.is_web:
            return found
    below = address.key if address.is_prefix else address.key + "/"
    return next((page[0] for page in open_store(address).pages(below) if page), None)


def object_at(address: Address) -> StoredObject | None:
    """Find the object with exactly this key.

    Raises:
        TransientError: the server cannot say now, after all attempts.
        BladescanError: it cannot be asked.
    """
    url = address.key if address.is_web else f"{address.root}/{address.key}"
    return retry(lambda: open_store(address).find(address.key), url)
