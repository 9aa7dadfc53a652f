"""Scans that nobody watches: logs, metrics, limits, the checks of ``doctor``, and docs/operations.md."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import yaml
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from bladescan.base.exit_codes import ExitCode
from bladescan.base.records import Reason, Verdict
from bladescan.command import machine
from bladescan.command.metrics import render
from bladescan.command.terminal import interval_s
from bladescan.outputs.run import RunSummary
from tests import ROOT

PERSON = "jane-doe.jpg"
PAGE = (ROOT / "docs" / "operations.md").read_text()
needs_jq = pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five pictures that are faces, and two files that are none; one is named after a person."""
    folder = tmp_path_factory.mktemp("operating") / "uploads"
    folder.mkdir()
    rng = np.random.default_rng(11)
    for i in range(5):
        pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((224, 224), Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    for name in (PERSON, "z.jpg"):
        (folder / name).write_bytes(b"not an image")
    return folder


@pytest.fixture(scope="module")
def scan(bladescan, folder):
    """Scan the folder under the name that people give it."""

    def run(*options, env=None):
        return bladescan("scan", "uploads", "--faces", "none", *options, cwd=folder.parent, env=env)

    return run


@pytest.fixture(scope="module")
def logged(scan, folder):
    """One scan with all of it: its process, the lines of its log, its metrics file, its verdicts."""
    env = {"BLADESCAN_LOG_INTERVAL_S": "0.1"}
    done = scan("-o", "v.jsonl", "--metrics", "m.prom", "--log-format", "json", "--workers", "2", env=env)
    verdicts = [json.loads(line) for line in (folder.parent / "v.jsonl").read_text().splitlines()]
    return done, lines(done.stderr), (folder.parent / "m.prom").read_text(), verdicts


def lines(stderr: bytes) -> list[dict]:
    return [json.loads(line) for line in stderr.splitlines()]


def samples(text: str) -> dict[tuple, float]:
    """What Prometheus reads: values by name and labels."""
    families = text_string_to_metric_families(text)
    return {
        (sample.name.removeprefix("bladescan_last_run_"), *sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_every_line_of_a_json_log_is_an_object_with_a_time_a_level_and_an_event(logged):
    done, said, _, _ = logged
    assert done.returncode == ExitCode.INCOMPLETE and done.stdout == b""
    for line in said:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["ts"])
        assert line["level"] in ("info", "warning", "error") and line["message"]
    events = [line["event"] for line in said]
    assert events[-1] == "summary" and events.count("unreadable") == 2
    assert "start" in events and "progress" in events


def test_a_json_log_names_no_file_but_by_its_hash(logged):
    done, said, prom, _ = logged
    assert b"jane" not in done.stderr and "jane" not in prom
    hashed = [line["source_sha256"] for line in said if line["event"] == "unreadable"]
    assert hashed == [hashlib.sha256(f"uploads/{n}".encode()).hexdigest() for n in (PERSON, "z.jpg")]


def test_the_log_the_metrics_and_the_file_tell_the_same_counts(logged, folder):
    _, said, prom, verdicts = logged
    summary, found = verdicts[-1], samples(prom)
    logged_summary = said[-1]
    for key in ("n_images", "n_faces", "verdicts", "reasons", "exit_code", "complete", "bytes_read"):
        assert logged_summary[key] == summary[key]
    assert summary["bytes_read"] == sum(path.stat().st_size for path in folder.iterdir())
    assert summary["images_per_second"] == pytest.approx(7 / summary["seconds"], rel=0.01)
    assert set(summary["stage_seconds"]) == {"list", "fetch", "decode", "score", "write"}
    assert summary["stage_seconds"]["decode"] > 0 and summary["stage_seconds"]["score"] > 0
    scan = ("scan", "m")
    assert found["exit_code", scan] == ExitCode.INCOMPLETE and found["complete", scan] == 1
    assert found["read_bytes", scan] == summary["bytes_read"] and found["faces", scan] == 5
    for verdict, n in summary["verdicts"].items():
        assert found["images", scan, ("verdict", verdict)] == n
    by_reason = {reason: found["unreadable_images", ("reason", reason.value), scan] for reason in Reason}
    assert {reason.value: n for reason, n in by_reason.items() if n} == summary["reasons"]


def test_text_shows_paths_unless_told_to_hash_them(scan):
    assert b"uploads/jane-doe.jpg: not-an-image" in scan().stderr
    hashed = scan("--log-paths", "hashed", env={"BLADESCAN_LOG_KEY": "k"}).stderr.decode()
    digest = hmac.new(b"k", f"uploads/{PERSON}".encode(), "sha256").hexdigest()
    assert f"hmac-sha256:{digest}: not-an-image" in hashed and "jane" not in hashed


def test_a_url_of_a_list_that_is_none_is_hashed_too(scan, folder):
    names = "".join(
        f"{start}/jane-doe.jpg\n" for start in ("s3://", "http://me:word@h", "http://[", "gs://a^")
    )
    (folder.parent / "names").write_text(names)
    done = scan("--files-from", "names", "--log-paths", "hashed", "-o", "urls.csv")
    said = done.stderr.decode()
    assert (
        "not-found: the name of the bucket is missing" in said and "not-found: leave the password out" in said
    )
    assert "jane" not in said and "word@" not in said


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["scan", ".", "--log-format", "json", "--nonsense"], "No such option"),
        (["scan", ".", "--log-format=json", "--max-errors", "-1"], "--max-errors"),
        (["scan", ".", "--log-format", "json", "--backend", "onxn"], "Did you mean 'onnx'?"),
        (["scan", ".", "--log-format", "json", "--metrics", "/nonexistent/m.prom"], "/nonexistent"),
    ],
)
def test_what_cannot_run_is_one_json_line(bladescan, arguments, message):
    done = bladescan(*arguments)
    (line,) = lines(done.stderr)
    assert done.returncode == line["exit_code"] == ExitCode.FAILED
    assert (line["event"], line["level"]) == ("error", "error") and message in line["message"]


