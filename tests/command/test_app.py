"""The real command in real processes: the contract of its output and exit codes."""

from __future__ import annotations

import base64
import contextlib
import csv
import io
import json
import math
import os
import re
import subprocess
import sys

import pyarrow.parquet
import pytest

from bladescan.base.exit_codes import ExitCode
from bladescan.outputs.rows import COLUMNS


def rows(text: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.decode(), newline="")))


@pytest.fixture(scope="module")
def scanned(bladescan, samples):
    return bladescan("scan", "samples", cwd=samples.parent, env={})


@pytest.fixture(scope="module")
def samples(tmp_path_factory, samples):
    """The samples in a folder called samples."""
    folder = tmp_path_factory.mktemp("cwd") / "samples"
    folder.mkdir()
    for path in samples.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_every_sample_has_its_row_in_order(scanned):
    assert [row["path"] for row in rows(scanned.stdout)] == [
        "samples/cut-off.jpg",
        "samples/no-face.webp",
        "samples/portrait.jpg",
        "samples/sideways.jpg",
        "samples/two-faces.png",
        "samples/two-faces.png",
    ]


def test_what_cannot_be_read_or_has_no_face_says_so(scanned):
    cut, no_face = rows(scanned.stdout)[:2]
    assert (cut["verdict"], cut["reason"]) == ("unreadable", "truncated")
    assert (no_face["verdict"], no_face["reason"], no_face["format"]) == ("no-face", "", "WEBP")


def test_orientation_is_applied_once(scanned):
    upright, sideways = rows(scanned.stdout)[2:4]
    assert (upright["width"], upright["height"]) == (sideways["width"], sideways["height"]) == ("512", "600")
    for side in ("x0", "y0", "x1", "y1"):
        assert float(upright[side]) == pytest.approx(float(sideways[side]), abs=8)


def test_standard_output_carries_verdicts_only(scanned):
    assert scanned.returncode == ExitCode.INCOMPLETE
    assert b"samples/cut-off.jpg: truncated" in scanned.stderr
    assert b"5 images" in scanned.stderr
    assert all(len(row) == len(COLUMNS) and None not in row for row in rows(scanned.stdout))


@pytest.mark.parametrize("head", ["one-class", "binary"])
def test_scores_p_values_and_verdicts_agree(bladescan, samples, head):
    for rate in (0.05, 0.9):
        out = bladescan(
            "scan", samples, "--model", "blades", "--false-alarm", str(rate), "--head", head
        ).stdout
        for row in (row for row in rows(out) if row["face"]):
            p, score = float(row["p_value"]), float(row["score"])
            assert (row["face_verdict"] == "ai-generated") == (p <= rate) == (score > float(row["threshold"]))
            assert float(row["p_smooth"]) >= p - 1e-6 and row["head"] == head
            ai = min(max(float(row["p_ai_generated"]), 1e-6), 1 - 1e-6)
            expected = -float(row["log_likelihood"]) if head == "one-class" else math.log(ai / (1 - ai))
            assert abs(expected) > 13 or score == pytest.approx(expected, rel=1e-3, abs=1e-2)


@pytest.mark.parametrize("workers,batch_size", [("1", "1"), ("1", "32"), ("2", "8")])
def test_rows_do_not_depend_on_workers_or_batch(bladescan, samples, scanned, workers, batch_size):
    again = bladescan("scan", "samples", "--workers", workers, "--batch-size", batch_size, cwd=samples.parent)
    assert again.stdout == scanned.stdout


def test_the_pytorch_backend_gives_the_same_verdicts(bladescan, samples, scanned):
    again = rows(bladescan("scan", "samples", "--backend", "pytorch", cwd=samples.parent).stdout)
    for ours, theirs in zip(rows(scanned.stdout), again, strict=True):
        assert (ours["path"], ours["face_verdict"]) == (theirs["path"], theirs["face_verdict"])
        if ours["log_likelihood"]:
            assert float(theirs["log_likelihood"]) == pytest.approx(float(ours["log_likelihood"]), rel=1e-3)


