"""How fast the shipped detector is on a GPU, beside what the GPU can do: all in one run, in turns.

    python -m benchmarks.speed.gpu -o FOLDER [--device cuda:0] [--tensorrt] [--compile] [--images 2000]

Writes gpu.json (figures and machine) and gpu.md into FOLDER, and prints the page. Crops come as NumPy arrays
and scores go back as such, so every way pays for its copies. Rounds interleave the ways, and the best counts.
With `--device cpu` it runs small, to show that it runs. docs/gpu.md says what it must show.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.commands import scan
from benchmarks.speed.report import machine, publish
from benchmarks.speed.workload import TYPICAL, portrait, write_folder
from benchmarks.tables import parser, table
from benchmarks.timing import Work, best
from bladescan.base.errors import BladescanError
from bladescan.detectors.shipped import ONNX, SAFETENSORS
from bladescan.exporting.exporter import write_export
from bladescan.exporting.onnx import seeded_crops
from bladescan.exporting.tensorrt import TOLERANCES, EngineExporter
from bladescan.heads.detector import DetectorModule, load_detector
from bladescan.networks.low_precision import DTYPES, lower
from bladescan.processes.resources import n_cores
from bladescan.runtimes.backend import Backend, BackendSettings
from bladescan.runtimes.registry import get_plugin
from bladescan.scanning.decoder_process import DecoderSettings
from bladescan.scanning.decoders import decoder_pool
from bladescan.scanning.pipeline import decode_in_order
from bladescan.sources.listing import list_sources
from bladescan.sources.query import SourceQuery

Score = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Crops in, embedding out; the heads run as well."""
EAGER = "PyTorch eager, float32"
PACKAGES = (
    "bladescan",
    "torch",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt-rtx",
    "cuda-bindings",
)
CROP_BYTES = 224 * 224 * 3


class Bounds(NamedTuple):
    """What the machine can do, measured here, and what a crop costs.

    Attributes:
        bf16_tflops: of a large matrix product of random numbers.
        memory_gb_per_s: of a copy within the device, read and written bytes both counted.
        transfer_gb_per_s: of a copy from page-locked memory to the device.
        crop_gflop: multiplications and additions of the convolutions and linear layers.
        crop_mb: bytes that they read and write in bfloat16 if all else is fused into them.
    """

    bf16_tflops: float
    memory_gb_per_s: float
    transfer_gb_per_s: float
    crop_gflop: float
    crop_mb: float

    def crops_per_second(self) -> dict[str, float]:
        """The rate that each of them allows on its own; the least is the bound."""
        return {
            "bfloat16 arithmetic": 1e3 * self.bf16_tflops / self.crop_gflop,
            "device memory": 1e3 * self.memory_gb_per_s / self.crop_mb,
            "crops to the device": 1e9 * self.transfer_gb_per_s / CROP_BYTES,
        }


# ------------------------------------------------------------------------------------------------ the bounds


