"""Scans on a real Dask scheduler and real workers, each a process of its own."""

from __future__ import annotations

import csv
import io
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import bladescan_backends
import msgspec
import numpy as np
import pytest
from PIL import Image

from bladescan.command.describe import read_manifest
from bladescan.detectors.onnx_metadata import replace_manifest
from tests.pictures import save_pair
from tests.sources.s3_server import MadeUpBucket
from tests.sources.s3_server import environment as environment_of_s3

pytestmark = pytest.mark.integration

needs_dask = pytest.mark.skipif(find_spec("distributed") is None, reason="the extra cluster is not installed")
QUICK = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "20s", "OMP_NUM_THREADS": "1"}
N_FILES = 40


class Cluster:
    """``dask scheduler`` and ``dask worker`` on loopback."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self._folder = folder
        self._environment = dict(os.environ) | QUICK | environment
        self.processes: list[subprocess.Popen[bytes]] = []
        self.address = self._start("scheduler", "--port", "0").removeprefix("Scheduler at:").strip()
        self.workers: list[subprocess.Popen[bytes]] = []

    def add_workers(self, n: int, **environment: str) -> None:
        for _ in range(n):
            command = ("worker", self.address, "--nthreads", "1", "--no-nanny", "--local-directory")
            self._popen(*command, str(self._folder), **environment)
            self.workers.append(self.processes[-1])
        for worker in self.workers[-n:]:
            self._wait_for(worker, r"Registered to")

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()
            process.stderr.close()

    def _start(self, *command: str) -> str:
        return self._wait_for(self._popen(*command), r"Scheduler at:\s+(\S+)")

    def _popen(self, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        command = (sys.executable, "-m", "dask", *command, "--host", "127.0.0.1", "--no-dashboard")
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, cwd=self._folder, env=self._environment | environment
        )
        self.processes.append(process)
        return process

    @staticmethod
    def _wait_for(process: subprocess.Popen[bytes], pattern: str) -> str:
        """The first group of the first line that matches; a process that logs on does not fill its pipe."""
        seen, until = b"", time.monotonic() + 120
        while time.monotonic() < until:
            if select.select([process.stderr], [], [], 1.0)[0]:
                seen += os.read(process.stderr.fileno(), 1 << 16)
            found = re.search(pattern, seen.decode())
            if found:
                return found[1] if found.groups() else found[0]
            assert process.poll() is None, seen.decode()
        raise TimeoutError(seen.decode())


@contextmanager
def running_cluster(folder: Path, **environment: str) -> Iterator[Cluster]:
    cluster = Cluster(folder, **environment)
    try:
        yield cluster
    finally:
        cluster.kill()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with running_cluster(tmp_path_factory.mktemp("dask")) as cluster:
        cluster.add_workers(2)
        yield cluster


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Crops, three files among them that are no image."""
    folder = tmp_path_factory.mktemp("crops")
    rng = np.random.default_rng(11)
    for i in range(N_FILES):
        pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((230, 230), Image.Resampling.BICUBIC).save(folder / f"{i:03}.jpg")
    for i in (3, 4, N_FILES - 1):
        (folder / f"{i:03}.jpg").write_bytes(b"not an image")
    return folder


@pytest.fixture(scope="module")
def plain(bladescan, folder):
    """The scan on this machine: CSV, exit code."""
    done = bladescan("scan", folder.name, "--faces", "none", "--format", "csv", cwd=folder.parent)
    assert done.returncode == 3  # three files are no image
    return done


@needs_dask
def test_a_file_that_is_no_picture_is_counted_by_a_cluster_too(cluster, folder, tmp_path):
    (tmp_path / "README.txt").write_text("no picture")
    (tmp_path / "a.jpg").write_bytes((folder / "000.jpg").read_bytes())
    done = run(scan_on(cluster.address, tmp_path))
    assert done.returncode in (0, 1) and done.stdout.count(b"\n") == 2
    assert b", 1 other file, 1 face" in done.stderr


def scan_on(address: str, *arguments: str | Path) -> list[str]:
    command = [sys.executable, "-m", "bladescan", "scan", "--faces", "none", "--format", "csv"]
    return [*command, "--cluster", f"dask:{address}", *map(str, arguments)]


