"""Buckets by obstore: those of Google and Azure are listed here, those of all kinds are read here.

obstore cannot name ``a//b`` or a key with a line end in it. Its messages contain whole requests, so only the
status and error code of a server's answer are shown.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bladescan.base.errors import BucketError, ImageError
from bladescan.base.records import Reason
from bladescan.sources.retries import CONNECT_S, LISTING_STALL_S, TransientError, retry
from bladescan.sources.stored_objects import (
    PART_BYTES,
    StoredObject,
    archived_problem,
    brief,
    check_size,
    check_whole,
    missing_reason,
)

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SLOWEST = 50_000
"""Bytes a second: a connection that sends less is given up."""
WRITTEN_PART_BYTES = 1 << 24
"""Of an object that is sent in parts, of which stores take 10,000."""
_STATUS = re.compile(r"\bstatus:? (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
_TIMED_OUT = re.compile(r"(?<!retry_)(timed ?out|timeout)", re.IGNORECASE)
"""obstore lists its settings in each error: ``retry_timeout`` among them is no timeout that happened."""


class ObstoreBucket:
    """A bucket of Google or Azure, with the credentials of the environment and the machine.

    Its methods are those of `bladescan.sources.schemes.Store`.

    Args:
        root: such as ``gs://bucket``.

    Raises:
        BucketError: it cannot be opened.
    """

    def __init__(self, root: str) -> None:
        import obstore.store
        from obstore.exceptions import BaseError

        self.root = root
        try:
            self._store = obstore.store.from_url(
                root, client_options=client_options(), retry_config={"max_retries": 0}
            )
        except (BaseError, ValueError) as exc:
            raise BucketError(f"{root}: cannot be opened: {brief(exc)}") from exc

    def find(self, key: str) -> StoredObject | None:
        """Look for the object with exactly this key."""
        import obstore

        if not can_be_named(key):
            raise BucketError(f"{self.root}/{key}: this kind of store cannot read such a key")
        try:
            return _found_by_obstore(_run(lambda: obstore.head_async(self._store, key), LISTING_STALL_S))
        except ImageError as exc:
            if exc.reason is Reason.NOT_FOUND:
                return None
            raise

    def pages(self, prefix: str) -> Iterator[list[StoredObject]]:
        """List everything below a prefix, in the order of the keys."""
        listing = _Listing(self._store, prefix)
        while (page := retry(listing.next_page, self.root)) is not None:
            yield [found for found in page if found.size or not self._is_folder(found.key)]

    async def read(self, key: str, listed: StoredObject | None, max_bytes: int, stall_s: float) -> bytes:
        """Read a whole object, in one attempt."""
        return await read_object(self._store, key, listed, max_bytes, stall_s)

    def write(self, key: str, path: Path) -> None:
        """Make an object of a file, whole or not at all, in one attempt."""
        write_object(self._store, key, path)

    def close(self) -> None:
        """Do nothing: obstore closes its connections with the store."""

    def _is_folder(self, key: str) -> bool:
        """Tell whether an empty object is really named ``key/``: obstore drops the slash."""
        return retry(lambda: self.find(key), self.root) is None


class _Listing:
    """A stream of pages that resumes after its last key when it breaks."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store, self._prefix = store, prefix
        self._last: str | None = None
        self._stream: Any = None

    def next_page(self) -> list[StoredObject] | None:
        """Return the next objects, None at the end."""
        try:
            page: list[StoredObject] | None = _run(self._next, LISTING_STALL_S)
        except BaseException:
            self._stream = None
            raise
        if page:
            self._last = page[-1].key
        return page

    async def _next(self) -> list[StoredObject] | None:
        import obstore

        if self._stream is None:
            self._stream = obstore.list(self._store, self._prefix or None, offset=self._last)
        try:
            return [_found_by_obstore(meta) for meta in await anext(self._stream)]
        except StopAsyncIteration:
            return None


def client_options() -> Any:
    """Return the options by which obstore connects to any store."""
    # The caller keeps deadlines; the library's own would end a large object on a slow line.
    options = {
        "connect_timeout": timedelta(seconds=CONNECT_S),
        "timeout": timedelta(days=1),
        "allow_http": True,
    }
    return options | {"user_agent": "bladescan"}