def test_formats_hold_the_same_rows(bladescan, samples, tmp_path, scanned):
    reference = rows(scanned.stdout)
    for name in ("v.csv", "v.json", "v.jsonl", "v.parquet"):
        done = bladescan("scan", "samples", "-o", tmp_path / name, cwd=samples.parent)
        assert done.returncode == ExitCode.INCOMPLETE
        assert done.stdout == b""
    assert (tmp_path / "v.csv").read_bytes() == scanned.stdout
    document = json.loads((tmp_path / "v.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert [line["type"] for line in lines] == ["run"] + ["image"] * 5 + ["summary"]
    for images in (document["images"], lines[1:-1]):
        assert [image["path"] for image in images] == list(dict.fromkeys(row["path"] for row in reference))
    assert lines[-1]["complete"] is True
    assert lines[-1]["verdicts"]["unreadable"] == 1
    table = pyarrow.parquet.read_table(tmp_path / "v.parquet").to_pylist()
    assert [row["path"] for row in table] == [row["path"] for row in reference]


def test_names_come_from_standard_input_and_from_files(bladescan, samples, tmp_path):
    names = [str(samples / "portrait.jpg"), str(samples / "no-face.webp")]
    (tmp_path / "list").write_text("\0".join(names))
    by_stdin = bladescan("scan", "-", stdin="\n".join(names).encode())
    by_file = bladescan("scan", "--files-from", tmp_path / "list", "-0")
    assert [row["path"] for row in rows(by_stdin.stdout)] == names
    assert by_stdin.stdout == by_file.stdout
    assert by_stdin.returncode in (ExitCode.CLEAN, ExitCode.FLAGGED)


def test_a_name_that_is_not_utf8_comes_out_whole(bladescan, samples, tmp_path):
    name = os.fsencode(tmp_path) + b'/\xff,"\n.jpg'
    with open(name, "wb") as file:
        file.write((samples / "portrait.jpg").read_bytes())
    (row,) = rows(bladescan("scan", name, env={"LANG": "C", "LC_ALL": "C"}).stdout)
    assert row["path"] == f'{tmp_path}/\\xff,"\n.jpg' and base64.b64decode(row["path_bytes"]) == name


@pytest.mark.parametrize(
    "fail_on,code", [("flagged,unreadable", 4), ("flagged", 1), ("unreadable", 3), ("none", 0)]
)
def test_the_exit_code_tells_what_was_found_as_far_as_it_is_asked(bladescan, samples, fail_on, code):
    pictures = [samples / "portrait.jpg", samples / "cut-off.jpg"]
    done = bladescan("scan", *pictures, "--false-alarm", "0.99", "--fail-on", fail_on, "--format", "jsonl")
    summary = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == summary["exit_code"] == code
    assert summary["complete"] is True


@pytest.mark.parametrize("value", ["flaged", "", "none,flagged"])
def test_a_choice_of_fail_on_that_is_none_is_said(in_process, samples, value):
    done = in_process("scan", samples, "--fail-on", value)
    assert done.exit_code == ExitCode.FAILED and "--fail-on" in done.stderr


def test_a_false_discovery_rate_decides_over_the_whole_scan(bladescan, samples):
    found = bladescan("scan", samples, "--fdr", "0.999", "--format", "jsonl")
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    faces = [face for line in lines if line["type"] == "image" for face in line["faces"]]
    ordered = sorted(face["p_value"] for face in faces)
    below = [p for i, p in enumerate(ordered, 1) if p <= 0.999 * i / len(ordered)]
    threshold = max(below, default=0.0)
    assert [f["verdict"] == "ai-generated" for f in faces] == [f["p_value"] <= threshold for f in faces]
    assert lines[0]["fdr"] == 0.999 and lines[0]["false_alarm"] is None
    least = lines[-1]["threshold"]
    assert {face["threshold"] for face in faces} == {least} and threshold > 0
    assert [f["verdict"] == "ai-generated" for f in faces] == [f["score"] > least for f in faces]


@pytest.mark.parametrize("name", ["v.csv", "v.json", "v.jsonl", "v.parquet"])
def test_every_format_comes_in_order_and_cut_off(bladescan, samples, tmp_path, scanned, name):
    order = {}
    for row in rows(scanned.stdout):
        order[row["path"]] = max(order.get(row["path"], -1e9), float(row["score"] or -1e9))
    best = sorted((path for path in order if order[path] > -1e9), key=lambda path: -order[path])
    for options, expected in ((("--sort", "score"), best), (("--top", "2"), best[:2])):
        bladescan("scan", "samples", *options, "-o", tmp_path / name, cwd=samples.parent)
        if name == "v.csv":
            found = [row["path"] for row in rows((tmp_path / name).read_bytes())]
        elif name == "v.parquet":
            found = pyarrow.parquet.read_table(tmp_path / name).column("path").to_pylist()
        elif name == "v.json":
            document = json.loads((tmp_path / name).read_text())
            found = [image["path"] for image in document["images"]]
            assert document["summary"]["n_below_top"] == len(order) - len(found)
        else:
            lines = [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
            found = [line["path"] for line in lines if line["type"] == "image"]
            assert lines[-1]["n_images"] == len(order)
        assert list(dict.fromkeys(found))[: len(expected)] == expected
        assert len(set(found)) == (len(order) if options[0] == "--sort" else 2)


def test_a_table_on_a_terminal_shows_the_most_suspicious_first(samples):
    command = [sys.executable, "-m", "bladescan", "scan", "samples", "-q"]
    leader, follower = os.openpty()
    with subprocess.Popen(command, stdout=follower, cwd=samples.parent, env=os.environ | {"NO_COLOR": "1"}):
        os.close(follower)
        shown = b""
        with contextlib.suppress(OSError):  # a terminal whose other side is gone
            while part := os.read(leader, 65536):
                shown += part
    os.close(leader)
    without_bars = re.sub("[█-▏]", " ", shown.decode())
    scores = [line.split()[1] for line in without_bars.splitlines()[1:]]
    assert len(scores) == 5 and scores[-2:] == ["-", "-"]
    assert [float(s) for s in scores[:3]] == sorted((float(s) for s in scores[:3]), reverse=True)


def test_an_empty_folder_or_list_is_incomplete_unless_that_is_allowed(bladescan, tmp_path):
    (tmp_path / "list").touch()
    (tmp_path / "folder").mkdir()
    for what in ([tmp_path / "folder"], ["--files-from", tmp_path / "list"]):
        done = bladescan("scan", *what)
        assert done.returncode == ExitCode.INCOMPLETE and b"nothing to scan" in done.stderr
    assert bladescan("scan", *what, "--allow-empty").returncode == ExitCode.CLEAN
    assert bladescan("scan", *what, "--fail-on", "none").returncode == ExitCode.INCOMPLETE


@pytest.mark.parametrize("name", ["gone", "gone/below", "link", "x.jpg/below", "n" * 300])
def test_a_path_that_does_not_exist_is_said_before_any_work(bladescan, samples, tmp_path, name):
    (tmp_path / "link").symlink_to("nothing")
    (tmp_path / "x.jpg").write_bytes((samples / "portrait.jpg").read_bytes())
    done = bladescan("scan", "x.jpg", name, "-o", "v.csv", cwd=tmp_path)
    assert done.returncode == ExitCode.FAILED
    assert done.stderr.decode() == f"bladescan: {name}: no such file or folder\n"
    assert not (tmp_path / "v.csv").exists()


def test_a_name_of_a_list_that_does_not_exist_has_its_row(bladescan, tmp_path):
    done = bladescan("scan", "-", stdin=b"gone.jpg\n", cwd=tmp_path)
    assert done.returncode == ExitCode.INCOMPLETE
    assert [row["reason"] for row in rows(done.stdout)] == ["not-found"]


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["scan"], "nothing to scan"),
        (["scan", "x", "--backend", "onxn"], "unknown backend 'onxn'. Did you mean 'onnx'?"),
        (["scan", "x", "--backend", "tensorrt", "--model", "{garbage}"], "tensorrt"),
        (["scan", "x", "--model", "{garbage}"], "not"),
        (["scan", "x", "--model", "/nonexistent.onnx"], "no such detector file"),
        (["scan", "x", "--device", "cuda:0"], "cuda"),
        (["scan", "x", "--faces", "yumet"], "Did you mean 'yunet'?"),
        (["scan", "x", "--head", "both"], "has no both head"),
        (["scan", "x", "--false-alarm", "0.00001"], "held-out"),
        (["scan", "x", "--false-alarm", "0.1", "--fdr", "0.1"], "give one"),
        (["scan", "x", "--max-bytes", "many"], "expected a positive number"),
        (["scan", "x", "--shard", "4/3"], "shard"),
        (["scan", "s3x://bucket/key"], "Did you mean 's3'"),
        (["scan", "x", "-o", "/nonexistent/v.csv"], "/nonexistent"),
        (["scan", "x", "-o", "v.xlsx"], "csv"),
        (["scan", "x", "--model", "."], "is a folder"),
        (["info", "{garbage}"], "not"),
        (["info", "."], "not an encoder run"),
        (["export", "{garbage}", "-o", "/tmp/x.onnx"], "not"),
        (["fit", "--photos", "x", "-o", "x.txt"], ".safetensors"),
        (["fit", "--photos", "x", "-o", "x.safetensors", "--covariance", "fulll"], "Did you mean 'full'?"),
        (["fit", "--photos", "x", "-o", "x.safetensors", "--held-out", "3"], "between 0 and 1"),
        (["fit", "--photos", "x", "-o", "x.safetensors", "--group-by", "name"], "Available: file, folder"),
        (["train", "--photos", "x", "-o", "run", "--set", "inner.lrr=1"], "inner.lr"),
    ],
)
def test_what_cannot_run_is_one_line_and_exit_code_2(in_process, tmp_path, monkeypatch, arguments, message):
    garbage = tmp_path / "model.onnx"
    garbage.write_bytes(os.urandom(4096))
    (tmp_path / "x").touch()
    monkeypatch.chdir(tmp_path)
    done = in_process(*(argument.replace("{garbage}", str(garbage)) for argument in arguments))
    said = done.stderr
    assert done.exit_code == ExitCode.FAILED, said
    assert len(said.splitlines()) == 1
    assert "internal error" not in said
    assert said.startswith("bladescan: ") and message in said
    assert done.stdout == ""


