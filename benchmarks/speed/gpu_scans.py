"""Whole scans on a device beside what the decoders alone give, by the slope between two folders."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from PIL import Image

from benchmarks.commands import scan
from benchmarks.speed.gpu_encoder import HasTime
from benchmarks.speed.workload import TYPICAL, portrait, write_folder
from benchmarks.timing import seconds
from bladescan.processes.resources import n_cores
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.scanning.decoders import decoder_pool
from bladescan.scanning.pipeline import decode_in_order
from bladescan.sources.listing import list_sources
from bladescan.sources.query import SourceQuery

CROPPED = "crops of 224 px, --faces none"


def scans(asked: argparse.Namespace, scratch: Path, has_time: HasTime) -> dict[str, dict[str, float]]:
    """Images a second by kind of picture and by who looks at them."""
    face = portrait(scratch / "samples")
    few, many = max(1, asked.images // 8), asked.images
    folders = {
        TYPICAL: [write_folder(scratch / f"typical-{n}", TYPICAL, face, n) for n in (few, many)],
        CROPPED: [write_crops(scratch / f"crops-{n}", face, n) for n in (8 * few, 8 * many)],
    }
    half = ("--precision", "fp16") if asked.device.startswith("cuda") else ()
    on_device = ("--backend", "pytorch", "--device", asked.device, *half)
    found: dict[str, dict[str, float]] = {}
    for kind, finder in ((TYPICAL, "auto"), (CROPPED, "none")):
        ways: dict[str, Callable[[Path], object]] = {
            "decoders alone": partial(_decode, finder),
            "scan, pytorch on the device": lambda folder, f=finder: scan(folder, *on_device, "--faces", f),
            "scan, onnx on the CPU": lambda folder, f=finder: scan(
                folder, "--backend", "onnx", "--device", "cpu", "--faces", f
            ),
        }
        for name, way in ways.items():
            if has_time():
                took = [seconds(partial(way, folder)) for folder in folders[kind]]
                times = 8 if kind == CROPPED else 1
                found.setdefault(kind, {})[name] = times * (many - few) / max(took[1] - took[0], 1e-9)
    return found


def write_crops(folder: Path, face: Image.Image, n: int, n_different: int = 16) -> Path:
    """Face crops as files, of which ``n_different`` differ."""
    folder.mkdir()
    for i in range(min(n, n_different)):
        box = (i, i, face.width - i, face.width - i)
        face.crop(box).resize((224, 224)).save(folder / f"{i:05}.jpg", quality=92)
    made = [path.read_bytes() for path in sorted(folder.iterdir())]
    for i in range(len(made), n):
        (folder / f"{i:05}.jpg").write_bytes(made[i % len(made)])
    return folder


def _decode(finder: str, folder: Path) -> None:
    with decoder_pool(n_cores(), DecoderSettings(faces=finder)) as pool:
        pool.start()
        for _ in decode_in_order(list_sources(SourceQuery(paths=(str(folder),)), stdin=None), pool, 64):
            pass
