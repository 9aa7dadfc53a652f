import pytest

from bladescan.base.errors import DetectorError
from bladescan.detectors.files import read_whole


def test_a_file_is_read_whole_and_what_is_none_is_said(tmp_path):
    (tmp_path / "d.onnx").write_bytes(b"graph")
    assert read_whole(tmp_path / "d.onnx", "a detector") == b"graph"
    with pytest.raises(DetectorError, match="is a folder, expected a detector$"):
        read_whole(tmp_path, "a detector")
    with pytest.raises(DetectorError, match="cannot be read: No such file or directory$"):
        read_whole(tmp_path / "x", "a detector")
