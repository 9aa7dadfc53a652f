"""A cascade made of two detectors and photographs, calibrated again and used, by the real command."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bladescan.base.exit_codes import ExitCode
from bladescan.detectors.cascade import read_cascade
from tests.command.test_calibrate import pictures
from tests.once import exported

pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return pictures(tmp_path_factory.mktemp("own") / "photographs", 40, 6)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Two tiny detectors in ONNX, the second without a one-class head."""
    folder = tmp_path_factory.mktemp("parts")
    (folder / "a.onnx").write_bytes(exported("tiny"))
    (folder / "b.onnx").write_bytes(exported("second"))
    return folder / "a.onnx", folder / "b.onnx"


@pytest.fixture(scope="module")
def mine(bladescan, own, parts, tmp_path_factory):
    path = tmp_path_factory.mktemp("cascade") / "mine.cascade"
    arguments = ["--photos", own, "--faces", "none", "--clear", "0.75", "-o", path]
    done = bladescan("cascade", *parts, *arguments)
    assert done.returncode == 0, done.stderr.decode()
    return path, done.stdout.decode()


def rows(bladescan, folder, *options):
    done = bladescan("scan", folder, "--faces", "none", "--format", "jsonl", *options)
    assert done.returncode in (0, 1), done.stderr.decode()
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return lines[0], [face for line in lines if line["type"] == "image" for face in line["faces"]]


def test_the_asked_share_is_cleared_and_the_asked_rate_flagged(bladescan, own, mine, parts):
    assert "faces_seen_by_second: 0.25" in mine[1] and "images_seen_by_second: 0.25" in mine[1]
    run, found = rows(bladescan, own, "--model", mine[0])
    assert run["head"] == "binary" and run["backend"] == "cascade" and run["detector"] == "mine"
    assert [face["verdict"] for face in found].count("ai-generated") == 1  # p = (1 + rank) / 41: 2 / 41
    cascade = read_cascade(mine[0])
    assert cascade.manifest.heads["binary"].n_held_out == 40
    _, alone = rows(bladescan, own, "--model", parts[0], "--head", "binary", "--false-alarm", "0.5")
    first = np.array([face["p_ai_generated"] for face in alone])
    joined = np.array([face["p_ai_generated"] for face in found])
    cleared = first < cascade.rule.clear_below
    assert cleared.sum() == 30
    assert joined[cleared].max() < joined[~cleared].min()  # as they are ranked on the photographs that set it


def test_its_detectors_lie_beside_it(mine, parts):
    assert sorted(path.name for path in mine[0].parent.iterdir()) == ["a.onnx", "b.onnx", "mine.cascade"]
    assert (mine[0].parent / "a.onnx").read_bytes() == parts[0].read_bytes()


def test_rows_do_not_depend_on_batches_and_workers(bladescan, own, mine):
    expected = rows(bladescan, own, "--model", mine[0])[1]
    assert rows(bladescan, own, "--model", mine[0], "--batch-size", "3", "--workers", "2")[1] == expected


def test_it_is_calibrated_again_and_takes_its_detectors_along(bladescan, own, mine, tmp_path):
    path = tmp_path / "again.cascade"
    done = bladescan(
        "calibrate", mine[0], "--photos", own, "--faces", "none", "--false-alarm", "0.1", "-o", path
    )
    assert done.returncode == 0, done.stderr.decode()
    old, new = read_cascade(mine[0]), read_cascade(path)
    assert (new.rule, new.first, new.second) == (old.rule, old.first, old.second)
    assert new.manifest.default_false_alarm == 0.1 and new.manifest.name == "again"
    # The same photographs, scored by the same road: the same calibration.
    assert new.manifest.heads["binary"].calibration == old.manifest.heads["binary"].calibration
    assert [face["verdict"] for face in rows(bladescan, own, "--model", path)[1]].count("ai-generated") == 3


def test_every_command_that_takes_a_detector_takes_it(in_process, own, mine, samples):
    done = in_process("info", mine[0])
    assert done.exit_code == 0 and "name: mine" in done.stdout and "clear: 0.75" in done.stdout
    done = in_process("inspect", samples / "portrait.jpg", "--model", mine[0], "--json")
    assert done.exit_code in (0, 1), done.stderr
    assert json.loads(done.stdout)["image"]["faces"][0]["log_likelihood"] is None


@pytest.mark.parametrize(
    "arguments,said",
    [
        (["{a}", "{b}", "-o", "{tmp}/x.onnx"], "expected a name that ends in .cascade"),
        (["{a}", "{a}", "-o", "{tmp}/x.cascade"], "both parts are called a.onnx"),
        (["{a}", "{mine}", "-o", "{tmp}/x.cascade"], "no cascades"),
        (["{a}", "nono", "-o", "{tmp}/x.cascade"], "unknown shipped detector 'nono'"),
        (["{a}", "{b}", "-o", "{tmp}/x.cascade", "--clear", "1"], "less than 1, got 1"),
        (["{a}", "{b}", "-o", "{tmp}/x.cascade", "--weight", "-1"], "from 0 to 1, got -1"),
        (["{a}", "{b}", "-o", "{tmp}/x.cascade", "--false-alarm", "0.01"], "needs at least 99"),
    ],
)
def test_what_cannot_be_joined_is_one_line_and_no_file(
    in_process, own, parts, mine, tmp_path, arguments, said
):
    places = {"tmp": tmp_path, "a": parts[0], "b": parts[1], "mine": mine[0]}
    arguments = [argument.format(**places) for argument in arguments]
    done = in_process("cascade", "--photos", own, "--faces", "none", *arguments)
    assert done.exit_code == ExitCode.FAILED
    assert said in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_another_file_of_a_parts_name_is_never_replaced(in_process, own, parts, tmp_path):
    (tmp_path / "b.onnx").write_bytes(b"mine")
    done = in_process("cascade", *parts, "--photos", own, "--faces", "none", "-o", tmp_path / "x.cascade")
    assert done.exit_code == ExitCode.FAILED and "another detector has the name" in done.stderr
    assert (tmp_path / "b.onnx").read_bytes() == b"mine" and not (tmp_path / "x.cascade").exists()