@pytest.mark.parametrize(
    "option", [["--nonsense"], ["--timeout", "nan"], ["--timeout", "inf"], ["--workers", "-1"]]
)
def test_an_option_out_of_range_is_a_usage_error(bladescan, option):
    assert bladescan("scan", ".", *option).returncode == ExitCode.FAILED


def test_a_full_disk_is_an_error(bladescan, samples):
    done = bladescan("scan", samples, "-o", "/dev/full", "--format", "csv")
    assert done.returncode == ExitCode.FAILED
    assert b"No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_closed_pipe_is_success(samples):
    command = f"{sys.executable} -m bladescan scan {samples} {samples} {samples} --batch-size 1"
    shell = f"set -o pipefail; {command} | head -1; echo $?"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, check=True, timeout=120)
    head, status = done.stdout.decode().splitlines()
    assert head.startswith("path,verdict")
    assert status == "0"
    assert b"Traceback" not in done.stderr and b"BrokenPipe" not in done.stderr


def test_a_file_name_cannot_steer_the_terminal(bladescan, tmp_path):
    (tmp_path / "\x1b[2J.jpg").write_bytes(b"no image")
    done = bladescan("scan", tmp_path, "--format", "table")
    assert b"\x1b" not in done.stderr + done.stdout


def test_a_scan_goes_on_when_nobody_reads_its_messages(samples, tmp_path):
    command = f"{sys.executable} -m bladescan scan {samples} {samples} -o {tmp_path}/v.csv"
    done = subprocess.run(["bash", "-c", f"{command} 2> >(exec true)"], timeout=120, check=False)
    assert done.returncode == ExitCode.INCOMPLETE
    assert len(rows((tmp_path / "v.csv").read_bytes())) == 12


