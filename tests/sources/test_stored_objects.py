"""Buckets are listed as folders are, with every key that S3 takes; listings that break off."""

from __future__ import annotations

import hashlib
import tracemalloc

import pytest

from bladescan.base.records import Reason
from bladescan.sources.listing import list_sources
from bladescan.sources.query import SourceQuery
from bladescan.sources.source import Stamp
from tests.sources.asking import fetch, listed
from tests.sources.s3_server import (
    MadeUpBucket,
    reach,
)

pytest.importorskip("obstore", reason="pip install 'bladescan[buckets]'")
pytest.importorskip("botocore", reason="pip install 'bladescan[buckets]'")


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


@pytest.mark.parametrize("key", ["./a.jpg", "a/./b.jpg", "a/../b.jpg", "../x.jpg", "d/..", "d/."])
def test_dots_in_a_key_are_names_like_others_and_hide_nothing(monkeypatch, key):
    with MadeUpBucket(sorted([key, ".git/x.jpg", "d/.x.jpg", "x.jpg"])).running() as endpoint:
        reach(monkeypatch, endpoint)
        found = listed("s3://b/")
        assert {source.name for source in found} == {f"s3://b/{key}", "s3://b/x.jpg"}
        assert sorted(fetch(*found)) == sorted([key.encode(), b"x.jpg"])
        (named,) = listed(f"s3://b/{key}")
        assert (named.name, fetch(named)) == (f"s3://b/{key}", [key.encode()])


def test_an_archived_object_whose_key_only_s3_takes_costs_no_other(monkeypatch):
    class Archive(MadeUpBucket):
        def refusal(self, key: str) -> bytes | None:
            return b"InvalidObjectState" if key.startswith("cold") else None

    with Archive(["cold//a.jpg", "cold/b.jpg", "warm.jpg"]).running() as endpoint:
        reach(monkeypatch, endpoint)
        odd, plain, warm = fetch(*listed("s3://b/"))
        assert warm == b"warm.jpg"
        for problem in (odd, plain):
            assert (problem.reason, problem.detail) == (
                Reason.READ_ERROR,
                "archived: restore it before it is scanned (InvalidObjectState)",
            )
