"""What a machine does not allow: threads and processes, shared semaphores."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from bladescan.processes.resources import check_semaphores, check_threads, threads_needed
from tests import ROOT

AS_NOBODY_WITHOUT_THREADS = """
import os, resource, sys
import bladescan.scanning.scanner as scanner
from bladescan.base.errors import BackendError
from bladescan.processes.resources import check_threads
if os.geteuid() == 0:  # whom no limit binds
    os.setresuid(54321, 54321, 54321)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
try:
    scanner.Scanner(scanner.ScanOptions())
except BackendError as exc:
    print(exc)
"""


def test_a_scan_that_may_start_too_few_threads_is_refused_before_it_begins():
    command = [sys.executable, "-c", AS_NOBODY_WITHOUT_THREADS]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, check=True, timeout=120)
    said = done.stdout.decode()
    assert said.startswith(f"a scan needs {threads_needed(1)} threads and processes, and no more than ")
    assert "raise ulimit -u" in said


def test_threads_that_may_start_do_and_end():
    before = threading.active_count(), threading.stack_size()
    check_threads(30)
    assert (threading.active_count(), threading.stack_size()) == before


def test_semaphores_can_be_shared_here():
    check_semaphores()


def without_shared_memory(*command: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command that sees a /dev/shm in which nothing can be made."""
    mount = 'mount -t tmpfs -o ro,size=4k none /dev/shm && exec "$@"'
    unshare = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    try:
        subprocess.run([*unshare, "sh", "-c", mount, "sh", "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no namespace of its own can be had here")
    return subprocess.run(
        [*unshare, "sh", "-c", mount, "sh", *command], capture_output=True, timeout=300, check=False
    )


def test_without_shared_memory_one_process_scans_and_several_are_refused(samples):
    command = [sys.executable, "-m", "bladescan", "scan", str(samples), "--format", "csv"]
    one = without_shared_memory(*command)
    assert one.returncode == 3 and len(one.stdout.splitlines()) > 5
    assert b"joblib" not in one.stderr
    two = without_shared_memory(*command, "--workers", "2")
    assert two.returncode == 2 and not two.stdout
    assert b"--workers 2: several processes share semaphores in /dev/shm" in two.stderr
    assert b"use --workers 1" in two.stderr
