"""A training that is killed at random moments, again and again, against one that is left alone.

    python -m benchmarks.endurance.kill_training PHOTOS... [-- --set inner.epochs=3 ...]

Runs ``bladescan train`` twice in real processes: once undisturbed, once killed with SIGKILL (loaders
included) ten times at random moments between its first step and its end, each time followed by ``--resume``.
Says when it was killed and whether encoder and history of the two runs are equal byte by byte, and tensors
of their checkpoints bit by bit; exit code 1 if not. Options after ``--`` go to both runs.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.commands import bladescan_command
from benchmarks.tables import parser
from bladescan.networks.weights import read_safetensors
from bladescan.training.runs import CHECKPOINT_FILE, ENCODER_FILE, HISTORY_FILE, read_history

N_KILLS = 10
SMALL = [
    "encoder.width=8",
    "encoder.embedding_dim=64",
    "text.name=gpt2",
    "text.layers=1",
    "text.width=32",
    "text.heads=2",
    "augmentation.window=64",
    "inner.epochs=2",
]


def start(out: Path, photos: list[str], options: list[str]) -> subprocess.Popen[bytes]:
    """The training in a process group of its own."""
    sets = [part for change in SMALL for part in ("--set", change)]
    sources = [part for photo in photos for part in ("--photos", photo)]
    fixed = ["--recipe", "blades-small", "-o", str(out), "--resume", "--checkpoint-every", "0", "--quiet"]
    return subprocess.Popen(
        bladescan_command("train", *sources, *fixed, *sets, *options), start_new_session=True
    )


def steps_done(out: Path) -> int:
    """Steps in the history so far."""
    history = read_history(out)
    return int(history[-1]["step"]) if history else 0


def wait_for_more(process: subprocess.Popen[bytes], out: Path, n: int) -> bool:
    """Until the run has done more than ``n`` steps; False if it ended first."""
    while process.poll() is None:
        if steps_done(out) > n:
            return True
        time.sleep(0.02)
    return False


def kill_repeatedly(out: Path, photos: list[str], options: list[str], n_steps: int) -> list[int]:
    """The steps at which it was killed; then it is let run to its end."""
    rng, kills = random.Random(0), list[int]()
    while len(kills) < N_KILLS:
        done = steps_done(out)
        process = start(out, photos, options)
        # Spread over what is left, so that ten kills find a run still going.
        target = done + rng.randrange(max(1, 2 * (n_steps - done) // (N_KILLS - len(kills) + 1)))
        if not wait_for_more(process, out, target):
            raise SystemExit(f"ended after {len(kills)} kills: give it more photographs or epochs")
        time.sleep(rng.uniform(0, 0.5))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kills.append(steps_done(out))
    if start(out, photos, options).wait():
        raise SystemExit("the last run failed")
    return kills


def same_content(one: Path, other: Path) -> bool:
    """Whether two safetensors files hold the same bits; the order in their headers is not settled."""
    (a, told), (b, also) = read_safetensors(one), read_safetensors(other)
    return told == also and a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def main(argv: Sequence[str] | None = None) -> int:
    """Run both and compare."""
    argv = sys.argv[1:] if argv is None else argv
    cut = argv.index("--") if "--" in argv else len(argv)
    asked = parser(__spec__, __doc__)
    asked.add_argument("photos", nargs="+", metavar="PHOTOS", help="photographs to learn from")
    photos, options = asked.parse_args(argv[:cut]).photos, list(argv[cut + 1 :])
    with tempfile.TemporaryDirectory() as folder:
        alone, killed = Path(folder, "alone"), Path(folder, "killed")
        if start(alone, photos, options).wait():
            raise SystemExit("the undisturbed run failed")
        n_steps = steps_done(alone)
        kills = kill_repeatedly(killed, photos, options, n_steps)
        print(f"{n_steps} steps; killed after steps {', '.join(map(str, kills))}")
        same = {
            name: (alone / name).read_bytes() == (killed / name).read_bytes()
            for name in (ENCODER_FILE, HISTORY_FILE)
        }
        same[CHECKPOINT_FILE] = same_content(alone / CHECKPOINT_FILE, killed / CHECKPOINT_FILE)
    for name, equal in same.items():
        print(f"{name}: {'equal' if equal else 'DIFFERENT'}")
    return 0 if all(same.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