def test_a_traceback_is_a_field_and_the_format_comes_from_the_environment_too(bladescan):
    done = bladescan("info", "/nonexistent", "--debug", env={"BLADESCAN_LOG_FORMAT": "json"})
    (line,) = lines(done.stderr)
    assert line["traceback"].startswith("Traceback") and line["exit_code"] == ExitCode.FAILED


def test_a_quiet_log_holds_errors_only(scan):
    assert scan("--quiet", "--log-format", "json").stderr == b""


@pytest.mark.parametrize("options", [[], ["--fdr", "0.1"], ["--workers", "2"]])
def test_too_many_unreadable_sources_stop_a_scan_and_the_rows_are_kept(scan, tmp_path, options):
    prom = tmp_path / "m.prom"
    done = scan(
        *options, "--max-errors", "0", "-o", tmp_path / "v.jsonl", "--metrics", prom, "--log-format", "json"
    )
    assert done.returncode == ExitCode.INCOMPLETE
    stopped = next(line for line in lines(done.stderr) if line["event"] == "stopped")
    assert "1 of 6 images could not be read, more than --max-errors 0" in stopped["message"]
    assert stopped["kept"] == str(tmp_path / "v.partial.jsonl") and stopped["resumable"] is True
    assert not (tmp_path / "v.jsonl").exists()
    kept = [json.loads(line) for line in (tmp_path / "v.partial.jsonl").read_text().splitlines()]
    assert [line["path"] for line in kept[1:-1]][-1] == f"uploads/{PERSON}" and len(kept) == 8
    assert kept[-1]["complete"] is False and kept[-1]["exit_code"] == ExitCode.INCOMPLETE
    found = samples(prom.read_text())
    assert found["complete", ("scan", "m")] == 0 and found["exit_code", ("scan", "m")] == 3


