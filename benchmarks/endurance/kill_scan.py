"""Scans that are killed at random moments, again and again, against scans that are left alone.

    python -m benchmarks.endurance.kill_scan [--kills 200] [--images 150] [--seed 0]

Makes a folder of small pictures, scans it once undisturbed for each format, without a ledger and with one
that knows half of it, whose rows are shown or not; then the same scans with `--resume` in real processes,
each killed with SIGKILL at random moments until it comes to its end by itself. Prints a table and compares
byte by byte; exit code 1 if any output differs, loses or doubles a row, or leaves anything beside it.
`SOURCE_DATE_EPOCH` stops the clock.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.commands import bladescan_command
from benchmarks.tables import parser, table
from bladescan.ledger.journal import journal_path

FORMATS = ("csv", "json", "jsonl", "parquet")
MOST_KILLS = 6
ENVIRONMENT = dict(os.environ) | {"SOURCE_DATE_EPOCH": "1700000000"}


def make_pictures(folder: Path, n: int, seed: int) -> None:
    """Small pictures, no two alike, and a few that cannot be read."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    for index in range(n):
        pixels = rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)
        path = folder / f"{index:05}.jpg"
        Image.fromarray(pixels).resize((80, 96), Image.Resampling.BICUBIC).save(path)
        if index % 50 == 7:
            path.write_bytes(path.read_bytes()[:300])


@dataclass
class Case:
    """One kind of scan: its output, and what became of it."""

    format: str
    show: str | None = None
    expected: bytes = b""
    kills: int = 0
    finished: int = 0
    lost: int = 0
    doubled: int = 0
    different: int = 0
    left_over: set[str] = field(default_factory=set)