def run(
    command: list[str], cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    env = dict(os.environ) | QUICK | environment
    return subprocess.run(
        command, capture_output=True, stdin=subprocess.DEVNULL, cwd=cwd, env=env, timeout=300, check=False
    )


def before_others(folder: Path) -> str:
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


def read_a_row(scan: subprocess.Popen[bytes]) -> bytes:
    """What comes until a row follows the header: the scan has begun."""
    seen = b""
    while seen.count(b"\n") < 2:
        part = os.read(scan.stdout.fileno(), 1 << 16)
        assert part, scan.stderr.read().decode()
        seen += part
    return seen


def descendants(pid: int) -> list[int]:
    """Process ids below one, itself left out."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):  # a process may end while we look
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found, below = [], [pid]
    while below:
        below = [child for parent in below for child in children.get(parent, [])]
        found += below
    return found


def wait_until(condition, what: str) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.05)


@needs_dask
def test_a_cluster_gives_the_rows_of_one_machine_and_keeps_nothing(cluster, folder, plain):
    # A relative name: the workers run in another folder.
    done = run(scan_on(cluster.address, folder.name), cwd=folder.parent)
    assert (done.returncode, done.stdout) == (plain.returncode, plain.stdout), done.stderr.decode()
    note = done.stderr.decode()
    assert "2 workers (2 on cpu)" in note and "detector sha256" in note
    # No decoder outlives the scan.
    wait_until(lambda: not any(descendants(w.pid) for w in cluster.workers), "decoders are left")


@needs_dask
def test_several_detectors_and_whole_pictures_have_the_rows_of_one_machine(cluster, samples, tmp_path):
    image, face = save_pair(tmp_path)
    second = tmp_path / "second.onnx"
    combined = ("--model", face, "--model", copy(face, second), "--combine", "min", "--false-alarm", "0.9")
    asked = ("scan", samples, *combined, "--image-model", image, "--fail-on", "none", "--format", "csv", "-q")
    command = [sys.executable, "-m", "bladescan", *map(str, asked)]
    here, there = run(command), run([*command, "--cluster", f"dask:{cluster.address}"])
    assert (there.returncode, there.stdout) == (0, here.stdout), there.stderr.decode()
    found = list(csv.DictReader(io.StringIO(there.stdout.decode())))
    assert {row["subject"] for row in found} == {"face", "image", ""}
    assert any(row["second_p_value"] for row in found)


def copy(path: Path, other: Path) -> Path:
    """The same detector under a name of its own."""
    manifest = msgspec.structs.replace(read_manifest(path), name=other.stem)
    other.write_bytes(replace_manifest(path.read_bytes(), manifest, where=other.name))
    return other


@needs_dask
def test_rows_of_a_killed_worker_are_scanned_by_another(cluster, folder, plain):
    """Both workers are stopped, so that both hold chunks that have begun when one is killed."""
    cluster.add_workers(1)
    command = scan_on(cluster.address, "-")
    names = "".join(f"{folder.name}/{name}\n" for name in sorted(os.listdir(folder))).encode()
    head, tail = names[: len(names) // 4], names[len(names) // 4 :]
    scan = subprocess.Popen(
        command, cwd=folder.parent, env=dict(os.environ) | QUICK,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        scan.stdin.write(head[: head.rindex(b"\n") + 1])
        scan.stdin.flush()
        first = read_a_row(scan)
        for worker in cluster.workers:
            worker.send_signal(signal.SIGSTOP)
        scan.stdin.write(head[head.rindex(b"\n") + 1 :] + tail)
        scan.stdin.close()
        time.sleep(2.0)  # long enough for the scheduler to hand the chunks to those that stand still
        victim = cluster.workers.pop(0)
        victim.kill()
        for worker in cluster.workers:
            worker.send_signal(signal.SIGCONT)
        rest = scan.stdout.read()
        scan.wait(timeout=120)
    finally:
        for worker in cluster.workers:
            worker.send_signal(signal.SIGCONT)
        scan.kill()
        scan.wait()
        errors = scan.stderr.read()
        scan.stdout.close()
        scan.stderr.close()
    assert (scan.returncode, first + rest) == (plain.returncode, plain.stdout), errors.decode()


@needs_dask
def test_an_interrupted_scan_leaves_no_chunk_and_no_decoder_on_the_cluster(cluster, folder):
    scan = subprocess.Popen(
        scan_on(cluster.address, "-"), env=dict(os.environ) | QUICK,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        scan.stdin.write(f"{folder}\n".encode())
        scan.stdin.flush()
        read_a_row(scan)
        scan.send_signal(signal.SIGINT)
        _, errors = scan.communicate(timeout=120)
    finally:
        scan.kill()
        scan.wait()
    assert scan.returncode == 130
    assert b"interrupted after" in errors and b"Traceback" not in errors
    wait_until(lambda: not any(descendants(w.pid) for w in cluster.workers), "decoders are left")


@needs_dask
def test_a_file_that_only_this_machine_has_is_a_row_and_says_so(cluster, folder, tmp_path):
    """The name leads to a file from the folder of the parent, and to none from that of a worker."""
    own = "/proc/self/cwd/here.jpg"
    (tmp_path / "here.jpg").write_bytes((folder / "000.jpg").read_bytes())
    done = run([*scan_on(cluster.address, own)], cwd=tmp_path)
    assert done.returncode == 3
    assert b"vanished" in done.stdout and b"there is no such file on the worker" in done.stdout


@needs_dask
def test_a_worker_without_credentials_ends_the_scan_where_its_parent_has_some(tmp_path, folder):
    """Where the parent has none either, each object has its row, as on one machine."""
    pytest.importorskip("obstore", reason="pip install 'bladescan[buckets]'")
    nothing = dict.fromkeys(environment_of_s3("http://127.0.0.1:1"), "") | {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    picture = (folder / "000.jpg").read_bytes()
    made_up = MadeUpBucket(["a.jpg", "b.jpg"], body=lambda key: picture)
    with made_up.running() as endpoint, running_cluster(tmp_path, **nothing) as cluster:
        cluster.add_workers(1)
        found = run(scan_on(cluster.address, "s3://uploads/"), **environment_of_s3(endpoint))
        (tmp_path / "names").write_text("s3://uploads/a.jpg\n")
        none = run(scan_on(cluster.address, "--files-from", tmp_path / "names"), **nothing)
    assert found.returncode == 2
    assert b"cannot open what this machine opens: s3://uploads: no credentials found" in found.stderr
    assert none.returncode == 3
    assert b"s3://uploads/a.jpg,unreadable,read-error" in none.stdout


@needs_dask
def test_workers_that_differ_are_refused_before_the_first_image(tmp_path, folder):
    """A worker whose package is another version, and a detector that is another file there."""
    package = Path(sys.modules["bladescan"].__file__).parent
    (tmp_path / "old" / "bladescan").mkdir(parents=True)
    for entry in package.iterdir():
        if entry.name not in ("__init__.py", "__pycache__"):
            (tmp_path / "old" / "bladescan" / entry.name).symlink_to(entry)
    init = (package / "__init__.py").read_text()
    patched = re.sub(r'__version__ = "[^"]*"', '__version__ = "0.0.9"', init)
    assert patched != init
    (tmp_path / "old" / "bladescan" / "__init__.py").write_text(patched)
    with running_cluster(tmp_path) as cluster:
        cluster.add_workers(1, PYTHONPATH=before_others(tmp_path / "old"))
        output = tmp_path / "v.csv"
        done = run(scan_on(cluster.address, folder, "-o", output))
        assert done.returncode == 2 and not output.exists() and not done.stdout
        (line,) = done.stderr.decode().splitlines()
        assert "this worker cannot take part" in line and "bladescan 0.0.9" in line and "expected" in line


@needs_dask
def test_a_worker_whose_backend_has_other_code_is_refused(tmp_path, folder):
    """Versions agree, and so does the code of bladescan; that of a file that the backend imports does not."""
    package = tmp_path / "other" / "bladescan_backends"
    shutil.copytree(Path(bladescan_backends.__file__).parent, package)
    with (package / "_onnx_detector.py").open("a") as file:
        file.write("# another state\n")
    with running_cluster(tmp_path) as cluster:
        cluster.add_workers(1)
        cluster.add_workers(1, PYTHONPATH=before_others(tmp_path / "other"))
        done = run(scan_on(cluster.address, folder))
    (line,) = done.stderr.decode().splitlines()
    assert done.returncode == 2 and not done.stdout
    assert re.search(r"this worker cannot take part: .*: backend onnx \S+ \(code .*\), expected", line), line
    assert "bladescan 0" not in line


@needs_dask
def test_a_file_that_kills_worker_after_worker_is_a_row_and_costs_no_other(tmp_path, folder, plain):
    """The worker itself is made to die on one name, as if its machine ran out of memory over it."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'worker' in sys.orig_argv and 'dask' in sys.orig_argv:\n"
        "    from bladescan.scanning import pipeline\n"
        "    scan = pipeline.Pipeline.scan\n"
        "    def die(self, sources):\n"
        "        if any(source.name.endswith('017.jpg') for source in sources):\n"
        "            os._exit(9)\n"
        "        return scan(self, sources)\n"
        "    pipeline.Pipeline.scan = die\n"
    )
    # Given up at the first death: one for its chunk, one for itself, one worker to do the rest.
    with running_cluster(tmp_path, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0") as cluster:
        cluster.add_workers(3, PYTHONPATH=before_others(tmp_path))
        done = run(scan_on(cluster.address, folder.name), cwd=folder.parent)
    got, expected = done.stdout.decode().splitlines(), plain.stdout.decode().splitlines()
    assert done.returncode == 3, done.stderr.decode()
    assert len(got) == len(expected)
    (changed,) = [line for line, was in zip(got, expected, strict=True) if line != was]
    assert "017.jpg" in changed and "decoder-crashed" in changed and "workers died on it" in changed


@needs_dask
def test_no_scheduler_and_no_worker_are_one_line_each(tmp_path, folder):
    soon = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "2s"}
    done = run(scan_on("tcp://127.0.0.1:9", folder), **soon)
    assert done.returncode == 2
    assert re.fullmatch(r"bladescan: .*the scheduler cannot be reached: .*\n", done.stderr.decode())
    with running_cluster(tmp_path) as cluster:
        done = run(scan_on(cluster.address, folder), **soon)
    assert done.returncode == 2
    note, error = done.stderr.decode().splitlines()
    assert "waiting up to 2 s" in note and "has no workers: start some" in error


