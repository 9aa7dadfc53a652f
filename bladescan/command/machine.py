"""What the machine gives a scan: a temporary folder, memory, cores, file descriptors; containers counted.

Each check answers whether it is enough, and what there is.
"""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from bladescan.base.errors import BackendError
from bladescan.processes.resources import check_semaphores, check_threads, n_cores, threads_needed

LEAST_MEMORY = 512 << 20
"""Bytes that one decoder, one detector and a large image need together."""
LEAST_ROOM = 100 << 20
_BASE_DESCRIPTORS, _DESCRIPTORS_PER_CORE = 64, 8
_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


def check_temporary_folder() -> tuple[bool, str]:
    """Check that the folder for temporary files can be written, and its free space."""
    try:
        folder = tempfile.gettempdir()
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"bladescan")
            file.flush()
        room = shutil.disk_usage(folder).free
    except OSError as exc:
        return False, f"{exc.strerror or exc}; set TMPDIR to a folder that can be written"
    return room >= LEAST_ROOM, f"{folder}, {_megabytes(room)} free"


def check_memory(cgroup: Path = _CGROUP, meminfo: Path = _MEMINFO) -> tuple[bool | None, str]:
    """Check that there is memory for a decoder and a detector."""
    free = [n for n in (_free_on_machine(meminfo), _free_in_cgroup(cgroup)) if n is not None]
    if not free:
        return None, "unknown on this system"
    limited = "" if len(free) == 1 or free[1] >= free[0] else ", by the limit of its cgroup"
    return min(free) >= LEAST_MEMORY, f"{_megabytes(min(free))} free{limited}"


def check_cores() -> tuple[bool, str]:
    """Cores that a scan may use."""
    usable, there = n_cores(), os.cpu_count() or 1
    return True, f"{usable} of {there} usable" if usable < there else str(usable)


def check_descriptors() -> tuple[bool, str]:
    """Check that a scan with a decoder for each core may open as many files as it needs."""
    needed = _BASE_DESCRIPTORS + _DESCRIPTORS_PER_CORE * (os.cpu_count() or 1)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return True, "no limit"
    return limit >= needed, f"limit {limit}, a scan needs about {needed} (ulimit -n)"


def check_processes() -> tuple[bool, str]:
    """Check that a scan in one process may start the threads and decoders that it needs."""
    needed = threads_needed(1)
    try:
        check_threads(needed)
    except BackendError as exc:
        return False, f"{exc} (ulimit -u, or the container's limit)"
    return True, f"{needed} more may start"


def check_shared_memory() -> tuple[bool | None, str]:
    """Look whether --workers can be more than 1."""
    try:
        check_semaphores()
    except BackendError as exc:
        return None, f"{exc}; only --workers 1 works"
    return True, "/dev/shm"


def _free_on_machine(meminfo: Path) -> int | None:
    with suppress(OSError, ValueError, IndexError):
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def _free_in_cgroup(cgroup: Path) -> int | None:
    """Version 2 or 1; what a container sees as its own root. None without a limit."""
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):  # "max" is no number: no limit
            return int((cgroup / limit).read_text()) - int((cgroup / used).read_text())
    return None


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.0f} MB".replace(",", " ")
