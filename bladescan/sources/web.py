"""Files on web servers, read by urllib3 one by one: there is no listing."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from bladescan.base.errors import BucketError, ImageError
from bladescan.base.records import Reason
from bladescan.sources.retries import CONNECT_S, LISTING_STALL_S, TransientError, in_thread
from bladescan.sources.stored_objects import (
    PART_BYTES,
    StoredObject,
    archived_problem,
    brief,
    check_size,
    check_whole,
)

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

_REFUSAL_BYTES = 4096
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
_EXPIRED = re.compile(r"expired|not valid in the specified time", re.IGNORECASE)
"""As S3, Google and Azure say it of a presigned address."""


class WebFiles:
    """Files on web servers. They must be named one by one: there is no listing.

    By urllib3: obstore refuses answers without a length, which many servers send. The methods are those of
    `bladescan.sources.schemes.Store`.

    Args:
        root: the server, for the sake of one interface; a key is a whole URL.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def find(self, key: str) -> StoredObject | None:
        """Look for the file of exactly this URL."""
        try:
            with _web_answer(key, LISTING_STALL_S) as answer:
                return StoredObject(key, _told_length(answer) or 0, answer.headers.get("ETag", ""))
        except ImageError as exc:
            if exc.reason is Reason.NOT_FOUND:
                return None
            raise

    def pages(self, prefix: str) -> Iterator[list[StoredObject]]:
        """Raise BucketError: a web server cannot be listed."""
        raise BucketError(f"{prefix}: a web server has no listing; name the files one by one")

    async def read(self, key: str, listed: StoredObject | None, max_bytes: int, stall_s: float) -> bytes:
        """Read a whole file, in one attempt."""
        given_up = threading.Event()
        try:
            return await in_thread(lambda: _read_web(key, max_bytes, stall_s, given_up))
        finally:
            given_up.set()

    def write(self, key: str, path: Path) -> None:
        """Refuse: a web server is no place to write to."""
        raise BucketError(f"{key}: a web server cannot be written to")

    def close(self) -> None:
        """Do nothing: every connection ends with its answer."""


def _read_web(url: str, max_bytes: int, stall_s: float, given_up: threading.Event) -> bytes:
    with _web_answer(url, stall_s) as answer:
        size, data = _told_length(answer), bytearray()
        check_size(size or 0, max_bytes)
        while (part := answer.read1(PART_BYTES)) and not given_up.is_set():
            data += part
            check_size(len(data), max_bytes)
    if size is not None and "Content-Encoding" not in answer.headers:
        check_whole(len(data), size, None, None)
    return bytes(data)


@contextmanager
def _web_answer(url: str, stall_s: float) -> Iterator[BaseHTTPResponse]:
    """Ask a server for a file, following redirects. The connection ends with the context.

    Yields:
        The answer, its body still unread.

    Raises:
        ImageError: the server has no such file, or refuses it.
        TransientError: it may go well the next time.
    """
    import urllib3
    from urllib3 import exceptions as u

    wait = urllib3.Timeout(connect=CONNECT_S, read=stall_s)
    again = urllib3.Retry(5, connect=0, read=0, other=0, status=0, respect_retry_after_header=False)
    try:
        with _web_connections(url) as connections:
            # decode_content: some servers compress what nobody asked them to.
            answer = connections.request(
                "GET", url, headers={"User-Agent": "bladescan"}, timeout=wait, retries=again,
                preload_content=False, decode_content=True,
            )  # fmt: skip
            with closing(answer):
                if answer.status != 200:
                    raise _refusal(answer.status, _said(answer))
                yield answer
    except u.LocationValueError as exc:
        raise ImageError(Reason.NOT_FOUND, f"not a web address: {brief(exc)}") from exc
    except u.HTTPError as exc:
        raise _web_trouble(exc) from exc


def _web_connections(url: str) -> PoolManager:
    """Connect to a server, or to the proxy that the environment names for it."""
    from urllib.request import getproxies, proxy_bypass

    import urllib3

    parts = urllib3.util.parse_url(url)
    proxy = getproxies().get(parts.scheme or "")
    if proxy is None or proxy_bypass(parts.host or ""):
        return urllib3.PoolManager()
    login = urllib3.util.parse_url(proxy).auth
    headers = urllib3.make_headers(proxy_basic_auth=unquote(login)) if login else None
    return urllib3.ProxyManager(proxy, proxy_headers=headers)


def _said(answer: BaseHTTPResponse) -> str:
    """Find what a store says in the body of its refusal; web servers say nothing that counts."""
    try:
        body = answer.read1(_REFUSAL_BYTES).decode("utf-8", "replace")
    except Exception:  # the status has been said, whatever became of the rest
        return ""
    code = _CODE.search(body)
    if code is None:
        return ""
    return f" {code[1]}: the address is no longer valid" if _EXPIRED.search(body) else f" {code[1]}"


def _refusal(status: int, said: str) -> Exception:
    if archived := archived_problem(said.strip()):
        return archived
    detail = f"the server answers {status}{said}"
    if status in (404, 410):
        return ImageError(Reason.NOT_FOUND, detail)
    if status in (401, 403):
        return ImageError(Reason.PERMISSION_DENIED, detail)
    if status >= 500 or status in (408, 429):
        return TransientError(detail)
    return ImageError(Reason.READ_ERROR, detail)


def _web_trouble(exc: Exception) -> Exception:
    from urllib3 import exceptions as u

    cause = getattr(exc, "reason", exc)
    if isinstance(cause, u.TimeoutError) and not isinstance(cause, u.NewConnectionError):
        return TransientError("the server does not answer in time", Reason.TIMEOUT)
    if isinstance(cause, u.ResponseError):
        return ImageError(Reason.READ_ERROR, "the server redirects too often")
    if isinstance(cause, u.SSLError):
        return ImageError(Reason.READ_ERROR, "no secure connection: the server's certificate is not accepted")
    if isinstance(cause, u.DecodeError):
        return ImageError(Reason.READ_ERROR, "the server's compressed answer is damaged")
    return TransientError("the connection failed")


def _told_length(answer: BaseHTTPResponse) -> int | None:
    told = answer.headers.get("Content-Length", "")
    return int(told) if re.fullmatch("[0-9]{1,18}", told) else None