@pytest.mark.skipif(find_spec("ray") is None, reason="the extra ray is not installed")
def test_a_ray_cluster_gives_the_rows_of_one_machine(tmp_path, folder, plain):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    start = "start --head --block --num-cpus 2 --include-dashboard false --port".split()
    command = [sys.executable, "-m", "ray.scripts.scripts", *start, port, "--temp-dir", str(tmp_path)]
    with (tmp_path / "log").open("wb") as log:
        ray = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until(lambda: b"Ray runtime started" in (tmp_path / "log").read_bytes(), "Ray does not start")
        done = run([*scan_on("", folder.name), "--cluster", f"ray:127.0.0.1:{port}"], cwd=folder.parent)
    finally:
        os.killpg(ray.pid, signal.SIGKILL)
        ray.wait()
    assert (done.returncode, done.stdout) == (plain.returncode, plain.stdout), done.stderr.decode()


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:8786", "dask:", "spark:master"])
def test_an_address_of_another_form_is_refused(bladescan, folder, address):
    done = bladescan("scan", folder, "--cluster", address)
    assert done.returncode == 2
    assert b"expected dask:tcp://HOST:8786" in done.stderr


def test_a_cluster_and_workers_here_are_two_ways_to_scan(bladescan, folder):
    done = bladescan("scan", folder, "--cluster", "dask:tcp://127.0.0.1:9", "--workers", "2")
    assert done.returncode == 2
    assert b"--workers" in done.stderr
