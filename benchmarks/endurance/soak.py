"""A long scan: whether memory and open files stay flat, and what is left when it or a part of it is killed.

    python -m benchmarks.endurance.soak [--images 20000] [--workers 1 2] [--tmp FOLDER]

The folder holds hard links to some sixty small pictures that are made here: with and without a face, of all
formats, and damaged ones. Memory (the sum of the resident sets) and open files are those of the whole tree of
processes, sampled twice a second; growth is from the mean of the second tenth of the rows to that of the
last. Then shorter scans are killed: by SIGINT, SIGTERM and SIGKILL, and by SIGKILL of one of their processes.
Prints Markdown tables; exit code 1 if memory or files grew by 5% or more, a row is missing or a process left.
"""

from __future__ import annotations

import csv
import io
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from PIL import Image

from benchmarks.commands import bladescan_command
from benchmarks.endurance.mutations import made_originals, mutant
from benchmarks.tables import heading, parser, row
from bladescan.command.demo import write_samples

MOST_GROWTH = 0.05
GONE_WITHIN_S = 60.0
Samples = list[tuple[int, int, int]]
"""Rows written, KiB resident, open files."""


def fill(folder: Path, n: int) -> None:
    """``n`` names of the pictures, in mixed order."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        pictures = make_pictures(Path(scratch))
        rng = random.Random(0)
        for i in range(n):
            os.link(rng.choice(pictures), folder / f"{i:06}.jpg")


def make_pictures(folder: Path) -> list[Path]:
    """Readable and damaged files, and the samples of ``bladescan demo`` made small."""
    made = made_originals()
    write_samples(folder)
    pictures = sorted(folder.iterdir())
    for path in pictures:
        with suppress(OSError), Image.open(path) as image:
            image.thumbnail((240, 240))
            image.save(path)
    for i, data in enumerate([*made, *made, *(mutant(seed, made) for seed in range(30))]):
        pictures.append(folder / f"made-{i}")
        pictures[-1].write_bytes(data)
    return pictures


def tree(pid: int) -> set[int]:
    """A process and its descendants."""
    found = {pid}
    with suppress(OSError):  # what ends while it is looked at has no more children
        for task in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError):
                for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
                    found |= tree(int(child))
    return found


def held(pid: int) -> tuple[int, int]:
    """KiB resident and open files of a process and its descendants."""
    kib = files = 0
    for each in tree(pid):
        with suppress(OSError, IndexError):  # one that ended meanwhile
            kib += int(Path(f"/proc/{each}/status").read_text().split("VmRSS:")[1].split()[0])
            files += len(os.listdir(f"/proc/{each}/fd"))
    return kib, files


@dataclass
class Scan:
    """A scan in a real process whose rows are read as they come."""

    folder: Path
    workers: int
    options: tuple[str, ...] = ()
    out: io.BytesIO = field(default_factory=io.BytesIO)
    n_lines: int = 0

    def __post_init__(self) -> None:
        how = ("--workers", str(self.workers), "--quiet", "--format", "csv", *self.options)
        command = bladescan_command("scan", self.folder, *how)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            for line in stdout:
                self.out.write(line)
                self.n_lines += 1

    def wait_for_lines(self, n: int) -> None:
        """Until so many have come, or the scan has ended."""
        while self.n_lines < n and self.process.poll() is None:
            time.sleep(0.02)

    def finish(self) -> int:
        """The exit code."""
        code = self.process.wait(timeout=3600)
        self._reader.join()
        return code

    def names(self) -> list[str]:
        """Of the files in the rows, once each."""
        rows = csv.DictReader(io.StringIO(self.out.getvalue().decode(), newline=""))
        return list(dict.fromkeys(Path(row["path"]).name for row in rows))


def measure(folder: Path, workers: int, every_s: float = 0.5) -> tuple[Scan, Samples, float]:
    """A scan, what it held at each moment, and its seconds."""
    started, samples = time.monotonic(), list[tuple[int, int, int]]()
    scan = Scan(folder, workers)
    while scan.process.poll() is None:
        samples.append((scan.n_lines, *held(scan.process.pid)))
        time.sleep(every_s)
    scan.finish()
    return scan, samples, time.monotonic() - started


def tenth(samples: Samples, which: int) -> tuple[float, float]:
    """Mean KiB and files while that tenth of the rows, 0 to 9, was written.

    Where no sample fell into it, the nearest stands for it.
    """
    last = samples[-1][0] or 1
    outside = [max(which - 10 * n / last, 10 * n / last - which - 1, 0) for n, *_ in samples]
    chosen = [rest for (_, *rest), far in zip(samples, outside, strict=True) if far == min(outside)]
    return fmean(kib for kib, _ in chosen), fmean(files for _, files in chosen)


def growth(samples: Samples) -> tuple[float, float]:
    """Of memory and files, from the second tenth to the last."""
    (kib, files), (kib_then, files_then) = tenth(samples, 1), tenth(samples, 9)
    return kib_then / kib - 1, files_then / files - 1


def left_behind(pids: set[int]) -> set[int]:
    """Which of these processes live on, given some time to end."""
    deadline = time.monotonic() + GONE_WITHIN_S
    while (alive := {pid for pid in pids if is_alive(pid)}) and time.monotonic() < deadline:
        time.sleep(0.1)
    return alive


def is_alive(pid: int) -> bool:
    """Whether it runs: one that has ended and that nobody asks about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def end_by(folder: Path, workers: int, number: int) -> tuple[int, set[int]]:
    """A scan that gets a signal in its middle: exit code, and processes that outlived it."""
    scan = Scan(folder, workers)
    scan.wait_for_lines(20)
    processes = tree(scan.process.pid)
    os.kill(scan.process.pid, number)
    code = scan.finish()
    return code, left_behind(processes)


