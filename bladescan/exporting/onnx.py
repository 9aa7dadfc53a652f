"""A detector to one ONNX graph, checked against the detector and against scikit-learn before it is kept.

It changes no number: the graph computes what `detector.DetectorModule` computes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bladescan.base.errors import DetectorError
from bladescan.exporting.exporter import write_export
from bladescan.exporting.reports import ParityReport
from bladescan.foreign.detector_graph import detector_graph
from bladescan.heads.detector import Detector, DetectorHeads, DetectorModule, validate_detector
from bladescan.heads.mixture import Mixture, to_scikit_learn
from bladescan.networks.torch_graph import torch_to_onnx
from bladescan.runtimes.onnx_session import open_session

BATCH_SIZES = (12, 5, 1)
"""Batch sizes at which the graph is compared; the largest is the number of seeded crops."""

TOLERANCES = {"embedding": 1e-3, "log_likelihood": 1e-3, "p_ai_generated": 1e-3, "scikit_learn": 1e-6}
"""Largest difference allowed in each figure of a `ParityReport`."""

_OUTPUTS = ("log_likelihood", "p_ai_generated", "embedding")
_Run = dict[str, NDArray[Any]]


class OnnxExporter:
    """A detector in float32 as one graph.

    One input ``crops`` uint8 ``[n, size, size, 3]``; outputs ``log_likelihood`` and ``p_ai_generated``
    float64 ``[n]`` where the detector has that head, and ``embedding`` float32 ``[n, d]``.

    Args:
        detector: what to export.
        where: its name, for errors.
    """

    def __init__(self, detector: Detector, *, where: str) -> None:
        self._detector, self._where = detector, where

    def build(self) -> bytes:
        """Trace the detector.

        Raises:
            DetectorError: it is not whole, or torch cannot export it.
            MissingDependencyError: onnx or onnxscript is not installed.
        """
        validate_detector(self._detector, where=self._where)
        if self._detector.graph:
            return detector_graph(self._detector)
        return _to_onnx(self._detector)

    def check(self, built: bytes) -> ParityReport:
        """Compare the graph with the detector, and with scikit-learn."""
        return _check_parity(self._detector, built, where=self._where)

    def encode(self, built: bytes, report: ParityReport) -> bytes:
        """Give the graph, whose metadata holds the manifest already."""
        return built


def export_onnx(detector: Detector, path: Path) -> ParityReport:
    """Write a detector as `OnnxExporter` makes it; nothing is left at ``path`` by a failure.

    Raises:
        DetectorError: the graph does not compute what the detector does.
        MissingDependencyError: onnx or onnxscript is not installed.
        OutputError: the file cannot be written.
    """
    return write_export(OnnxExporter(detector, where=path.name), path)


class _Graph(nn.Module):
    """The detector with only the outputs that exist: a graph has no None."""

    def __init__(self, module: DetectorModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, crops: Tensor) -> tuple[Tensor, ...]:
        return tuple(output for output in self.module(crops) if output is not None)


def output_names(detector: Detector) -> list[str]:
    """Names of the graph's outputs: of the heads that are there, then the embedding."""
    heads = {"log_likelihood": detector.mixture, "p_ai_generated": detector.classifier}
    return [name for name, head in heads.items() if head is not None] + ["embedding"]


def _to_onnx(detector: Detector) -> bytes:
    size = detector.manifest.preprocessing.size
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    graph = _Graph(DetectorModule(detector))
    return torch_to_onnx(graph, example, "crops", output_names(detector), detector.manifest)


def _check_parity(detector: Detector, data: bytes, *, where: str) -> ParityReport:
    """Run graph and detector over the same seeded crops; DetectorError if they differ too much."""
    crops = seeded_crops(max(BATCH_SIZES), detector.manifest.preprocessing.size)
    most = detector.manifest.encoder.batch or max(BATCH_SIZES)
    sizes = tuple(size for size in BATCH_SIZES if size <= most)
    runs = _run_graph(data, output_names(detector), crops, sizes)
    graph = runs[0]
    reference = _reference(detector, crops, most)
    report = ParityReport(
        n_crops=len(crops),
        batch_sizes=sizes,
        embedding=_difference(graph["embedding"], reference["embedding"]),
        log_likelihood=_compare(graph, reference, "log_likelihood", relative=True),
        p_ai_generated=_compare(graph, reference, "p_ai_generated", relative=False),
        scikit_learn=_against_scikit_learn(detector.mixture, graph),
        same_for_every_batch_size=all((run[n] == graph[n]).all() for run in runs for n in graph),
    )
    _judge(report, where=where)
    return report


def _reference(detector: Detector, crops: NDArray[np.uint8], batch: int) -> _Run:
    """Score crops without the graph that is checked: by PyTorch, or at least the heads by it."""
    with torch.inference_mode():
        if detector.graph:
            (bare,) = _run_graph(detector.graph, ["embedding"], crops, (batch,))
            embedding = torch.from_numpy(bare["embedding"])
            outputs = (*DetectorHeads(detector).heads(embedding), embedding)
        else:
            outputs = DetectorModule(detector)(torch.from_numpy(crops))
    return {n: v.numpy() for n, v in zip(_OUTPUTS, outputs, strict=True) if v is not None}


def seeded_crops(n: int, size: int) -> NDArray[np.uint8]:
    """Random crops, noise and smooth colour fields by turns: they excite an encoder differently."""
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 256, (n, size, size, 3), np.uint8)
    place = np.arange(size) * 8 // size
    for i in range(0, n, 2):
        crops[i] = rng.integers(0, 256, (8, 8, 3), np.uint8)[place][:, place]
    return crops


def _run_graph(data: bytes, names: list[str], crops: NDArray[np.uint8], sizes: tuple[int, ...]) -> list[_Run]:
    """Run all crops, once for each batch size."""
    session = open_session(data)
    runs = []
    for size in sizes:
        parts = [session.run(names, {"crops": crops[i : i + size]}) for i in range(0, len(crops), size)]
        runs.append(dict(zip(names, map(np.concatenate, zip(*parts, strict=True)), strict=True)))
    return runs


def _compare(a: _Run, b: _Run, name: str, *, relative: bool) -> float | None:
    if name not in b:
        return None
    scale = np.maximum(np.abs(b[name]), 1.0) if relative else 1.0
    return _difference(a[name] / scale, b[name] / scale)


def _difference(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(np.abs(a - b).max())


def _against_scikit_learn(mixture: Mixture | None, graph: _Run) -> float | None:
    if mixture is None:
        return None
    scores = to_scikit_learn(mixture).score_samples(graph["embedding"].astype(np.float64))
    return _compare(graph, {"log_likelihood": scores}, "log_likelihood", relative=True)


def _judge(report: ParityReport, *, where: str) -> None:
    for name, limit in TOLERANCES.items():
        figure = getattr(report, name)
        # Negated, so that a figure that is not a number fails too.
        if figure is not None and not figure <= limit:
            raise DetectorError(
                f"{where}: the exported graph differs from the detector: {name} by {figure:.2g}, "
                f"at most {limit:g} is allowed; nothing was written"
            )
    if not report.same_for_every_batch_size:
        raise DetectorError(f"{where}: the exported graph's rows depend on the batch; nothing was written")
