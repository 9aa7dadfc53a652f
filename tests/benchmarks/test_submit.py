"""The benchmark of `submit` times both ways on the same crops."""

import pytest

pytest.importorskip("onnx")

from benchmarks.speed import submit  # noqa: E402


def test_every_backend_that_is_here_has_a_ratio(capsys):
    submit.main(["--batch", "1", "--rounds", "2"])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if "onnx" in line]
    assert len(rows) == 1 and 0 < float(rows[0][1]) < 100
