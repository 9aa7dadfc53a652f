"""What this machine gives: cores, and the memory that a process holds."""

from __future__ import annotations

import resource


def n_cores() -> int:
    """Count the cores that this process may use, by its affinity and the quotas of its cgroup."""
    from joblib import cpu_count

    return int(cpu_count())


def resident_bytes(pid: int) -> int:
    """Measure the memory that a process holds; 0 where that cannot be told."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0