@pytest.mark.parametrize(
    "redirection,code", [(">&- -o {out}", 3), (">&-", 2), ("2>&- -o {out}", 3), ("- <&-", 2)]
)
def test_closed_streams_are_no_traceback_and_no_false_flag(samples, tmp_path, redirection, code):
    command = f"{sys.executable} -m bladescan scan {samples} " + redirection.format(out=tmp_path / "v.csv")
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=120, check=False)
    assert done.returncode == code
    assert b"Traceback" not in done.stderr


def test_onnxruntime_keeps_no_usage_records(bladescan, samples, tmp_path):
    bladescan("scan", samples, env={"HOME": str(tmp_path)})
    assert not list(tmp_path.rglob("*onnxruntime*"))


def test_the_output_is_not_scanned(bladescan, samples, tmp_path):
    (tmp_path / "x.jpg").write_bytes((samples / "portrait.jpg").read_bytes())
    for _ in range(2):
        done = bladescan("scan", ".", "--hidden", "-o", "v.csv", cwd=tmp_path)
        assert done.returncode in (ExitCode.CLEAN, ExitCode.FLAGGED), done.stderr
        assert [row["path"] for row in rows((tmp_path / "v.csv").read_bytes())] == ["./x.jpg"]


def test_an_unknown_backend_is_one_line_of_a_real_process(bladescan):
    done = bladescan("scan", ".", "--backend", "onxn")
    assert (done.returncode, done.stdout) == (ExitCode.FAILED, b"")
    assert done.stderr.startswith(b"bladescan: unknown backend 'onxn'") and done.stderr.count(b"\n") == 1


