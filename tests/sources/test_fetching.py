"""Objects are fetched whole or have a reason, within a bound of bytes."""

from __future__ import annotations

import time
import tracemalloc
from concurrent.futures import wait

import pytest

from bladescan.base.records import Reason
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.scanning.decoders import decoder_pool
from bladescan.scanning.pipeline import decode_in_order
from bladescan.sources import fetching
from bladescan.sources.fetching import Fetcher
from bladescan.sources.source import Source, Stamp
from tests.sources.asking import fetch, listed, object_in
from tests.sources.s3_server import (
    SECRET,
    Fault,
    MadeUpBucket,
    reach,
)

pytest.importorskip("obstore", reason="pip install 'bladescan[buckets]'")
pytest.importorskip("botocore", reason="pip install 'bladescan[buckets]'")


@pytest.mark.parametrize("kind", ["reset", "cut", "stuck", "shortened", "503", "500", "mute"])
def test_what_goes_wrong_for_a_moment_is_tried_again_and_said(kind, bucket, proxy, caplog):
    source, data = object_in(bucket)
    proxy.faults = [Fault("%3Cy%3E", kind, times=2)]
    assert fetch(source, timeout_s=1) == [data]
    told = [record for record in caplog.records if record.name.startswith("bladescan.")]
    assert [(record.event, record.source) for record in told] == 2 * [("retry", source.name)]
    assert all(record.getMessage().endswith("; trying again") for record in told)


@pytest.mark.parametrize(
    "kind,reason,detail",
    [
        ("reset", Reason.READ_ERROR, "tried 5 times"),
        ("cut", Reason.READ_ERROR, "tried 5 times"),
        ("stuck", Reason.TIMEOUT, "not fetched within 2 s"),
        ("shortened", Reason.READ_ERROR, "bytes came"),
        ("503", Reason.READ_ERROR, "the server answers 503 SlowDown; tried 5 times"),
        ("mute", Reason.TIMEOUT, "not fetched within 2 s"),
        (
            "archived",
            Reason.READ_ERROR,
            "archived: restore it before it is scanned (InvalidObjectState)",
        ),
        ("403", Reason.PERMISSION_DENIED, "the server answers 403 AccessDenied"),
        ("404", Reason.VANISHED, "the server answers 404 NoSuchKey"),
        ("expired", Reason.READ_ERROR, "the server answers 400 ExpiredToken"),
    ],
)
@pytest.mark.parametrize("name", ["sub/&<y>.JPG", "line\nend.jpg"])
def test_what_stays_wrong_is_a_reason(kind, reason, detail, name, bucket, proxy):
    source, _ = object_in(bucket, name)
    proxy.faults = [Fault("/photos/up/", kind)]
    (failure,) = fetch(source, timeout_s=0.5)
    assert (failure.reason, SECRET in failure.detail) == (reason, False)
    assert detail in failure.detail


def test_what_will_not_get_better_is_asked_for_once(bucket, proxy):
    source, _ = object_in(bucket)
    for kind in ("403", "404", "expired"):
        proxy.faults, proxy.seen = [Fault("%3Cy%3E", kind)], []
        fetch(source)
        assert len(proxy.seen) == 1


def test_an_object_that_was_replaced_since_it_was_listed_is_read_as_it_is(s3, aws):
    s3.fill("replaced", {"x": b"before"})
    sources = listed("s3://replaced")
    s3.put("replaced", {"x": b"longer than before"})
    assert fetch(*sources) == [b"longer than before"]


def test_what_is_too_large_is_not_asked_for_where_the_listing_tells(bucket, proxy):
    source, data = object_in(bucket)
    proxy.seen = []
    assert fetch(source, max_bytes=len(data)) == [data]
    (failure,) = fetch(source, max_bytes=len(data) - 1)
    assert failure.reason is Reason.TOO_MANY_BYTES
    assert len(proxy.seen) == 1
    (unlisted,) = fetch(Source(source.name), max_bytes=1000)
    assert unlisted.detail == f"{len(data)} bytes or more; the limit is 1000"


def test_an_unlisted_object_beyond_the_room_kept_for_it_is_read_in_a_second_go(bucket, aws, monkeypatch):
    source, data = object_in(bucket)
    monkeypatch.setattr(fetching, "UNKNOWN_BYTES", 10)
    assert fetch(Source(source.name)) == [data]


