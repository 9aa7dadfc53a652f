"""Stores are opened at once or refused with one line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bladescan.base.errors import BucketError, MissingDependencyError
from bladescan.sources import buckets
from bladescan.sources.buckets import check_bucket
from tests.sources.asking import fetch, listed, object_in
from tests.sources.s3_server import (
    Fault,
    MadeUpBucket,
    Quiet,
    environment,
    reach,
    serving,
)

pytest.importorskip("obstore", reason="pip install 'bladescan[buckets]'")
pytest.importorskip("botocore", reason="pip install 'bladescan[buckets]'")


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


def test_check_bucket_says_what_is_there(bucket, photos, aws):
    size = (photos / ".hidden.jpg").stat().st_size
    assert (
        check_bucket(bucket) == f"{bucket}: can be listed; the first object is 'up/.hidden.jpg', {size} bytes"
    )
    assert check_bucket("s3://photos/none/") == "s3://photos/none/: can be listed, and is empty"
    with pytest.raises(BucketError, match="no such bucket"):
        check_bucket("s3://nobody/")
