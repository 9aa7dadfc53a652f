"""Training on a device: one bi-level step against the plain one, and a run on made photographs."""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.commands import bladescan_command
from benchmarks.speed import train_step
from benchmarks.speed.made_photographs import write_photographs
from benchmarks.speed.workload import portrait

END_S = 10.0
"""How long a training that is asked to end may take."""


def one_step(asked: argparse.Namespace, has_time: Callable[[], bool]) -> dict[str, Any]:
    """Median seconds of a bi-level step of each contender, and how far its gradient is from ours."""
    cuda = asked.device.startswith("cuda")
    options = argparse.Namespace(
        device=asked.device,
        precision="bf16" if cuda else "fp32",
        encoder="resnet50" if cuda else "resnet10",
        text="clip",
        batch_size=48 if cuda else 2,
        steps=8 if cuda else 1,
        compile=False,
    )
    seconds, gradients = train_step.race(options, train_step.contenders(options), has_time)
    if cuda:
        torch.cuda.empty_cache()
    ours = gradients[train_step.OURS]
    return {
        name: {
            "seconds": statistics.median(taken),
            "times_ours": statistics.median(taken) / statistics.median(seconds[train_step.OURS]),
            "gradient": train_step.difference(ours, gradients[name]),
        }
        for name, taken in seconds.items()
    } | {"settings": vars(options)}


def short_run(asked: argparse.Namespace, scratch: Path, seconds: float) -> dict[str, Any]:
    """Train on made photographs until the time is over: speed, first and last line of the history.

    The recipe is the paper's on a GPU, the small one on a CPU.
    """
    cuda = asked.device.startswith("cuda")
    recipe, n = ("blades", 640) if cuda else ("blades-small", 40)
    settings = ["inner.epochs=1000", f"inner.batch_size={48 if cuda else 4}", "inner.lr=1.0e-4"]
    settings += ["compute.precision=bf16", "workers=8"] if cuda else ["workers=0"]
    photographs = write_photographs(scratch / "photographs", portrait(scratch / "face"), n)
    options = [word for setting in settings for word in ("--set", setting)]
    command = bladescan_command(
        *("train", "--recipe", recipe, "--photos", photographs, "-o", scratch / "run"),
        *(*options, "--device", asked.device, "--quiet"),
    )
    lines, told = _followed(command, scratch / "run" / "history.jsonl", seconds)
    found: dict[str, Any] = {"recipe": recipe, "settings": settings, "photographs": n, "said": told}
    if len(lines) > 1:
        (first_at, first), (last_at, last) = lines[0], lines[-1]
        steps = last["step"] - first["step"]
        found |= {"steps": last["step"], "steps_per_s": steps / max(last_at - first_at, 1e-9)}
    if lines:
        found |= {"first": lines[0][1], "last": lines[-1][1], "first_line_after_s": lines[0][0]}
    return found


def _followed(
    command: list[str], history: Path, seconds: float
) -> tuple[list[tuple[float, dict[str, Any]]], str]:
    """Run a training for so long; the lines of its history with when each was there, and its last words."""
    lines: list[tuple[float, dict[str, Any]]] = []
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        while process.poll() is None and time.monotonic() - started < seconds:
            time.sleep(0.2)
            texts = history.read_text().splitlines() if history.is_file() else []
            at = time.monotonic() - started
            lines += [(at, json.loads(text)) for text in texts[len(lines) :]]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            _, told = process.communicate(timeout=END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            _, told = process.communicate()
    return lines, " ".join(told.decode(errors="replace").split())[-300:]