def test_a_stopped_scan_goes_on_where_it_stopped(scan, tmp_path):
    out = tmp_path / "v.csv"
    scan("--max-errors", "0", "-o", out)
    done = scan("--max-errors", "2", "-o", out, "--resume", "--log-format", "json")
    assert lines(done.stderr)[-1]["complete"] is True
    assert len(out.read_text().splitlines()) == 8


def test_what_is_new_has_one_row_though_a_scan_stopped_at_it(scan, tmp_path):
    options = ("--ledger", tmp_path / "ledger", "--show", "new")
    stopped, rest = scan(*options, "--max-errors", "0"), scan(*options)
    paths = [line.split(b",")[0] for done in (stopped, rest) for line in done.stdout.splitlines()[1:]]
    assert stopped.returncode == ExitCode.INCOMPLETE and len(paths) == len(set(paths)) > 1


def test_as_many_unreadable_sources_as_allowed_do_not_stop_a_scan(scan):
    done = scan("--max-errors", "2")
    assert done.returncode == ExitCode.INCOMPLETE and b"stopped" not in done.stderr
    assert len(done.stdout.splitlines()) == 8


def test_a_scan_that_cannot_begin_leaves_metrics(bladescan, tmp_path):
    options = ("--metrics", tmp_path / "nightly.prom", "--model", tmp_path / "missing.onnx")
    assert bladescan("scan", ".", *options).returncode == ExitCode.FAILED
    found, scan = samples((tmp_path / "nightly.prom").read_text()), ("scan", "nightly")
    assert (found["exit_code", scan], found["complete", scan]) == (2, 0)
    assert found["images", scan, ("verdict", "unreadable")] == 0
    assert found["timestamp_seconds", scan] > 1.7e9


def test_an_interrupted_scan_leaves_metrics_and_a_line(tmp_path):
    options = ["--faces", "none", "--log-format", "json", "--metrics", str(tmp_path / "m.prom")]
    command = [sys.executable, "-m", "bladescan", "scan", "-", *options, "-o", str(tmp_path / "v.csv")]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stderr=pipe) as running:
        running.stdin.write(b"/nonexistent/x.jpg\n")
        running.stdin.flush()
        assert any(b'"unreadable"' in line for line in running.stderr)
        running.send_signal(signal.SIGTERM)
        said = lines(running.stderr.read())
        assert running.wait(timeout=60) == ExitCode.TERMINATED
    (interrupted,) = (line for line in said if line["event"] == "interrupted")
    assert interrupted["n_images"] == 1 and interrupted["kept"] == str(tmp_path / "v.partial.csv")
    found = samples((tmp_path / "m.prom").read_text())
    assert (found["exit_code", ("scan", "m")], found["complete", ("scan", "m")]) == (143, 0)


def test_metrics_that_nobody_would_collect_are_an_error(bladescan, tmp_path):
    done = bladescan("scan", ".", "--metrics", tmp_path / "m.txt")
    assert done.returncode == ExitCode.FAILED and b"expected a name that ends in .prom" in done.stderr
    assert not (tmp_path / "m.txt").exists()
    os.mkfifo(tmp_path / "m.prom")
    done = bladescan("scan", ".", "--metrics", tmp_path / "m.prom")
    assert done.returncode == ExitCode.FAILED and b"m.prom: is a device or a pipe" in done.stderr


@pytest.mark.parametrize(
    "value,seconds", [("inf", 86400), ("nan", 30), ("-1", 0.1), ("", 30), ("soon", 30), ("5", 5)]
)
def test_progress_is_said_at_intervals_that_a_clock_can_wait_for(monkeypatch, value, seconds):
    monkeypatch.setenv("BLADESCAN_LOG_INTERVAL_S", value)
    assert interval_s() == seconds


