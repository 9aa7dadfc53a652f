"""Encoder and heads of the shipped detector on a device: how fast by every way, and how near to the CPU's."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from bladescan_backends.pytorch import _compute, _Graphs
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.speed.gpu_bounds import to_its_end
from benchmarks.speed.workload import portrait
from benchmarks.timing import Work, best
from bladescan.base.errors import BladescanError
from bladescan.base.records import Scores
from bladescan.detectors.calibration import p_values, photographic_scores
from bladescan.detectors.manifest import HeadName
from bladescan.detectors.shipped import shipped_detector
from bladescan.evaluation.degradations import VARIANTS, degrade
from bladescan.exporting.exporter import write_export
from bladescan.exporting.onnx import seeded_crops
from bladescan.exporting.tensorrt import TOLERANCES, EngineExporter
from bladescan.heads.detector import DetectorModule, load_detector
from bladescan.networks.low_precision import DTYPES, lower
from bladescan.runtimes.backend import Backend, BackendSettings
from bladescan.runtimes.registry import get_plugin
from bladescan.scanning.scoring import score_in_batches

ONNX, SAFETENSORS = (shipped_detector("blades", (form,)) for form in (".onnx", ".safetensors"))
"""The shipped detector that has both heads."""

Crops = NDArray[np.uint8]
Score = Callable[[Crops], NDArray[np.float32]]
"""Crops in, embedding out; the heads run as well."""
HasTime = Callable[[], bool]
"""Tells whether there is time for one more measurement."""
EAGER = "PyTorch eager, fp32"
FALSE_ALARM = 0.05


# ----------------------------------------------------------------------------------- computing, crops there


class Layout(NamedTuple):
    """One way to lay out the computation."""

    precision: str
    graph: bool
    channels_last: bool

    def __str__(self) -> str:
        graph = "CUDA graph" if self.graph else "operation by operation"
        order = "channels-last" if self.channels_last else "channels-first"
        return f"{self.precision}, {graph}, {order}"


def layouts(device: str) -> list[Layout]:
    """All of them, what the backend does first; on the CPU there are no graphs and no TF32."""
    cuda = device.startswith("cuda")
    precisions = ("fp16", "bf16", "fp32", "tf32") if cuda else ("fp32", "bf16")
    found = product(precisions, (True, False) if cuda else (False,), (True, False))
    return sorted((Layout(*each) for each in found), key=lambda each: -each.graph - each.channels_last)


class Rates(NamedTuple):
    """What was measured.

    Attributes:
        per_second: crops, by way and by the size of a batch.
        failed: why another way gave nothing.
    """

    per_second: dict[str, dict[str, float]]
    failed: dict[str, str]

    def take(self, name: str, n: int, measure: Callable[[], float]) -> None:
        """Measure a way; one that fails leaves the others their time."""
        try:
            self.per_second.setdefault(name, {})[str(n)] = measure()
        except (RuntimeError, BladescanError) as exc:
            self.failed[f"{name}, batch {n}"] = str(exc)


def computing_rates(asked: argparse.Namespace, has_time: HasTime) -> Rates:
    """Crops a second of every layout, crops and results on the device."""
    found = Rates({}, {})
    for n, layout in product(asked.batches, layouts(asked.device)):
        if has_time():
            found.take(str(layout), n, partial(_computing_rate, layout, asked.device, n, asked.rounds))
    return found


def _computing_rate(layout: Layout, device: str, n: int, rounds: int) -> float:
    repeats = 4 if device.startswith("cuda") else 1
    with torch.inference_mode(), _flags(layout.precision):
        work = partial(_repeat, _computing(layout, device, n), repeats)
        return repeats * n / best({"": partial(to_its_end, device, work)}, rounds, uncounted=1)[""]


def _repeat(work: Work, n: int) -> None:
    for _ in range(n):
        work()


@contextmanager
def _flags(precision: str) -> Iterator[None]:
    tf32 = precision == "tf32"
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=tf32):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _computing(layout: Layout, device: str, n: int) -> Work:
    module = module_in(layout.precision, device, channels_last=layout.channels_last)
    if layout.graph:
        with torch.cuda.device(device):
            graph, _, _ = _Graphs(module, device)._capture(n, True)
        return lambda: graph.replay()
    pixels = torch.zeros((n, 224, 224, 3), dtype=torch.uint8, device=device)
    return lambda: _compute(module, pixels, heads=True)


def module_in(precision: str, device: str, *, channels_last: bool = True) -> DetectorModule:
    """The shipped detector as the pytorch backend has it."""
    module = DetectorModule(load_detector(SAFETENSORS)).double_heads()
    if precision in DTYPES:
        lower(module.encoder, DTYPES[precision])
    module.to(device)
    if channels_last:
        module.encoder.to(memory_format=torch.channels_last)
    return module


# ------------------------------------------------------------------------ backends, from array to array


@contextmanager
def backends(asked: argparse.Namespace, kept: Path, missing: dict[str, str]) -> Iterator[dict[str, Backend]]:
    """All backends that can be had here; why another cannot goes to ``missing``.

    Engines, which take a minute each to build, are kept for whoever asks again.
    """
    kind = asked.device.partition(":")[0]
    precisions = (*reversed(DTYPES), "fp32") if kind == "cuda" else ("fp32", "bf16")
    wanted = [("pytorch", SAFETENSORS, precision) for precision in precisions] + [("onnx", ONNX, "fp32")]
    if asked.tensorrt:
        wanted += [("tensorrt", kept / f"{name}.engine", name) for name in TOLERANCES]
    found: dict[str, Backend] = {}
    try:
        for name, path, precision in wanted:
            label = f"{name} backend, {precision}"
            try:
                if name == "tensorrt" and not path.exists():
                    most = max(asked.batches)
                    write_export(EngineExporter(SAFETENSORS, precision=precision, max_batch=most), path)
                settings = BackendSettings(asked.device, precision=precision)
                found[label] = get_plugin(name).open(path, settings)
            except BladescanError as exc:
                missing[label] = str(exc)
        yield found
    finally:
        for backend in found.values():
            backend.close()


def eager(device: str) -> Score:
    """As the authors run it: float32, operation by operation, plain copies."""
    return partial(_run, DetectorModule(load_detector(SAFETENSORS)).double_heads().to(device), device)


def compiled(device: str) -> Score:
    """By torch.compile, which knows the batch."""
    module = module_in("bf16", device)
    mode = "max-autotune" if "cuda" in device else "default"
    return partial(_run, torch.compile(module, dynamic=False, mode=mode), device)


def _run(module: Callable[[Tensor], Any], device: str, crops: Crops) -> NDArray[np.float32]:
    with torch.inference_mode(), _flags("fp32"):
        outputs = [values.cpu().numpy() for values in module(torch.from_numpy(crops).to(device))]
    embedding: NDArray[np.float32] = outputs[2]
    return embedding


def rates(asked: argparse.Namespace, opened: Mapping[str, Backend], has_time: HasTime) -> Rates:
    """Crops a second from array to array: one run at a time, and two under way.

    torch.compile comes last and for the first size only: it takes minutes, and no deadline ends it.
    """
    found = Rates({}, {})
    for n in asked.batches:
        crops = _batches(asked.device, n)
        works: dict[str, Work] = {EAGER: partial(_one_by_one, eager(asked.device), crops, n)}
        for name, backend in opened.items():
            works[f"{name}, one at a time"] = partial(_one_by_one, backend.score, crops, n)
            works[f"{name}, two under way"] = partial(score_in_batches, backend, crops, n)
        for name, work in works.items():
            if has_time():
                found.take(name, n, partial(_rate, work, len(crops), asked.rounds))
    if asked.compile and has_time():
        n, crops = asked.batches[0], _batches(asked.device, asked.batches[0])
        work = partial(_one_by_one, compiled(asked.device), crops, n)
        found.take("torch.compile, bf16", n, partial(_rate, work, len(crops), asked.rounds))
    return found


def _batches(device: str, n: int) -> Crops:
    """Crops for some batches of n."""
    return np.concatenate([seeded_crops(n, 224)] * (8 if device.startswith("cuda") else 2))


def _rate(work: Work, n_crops: int, rounds: int) -> float:
    return n_crops / best({"": work}, rounds, uncounted=1)[""]


def _one_by_one(score: Callable[[Crops], object], crops: Crops, n: int) -> None:
    for start in range(0, len(crops), n):
        score(crops[start : start + n])


# ------------------------------------------------------------------------------------------------- agreement


class Agreement(NamedTuple):
    """How near a backend's scores are to those of PyTorch on the CPU in float32.

    Attributes:
        embedding: largest error of an embedding relative to its length.
        p_value: largest difference of a p-value, of either head.
        binary, one_class: share of the crops with another verdict at a false-alarm rate of 5%.
    """

    embedding: float
    p_value: float
    binary: float
    one_class: float


def faces(scratch: Path, n: int) -> Crops:
    """Portrait crops, each degraded in its own way: their scores spread over both verdicts."""
    face = portrait(scratch / "faces")
    rng = np.random.default_rng(0)
    made = []
    for _ in range(n):
        side = int(rng.integers(face.width * 2 // 5, face.width))
        left, top = rng.integers(0, face.width - side + 1), rng.integers(0, face.height - side + 1)
        crop = np.asarray(face.crop((left, top, left + side, top + side)).resize((224, 224)), np.float32)
        crop = crop * rng.uniform(0.6, 1.3) + rng.normal(0, rng.uniform(0, 12), crop.shape)
        made.append(np.clip(crop, 0, 255).astype(np.uint8))
    crops, names = np.stack(made), list(VARIANTS)
    for i, name in enumerate(names):
        crops[i :: len(names)] = degrade(crops[i :: len(names)], name)
    return crops


def agreement(
    opened: Mapping[str, Backend], crops: Crops, missing: dict[str, str]
) -> dict[str, dict[str, float]]:
    """Of every backend; why another gave nothing goes to ``missing``.

    No deadline: the crops and the CPU's scores take the time, each backend only a second more.
    """
    reference = get_plugin("pytorch").open(SAFETENSORS, BackendSettings("cpu"))
    wanted = score_in_batches(reference, crops, 64)
    assert wanted is not None
    found: dict[str, dict[str, float]] = {}
    for name, backend in opened.items():
        try:
            scores = score_in_batches(backend, crops, 64)
        except BladescanError as exc:
            missing[name] = str(exc)
            continue
        assert scores is not None
        found[name] = agreement_of(scores, wanted, reference)._asdict()
    return found


def agreement_of(scores: Scores, wanted: Scores, reference: Backend) -> Agreement:
    """Of scores with those that the reference, whose calibration counts, gave of the same crops."""
    off = np.linalg.norm(scores.embedding - wanted.embedding, axis=1)
    furthest, changed = 0.0, {}
    heads: tuple[HeadName, ...] = ("binary", "one-class")
    for head in heads:
        calibration = reference.manifest.heads[head]
        ours, theirs = (p_values(calibration, photographic_scores(each, head)) for each in (scores, wanted))
        furthest = max(furthest, float(abs(ours - theirs).max()))
        changed[head] = float(((ours <= FALSE_ALARM) != (theirs <= FALSE_ALARM)).mean())
    relative = float((off / np.linalg.norm(wanted.embedding, axis=1)).max())
    return Agreement(relative, furthest, changed["binary"], changed["one-class"])