def test_info_backends_recipes_and_doctor_speak(bladescan, in_process):
    assert json.loads(in_process("info", "--json").stdout)["format_version"] == 2
    assert "calibration_range" in in_process("info").stdout
    listed = in_process("backends").stdout
    assert [line.split()[0] for line in listed.splitlines()] == [
        *("cascade", "combined", "onnx", "openvino", "pytorch", "tensorrt")
    ]
    assert "small" in in_process("recipes").stdout
    assert "batch_size" in in_process("recipes", "small").stdout
    checked = bladescan("doctor")
    assert checked.returncode == 0 and b"FAILED" not in checked.stdout


def test_doctor_fails_on_a_bad_detector(bladescan, tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    done = bladescan("doctor", "--model", tmp_path / "x.onnx")
    assert done.returncode == ExitCode.FAILED
    assert b"FAILED detector" in done.stdout


@pytest.mark.parametrize("asked", [(), ("ledger",)])
def test_the_list_of_commands_cuts_no_sentence_off(bladescan, asked):
    assert b"..." not in bladescan(*asked, "--help").stdout.replace(b"[ARGS]...", b"")


def test_help_and_usage_errors_are_plain_in_a_pipe_and_load_no_rich(bladescan):
    helped, wrong = bladescan("scan", "--help"), bladescan("scan", ".", "--bogus")
    assert helped.stdout.isascii() and b"--files-from FILE" in helped.stdout
    assert wrong.returncode == ExitCode.FAILED and b"Error: No such option: --bogus" in wrong.stderr
    code = "import sys; from bladescan.command.app import app; print('rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"False\n"