def test_metrics_survive_any_name():
    name = 'a"\\\n\udcff'
    text = render(name, RunSummary(0, 0, dict.fromkeys((v.value for v in Verdict), 0)), None, 1.5)
    assert {dict(key[1:])["scan"] for key in samples(text)} == {'a"\\\n\\udcff'}


def test_metrics_have_the_form_that_prometheus_asks_for(logged):
    families = list(text_string_to_metric_families(logged[2]))
    assert all(family.documentation and family.type == "gauge" for family in families)
    assert all(re.fullmatch(r"bladescan_last_run_[a-z_]+", family.name) for family in families)
    assert logged[2].endswith("\n")


def test_doctor_speaks_json(bladescan, tmp_path):
    done = bladescan("doctor", "--json", "--model", tmp_path / "x.onnx", env={"BLADESCAN_NO_PLUGINS": "1"})
    assert done.returncode == ExitCode.FAILED
    found = {finding["name"]: finding["ok"] for finding in json.loads(done.stdout)}
    assert found["temporary folder"] and found["cores"] and found["face finder"]
    assert found["detector"] is False and found["backend onnx"] is False


def test_memory_is_what_the_container_leaves(tmp_path):
    (tmp_path / "meminfo").write_text("MemTotal: 1 kB\nMemAvailable:    8000000 kB\n")
    assert machine.check_memory(tmp_path, tmp_path / "meminfo") == (True, "8 192 MB free")
    (tmp_path / "memory.max").write_text("600000000\n")
    (tmp_path / "memory.current").write_text("500000000\n")
    assert machine.check_memory(tmp_path, tmp_path / "meminfo") == (
        False,
        "100 MB free, by the limit of its cgroup",
    )
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.check_memory(tmp_path, tmp_path / "meminfo")[0] is True
    assert machine.check_memory(tmp_path, tmp_path / "nothing")[0] is None


def test_few_file_descriptors_and_a_closed_temporary_folder_are_found(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (32, 32))
    assert machine.check_descriptors()[0] is False
    monkeypatch.setattr(machine.tempfile, "gettempdir", lambda: "/nonexistent")
    assert machine.check_temporary_folder()[0] is False


# docs/operations.md


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_every_option_that_the_page_uses_exists():
    reference = (ROOT / "docs" / "cli.md").read_text()
    commands = re.findall(r"bladescan (?:scan|doctor|ledger)\b[^`]*?(?=\n\n|```|\|)", PAGE)
    used = {option for command in commands for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", command)}
    assert len(used) > 5
    assert used <= set(re.findall(r"--[a-z][a-z-]+", reference)) | {"--json"}


def test_kubernetes_objects_are_what_they_say():
    objects = [found for block in blocks("yaml") for found in yaml.safe_load_all(block) if "kind" in found]
    assert [found["kind"] for found in objects] == ["CronJob", "Job"]
    for found in objects:
        job = found["spec"].get("jobTemplate", found)["spec"]
        (container,) = job["template"]["spec"]["containers"]
        assert container["args"][0] == "scan" and "limits" in container["resources"]
        mounts = {mount["name"] for mount in container.get("volumeMounts", ())}
        assert mounts <= {volume["name"] for volume in job["template"]["spec"].get("volumes", ())}
        codes = [c for rule in job["podFailurePolicy"]["rules"] for c in rule["onExitCodes"]["values"]]
        assert set(codes) <= set(ExitCode)


def test_alerts_ask_for_metrics_that_there_are(logged):
    rules = next(yaml.safe_load(block) for block in blocks("yaml") if block.startswith("groups:"))
    there = {f"bladescan_last_run_{key[0]}" for key in samples(logged[2])}
    asked = set()
    for rule in rules["groups"][0]["rules"]:
        assert rule["alert"] and rule["labels"]["severity"] and rule["annotations"]["summary"]
        asked |= set(re.findall(r"bladescan_\w+", rule["expr"]))
    assert asked and asked <= there


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_units(tmp_path):
    for block in blocks("ini"):
        name = re.match(r"# /etc/systemd/system/(\S+)\n", block)[1]
        # The commands need not be where the page puts them, and this machine need not have the user.
        text = re.sub(r"/opt/bladescan/bin/bladescan", shutil.which("true"), block)
        (tmp_path / name).write_text(re.sub(r"(?m)^User=.*\n", "", text))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *sorted(tmp_path.iterdir())],
        capture_output=True,
        text=True,
        env=dict(os.environ) | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "bladescan" in line]
    assert not ours and len(list(tmp_path.iterdir())) == 2


