"""What this machine gives: cores, and the memory that a process holds."""

from __future__ import annotations

import os
import resource
import threading
import warnings

from bladescan.base.errors import BackendError


def n_cores() -> int:
    """Count the cores that this process may use, by its affinity and the quotas of its cgroup."""
    with warnings.catch_warnings():
        # It warns where there is no shared memory, which only several workers need: `check_semaphores`.
        warnings.filterwarnings("ignore", ".*joblib will operate in serial mode")
        from joblib import cpu_count

    return int(cpu_count())


def threads_needed(n_workers: int) -> int:
    """Estimate the threads and processes of a scan, whose limit is one: measured, and a few more."""
    return 4 + n_workers * (4 + 4 * (os.cpu_count() or 1))


def check_threads(n: int) -> None:
    """Check that this machine allows so many more threads or processes: by starting them.

    Raises:
        BackendError: it does not.
    """
    end = threading.Event()
    threads = [threading.Thread(target=end.wait, daemon=True) for _ in range(n)]
    started, stack_bytes = 0, threading.stack_size(1 << 16)  # small ones: memory is not what is checked
    try:
        for thread in threads:
            thread.start()
            started += 1
    except RuntimeError as exc:
        raise BackendError(
            f"a scan needs {n} threads and processes, and no more than {started} are allowed"
        ) from exc
    finally:
        threading.stack_size(stack_bytes)
        end.set()
        for thread in threads[:started]:
            thread.join()


def check_semaphores() -> None:
    """Check that processes can share semaphores, which Linux keeps in /dev/shm.

    Raises:
        BackendError: they cannot.
    """
    try:
        from multiprocessing import get_context

        get_context("fork").Semaphore()  # of the kind that needs no helper process
    except (OSError, ImportError) as exc:
        why = (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
        raise BackendError(
            f"several processes share semaphores in /dev/shm, which cannot be used: {why}"
        ) from exc


def resident_bytes(pid: int) -> int:
    """Measure the memory that a process holds; 0 where that cannot be told."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0
