"""A reviewer's round trip: scan, decide 60 faces, `feedback`, `calibrate`, scan again, and what changed.

    BLADESCAN_DATA=... python -m benchmarks.quality.feedback [--decide N] > feedback.md

The pictures are of the training pool, whose classes are known: a script decides as a reviewer without
mistakes would. Half of them are today's scan, the other half tomorrow's. Half of the decisions go to the most
suspicious cards, the others to cards at random. The detector has learned from these pictures: this shows how
the loop goes, and not how good the detector is.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.tables import table
from bladescan.reviewing.deck import LOOKS

N_PHOTOGRAPHS, N_GENERATED = 240, 60
"""Of each day."""
RATE = 0.05
_CARDS = re.compile(r'<script type="application/json" id="rows-\d+">(.*?)</script>', re.DOTALL)


def command(folder: Path, *arguments: str, codes: Iterable[int] = (0,)) -> str:
    """Run the command in a folder; return what it prints."""
    called = [sys.executable, "-m", "bladescan", *arguments]
    done = subprocess.run(called, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode not in codes:
        sys.exit(f"{' '.join(arguments)}: {done.stderr}")
    return done.stdout


def lay_out(data: Path, folder: Path) -> None:
    """Copy the pictures of both days into folders whose names tell their class."""
    rng = random.Random(0)
    photographs = sorted((data / "faces").glob("*.*"))
    generated = sorted((data / "ai-generated-train").glob("*/*.*"))
    for word, files, n in (
        ("photographic", photographs, N_PHOTOGRAPHS),
        ("ai-generated", generated, N_GENERATED),
    ):
        for number, file in enumerate(rng.sample(files, 2 * n)):
            day = ("today", "tomorrow")[number % 2]
            to = folder / day / word
            to.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, to / f"{file.parent.name}-{file.name}")


def truth(path: str) -> str:
    """Tell the class of a picture: the name of its folder."""
    return os.path.basename(os.path.dirname(path))


def cards(page: Path) -> list[dict[str, Any]]:
    """Read the cards of a page of one file, the most suspicious first."""
    return [card for rows in _CARDS.findall(page.read_text()) for card in json.loads(rows)["cards"]]


def decide(page: Path, n: int, output: Path) -> None:
    """Decide ``n`` faces by the truth, and write what the page exports."""
    with_face = [card for card in cards(page) if card["face"] is not None]
    top = with_face[: n // 2]
    others = random.Random(1).sample(with_face[n // 2 :], n - len(top))
    at = datetime.now(UTC).replace(microsecond=0).isoformat()
    names = ("sha256", "face", "path", "verdict", "score", *LOOKS)
    with open(output, "w") as file:
        for card in (*top, *others):
            for face in (card, *card["copies"]):
                told = {"schema": 1, "decision": truth(card["path"]), "decided_at": at}
                told |= {"looked_at": face is card} | {name: face.get(name) for name in names}
                file.write(json.dumps(told) + "\n")


def rates(verdicts: Path) -> list[str]:
    """Count, by the truth, the flagged faces of a scan."""
    counts = {"photographic": [0, 0], "ai-generated": [0, 0]}
    for line in verdicts.read_text().splitlines():
        image = json.loads(line)
        for face in image.get("faces", ()):
            count = counts[truth(image["path"])]
            count[0] += face["verdict"] == "ai-generated"
            count[1] += 1
    return [f"{flagged} of {n} ({flagged / n:.1%})" for flagged, n in counts.values()]


def main() -> None:
    """Make the round trip and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decide", type=int, default=60, metavar="N")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lay_out(Path(os.environ["BLADESCAN_DATA"]), folder)
        rows = []
        options = ("--false-alarm", str(RATE), "--fail-on", "none", "-o")
        for day in ("today", "tomorrow"):
            command(folder, "scan", day, *options, f"{day}.jsonl")
            rows.append([f"{day}, the detector as it ships", *rates(folder / f"{day}.jsonl")])
        command(folder, "report", "today.jsonl", "-o", "review.html")
        decide(folder / "review.html", asked.decide, folder / "decisions.jsonl")
        said = ("feedback", "decisions.jsonl", "--verdicts", "today.jsonl", "--false-alarm", str(RATE))
        print(command(folder, *said, "--lists", "lists"))
        found = json.loads(command(folder, *said, "--json"))
        same = found["threshold"]["same_as_rate"]
        command(
            folder,
            "calibrate",
            "--photos",
            "@lists/calibration.txt",
            "--false-alarm",
            str(RATE),
            "-o",
            "mine.onnx",
        )
        again = {"calibrated on calibration.txt": ("--model", "mine.onnx", *options)}
        if same is not None:
            again["at the proposed threshold"] = ("--false-alarm", str(same), *options[2:])
        for title, more in again.items():
            for day in ("today", "tomorrow"):
                command(folder, "scan", day, *more, "again.jsonl")
                rows.append([f"{day}, {title}", *rates(folder / "again.jsonl")])
    print(table(["scan", "photographic faces flagged", "AI-generated faces flagged"], rows))


if __name__ == "__main__":
    main()