@needs_jq
def test_every_line_with_jq_runs(logged, folder, tmp_path):
    done, _, _, _ = logged
    shutil.copy(folder.parent / "v.jsonl", tmp_path / "v.jsonl")
    (tmp_path / "scan.log").write_bytes(done.stderr + b"a native library's own line\n")
    commands = [line for block in blocks("sh") for line in block.replace("\\\n", " ").splitlines()]
    tried = [line for line in commands if line.startswith("jq ")]
    assert len(tried) >= 6
    for line in tried:
        ran = subprocess.run(["bash", "-c", line], capture_output=True, cwd=tmp_path, check=False)
        assert ran.returncode == 0 and not ran.stderr, (line, ran.stderr)
        assert ran.stdout or "ai-generated" in line, line


@needs_jq
def test_the_pipeline_ends_with_the_flagged_names(folder, tmp_path):
    (block,) = (block for block in blocks("bash") if "xargs" in block)
    script = block.replace("/srv/uploads", f"{folder} --faces none --false-alarm 0.99")
    script = script.replace("/srv/review", str(tmp_path / "review")).replace(
        "bladescan scan", f"{sys.executable} -m bladescan scan"
    )
    (tmp_path / "review").mkdir()
    done = subprocess.run(["bash", "-c", script], capture_output=True, cwd=tmp_path, check=False)
    assert done.returncode == ExitCode.INCOMPLETE, done.stderr  # two files are no images
    flagged = sorted(path.name for path in (tmp_path / "review").iterdir())
    assert flagged and set(flagged) <= {f"{i}.png" for i in range(5)}


@pytest.fixture
def shell(tmp_path):
    """Run a script of the page: with bladescan on the PATH, and a ``mail`` that keeps what it is told."""
    programs = tmp_path / "bin"
    programs.mkdir()
    scripts = {
        "bladescan": f'exec "{sys.executable}" -m bladescan "$@"',
        "mail": f'echo "$@" >> "{tmp_path}/mails"',
    }
    for name, script in scripts.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)

    def run(script: str, *, interpreter=("bash",)):
        env = dict(os.environ) | {"PATH": f"{programs}:{os.environ['PATH']}"}
        command = [*interpreter, "-c", script]
        return subprocess.run(command, capture_output=True, cwd=tmp_path, env=env, text=True, check=False)

    return run


@pytest.fixture
def uploads(folder, tmp_path):
    """Pictures without an unreadable one among them, and a stray README.txt."""
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    for i in range(5):
        shutil.copy(folder / f"{i}.png", uploads)
    (uploads / "README.txt").write_text("Pictures of this week.\n")
    return uploads


FLAGS_ALL, FLAGS_NONE = "--faces none --false-alarm 0.99", "--faces none --false-alarm 0.01 --declared ignore"
MAIL = "-s faces to review review@example.org\n"