def can_be_named(key: str) -> bool:
    """Tell whether obstore can ask for exactly this key."""
    parts = key.split("/")
    return all(part not in ("", ".", "..") for part in parts) and not re.search(r"[\x00-\x1f\x7f]", key)


def _found_by_obstore(meta: Any) -> StoredObject:
    return StoredObject(meta["path"], int(meta["size"]), meta["e_tag"] or meta["last_modified"].isoformat())


def _run(make: Callable[[], Any], timeout_s: float) -> Any:
    """Wait for obstore in this thread. Its own blocking calls would keep the process from ending."""

    async def wait() -> Any:
        with _obstore_answers():
            async with asyncio.timeout(timeout_s):
                return await make()

    return asyncio.run(wait())


async def read_object(
    store: ObjectStore, path: str, listed: StoredObject | None, max_bytes: int, stall_s: float
) -> bytes:
    """Read a whole object, in one attempt.

    Args:
        store: of the object.
        path: of the object in it.
        listed: the object as a listing showed it, None if it was not listed.
        max_bytes: a larger object raises TooLargeError.
        stall_s: how long the server may send nothing.

    Raises:
        ImageError: there is no such object, or it may not be read.
        TransientError: it may go well the next time.
    """
    import obstore

    with _obstore_answers(missing=missing_reason(listed)):
        async with asyncio.timeout(stall_s):
            answer = await obstore.get_async(store, path)
        size, stream = answer.meta["size"], answer.stream(min_chunk_size=PART_BYTES)
        check_size(size, max_bytes)
        parts, n_bytes = [], 0
        while True:
            try:
                async with asyncio.timeout(stall_s):
                    part = await anext(stream)
            except StopAsyncIteration:
                break
            parts.append(bytes(part))
            n_bytes += len(part)
            check_size(n_bytes, max_bytes)
    check_whole(n_bytes, size, answer.meta["e_tag"], listed)
    return b"".join(parts)


def write_object(store: ObjectStore, key: str, path: Path) -> None:
    """Make an object of a file, whole or not at all, in one attempt.

    Raises:
        ImageError: it may not be written.
        TransientError: it may go well the next time.
    """
    import obstore

    longest_s = LISTING_STALL_S + path.stat().st_size / SLOWEST
    _run(lambda: obstore.put_async(store, key, path, chunk_size=WRITTEN_PART_BYTES), longest_s)


@contextmanager
def _obstore_answers(missing: Reason = Reason.NOT_FOUND) -> Iterator[None]:
    """Map what obstore raises. Its messages hold whole requests and are never shown."""
    from obstore import exceptions as o

    try:
        yield
    except TimeoutError as exc:
        raise TransientError("the server does not answer in time", Reason.TIMEOUT) from exc
    except FileNotFoundError as exc:
        raise ImageError(missing, f"the server answers {_answer_in(exc) or 404}") from exc
    except (o.PermissionDeniedError, o.UnauthenticatedError) as exc:
        if archived := archived_problem(_code_in(exc)):
            raise archived from exc
        raise ImageError(Reason.PERMISSION_DENIED, f"the server answers {_answer_in(exc) or 403}") from exc
    except (o.InvalidPathError, o.NotSupportedError, ValueError) as exc:
        raise ImageError(Reason.READ_ERROR, f"this kind of store cannot name it: {brief(exc)}") from exc
    except (o.BaseError, OSError) as exc:
        raise _trouble(exc) from exc


def _trouble(exc: Exception) -> Exception:
    answer = _answer_in(exc)
    if archived := archived_problem(_code_in(exc)):
        return archived
    if answer:
        again = answer[0] == "5" or answer[:3] in ("408", "429") or "SlowDown" in answer
        detail = f"the server answers {answer}"
        return TransientError(detail) if again else ImageError(Reason.READ_ERROR, detail)
    if _TIMED_OUT.search(str(exc)):
        return TransientError("the server does not answer in time", Reason.TIMEOUT)
    return TransientError("the connection failed")


def _answer_in(exc: Exception) -> str:
    """Find status and error code in a message of obstore."""
    status = _STATUS.search(str(exc))
    return " ".join(part for part in (status[1] if status else "", _code_in(exc)) if part)


def _code_in(exc: Exception) -> str:
    code = _CODE.search(str(exc))
    return code[1] if code else ""
