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
from bladescan.runtimes.registry import get_plugin
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
    found: dict[str, dict[str, float]] = {}
    for kind, finder, times in ((TYPICAL, "auto", 1), (CROPPED, "none", 4)):
        if not has_time():
            break
        sizes = (times * few, times * many)
        folders = [_folder(scratch / f"{finder}-{n}", kind, face, n) for n in sizes]
        for name, way in _ways(asked.device, finder).items():
            took = []
            for folder in folders:
                if has_time():  # the large folder takes several times as long as the small one
                    took.append(seconds(partial(way, folder)))
            if len(took) == 2:
                rate = (sizes[1] - sizes[0]) / max(took[1] - took[0], 1e-9)
                found.setdefault(kind, {})[name] = rate
    return found


def _folder(folder: Path, kind: str, face: Image.Image, n: int) -> Path:
    return write_crops(folder, face, n) if kind == CROPPED else write_folder(folder, kind, face, n)


def _ways(device: str, finder: str) -> dict[str, Callable[[Path], object]]:
    """Whoever looks at a folder, by name; what is compared with comes first."""
    half = ("--precision", "fp16") if device.startswith("cuda") else ()
    ways: dict[str, tuple[str, ...]] = {
        "scan, pytorch on the device": ("--backend", "pytorch", "--device", device, *half),
        "scan, onnx on the CPU": ("--backend", "onnx", "--device", "cpu"),
    }
    if device != "cpu" and device in get_plugin("onnx").status().devices:
        ways["scan, onnx on the device"] = ("--backend", "onnx", "--device", device)
    found: dict[str, Callable[[Path], object]] = {"decoders alone": partial(_decode, finder)}
    for name, options in ways.items():
        found[name] = partial(_scan, ("--model", "blades", *options, "--faces", finder))
    return found


def _scan(options: tuple[str, ...], folder: Path) -> None:
    scan(folder, *options)


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
