"""Objects in buckets and on web servers: what a URL means, listing below a prefix, reading with patience.

It knows no image and no scan. S3 is listed by botocore, which also finds the credentials; objects are
read, and other stores listed, by obstore; web servers are asked by urllib3. Only botocore keeps every key
as it is: obstore cannot name ``a//b`` or a key with a line end in it, so such keys are read by botocore too.

Nothing here prints a credential: a server's answer is told by its status and error code alone.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from bladescan.errors import BucketError, ImageError, MissingDependencyError, UnknownNameError, UsageError
from bladescan.logs import QUIET_VARIABLE, shown, source_fields, without_password
from bladescan.records import Reason
from bladescan.terminal import say

if TYPE_CHECKING:
    from obstore.store import ObjectStore
    from urllib3 import BaseHTTPResponse, PoolManager

BACKOFF_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Longest pauses before each new attempt."""
CONNECT_S = 10.0
LISTING_STALL_S = 60.0
"""A listing that says nothing for so long is asked again."""
PART_BYTES = 1 << 18
TELL_EVERY_S = 5.0
_BUCKET_SCHEMES = ("s3", "gs", "az", "abfs", "abfss")
_WEB_SCHEMES = ("http", "https")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_STATUS = re.compile(r"\bstatus:? (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,64})</Code>")
_TIMED_OUT = re.compile(r"(?<!retry_)(timed ?out|timeout)", re.IGNORECASE)
"""obstore tells its settings with each error: ``retry_timeout`` says nothing of what happened."""
_INSTALL = "pip install 'bladescan[buckets]'"
_T = TypeVar("_T")


class Transient(Exception):
    """What may go well the next time.

    Args:
        detail: what happened, in a few words.
        reason: what it is called when it never goes well.
    """

    def __init__(self, detail: str, reason: Reason = Reason.READ_ERROR) -> None:
        super().__init__(detail)
        self.detail = detail
        self.reason = reason


class TooLargeError(ImageError):
    """An object larger than the limit.

    Args:
        size: of the object in bytes, as far as it is known.
        max_bytes: the limit.
    """

    def __init__(self, size: int, max_bytes: int) -> None:
        super().__init__(Reason.TOO_MANY_BYTES, f"{size} bytes or more; the limit is {max_bytes}")
        self.size, self.max_bytes = size, max_bytes

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.size, self.max_bytes))


class Found(NamedTuple):
    """One listed object.

    Attributes:
        key: as the store spells it.
        size: in bytes.
        mark: its ETag, or where there is none the time of its last change.
    """

    key: str
    size: int
    mark: str


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

    def find(self, key: str) -> Found | None:
        """The object of just this key."""

    def pages(self, prefix: str) -> Iterator[list[Found]]:
        """All below a prefix (empty, or ending with a slash), in the order of the keys."""

    async def read(self, key: str, listed: Found | None, max_bytes: int, stall_s: float) -> bytes:
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
        return _Web()
    with _stores_lock:
        import obstore.store  # noqa: F401 -- once as a whole: another thread would find it half imported

        if address.root not in _stores:
            kind = _S3 if address.scheme == "s3" else _Obstore
            _stores[address.root] = kind(address.root)
        return _stores[address.root]


def close_stores() -> None:
    """Forget all stores and close their connections."""
    with _stores_lock:
        for store in _stores.values():
            if isinstance(store, _S3):
                store.close()
        _stores.clear()


_stores: dict[str, _S3 | _Obstore] = {}
_stores_lock = threading.Lock()


# Patience


def patiently(action: Callable[[], _T], name: str) -> _T:
    """The action's answer, tried again with growing pauses.

    Args:
        action: may raise `Transient`.
        name: the URL that it is about.

    Raises:
        Transient: it never went well.
    """
    for pause in BACKOFF_S:
        try:
            return action()
        except Transient as exc:
            time.sleep(announced(pause, name, exc))
    return action()


def announced(pause: float, name: str, exc: Transient) -> float:
    """Say that there will be another attempt; the seconds to wait, random so that not all come at once."""
    _retries.tell(name, exc.detail)
    return pause * random.uniform(0.5, 1.0)


