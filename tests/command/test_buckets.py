"""The command over buckets: rows of a folder, credentials that are never shown."""

from __future__ import annotations

import csv
import io
import os

import pytest

from tests.sources.s3_server import (
    SECRET,
    Fault,
    environment,
)

pytest.importorskip("obstore", reason="pip install 'bladescan[buckets]'")
pytest.importorskip("botocore", reason="pip install 'bladescan[buckets]'")


def rows(output: bytes, prefix: str) -> list[dict[str, str]]:
    """Rows of a CSV, by path below the prefix."""
    found = list(csv.DictReader(io.StringIO(output.decode(), newline="")))
    for row in found:
        row["path"] = row["path"].removeprefix(prefix)
    return sorted(found, key=lambda row: (row["path"], row["face"]))


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


def test_objects_that_are_no_pictures_are_counted(s3, bucket, samples, bladescan):
    text, picture = b"no picture", (samples / "no-face.webp").read_bytes()
    objects = {"a.webp": picture, "b": picture, "notes.txt": text, "sub/list.json": text, "sub/c.jpg": text}
    s3.fill("strays", {f"up/{key}": data for key, data in objects.items()})
    env = environment(s3.endpoint)
    done = bladescan("scan", "s3://strays/up/", env=env)
    assert [row["path"] for row in rows(done.stdout, "s3://strays/up/")] == ["a.webp", "b", "sub/c.jpg"]
    assert done.returncode == 3 and b"3 images (2 no-face, 1 unreadable), 2 other files" in done.stderr
    named = bladescan("scan", "s3://strays/up/notes.txt", env=env)
    assert [row["reason"] for row in rows(named.stdout, "")] == ["not-an-image"]
    for what, options, code in (("empty/", [], 3), ("empty/", ["--allow-empty"], 0)):
        assert bladescan("scan", f"s3://strays/{what}", *options, env=env).returncode == code


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