@pytest.mark.parametrize(
    "options,broken,code,mails,said",
    [
        (FLAGS_ALL, False, 1, MAIL, ""),
        (FLAGS_ALL, True, 4, MAIL, "some files were not read"),
        (FLAGS_NONE + " --fail-on unreadable", False, 0, "", ""),
        (FLAGS_ALL + " --fail-on unreadable", True, 3, "", "some files were not read"),
        (FLAGS_ALL + " --model gone.onnx", False, 2, "", "the scan did not run"),
    ],
)
def test_the_case_statement_does_what_it_says(shell, uploads, tmp_path, options, broken, code, mails, said):
    (block,) = (block for block in blocks("bash") if "case $code in" in block)
    if broken:
        (uploads / "broken.jpg").write_bytes(b"not an image")
    done = shell(block.replace("/srv/uploads", f"{uploads} {options}"))
    assert done.returncode == code, done.stderr
    sent = tmp_path / "mails"
    assert (sent.read_text() if sent.exists() else "") == mails
    assert said in done.stderr and ("not read" in done.stderr) is ("not read" in said)
    assert code == 2 or "1 other file" in done.stderr


@pytest.mark.skipif(shutil.which("ionice") is None, reason="ionice is not installed")
def test_the_line_of_the_crontab_runs_every_night(shell, uploads, tmp_path):
    (block,) = (block for block in blocks("text") if "* * *" in block)
    *settings, line = block.splitlines()
    command = line.split(None, 5)[5].replace("scan /srv/uploads", f"scan /srv/uploads {FLAGS_ALL}")
    for there, here in (
        ("/opt/bladescan/bin", "bin"),
        ("/srv/uploads", "uploads"),
        ("/var/lib/node_exporter", "."),
        ("/var/lib/bladescan", "."),
        ("/var/log", "."),
    ):
        command = command.replace(there, str(tmp_path / here))
    for path in uploads.iterdir():
        os.utime(path, (1e9, 1e9))
    script = "export " + " ".join(setting for setting in settings) + f"\n{command}"
    counts = []
    for _ in range(2):
        done = shell(script, interpreter=("env", "-i", "PATH=/usr/bin:/bin", "sh"))
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        kept = [json.loads(line) for line in (tmp_path / "new.jsonl").read_text().splitlines()]
        counts.append((len(kept) - 2, kept[-1]["n_unchanged"], kept[-1]["n_other_files"]))
    assert counts == [(5, 0, 1), (0, 5, 1)]
    logged = lines((tmp_path / "bladescan.log").read_bytes())
    assert [line["event"] for line in logged].count("summary") == 2 and logged[-1]["exit_code"] == 0
    assert (
        samples((tmp_path / "bladescan-uploads.prom").read_text())[
            "other_files", ("scan", "bladescan-uploads")
        ]
        == 1
    )


def test_doctor_is_asked_before_the_first_night(shell):
    (block,) = (block for block in blocks("sh") if "bladescan doctor" in block)
    fit = shell(block.replace("--model detector.onnx s3://bucket/uploads", ""))
    unfit = shell(block.replace("s3://bucket/uploads", ""))
    assert "not fit to scan" not in fit.stdout and unfit.stdout.endswith("not fit to scan\n")


def test_the_first_command_of_the_readme_ends_with_0(shell):
    """What follows the installation, which `.ci/run` tries as well."""
    readme = (ROOT / "README.md").read_text()
    first = re.findall(r"^```sh\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)[0].strip()
    steps = first.split(" && ")
    assert len(steps) == 4 and "||" not in first
    script = " && ".join(steps[2:]).replace(".venv/bin/bladescan", "bladescan")
    done = shell(script, interpreter=("bash", "-euo", "pipefail"))
    assert done.returncode == 0 and "two-faces.png" in done.stdout and "truncated" in done.stdout


def test_a_working_directory_that_is_gone_is_said(tmp_path):
    (tmp_path / "gone").mkdir()
    scan = f"{sys.executable} -m bladescan scan x.jpg -q --ledger l.sqlite -o x.csv"
    done = subprocess.run(
        ["sh", "-c", f'cd "$1" && rmdir "$1" && exec {scan}', "sh", tmp_path / "gone"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ExitCode.FAILED
    assert done.stderr.count("\n") == 1
    assert "internal" not in done.stderr