def kill_a_part(folder: Path, workers: int, part: str) -> tuple[int, list[str], set[int]]:
    """A scan one of whose processes is killed: exit code, names in its rows, processes that outlived it."""
    scan = Scan(folder, workers)
    scan.wait_for_lines(20)
    processes = tree(scan.process.pid)
    os.kill(next(pid for pid in sorted(processes) if is_part(pid, part)), signal.SIGKILL)
    processes |= tree(scan.process.pid)
    code = scan.finish()
    return code, scan.names(), left_behind(processes)


def is_part(pid: int, part: str) -> bool:
    """Whether a process is a ``decoder`` or a ``worker``."""
    with suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if part == "decoder":
            return b"bladescan.processes.child" in command
        return b"loky" in command and b"tracker" not in command
    return False


def soak(folder: Path, n: int, workers: list[int]) -> bool:
    """Print the table of long scans; whether all is well."""
    columns = ["s", "MiB in the 2nd tenth", "in the last", "growth", "files", "in the last", "rows"]
    print(heading("workers", "images", *columns))
    well = True
    for number in workers:
        scan, samples, seconds = measure(folder, number)
        (kib, files), (kib_then, files_then) = tenth(samples, 1), tenth(samples, 9)
        more_kib, more_files = growth(samples)
        n_rows = len(scan.names())
        memory = f"{kib / 1024:.0f}", f"{kib_then / 1024:.0f}", f"{more_kib:+.1%}"
        found = f"{seconds:.0f}", *memory, f"{files:.0f}", f"{files_then:.0f}", n_rows
        print(row(number, n, *found), flush=True)
        well &= max(more_kib, more_files) < MOST_GROWTH and n_rows == n
    return well


def kills(folder: Path, n: int, workers: list[int]) -> bool:
    """Print the table of killed scans; whether all is well."""
    print(f"\n{heading('what is killed', 'workers', 'exit code', 'rows', 'processes left')}")
    well = True
    ends = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}
    for (number, expected), count in itertools.product(ends.items(), workers):
        code, left = end_by(folder, count, number)
        print(row(f"scan, {number.name}", count, code, "-", len(left)), flush=True)
        well &= code == expected and not left
    for part, count in itertools.product(("decoder", "worker"), workers):
        if part == "decoder" or count > 1:
            code, names, left = kill_a_part(folder, count, part)
            print(row(f"{part}, SIGKILL", count, code, f"{len(names)} of {n}", len(left)), flush=True)
            well &= code in (3, 4) and len(names) == n and not left
    return well


def main(argv: Sequence[str] | None = None) -> int:
    options = parser(__spec__, __doc__)
    options.add_argument("--images", type=int, default=20_000)
    options.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    options.add_argument("--tmp", type=Path, default=Path(tempfile.gettempdir()))
    asked = options.parse_args(argv)
    top = Path(tempfile.mkdtemp(dir=asked.tmp, prefix="bladescan-soak-"))
    try:
        for name, n in (("long", asked.images), ("short", 400)):
            (top / name).mkdir()
            fill(top / name, n)
        well = soak(top / "long", asked.images, asked.workers)
        well &= kills(top / "short", 400, asked.workers)
    finally:
        shutil.rmtree(top)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
