"""Web servers, as they are."""

from __future__ import annotations

import gzip

import pytest

from bladescan.base.errors import ImageError
from bladescan.base.records import Reason
from bladescan.sources.buckets import check_bucket
from bladescan.sources.source import Source
from tests.sources.asking import fetch, listed
from tests.sources.s3_server import (
    Quiet,
    serving,
)

pytest.importorskip("obstore", reason="pip install 'bladescan[buckets]'")
pytest.importorskip("botocore", reason="pip install 'bladescan[buckets]'")


class _Web(Quiet):
    def do_GET(self) -> None:
        if self.path == "/moved":
            return self.answer(302, headers={"Location": "/a%20b.jpg?x=%2F&y"})
        found = self.path == "/a%20b.jpg?x=%2F&y"
        return self.answer(200 if found else 404, b"picture" if found else b"")

    do_HEAD = do_GET


class _OddWeb(Quiet):
    """What servers do that is allowed, and some that is not."""

    def do_GET(self) -> None:
        name, picture = self.path.strip("/"), b"picture" * 1000
        if name == "until-it-closes":
            self.send_response(200)
            self.send_header("Last-Modified", "yesterday")
            self.end_headers()
            self.wfile.write(picture)
            self.close_connection = True
        elif name in ("in-chunks", "chunks-that-break-off", "without-end"):
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for _ in range(1 << 30 if name == "without-end" else 1):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(picture), picture))
            self.wfile.write(b"0\r\n\r\n" if name == "in-chunks" else b"")
            self.close_connection = True
        elif name in ("compressed", "a-bomb"):
            body = gzip.compress(picture if name == "compressed" else bytes(1 << 24))
            self.answer(200, body, {"Content-Encoding": "gzip"})
        elif name == "in-circles":
            self.answer(302, headers={"Location": self.path})
        elif name == "cut-off":
            self.answer(200, picture, {"Content-Length": "9000"})
            self.close_connection = True
        else:
            self.answer(int(name), b"", {"Retry-After": "1"})


WEB_ANSWERS = {
    "until-it-closes": b"picture" * 1000,
    "in-chunks": b"picture" * 1000,
    "compressed": b"picture" * 1000,
    "chunks-that-break-off": Reason.READ_ERROR,
    "cut-off": Reason.READ_ERROR,
    "without-end": Reason.TOO_MANY_BYTES,
    "a-bomb": Reason.TOO_MANY_BYTES,
    "in-circles": Reason.READ_ERROR,
    "206": Reason.READ_ERROR,
    "401": Reason.PERMISSION_DENIED,
    "410": Reason.NOT_FOUND,
    "429": Reason.READ_ERROR,
    "503": Reason.READ_ERROR,
}


def test_web_servers_answer_in_many_ways():
    with serving(_OddWeb) as endpoint:
        found = fetch(*(Source(f"{endpoint}/{name}") for name in WEB_ANSWERS), max_bytes=1_000_000)
    assert "answers 429; tried 5 times" in found[-2].detail and "503; tried 5 times" in found[-1].detail
    reasons = [each.reason if isinstance(each, ImageError) else each for each in found]
    assert dict(zip(WEB_ANSWERS, reasons, strict=True)) == WEB_ANSWERS


def test_a_web_server_is_asked_through_the_proxy_of_the_environment(monkeypatch):
    asked = []

    class Proxy(Quiet):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Proxy-Authorization"]))
            self.answer(200, b"picture")

    with serving(Proxy) as endpoint:
        monkeypatch.setenv("http_proxy", endpoint.replace("://", "://me:s%40cret@"))
        monkeypatch.setenv("no_proxy", "localhost")
        there, here = fetch(Source("http://nowhere.invalid/a.jpg"), Source("http://localhost:1/a.jpg"))
    assert (there, here.reason) == (b"picture", Reason.READ_ERROR)
    assert asked == [("http://nowhere.invalid/a.jpg", "Basic bWU6c0BjcmV0")]  # me:s@cret


def test_a_server_that_is_not_there_is_no_timeout():
    (problem,) = fetch(Source("http://127.0.0.1:1/x.jpg"))
    assert (problem.reason, problem.detail) == (
        Reason.READ_ERROR,
        "the connection failed; tried 5 times",
    )


def test_a_web_address_is_one_file_asked_for_as_it_is_written():
    with serving(_Web) as endpoint:
        names = [f"{endpoint}/a%20b.jpg?x=%2F&y", f"{endpoint}/moved", f"{endpoint}/none/"]
        sources = listed(*names)
        assert [source.name for source in sources] == names
        here, moved, missing = fetch(*sources)
        assert (here, moved, missing.reason) == (b"picture", b"picture", Reason.NOT_FOUND)
        assert "'" in check_bucket(names[0])
