"""Damaged image files through real decoder processes: nothing lost, nothing hung, every death on its file.

    python -m benchmarks.endurance.fuzz FOLDER [--seeds 0:100000] [--processes 2] [--keep FOLDER]

Each seed damages one file of FOLDER (see `mutations`), and a decoder process, as a scan starts it, decodes
the result and reads what it says of itself. One in ``--faces-every`` goes through the default face finder
too, the others through ``--faces none``. Prints a Markdown table. Exit code 1 if a file got no answer or an
answer came later than the time limit allows; files that killed their decoder or ran out of time are kept
under their seed's number.
A range of seeds gives the same files on every machine: go on with another range, or try one seed again.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.endurance.mutations import made_originals, mutant, originals
from benchmarks.tables import parser, table
from bladescan.base.records import Reason
from bladescan.images.limits import Limits
from bladescan.scanning.decoder_process import Decoded, DecoderSettings, ProvenanceSettings, Request
from bladescan.scanning.decoders import decoder_process

TIMEOUT_S = 10.0
LATE_S = 2 * TIMEOUT_S + 10.0
"""A death is tried again, and a process takes a while to start."""
LIMITS = Limits(max_pixels=4_000_000, max_total_pixels=16_000_000)
NOTABLE = (Reason.DECODER_CRASHED, Reason.TIMEOUT)


@dataclass
class Findings:
    """What came of a run; shared by its threads."""

    keep: Path
    outcomes: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    declared: Counter[str] = field(default_factory=Counter)
    notable: list[str] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, -1)
    deaths: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, seed: int, data: bytes, answer: Decoded, seconds: float, died: bool) -> None:
        """Count one answer and keep its file if something ended with it."""
        with self.lock:
            self.outcomes["read" if answer.reason is None else answer.reason.value] += 1
            self.formats[answer.format or "-"] += answer.reason is None
            self.declared[answer.provenance.declared if answer.provenance else "-"] += 1
            self.deaths += died
            self.slowest = max(self.slowest, (seconds, seed))
            if answer.reason in NOTABLE or died:
                self.notable.append(f"seed {seed}: {answer.reason}: {answer.detail}, {seconds:.1f} s")
                self.keep.mkdir(parents=True, exist_ok=True)
                (self.keep / str(seed)).write_bytes(data)


class Decoders:
    """One process for each way of finding faces, as one thread uses them."""

    def __init__(self, faces_every: int) -> None:
        shared = {"limits": LIMITS, "timeout_s": TIMEOUT_S, "provenance": ProvenanceSettings()}
        plain, finding = DecoderSettings(faces="none", **shared), DecoderSettings(**shared)
        self._every = faces_every
        self._all = decoder_process(plain), decoder_process(finding)
        for decoder in self._all:
            decoder.start()

    def decode(self, seed: int, data: bytes) -> tuple[Decoded, float, bool]:
        """The answer, its seconds, and whether the process was another one afterwards."""
        decoder = self._all[seed % self._every == 0]
        before, started = decoder.process, time.monotonic()
        answer = decoder.ask(Request(str(seed).encode(), data))
        seconds, after = time.monotonic() - started, decoder.process
        return answer, seconds, before is not None and after is not before

    def close(self) -> None:
        """End the processes."""
        for decoder in self._all:
            decoder.kill()


def work(seeds: Iterator[int], files: list[bytes], faces_every: int, findings: Findings) -> None:
    decoders = Decoders(faces_every)
    try:
        while True:
            with findings.lock:
                seed = next(seeds, None)
            if seed is None:
                return
            data = mutant(seed, files)
            findings.add(seed, data, *decoders.decode(seed, data))
    finally:
        decoders.close()


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    options = parser(__spec__, __doc__)
    options.add_argument("folder", type=Path, nargs="?", help="hostile files; without it a few are made")
    options.add_argument("--seeds", default="0:100000", help="FIRST:END")
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--faces-every", type=int, default=20)
    options.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    return options.parse_args(argv)


def report(findings: Findings, n: int, seconds: float) -> bool:
    """Print what was found; whether it is as it must be."""
    answered = findings.outcomes.total()
    print(table(["outcome", "files"], findings.outcomes.most_common()))
    slowest_s, seed = findings.slowest
    print(
        f"\n{n} files in {seconds:.0f} s ({n / seconds:.0f}/s); without an answer: {n - answered}; "
        f"ends of a decoder process: {findings.deaths}; slowest {slowest_s:.2f} s (seed {seed})\n"
        f"formats read: {', '.join(f'{k} {v}' for k, v in findings.formats.most_common() if v)}\n"
        f"declared: {', '.join(f'{k} {v}' for k, v in findings.declared.most_common())}"
    )
    print("\n".join(findings.notable))
    return answered == n and slowest_s <= LATE_S


def main(argv: Sequence[str] | None = None) -> int:
    asked = arguments(argv)
    files = originals(asked.folder) if asked.folder else made_originals()
    first, end = map(int, asked.seeds.split(":"))
    findings, seeds, started = Findings(asked.keep), iter(range(first, end)), time.monotonic()
    task = (seeds, files, asked.faces_every, findings)
    threads = [threading.Thread(target=work, args=task) for _ in range(asked.processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0 if report(findings, end - first, time.monotonic() - started) else 1


if __name__ == "__main__":
    sys.exit(main())
