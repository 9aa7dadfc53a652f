"""Files on a disk."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from bladescan.base.errors import ImageError
from bladescan.base.records import Reason
from bladescan.images.files import read_file
from bladescan.images.limits import Limits
from tests.images.pictures import LIMITS


def read_reason(path: Path | str, **options) -> Reason:
    with pytest.raises(ImageError) as caught:
        read_file(str(path), LIMITS, **options)
    return caught.value.reason


def test_a_file_is_read_whole(tmp_path):
    data = os.urandom(200_001)
    (tmp_path / "a").write_bytes(data)
    assert read_file(str(tmp_path / "a"), LIMITS) == data
    assert read_file(str(tmp_path / "a"), Limits(max_bytes=200_001)) == data


def test_a_file_whose_size_says_nothing_is_read():
    assert read_file("/proc/self/status", LIMITS).startswith(b"Name:")


def test_names_that_are_not_utf8_are_read(tmp_path):
    name = os.fsencode(tmp_path) + b"/\xff\xfe.jpg"
    Path(os.fsdecode(name)).write_bytes(b"x")
    assert read_file(os.fsdecode(name), LIMITS) == b"x"


def test_a_fifo_a_socket_a_device_and_a_folder_are_not_files(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    found = []
    reader = threading.Thread(target=lambda: found.append(read_reason(tmp_path / "fifo")), daemon=True)
    reader.start()
    reader.join(20)
    assert found == [Reason.NOT_A_FILE]
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        assert read_reason(tmp_path / "s") is Reason.NOT_A_FILE
    assert read_reason("/dev/zero") is Reason.NOT_A_FILE
    assert read_reason(tmp_path) is Reason.NOT_A_FILE


def test_missing_files_are_told_from_vanished_ones(tmp_path):
    assert read_reason(tmp_path / "no") is Reason.NOT_FOUND
    assert read_reason(tmp_path / "no", listed=True) is Reason.VANISHED
    assert read_reason("a\0b") is Reason.NOT_FOUND
    assert read_reason("x" * 5000) is Reason.NOT_FOUND


def test_empty_and_oversized_files_have_their_reasons(tmp_path):
    (tmp_path / "empty").touch()
    assert read_reason(tmp_path / "empty") is Reason.EMPTY
    (tmp_path / "big.jpg").write_bytes(b"12345678901")
    with pytest.raises(ImageError) as caught:
        read_file(str(tmp_path / "big.jpg"), Limits(max_bytes=10))
    assert caught.value.reason is Reason.TOO_MANY_BYTES


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file_is_permission_denied(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "a").chmod(0)
    assert read_reason(tmp_path / "a") is Reason.PERMISSION_DENIED
