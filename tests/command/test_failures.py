"""However a command fails, programs are told the code and the reason, last."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from bladescan.base.exit_codes import ExitCode


def records(text: bytes) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


FAILURES = [
    (["--nonsense"], "No such option: --nonsense"),
    (["--timeout", "soon"], "--timeout"),
    (["--model", "gone.onnx"], "no such detector file"),
    (["--fail-on", "flaged"], "Did you mean 'flagged'?"),
    (["gone.jpg"], "gone.jpg: no such file or folder"),
    (["--files-from", "gone"], "list of names gone"),
]


@pytest.mark.parametrize("options,reason", FAILURES)
@pytest.mark.parametrize("output", [["--format", "jsonl"], ["--format=jsonl", "-o", "-"]])
def test_json_lines_on_standard_output_end_with_the_reason(bladescan, tmp_path, options, reason, output):
    done = bladescan("scan", ".", *options, *output, cwd=tmp_path)
    *_, last = records(done.stdout)
    assert (last["type"], last["exit_code"]) == ("error", ExitCode.FAILED) and reason in last["reason"]
    assert done.returncode == ExitCode.FAILED and reason.encode() in done.stderr


@pytest.mark.parametrize("options,reason", FAILURES)
def test_a_json_log_ends_with_the_reason(bladescan, tmp_path, options, reason):
    done = bladescan("scan", ".", *options, "--log-format", "json", cwd=tmp_path)
    last = records(done.stderr)[-1]
    assert (last["event"], last["exit_code"]) == ("error", ExitCode.FAILED) and reason in last["message"]
    assert done.stdout == b""


def test_nothing_but_verdicts_comes_where_json_lines_are_not_asked_for(bladescan, tmp_path):
    for output in (["--format", "csv"], ["--format", "jsonl", "-o", "v.jsonl"], ["--format", "jsonl", "-ov"]):
        assert bladescan("scan", ".", "--nonsense", *output, cwd=tmp_path).stdout == b""


def test_a_full_disk_is_the_last_line_of_a_json_log(bladescan, samples):
    options = ("-o", "/dev/full", "--format", "jsonl", "--log-format", "json")
    last = records(bladescan("scan", samples, *options).stderr)[-1]
    assert last["exit_code"] == ExitCode.FAILED and "No space left" in last["message"]


def test_a_scan_stopped_by_a_limit_says_so_last(bladescan, samples, tmp_path):
    reason = "stopped: 1 of 1 images could not be read, more than --max-errors 0"
    options = ("--max-errors", "0", "--log-format", "json")
    done = bladescan("scan", samples, *options, "--format", "jsonl")
    *_, summary, last = records(done.stdout)
    assert last == {"type": "error", "exit_code": 3, "reason": reason}
    for told in (summary, records(done.stderr)[-1]):
        assert (told["complete"], told["exit_code"], told["reason"]) == (False, 3, reason)
    bladescan("scan", samples, *options, "-o", tmp_path / "v.json")
    assert json.loads((tmp_path / "v.partial.json").read_text())["summary"]["reason"] == reason


@pytest.mark.parametrize("name,code", [("HUP", 129), ("INT", 130), ("TERM", 143)])
def test_an_interrupted_scan_says_so_last(samples, name, code):
    options = ["--format", "jsonl", "--log-format", "json"]
    command = [sys.executable, "-m", "bladescan", "scan", "-", *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as scan:
        scan.stdin.write(f"{samples / 'no-face.webp'}\n".encode())
        scan.stdin.flush()
        assert b'"run"' in scan.stdout.readline() and b'"image"' in scan.stdout.readline()
        scan.send_signal(getattr(signal, f"SIG{name}"))
        out, log = scan.stdout.read(), scan.stderr.read()
        assert scan.wait(timeout=60) == code
    summary, last = records(out)
    assert (summary["complete"], summary["exit_code"]) == (False, code)
    assert summary["reason"] == "interrupted after 1 image"
    assert last == {"type": "error", "exit_code": code, "reason": f"interrupted by SIG{name}"}
    logged = records(log)[-1]
    assert (logged["event"], logged["exit_code"]) == ("interrupted", code)


def test_an_interruption_before_the_scan_begins_is_logged_too(tmp_path):
    """While the detector is loaded from a pipe that nobody writes."""
    code = (
        "import os, signal, typer\n"
        "from bladescan.command.guard import expect_json_lines, guarded\n"
        "@guarded\n"
        "def command(log_format=None): os.kill(os.getpid(), signal.SIGTERM); signal.pause()\n"
        "expect_json_lines()\n"
        "try: command(log_format='json')\n"
        "except typer.Exit as exc: raise SystemExit(exc.exit_code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    (line,), (record,) = records(done.stderr), records(done.stdout)
    assert done.returncode == line["exit_code"] == record["exit_code"] == ExitCode.TERMINATED
    assert line["message"] == record["reason"] == "interrupted by SIGTERM"
