"""Verdicts as an object of a real S3 server: whole or not at all, and never lost."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from bladescan.base.errors import BladescanError, OutputError, UsageError
from bladescan.outputs import bucket_object
from bladescan.outputs.bucket_object import BucketObject
from bladescan.sources.buckets import close_stores
from tests.sources.s3_server import Fault, environment
from tests.sources.stores import aws, proxy, s3  # noqa: F401

pytest.importorskip("obstore", reason="pip install 'bladescan[buckets]'")
pytest.importorskip("botocore", reason="pip install 'bladescan[buckets]'")


@pytest.fixture(scope="module")
def target(s3):  # noqa: F811
    s3.fill("verdicts", {})
    return s3


@pytest.fixture(autouse=True)
def fresh_stores():
    close_stores()
    yield
    close_stores()


def content(server, key):
    """The object, None if there is none."""
    client = server.client()
    try:
        return client.get_object(Bucket="verdicts", Key=key)["Body"].read()
    except client.exceptions.NoSuchKey:
        return None
    finally:
        client.close()


def test_an_object_appears_when_it_is_complete_and_replaces_the_old_one(target, aws):  # noqa: F811
    target.put("verdicts", {"a/v.csv": b"old"})
    output = BucketObject("s3://verdicts/a/v.csv")
    output.write(b"new ")
    output.write(b"rows")
    assert content(target, "a/v.csv") == b"old"
    output.commit()
    assert content(target, "a/v.csv") == b"new rows"


def test_what_is_thrown_away_or_interrupted_leaves_the_old_one(target, aws):  # noqa: F811
    target.put("verdicts", {"b/v.csv": b"old"})
    output = BucketObject("s3://verdicts/b/v.csv")
    output.write(b"new")
    output.discard()
    assert content(target, "b/v.csv") == b"old"
    output = BucketObject("s3://verdicts/b/v.csv")
    output.write(b"half")
    assert output.keep_partial() == "s3://verdicts/b/v.partial.csv"
    assert (content(target, "b/v.csv"), content(target, "b/v.partial.csv")) == (b"old", b"half")


def test_a_large_object_goes_in_parts(target, aws):  # noqa: F811
    block = os.urandom(1 << 20)
    output = BucketObject("s3://verdicts/large.jsonl")
    for _ in range(40):
        output.write(block)
    output.commit()
    assert content(target, "large.jsonl") == block * 40


def test_a_broken_connection_is_tried_again(target, proxy):  # noqa: F811
    output = BucketObject("s3://verdicts/again.csv")
    output.write(b"rows")
    proxy.faults = [Fault("again.csv", "reset", times=2)]
    output.commit()
    assert content(target, "again.csv") == b"rows"


def test_what_the_store_will_not_take_is_kept_in_a_file(target, proxy, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    output = BucketObject("s3://verdicts/refused.csv")
    output.write(b"rows")
    proxy.faults = [Fault("refused.csv", "403", times=99)]
    with pytest.raises(OutputError, match="refused.csv: .*403.*; the verdicts are kept in ") as caught:
        output.commit()
    output.discard()
    kept = Path(re.search(r"kept in (\S+)", str(caught.value))[1])
    assert kept.suffix == ".csv" and kept.read_bytes() == b"rows"
    assert content(target, "refused.csv") is None


@pytest.mark.parametrize(
    "url,said",
    [
        ("s3://no-such-bucket/v.csv", "no-such-bucket"),
        ("s3://verdicts/prefix/", "names a bucket or a prefix"),
        ("s3://verdicts", "names a bucket or a prefix"),
        ("s3://verdicts/a//v.csv", "cannot write such a key"),
        ("https://host/v.csv", "a web server cannot be written to"),
        ("s4://bucket/v.csv", "unknown URL scheme 's4'"),
    ],
)
def test_what_cannot_be_written_is_said_before_the_scan(target, aws, url, said):  # noqa: F811
    with pytest.raises(BladescanError, match=said):
        BucketObject(url)


def test_no_room_for_the_temporary_file_is_said(target, aws, monkeypatch):  # noqa: F811
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bucket_object.tempfile, "TemporaryFile", full)
    with pytest.raises(OutputError, match="No space left on device; set TMPDIR"):
        BucketObject("s3://verdicts/v.csv")


def test_a_scan_writes_into_a_bucket_what_it_writes_into_a_file(target, samples, tmp_path, bladescan):
    env = environment(target.endpoint) | {"SOURCE_DATE_EPOCH": "0"}
    for suffix in ("csv", "jsonl"):
        here = bladescan("scan", samples, "-o", tmp_path / f"v.{suffix}", env=env)
        there = bladescan("scan", samples, "-o", f"s3://verdicts/scan/v.{suffix}", env=env)
        assert there.returncode == here.returncode == 3, there.stderr
        assert content(target, f"scan/v.{suffix}") == (tmp_path / f"v.{suffix}").read_bytes()
    assert b"verdicts: s3://verdicts/scan/v.jsonl" in there.stderr


@pytest.mark.parametrize(
    "arguments,said",
    [
        (["scan", ".", "-o", "s3://verdicts/v.csv", "--resume"], "on this machine"),
        (["scan", ".", "--metrics", "s3://verdicts/v.prom"], "only the verdicts of a scan"),
        (["fit", "--photos", ".", "-o", "s3://verdicts/v.safetensors"], "is no file on this machine"),
    ],
)
def test_what_must_be_a_file_on_this_machine_says_so(bladescan, arguments, said):
    done = bladescan(*arguments)
    assert done.returncode == 2 and said in done.stderr.decode()


def test_usage_errors_are_those_of_the_user():
    with pytest.raises(UsageError):
        BucketObject("s3://")