@dataclass
class Bench:
    """A folder of pictures, a ledger of half of them, and a place for outputs."""

    root: Path
    rng: random.Random

    @property
    def pictures(self) -> Path:
        """What is scanned."""
        return self.root / "pictures"

    @property
    def out(self) -> Path:
        """Where outputs go, and nothing else."""
        return self.root / "out"

    def command(self, *more: str) -> list[str]:
        """The command, on the pictures, with more options."""
        return bladescan_command("scan", "pictures", "--faces", "none", "--quiet", *more)

    def start(self, case: Case, *more: str) -> subprocess.Popen[bytes]:
        """Start a scan."""
        options = ["-o", f"out/v.{case.format}", *more]
        if case.show:
            options += ["--ledger", "out/ledger", "--show", case.show]
        # A group of its own, so that a kill can also take the decoders with it.
        return subprocess.Popen(
            self.command(*options),
            cwd=self.root,
            env=ENVIRONMENT,
            start_new_session=True,
            stderr=subprocess.DEVNULL,
        )

    def prepare(self, case: Case) -> None:
        """An empty folder for the output, and the ledger that knows half."""
        shutil.rmtree(self.out, ignore_errors=True)
        self.out.mkdir()
        if case.show:
            shutil.copy(self.root / "half", self.out / "ledger")

    def has_ended(self, case: Case) -> bool:
        """Whether the output is complete and the scan has let go of all that it would go on with."""
        journal = journal_path(str(self.out / f"v.{case.format}"))
        return (self.out / f"v.{case.format}").exists() and not os.path.exists(journal)

    def output(self, case: Case) -> bytes:
        """What was written."""
        return (self.out / f"v.{case.format}").read_bytes()

    def undisturbed(self, case: Case) -> float:
        """Sets what is expected; returns how long the scan took, in seconds."""
        self.prepare(case)
        began = time.monotonic()
        if self.start(case).wait() not in (0, 1, 3, 4):
            raise SystemExit("the undisturbed scan failed")
        case.expected = self.output(case)
        return time.monotonic() - began

    def make_ledger(self) -> None:
        """A ledger that knows every second picture."""
        half = [str(path.relative_to(self.root)) for path in sorted(self.pictures.iterdir())[::2]]
        command = self.command("-", "--ledger", "half", "-o", "half.csv")
        command.remove("pictures")
        subprocess.run(command, input="\n".join(half).encode(), cwd=self.root, env=ENVIRONMENT, check=False)

    def kill_until_finished(self, case: Case, most: int, seconds: float) -> None:
        """One output: killed at most so often, then let run to its end, and compared."""
        self.prepare(case)
        kills = 0
        while True:
            process = self.start(case, "--resume")
            try:
                process.wait(timeout=self.rng.uniform(0.1, 1) * seconds if kills < most else None)
                break
            except subprocess.TimeoutExpired:
                self.kill(process)
                kills += 1
            if self.has_ended(case):  # the kill came too late: the next scan would be another one
                break
        if process.returncode not in (0, 1, 3, 4, -signal.SIGKILL):
            raise SystemExit(f"a resumed scan failed with exit code {process.returncode}")
        case.kills += kills
        self.compare(case)
        if process.returncode != -signal.SIGKILL:
            case.left_over |= {path.name for path in self.out.iterdir()} - {f"v.{case.format}", "ledger"}

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill a scan, with or without its decoders."""
        with contextlib.suppress(ProcessLookupError):
            if self.rng.random() < 0.5:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()  # its decoders find out by themselves
        process.wait()

    def compare(self, case: Case) -> None:
        """Count what is wrong with a finished output."""
        case.finished += 1
        data = self.output(case)
        case.different += data != case.expected
        found = Counter(names(data, case.format))
        wanted = Counter(names(case.expected, case.format))
        case.lost += (wanted - found).total()
        case.doubled += (found - wanted).total()


def names(data: bytes, format: str) -> list[str]:
    """The source of every row of an output."""
    if format == "csv":
        return [line.split(",")[0] for line in data.decode().splitlines()[1:]]
    if format == "json":
        return [image["path"] for image in json.loads(data)["images"]]
    if format == "jsonl":
        return [row["path"] for row in map(json.loads, data.splitlines()) if row["type"] == "image"]
    import io

    import pyarrow.parquet

    table = pyarrow.parquet.read_table(io.BytesIO(data), columns=["path"])
    return [str(name) for name in table["path"].to_pylist()]


def run(cases: list[Case], kills: int, images: int, seed: int, most: int = MOST_KILLS) -> None:
    """Share so many kills among the cases, at most ``most`` for each output."""
    with tempfile.TemporaryDirectory(prefix="kill-scan-") as folder:
        bench = Bench(Path(folder), random.Random(seed))
        make_pictures(bench.pictures, images, seed)
        bench.make_ledger()
        seconds = max(bench.undisturbed(case) for case in cases)
        while (left := kills - sum(case.kills for case in cases)) > 0:
            case = min(cases, key=lambda case: case.kills)
            bench.kill_until_finished(case, min(left, bench.rng.randint(1, most)), seconds)
            print(f"{left} kills to go", end="\r", file=sys.stderr, flush=True)


def report(cases: list[Case]) -> str:
    """Lay the figures out."""
    header = ["format", "ledger", "kills", "finished", "rows lost", "rows doubled", "identical"]
    left_over = ", ".join(sorted(set[str]().union(*(case.left_over for case in cases)))) or "nothing"
    n_kills = sum(case.kills for case in cases)
    return f"{table(header, map(cells, cases))}\n\nkills {n_kills}; left over: {left_over}"


def cells(case: Case) -> list[object]:
    """Give one row of the table."""
    identical = "NO" if case.different else "yes" if case.finished else "-"
    ledger = f"show {case.show}" if case.show else "none"
    return [case.format, ledger, case.kills, case.finished, case.lost, case.doubled, identical]


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print."""
    options = parser(__spec__, __doc__)
    options.add_argument("--kills", type=int, default=200)
    options.add_argument("--images", type=int, default=150)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args(argv)
    cases = [Case(format, show) for show in (None, "all", "new") for format in FORMATS]
    run(cases, asked.kills, asked.images, asked.seed)
    print(report(cases))
    bad = any(case.different or case.lost or case.doubled or case.left_over for case in cases)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