def bounds(device: str, *, side: int, megabytes: int) -> Bounds:
    """Measure the device; ``side`` is of the matrices, ``megabytes`` of the copies."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    here = torch.empty(megabytes << 20, dtype=torch.uint8, pin_memory=device.startswith("cuda"))
    there, again = (torch.empty(len(here), dtype=torch.uint8, device=device) for _ in range(2))
    works: dict[str, Work] = {
        "product": lambda: _to_its_end(device, lambda: a @ b),
        "memory": lambda: _to_its_end(device, lambda: again.copy_(there)),
        "transfer": lambda: _to_its_end(device, lambda: there.copy_(here, non_blocking=True)),
    }
    seconds = best(works, 8, uncounted=2)
    gflop, mb = cost(load_detector(SAFETENSORS))
    return Bounds(
        2e-12 * side**3 / seconds["product"],
        2e-9 * len(here) / seconds["memory"],
        1e-9 * len(here) / seconds["transfer"],
        gflop,
        mb,
    )


def _to_its_end(device: str, work: Callable[[], object]) -> None:
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def cost(detector: Any) -> tuple[float, float]:
    """GFLOP and megabytes (bfloat16) of one crop, by layers that multiply."""
    flop = n_bytes = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal flop, n_bytes
        weight = module.weight
        assert isinstance(weight, Tensor)
        flop += 2 * output.numel() * weight[0].numel()
        n_bytes += 2 * (inputs[0].numel() + output.numel())

    module = DetectorModule(detector)
    for layer in module.encoder.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        module.embed(torch.zeros(1, 224, 224, 3, dtype=torch.uint8))
    return flop / 1e9, n_bytes / 1e6


# -------------------------------------------------------------------------------------------------- the ways


@contextmanager
def ways(asked: argparse.Namespace, scratch: Path, missing: dict[str, str]) -> Iterator[dict[str, Score]]:
    """All ways that can be had here; why another cannot goes to ``missing``."""
    found: dict[str, Score] = {EAGER: eager(asked.device)}
    opened: list[Backend] = []
    kind = asked.device.partition(":")[0]
    precisions = ("fp32", *DTYPES) if kind == "cuda" else ("fp32", "bf16")
    wanted = [("pytorch", SAFETENSORS, precision) for precision in precisions] + [("onnx", ONNX, "fp32")]
    if asked.tensorrt:
        wanted += [("tensorrt", scratch / f"{name}.engine", name) for name in TOLERANCES]
    try:
        for name, path, precision in wanted:
            label = f"{name} backend, {precision}"
            try:
                if name == "tensorrt":
                    most = max(asked.batches)
                    write_export(EngineExporter(SAFETENSORS, precision=precision, max_batch=most), path)
                backend = get_plugin(name).open(path, BackendSettings(asked.device, precision=precision))
            except BladescanError as exc:
                missing[label] = str(exc)
                continue
            opened.append(backend)
            found[label] = lambda crops, backend=backend: backend.score(crops).embedding
        if asked.compile:
            found["torch.compile, bf16"] = compiled(asked.device)
        yield found
    finally:
        for backend in opened:
            backend.close()


def eager(device: str) -> Score:
    """As the authors run it: float32, operation by operation, plain copies."""
    module = DetectorModule(load_detector(SAFETENSORS)).double_heads().to(device)
    return lambda crops: _run(module, crops, device)


def compiled(device: str) -> Score:
    """By torch.compile, which knows the batch."""
    module = DetectorModule(load_detector(SAFETENSORS)).double_heads()
    lower(module.encoder, DTYPES["bf16"])
    module.to(device)
    module.encoder.to(memory_format=torch.channels_last)
    quick = torch.compile(module, dynamic=False, mode="max-autotune" if "cuda" in device else "default")
    return lambda crops: _run(quick, crops, device)


def _run(module: Callable[..., Any], crops: NDArray[np.uint8], device: str) -> NDArray[np.float32]:
    with (
        torch.inference_mode(),
        torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False),
    ):
        outputs = [values.cpu().numpy() for values in module(torch.from_numpy(crops).to(device))]
    embedding: NDArray[np.float32] = outputs[2]
    return embedding


def rates(found: Mapping[str, Score], batches: Sequence[int], rounds: int) -> dict[str, dict[str, float]]:
    """Crops a second of each way at each size of a batch."""
    per_second: dict[str, dict[str, float]] = {name: {} for name in found}
    for n in batches:
        crops = seeded_crops(n, 224)
        works: dict[str, Work] = {name: partial(score, crops) for name, score in found.items()}
        for name, fastest in best(works, rounds, uncounted=3).items():
            per_second[name][str(n)] = n / fastest
    return per_second


def errors(found: Mapping[str, Score]) -> dict[str, float]:
    """Largest error of an embedding of each way relative to its length, against the eager one."""
    crops = seeded_crops(24, 224)
    wanted = found[EAGER](crops)
    lengths = np.linalg.norm(wanted, axis=1)
    return {
        name: float((np.linalg.norm(score(crops) - wanted, axis=1) / lengths).max())
        for name, score in found.items()
    }


# ------------------------------------------------------------------------------------------------ whole scans


def scans(asked: argparse.Namespace, scratch: Path) -> dict[str, float]:
    """Images a second: what the decoders alone give, and whole scans, by the slope between two folders."""
    face = portrait(scratch / "samples")
    few = write_folder(scratch / "few", TYPICAL, face, max(1, asked.images // 8))
    many = write_folder(scratch / "many", TYPICAL, face, asked.images)
    half = "bf16" if asked.device.startswith("cuda") else "fp32"
    commands = {
        "decoders alone": None,
        f"scan, pytorch {half}": ("--backend", "pytorch", "--precision", half, "--device", asked.device),
        "scan, onnx on the CPU": ("--backend", "onnx", "--device", "cpu"),
    }
    found = {}
    for name, options in commands.items():
        run = _decode if options is None else lambda folder, options=options: scan(folder, *options)
        works: dict[str, Work] = {"few": partial(run, few), "many": partial(run, many)}
        took = best(works, 2, uncounted=0)
        found[name] = (asked.images - max(1, asked.images // 8)) / max(took["many"] - took["few"], 1e-9)
    return found


def _decode(folder: Path) -> None:
    with decoder_pool(n_cores(), DecoderSettings()) as pool:
        pool.start()
        for _ in decode_in_order(list_sources(SourceQuery(paths=(str(folder),)), stdin=None), pool, 64):
            pass


# --------------------------------------------------------------------------------------------------- the page


def device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.machine()


def page(found: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    allowed = found["bound_crops_per_second"]
    bound, eager_rates = min(allowed.values()), found["crops_per_second"][EAGER]
    batches = list(eager_rates)
    rows = [
        [
            name,
            *(f"{rate[n]:,.0f} ({rate[n] / eager_rates[n]:.1f} x)" for n in batches),
            f"{max(rate.values()) / bound:.2f}",
            f"{found['errors'][name]:.1e}",
        ]
        for name, rate in found["crops_per_second"].items()
    ]
    about = {key: value for key, value in found["machine"].items() if key != "packages"}
    parts = [
        ", ".join(f"{key} {value}" for key, value in (about | found["machine"]["packages"]).items()),
        "## Bounds\n\nWhat the machine does in this run, and the crops a second that each allows alone.",
        table(["what", "crops/s"], [[name, f"{rate:,.0f}"] for name, rate in allowed.items()]),
        f"bfloat16 product {found['bounds']['bf16_tflops']:.1f} TFLOP/s, device memory "
        f"{found['bounds']['memory_gb_per_s']:.0f} GB/s, transfer {found['bounds']['transfer_gb_per_s']:.1f} "
        f"GB/s; a crop is {found['bounds']['crop_gflop']:.2f} GFLOP and {found['bounds']['crop_mb']:.0f} MB",
        "## Encoder and heads\n\nCrops a second by the size of a batch, over PyTorch eager.",
        table(["way", *(f"batch {n}" for n in batches), "best of the bound", "error of the embedding"], rows),
        *(f"{name}: {why}" for name, why in found["missing"].items()),
    ]
    if found["images_per_second"]:
        rows = [[name, f"{rate:,.1f}"] for name, rate in found["images_per_second"].items()]
        parts += [f"## Whole scans\n\n{TYPICAL}.", table(["what", "images/s"], rows)]
    return "\n\n".join(parts) + "\n"


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    options = parser(__spec__, __doc__)
    options.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    options.add_argument("--device", default="cuda:0")
    options.add_argument("--tensorrt", action="store_true", help="build engines and run them too")
    options.add_argument("--compile", action="store_true", help="torch.compile too, which takes minutes")
    options.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64, 256])
    options.add_argument("--rounds", type=int, default=20)
    options.add_argument("--images", type=int, default=2000, help="pictures of a whole scan, 0 for none")
    return options.parse_args(argv)


def measured(asked: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Every figure of the page."""
    cuda = asked.device.startswith("cuda")
    if cuda and not torch.cuda.is_available():
        sys.exit(f"{asked.device}: torch {torch.__version__} sees no CUDA device here; use --device cpu")
    missing: dict[str, str] = {}
    bound = bounds(asked.device, side=8192 if cuda else 256, megabytes=1024 if cuda else 16)
    with ways(asked, scratch, missing) as found:
        speeds, differences = rates(found, asked.batches, asked.rounds), errors(found)
    return {
        "machine": {"device": device_name(asked.device), "cuda": torch.version.cuda} | machine(PACKAGES),
        "bounds": bound._asdict(),
        "bound_crops_per_second": bound.crops_per_second(),
        "crops_per_second": speeds,
        "errors": differences,
        "missing": missing,
        "images_per_second": scans(asked, scratch) if asked.images else {},
    }


def main(argv: Sequence[str] | None = None) -> None:
    asked = arguments(argv)
    publish(asked.output, "gpu", lambda scratch: measured(asked, scratch), page)


if __name__ == "__main__":
    main()