class _Retries:
    """Says that something is tried again, but not often: a server in trouble means thousands of attempts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._silent_until = 0.0
        self._unsaid = 0

    def tell(self, name: str, detail: str) -> None:
        with self._lock:
            if time.monotonic() < self._silent_until:
                self._unsaid += 1
                return
            unsaid, self._unsaid = self._unsaid, 0
            self._silent_until = time.monotonic() + TELL_EVERY_S
        if not os.environ.get(QUIET_VARIABLE):
            more = f" (and {unsaid} more since the last such line)" if unsaid else ""
            line = f"bladescan: note: {shown(name)}: {detail}; trying again{more}"
            say(line, "retry", "warning", detail=detail, unsaid=unsaid, **source_fields(name))


_retries = _Retries()


# S3


class _S3:
    """A bucket that speaks S3, its credentials and region from where the AWS command takes them."""

    def __init__(self, root: str) -> None:
        self.root, self._bucket = root, urlsplit(root).netloc
        with self._configuration():
            import botocore.session

            self._session = botocore.session.get_session()
            answers = self._session.get_component("response_parser_factory")
            answers.set_parser_defaults(timestamp_parser=_moment)
            self._anonymous = os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true", "yes", "on")
            if not self._anonymous and self._session.get_credentials() is None:
                raise BucketError(
                    f"{root}: no credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
                    "AWS_PROFILE, or AWS_SKIP_SIGNATURE=true for a public bucket"
                )
            # botocore itself does not know AWS_REGION, which the AWS command prefers.
            region = os.environ.get("AWS_REGION") or self._session.get_config_variable("region")
            self._client = self._connect(region or "us-east-1")
        self._store_lock = threading.Lock()
        self._store: ObjectStore | None = None

    def find(self, key: str) -> Found | None:
        # Listing, not HEAD: an answer to HEAD has no body that could say why not.
        page, _ = self._page({"Prefix": key, "MaxKeys": 1})
        return page[0] if page and page[0].key == key else None

    def pages(self, prefix: str) -> Iterator[list[Found]]:
        last, token = "", None
        while True:
            asked = {"Prefix": prefix} | ({"ContinuationToken": token} if token else {})
            page, token = patiently(lambda asked=asked: self._page(asked), self.root)  # type: ignore[misc]
            if page:
                if last and page[0].key <= last:
                    raise Transient(f"the listing goes round in circles at {page[0].key!r}")
                last = page[-1].key
                yield page
            if not token:
                return

    async def read(self, key: str, listed: Found | None, max_bytes: int, stall_s: float) -> bytes:
        if not _obstore_can_name(key):
            return await in_thread(lambda: self._read_plainly(key, listed, max_bytes, stall_s))
        store = await in_thread(self._obstore)
        return await _read(store, key, listed, max_bytes, stall_s)

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def _page(self, asked: dict[str, Any]) -> tuple[list[Found], str | None]:
        with self._answers():
            answer = self._client.list_objects_v2(Bucket=self._bucket, **asked)
        token = answer.get("NextContinuationToken")
        if answer.get("IsTruncated") and not token:
            raise Transient("the listing says that there is more, but not where")
        return [_found(item) for item in answer.get("Contents", ())], token if answer["IsTruncated"] else None

    def _read_plainly(self, key: str, listed: Found | None, max_bytes: int, stall_s: float) -> bytes:
        with self._answers(missing=_missing(listed)):
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
            size = int(answer["ContentLength"])
            with closing(answer["Body"]) as body:
                check_size(size, max_bytes)
                body.set_socket_timeout(stall_s)
                data = bytes(body.read(max_bytes + 1))
        _check_whole(len(data), size, answer.get("ETag"), listed)
        return data

    def _obstore(self) -> ObjectStore:
        from obstore.store import S3Store

        with self._store_lock:
            if self._store is None:
                client = self._connect(self._region())
                options: dict[str, Any] = {
                    "endpoint": client.meta.endpoint_url,
                    "region": client.meta.region_name,
                }
                if self._anonymous:
                    options["skip_signature"] = True
                else:
                    options["credential_provider"] = self._credentials
                self._store = S3Store(
                    self._bucket, client_options=_client_options(), retry_config={"max_retries": 0}, **options
                )
            return self._store

    def _credentials(self) -> Any:
        """What botocore holds now, for obstore; botocore renews what expires ten minutes before it does."""
        keys = self._session.get_credentials().get_frozen_credentials()
        return {
            "access_key_id": keys.access_key,
            "secret_access_key": keys.secret_key,
            "token": keys.token,
            "expires_at": datetime.now(UTC) + timedelta(minutes=10),
        }

    def _connect(self, region: str) -> Any:
        from botocore import UNSIGNED
        from botocore.config import Config

        config = Config(
            signature_version=UNSIGNED if self._anonymous else None,
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 1},  # patience is ours, so that it can be told of
            connect_timeout=CONNECT_S,
            read_timeout=LISTING_STALL_S,
            max_pool_connections=64,
        )
        return self._session.create_client("s3", region_name=region, config=config)

    def _region(self) -> str:
        """Where the bucket lies. obstore must be told; a server of one's own takes any region."""
        from botocore.exceptions import ClientError

        host = urlsplit(self._client.meta.endpoint_url).hostname or ""
        if not re.search(r"\.amazonaws\.com(\.cn)?$", host):
            return str(self._client.meta.region_name)
        with self._answers():
            try:
                answer = self._client.head_bucket(Bucket=self._bucket)
            except ClientError as exc:  # the region stands in a refusal, too
                answer = exc.response
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        return str(headers.get("x-amz-bucket-region", self._client.meta.region_name))

    @contextmanager
    def _configuration(self) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError

        try:
            yield
        except (BotoCoreError, ValueError) as exc:
            raise BucketError(
                f"{self.root}: the AWS configuration cannot be used: {_first_line(exc)}"
            ) from exc

    @contextmanager
    def _answers(self, missing: Reason = Reason.NOT_FOUND) -> Iterator[None]:
        """Map what botocore raises."""
        from botocore import exceptions as b

        try:
            yield
        except b.ClientError as exc:
            raise self._refusal(exc, missing) from exc
        except (b.NoCredentialsError, b.PartialCredentialsError, b.CredentialRetrievalError) as exc:
            raise BucketError(f"{self.root}: no usable credentials: {_first_line(exc)}") from exc
        except (b.ReadTimeoutError, b.ConnectTimeoutError) as exc:
            raise Transient("the server does not answer in time", Reason.TIMEOUT) from exc
        except b.ParamValidationError as exc:
            raise BucketError(f"{self.root}: not the name of a bucket") from exc
        except (b.BotoCoreError, OSError) as exc:
            # Read errors of urllib3 are OSErrors or come wrapped; all of them are of the moment.
            raise Transient(f"the connection to {_endpoint(self._client)} breaks or cannot be made") from exc

    def _refusal(self, exc: Any, missing: Reason) -> Exception:
        status = int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        code = re.sub(r"\W", "", str(exc.response.get("Error", {}).get("Code", "")))[:64]
        code = "" if code == str(status) else code  # so botocore names an answer that is not S3's
        if code == "NoSuchBucket":
            return BucketError(f"{self.root}: no such bucket at {_endpoint(self._client)}")
        if status == 404:
            return ImageError(missing, f"the server answers 404 {code}".rstrip())
        if code == "AccessDenied":
            return ImageError(Reason.PERMISSION_DENIED, "the server answers 403 AccessDenied")
        if status in (401, 403):
            return BucketError(
                f"{self.root}: {_endpoint(self._client)} does not accept the credentials "
                f"({code or status}); check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            )
        if status >= 500 or status in (408, 429) or code in ("SlowDown", "RequestTimeout"):
            return Transient(f"the server answers {status} {code}".rstrip())
        return ImageError(Reason.READ_ERROR, f"the server answers {status} {code}".rstrip())


def _found(item: Any) -> Found:
    mark = item.get("ETag") or item["LastModified"].isoformat()
    return Found(item["Key"], int(item["Size"]), mark)


def _moment(text: Any) -> Any:
    """A timestamp; botocore's own reader, which takes every form, is the slowest part of a long listing."""
    from botocore.utils import parse_timestamp

    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return parse_timestamp(text)


def _endpoint(client: Any) -> str:
    return without_password(str(client.meta.endpoint_url))


def _first_line(exc: Exception) -> str:
    return (str(exc).splitlines() or [type(exc).__name__])[0][:300]


async def in_thread(action: Callable[[], _T]) -> _T:
    """The action in a thread of its own, which never keeps the process from ending."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[_T] = loop.create_future()

    def settle(value: _T | None, exc: BaseException | None) -> None:
        if answer.done():
            return
        if exc is not None:
            answer.set_exception(exc)
        else:
            answer.set_result(value)  # type: ignore[arg-type]

    def run() -> None:
        value, failure = None, None
        try:
            value = action()
        except BaseException as exc:  # raised again where it is awaited
            failure = exc
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, value, failure)

    threading.Thread(target=run, daemon=True, name="object").start()
    return await answer


# obstore


class _Obstore:
    """A bucket of Google or Azure, its credentials from the environment and the machine."""

    def __init__(self, root: str) -> None:
        import obstore.store
        from obstore.exceptions import BaseError

        self.root = root
        try:
            self._store = obstore.store.from_url(
                root, client_options=_client_options(), retry_config={"max_retries": 0}
            )
        except (BaseError, ValueError) as exc:
            raise BucketError(f"{root}: cannot be opened: {_first_line(exc)}") from exc

    def find(self, key: str) -> Found | None:
        import obstore

        if not _obstore_can_name(key):
            raise BucketError(f"{self.root}/{key}: such a key cannot be asked for from this kind of store")
        try:
            return _found_by_obstore(_run(lambda: obstore.head_async(self._store, key), LISTING_STALL_S))
        except ImageError as exc:
            if exc.reason is Reason.NOT_FOUND:
                return None
            raise

    def pages(self, prefix: str) -> Iterator[list[Found]]:
        listing = _ObstoreListing(self._store, prefix)
        while (page := patiently(listing.next_page, self.root)) is not None:
            yield [found for found in page if found.size or not self._is_folder(found.key)]

    async def read(self, key: str, listed: Found | None, max_bytes: int, stall_s: float) -> bytes:
        return await _read(self._store, key, listed, max_bytes, stall_s)

    def _is_folder(self, key: str) -> bool:
        """Whether an object without bytes is really named ``key/``: obstore drops the slash."""
        return patiently(lambda: self.find(key), self.root) is None


class _ObstoreListing:
    """A stream of pages that begins again behind the last key after it broke."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store, self._prefix = store, prefix
        self._last: str | None = None
        self._stream: Any = None

    def next_page(self) -> list[Found] | None:
        """The next objects, None at the end."""
        try:
            page: list[Found] | None = _run(self._next, LISTING_STALL_S)
        except BaseException:
            self._stream = None
            raise
        if page:
            self._last = page[-1].key
        return page

    async def _next(self) -> list[Found] | None:
        import obstore

        if self._stream is None:
            self._stream = obstore.list(self._store, self._prefix or None, offset=self._last)
        try:
            return [_found_by_obstore(meta) for meta in await anext(self._stream)]
        except StopAsyncIteration:
            return None


class _Web:
    """Files on web servers. They are named one by one: there is no listing.

    By urllib3, for obstore takes no answer that does not tell its length, as many servers' do not.
    """

    def find(self, key: str) -> Found | None:
        try:
            with _web_answer(key, LISTING_STALL_S) as answer:
                return Found(key, _told_length(answer) or 0, answer.headers.get("ETag", ""))
        except ImageError as exc:
            if exc.reason is Reason.NOT_FOUND:
                return None
            raise

    def pages(self, prefix: str) -> Iterator[list[Found]]:
        raise BucketError(f"{prefix}: a web server lists nothing; name the files one by one")

    async def read(self, key: str, listed: Found | None, max_bytes: int, stall_s: float) -> bytes:
        given_up = threading.Event()
        try:
            return await in_thread(lambda: _read_web(key, max_bytes, stall_s, given_up))
        finally:
            given_up.set()


def _read_web(url: str, max_bytes: int, stall_s: float, given_up: threading.Event) -> bytes:
    with _web_answer(url, stall_s) as answer:
        size, data = _told_length(answer), bytearray()
        check_size(size or 0, max_bytes)
        while (part := answer.read1(PART_BYTES)) and not given_up.is_set():
            data += part
            check_size(len(data), max_bytes)
    if size is not None and "Content-Encoding" not in answer.headers:
        _check_whole(len(data), size, None, None)
    return bytes(data)


@contextmanager
def _web_answer(url: str, stall_s: float) -> Iterator[BaseHTTPResponse]:
    """What a server answers when it has the file; redirects are followed. The connection ends with it.

    Raises:
        ImageError, Transient: it has not, or nobody can say.
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
                _refuse_status(answer.status)
                yield answer
    except u.LocationValueError as exc:
        raise ImageError(Reason.NOT_FOUND, f"not a web address: {_first_line(exc)}") from exc
    except u.HTTPError as exc:
        raise _web_trouble(exc) from exc


def _web_connections(url: str) -> PoolManager:
    """To a server, or the proxy that the environment names for it."""
    from urllib.request import getproxies, proxy_bypass

    import urllib3

    parts = urllib3.util.parse_url(url)
    proxy = getproxies().get(parts.scheme or "")
    if proxy is None or proxy_bypass(parts.host or ""):
        return urllib3.PoolManager()
    login = urllib3.util.parse_url(proxy).auth
    headers = urllib3.make_headers(proxy_basic_auth=unquote(login)) if login else None
    return urllib3.ProxyManager(proxy, proxy_headers=headers)


def _refuse_status(status: int) -> None:
    detail = f"the server answers {status}"
    if status in (404, 410):
        raise ImageError(Reason.NOT_FOUND, detail)
    if status in (401, 403):
        raise ImageError(Reason.PERMISSION_DENIED, detail)
    if status >= 500 or status in (408, 429):
        raise Transient(detail)
    if status != 200:
        raise ImageError(Reason.READ_ERROR, detail)


def _web_trouble(exc: Exception) -> Exception:
    from urllib3 import exceptions as u

    cause = getattr(exc, "reason", exc)
    if isinstance(cause, u.TimeoutError) and not isinstance(cause, u.NewConnectionError):
        return Transient("the server does not answer in time", Reason.TIMEOUT)
    if isinstance(cause, u.ResponseError):
        return ImageError(Reason.READ_ERROR, "the server sends from one address to another without end")
    if isinstance(cause, u.SSLError):
        return ImageError(Reason.READ_ERROR, "no secure connection: the server's certificate is not accepted")
    if isinstance(cause, u.DecodeError):
        return ImageError(Reason.READ_ERROR, "the server compresses, and wrongly")
    return Transient("the connection breaks or cannot be made")


def _told_length(answer: BaseHTTPResponse) -> int | None:
    told = answer.headers.get("Content-Length", "")
    return int(told) if re.fullmatch("[0-9]{1,18}", told) else None


def _client_options() -> Any:
    # Deadlines are kept by whoever waits; the library's own would end a large object on a slow line.
    options = {
        "connect_timeout": timedelta(seconds=CONNECT_S),
        "timeout": timedelta(days=1),
        "allow_http": True,
    }
    return options | {"user_agent": "bladescan"}


def _obstore_can_name(key: str) -> bool:
    parts = key.split("/")
    return all(part not in ("", ".", "..") for part in parts) and not re.search(r"[\x00-\x1f\x7f]", key)


def _found_by_obstore(meta: Any) -> Found:
    return Found(meta["path"], int(meta["size"]), meta["e_tag"] or meta["last_modified"].isoformat())


def _run(make: Callable[[], Any], timeout_s: float) -> Any:
    """Wait for obstore in this thread. Its waiting calls would not let the process end meanwhile."""

    async def wait() -> Any:
        with _obstore_answers():
            async with asyncio.timeout(timeout_s):
                return await make()

    return asyncio.run(wait())


async def _read(store: ObjectStore, path: str, listed: Found | None, max_bytes: int, stall_s: float) -> bytes:
    import obstore

    with _obstore_answers(missing=_missing(listed)):
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
    _check_whole(n_bytes, size, answer.meta["e_tag"], listed)
    return b"".join(parts)


@contextmanager
def _obstore_answers(missing: Reason = Reason.NOT_FOUND) -> Iterator[None]:
    """Map what obstore raises. Its messages hold whole requests and are never shown."""
    from obstore import exceptions as o

    try:
        yield
    except TimeoutError as exc:
        raise Transient("the server does not answer in time", Reason.TIMEOUT) from exc
    except FileNotFoundError as exc:
        raise ImageError(missing, f"the server answers {_answer_in(exc) or 404}") from exc
    except (o.PermissionDeniedError, o.UnauthenticatedError) as exc:
        raise ImageError(Reason.PERMISSION_DENIED, f"the server answers {_answer_in(exc) or 403}") from exc
    except (o.InvalidPathError, o.NotSupportedError, ValueError) as exc:
        raise ImageError(Reason.READ_ERROR, f"this kind of store cannot name it: {_first_line(exc)}") from exc
    except (o.BaseError, OSError) as exc:
        raise _trouble(exc) from exc


def _trouble(exc: Exception) -> Exception:
    answer = _answer_in(exc)
    if answer:
        again = answer[0] == "5" or answer[:3] in ("408", "429") or "SlowDown" in answer
        detail = f"the server answers {answer}"
        return Transient(detail) if again else ImageError(Reason.READ_ERROR, detail)
    if _TIMED_OUT.search(str(exc)):
        return Transient("the server does not answer in time", Reason.TIMEOUT)
    return Transient("the connection breaks or cannot be made")


def _answer_in(exc: Exception) -> str:
    """Status and error code in a message of obstore."""
    status, code = _STATUS.search(str(exc)), _CODE.search(str(exc))
    return " ".join(match[1] for match in (status, code) if match)


# What is read


def check_size(size: int, max_bytes: int) -> None:
    """Raise TooLargeError for an object larger than the limit."""
    if size > max_bytes:
        raise TooLargeError(size, max_bytes)


def _check_whole(n_bytes: int, size: int, mark: str | None, listed: Found | None) -> None:
    if n_bytes != size:
        raise Transient(f"the answer ends after {n_bytes} of {size} bytes")
    if listed is not None and mark in (None, listed.mark) and size != listed.size:
        raise Transient(f"{size} bytes came, {listed.size} were listed")


def _missing(listed: Found | None) -> Reason:
    return Reason.NOT_FOUND if listed is None else Reason.VANISHED


def check_bucket(url: str) -> str:
    """Ask for one object of a URL and say what is there.

    Raises:
        BladescanError: it cannot be listed or read, in one line.
    """
    first = first_object(parse_url(url))
    if first is None:
        return f"{url}: can be listed, and holds nothing there"
    return f"{url}: can be listed; the first object is {first.key!r}, {first.size} bytes"


def first_object(address: Address) -> Found | None:
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


def _look(address: Address) -> Found | None:
    if not address.is_prefix:
        found = object_at(address)
        if found is not None or address.is_web:
            return found
    below = address.key if address.is_prefix else address.key + "/"
    return next((page[0] for page in open_store(address).pages(below) if page), None)


def object_at(address: Address) -> Found | None:
    """The object of just this key.

    Raises:
        Transient: nobody can say now.
        BladescanError: nobody can say.
    """
    url = address.key if address.is_web else f"{address.root}/{address.key}"
    return patiently(lambda: open_store(address).find(address.key), url)