def test_a_closed_fetcher_waits_for_no_server(bucket, proxy):
    source, _ = object_in(bucket)
    proxy.faults = [Fault("%3Cy%3E", "mute")]
    fetcher = Fetcher(10**8, 600.0)
    body = fetcher.submit(source).body
    fetcher.close()
    fetcher.close()
    assert body.cancelled() or body.exception() is not None


def test_bytes_are_bounded_and_the_oldest_object_is_always_let_in(monkeypatch):
    monkeypatch.setattr(fetching, "BUDGET_BYTES", 2_500)
    with MadeUpBucket(["a", "b", "c", "d"], body=lambda key: key.encode() * 1000).running() as endpoint:
        reach(monkeypatch, endpoint)
        with Fetcher(10**8, 20.0) as fetcher:
            begun = [fetcher.submit(source) for source in listed("s3://b")]
            for index, each in enumerate(begun):
                assert len(each.body.result(timeout=20).data) == 1000
                done = wait([other.body for other in begun], timeout=0.3).done
                assert len(done) <= index + 2
                fetcher.release(each.ticket)


def test_an_object_larger_than_the_bound_is_held_alone(monkeypatch):
    monkeypatch.setattr(fetching, "BUDGET_BYTES", 2_500)
    sizes = {"a": 1000, "b": 9000, "c": 1000, "d": 1000}
    with MadeUpBucket(list(sizes), body=lambda key: key.encode() * sizes[key]).running() as endpoint:
        reach(monkeypatch, endpoint)
        with Fetcher(10**8, 20.0) as fetcher:
            a, b, c, d = (fetcher.submit(source) for source in listed("s3://b"))
            wait([a.body, c.body], timeout=20)
            assert not wait([b.body], timeout=0.3).done
            fetcher.release(a.ticket)
            assert len(b.body.result(timeout=20).data) == 9000
            fetcher.release(b.ticket)
            assert (
                c.body.result(timeout=20).data + d.body.result(timeout=20).data == b"c" * 1000 + b"d" * 1000
            )


def test_an_object_is_let_go_when_it_is_decoded_not_when_its_row_is_due(monkeypatch):
    """Rows wait for those before them, and for a full batch: the bytes must not."""
    size, body = 4 << 20, b"no image" * (1 << 19)
    monkeypatch.setattr(fetching, "BUDGET_BYTES", 2 * size)
    bucket = MadeUpBucket([f"{n:02}" for n in range(16)], body=lambda key: body)
    with bucket.running() as endpoint:
        reach(monkeypatch, endpoint)
        sources = listed("s3://b")
        with decoder_pool(1, DecoderSettings(faces="none")) as pool:
            pool.start()
            tracemalloc.start()
            try:
                decoding = decode_in_order(sources, pool, ahead=12)
                assert next(decoding)[1].reason is Reason.NOT_AN_IMAGE
                until = time.monotonic() + 60
                while len(bucket.read) < 16 and time.monotonic() < until:
                    time.sleep(0.05)
                held = tracemalloc.get_traced_memory()[0]
                assert len(list(decoding)) == 15
            finally:
                tracemalloc.stop()
    # Two within the bound, one on its way to the decoder and its message.
    assert held < 5 * size


def test_an_object_that_outgrew_its_listing_finds_room_first(monkeypatch):
    """A listing that tells a few bytes and a server that sends many must not fill the memory."""
    monkeypatch.setattr(fetching, "BUDGET_BYTES", 2_500)
    names = ["a", "b", "c", "d"]
    with MadeUpBucket(names, body=lambda key: key.encode() * 2000).running() as endpoint:
        reach(monkeypatch, endpoint)
        with Fetcher(10**8, 20.0) as fetcher:
            begun = [fetcher.submit(Source(f"s3://b/{name}", stamp=Stamp(10, "then"))) for name in names]
            for index, each in enumerate(begun):
                assert len(each.body.result(timeout=20).data) == 2000
                done = wait([other.body for other in begun], timeout=0.3).done
                assert len(done) <= index + 2
                fetcher.release(each.ticket)
