"""A detector to a TensorRT engine: its graph is checked on the CPU, built, and run where a device is here.

The engine gives the embedding. TensorRT reads float64 as float32 without a word, so the heads go along as a
small ONNX graph.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bladescan.backend import BackendSettings, choose_plugin
from bladescan.cuda_memory import Cuda, DeviceInfo
from bladescan.detector import Detector, DetectorModule, load_detector
from bladescan.engine_file import SUFFIX, Build, EngineFile, encode_engine
from bladescan.errors import DetectorError, DeviceUnavailableError, MissingDependencyError, UnknownNameError
from bladescan.export import output_names, seeded_crops, torch_to_onnx
from bladescan.low_precision import DTYPES, lower
from bladescan.records import Scores
from bladescan.targets import write_file
from bladescan.tensorrt_library import (
    CROPS,
    EMBEDDING,
    Library,
    build_engine,
    find_library,
    listed_capabilities,
)

TOLERANCES = {"fp32": 1e-3, "fp16": 2e-2}
"""Largest length of the embedding's error allowed, relative to the embedding's."""

N_CROPS = 12


@dataclass(frozen=True, slots=True)
class EngineReport:
    """What was built, and how far it is from the detector, at most, over seeded crops.

    Attributes:
        library: and its version.
        built_for: the device, or compute capabilities when it was built without one.
        graph: largest relative error of the embedding, the graph run on the CPU.
        engine: the same of the engine, run on the device; None if there is no device here.
    """

    library: str
    built_for: str
    graph: float
    engine: float | None


def export_tensorrt(
    path: Path, output: Path, *, precision: str = "fp16", max_batch: int = 64
) -> EngineReport:
    """Build an engine for the device that is here, or for all that the library can build without one.

    Args:
        path: the detector file.
        output: destination, replaced when the engine has passed its checks.
        precision: one of `TOLERANCES`.
        max_batch: most crops in one run.

    Raises:
        BackendError: TensorRT is missing, has no device, or cannot build the engine.
        DetectorError: the detector is not one, or graph or engine differ from it.
        OutputError: the file cannot be written.
    """
    if precision not in TOLERANCES:
        raise UnknownNameError("precision of an engine", precision, TOLERANCES)
    library, device = find_library(), _device()
    capabilities = _capabilities(library, device)
    detector = load_detector(path)
    graph, heads = embedding_graph(detector, precision), heads_graph(detector)
    error = _graph_error(detector, graph, precision, where=path.name)
    size = detector.manifest.preprocessing.size
    build = Build(
        library=library.name,
        library_version=library.version,
        device="" if device is None or library.builds_without_device else device.name,
        capabilities=capabilities,
        precision=precision,
        max_batch=max_batch,
        detector=path.name,
        detector_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    engine = build_engine(library, graph, size=size, max_batch=max_batch, capabilities=capabilities)
    data = encode_engine(EngineFile(detector.manifest, build, heads, engine))
    engine_error = None if device is None else _engine_error(detector, data, precision, where=path.name)
    write_file(output, data)
    built_for = ", ".join(capabilities) if device is None else f"{device.name} ({device.capability})"
    return EngineReport(f"{library.name} {library.version}", built_for, error, engine_error)


def embedding_graph(detector: Detector, precision: str) -> bytes:
    """The detector's encoder as ONNX: crops uint8 ``[n, size, size, 3]`` to embedding float32 ``[n, d]``.

    Args:
        detector: whose encoder.
        precision: of the trunk; what is float16 is so by the graph's own types.
    """
    size = detector.manifest.preprocessing.size
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    return torch_to_onnx(_Embedding(detector, precision), example, CROPS, [EMBEDDING])


def heads_graph(detector: Detector) -> bytes:
    """The detector's heads as ONNX in float64: embedding in, scores out; empty without a head."""
    names = output_names(detector)[:-1]
    if not names:
        return b""
    example = torch.zeros(2, detector.manifest.encoder.embedding_dim)
    return torch_to_onnx(_Heads(detector), example, EMBEDDING, names)


class _Embedding(nn.Module):
    """As `DetectorModule.embed`, with the cast first: TensorRT moves no bytes before they are numbers."""

    def __init__(self, detector: Detector, precision: str) -> None:
        super().__init__()
        self.module = DetectorModule(detector)
        if precision in DTYPES:
            lower(self.module.encoder, DTYPES[precision])

    def forward(self, crops: Tensor) -> Tensor:
        pixels = crops.float().permute(0, 3, 1, 2) / 255
        module = self.module
        return module.finish(module.encoder((pixels - module.mean) / module.std))


class _Heads(nn.Module):
    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.module = DetectorModule(detector)

    def forward(self, embedding: Tensor) -> tuple[Tensor, ...]:
        return tuple(score for score in self.module.heads(embedding) if score is not None)


def _device() -> DeviceInfo | None:
    """The first CUDA device, None where there is none."""
    try:
        cuda = Cuda()
    except MissingDependencyError:
        return None
    return cuda.describe(0) if cuda.n_devices() else None


def _capabilities(library: Library, device: DeviceInfo | None) -> tuple[str, ...]:
    """What to build for.

    Raises:
        DeviceUnavailableError: nothing can be built for here.
    """
    listed = listed_capabilities(library)
    if device is None and not listed:
        raise DeviceUnavailableError(
            f"{library.name} builds an engine on the CUDA device that it is for, and none is here: export "
            "where the scan will run (with cuda-bindings installed)"
        )
    if device is None:
        return tuple(listed)
    if listed and device.capability not in listed:
        raise DeviceUnavailableError(
            f"{library.name} {library.version} has nothing for {device.name} (compute capability "
            f"{device.capability}), only for {', '.join(listed)}: pip install tensorrt"
        )
    return (device.capability,)


def _graph_error(detector: Detector, graph: bytes, precision: str, *, where: str) -> float:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    crops = seeded_crops(N_CROPS, detector.manifest.preprocessing.size)
    embedding = session.run([EMBEDDING], {CROPS: crops})[0]
    return _error(detector, crops, {"graph": embedding}, precision, where=where)


def _engine_error(detector: Detector, data: bytes, precision: str, *, where: str) -> float:
    """Run the engine through the backend that will run it."""
    crops = seeded_crops(N_CROPS, detector.manifest.preprocessing.size)
    with tempfile.TemporaryDirectory(prefix="bladescan-") as folder:
        path = Path(folder) / f"built{SUFFIX}"
        path.write_bytes(data)
        backend = choose_plugin("auto", path).open(path, BackendSettings("cuda:0"))
    try:
        scores: Scores = backend.score(crops)
    finally:
        backend.close()
    return _error(detector, crops, {"engine": scores.embedding}, precision, where=where)


def _error(
    detector: Detector,
    crops: NDArray[np.uint8],
    found: Mapping[str, NDArray[Any]],
    precision: str,
    *,
    where: str,
) -> float:
    """Largest relative error of an embedding; DetectorError if it is too large."""
    with torch.inference_mode():
        wanted = DetectorModule(detector).embed(torch.from_numpy(crops)).numpy()
    ((what, embedding),) = found.items()
    errors = np.linalg.norm(embedding - wanted, axis=1) / np.linalg.norm(wanted, axis=1)
    error, limit = float(errors.max()), TOLERANCES[precision]
    if not error <= limit:  # negated, so that what is not a number fails too
        raise DetectorError(
            f"{where}: the {precision} {what} differs from the detector: embedding by {error:.2g} of its "
            f"length, at most {limit:g} is allowed; nothing was written"
        )
    return error
