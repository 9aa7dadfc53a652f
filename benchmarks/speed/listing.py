"""How soon a scan of one very large folder gives its first row, and in how much memory.

    python -m benchmarks.speed.listing [1000 100000 1000000] [--tmp /dev/shm]

Makes a folder of so many names of one small picture (hard links, in a few files, for a file has only so many
names), lists it, and scans it twice: a plain scan that is stopped after its first row, and one of 1/N of it
by ``--shard``, which lists all names and reads few files. Prints a Markdown table.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from benchmarks.commands import bladescan_command
from benchmarks.tables import heading, parser, row

LINKS = 30_000
"""Names of one file; ext4 allows 65,000."""
LIST = """
import resource, sys, time
from bladescan.sources.query import SourceQuery
from bladescan.sources.listing import list_sources
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
found = list_sources(SourceQuery((sys.argv[1],)), stdin=None)
next(found)
first, n = time.monotonic() - started, 1 + sum(1 for _ in found)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(n, first, time.monotonic() - started, (peak - before) / 1024)
"""


def fill(folder: Path, n: int) -> None:
    """``n`` names in a folder."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        for i in range(n):
            if i % LINKS == 0:
                picture = Path(scratch, f"{i}.png")
                Image.new("RGB", (64, 64), (i % 256, 90, 90)).save(picture)
            os.link(picture, folder / f"upload-{(i * 7919) % n:09}.png")


def list_only(folder: Path) -> tuple[float, float, float]:
    """Seconds to the first source, to the last, and MiB of memory for it."""
    done = subprocess.run([sys.executable, "-c", LIST, folder], capture_output=True, check=True, text=True)
    n, first, last, mib = map(float, done.stdout.split())
    assert n == len(os.listdir(folder))
    return first, last, mib


def first_row(folder: Path) -> tuple[float, float]:
    """Seconds to the first row of a plain scan, and the MiB that it holds by then."""
    command = bladescan_command("scan", folder, "--faces", "none", "--quiet")
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as scan:
        assert scan.stdout is not None
        scan.stdout.readline()
        scan.stdout.readline()
        seconds = time.monotonic() - started
        status = Path(f"/proc/{scan.pid}/status").read_text()
        scan.kill()
    return seconds, int(status.split("VmHWM:")[1].split()[0]) / 1024


def one_shard(folder: Path, n: int) -> float:
    """Seconds of a scan that lists all names and reads about twenty."""
    shard = f"1/{max(1, n // 20)}"
    command = bladescan_command("scan", folder, "--shard", shard, "--faces", "none", "--quiet")
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode in (0, 1, 3, 4), done.stderr
    return time.monotonic() - started


def main(argv: Sequence[str] | None = None) -> None:
    options = parser(__spec__, __doc__)
    options.add_argument("n", type=int, nargs="*", default=[1_000, 100_000, 1_000_000])
    options.add_argument("--tmp", type=Path, default=Path("/dev/shm"))
    asked = options.parse_args(argv)
    columns = ["first source, s", "all, s", "MiB for it", "first row, s", "scan holds, MiB", "one shard, s"]
    print(heading("names", *columns))
    for n in asked.n:
        folder = Path(tempfile.mkdtemp(dir=asked.tmp, prefix="bladescan-listing-"))
        try:
            fill(folder, n)
            first, last, mib = list_only(folder)
            row_s, held = first_row(folder)
            shard_s = one_shard(folder, n)
        finally:
            shutil.rmtree(folder)
        listed = f"{first:.2f}", f"{last:.2f}", f"{mib:.0f}"
        print(row(f"{n:,}", *listed, f"{row_s:.1f}", f"{held:.0f}", f"{shard_s:.1f}"), flush=True)


if __name__ == "__main__":
    main()
