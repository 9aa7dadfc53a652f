"""A detector to a TensorRT engine: its graph is checked on the CPU, built, and run where a device is here.

The engine gives the embedding. TensorRT reads float64 as float32 without a word, so the heads go along as a
small ONNX graph.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.linalg import norm
from numpy.typing import NDArray
from torch import Tensor, nn

from bladescan.base.errors import (
    DetectorError,
    DeviceUnavailableError,
    MissingDependencyError,
    UnknownNameError,
    UsageError,
)
from bladescan.base.records import Scores
from bladescan.detectors.manifest import HeadName
from bladescan.exporting.engine_builders import TORCH_TENSORRT, build_by_torch_tensorrt, choose_builder
from bladescan.exporting.onnx import output_names, seeded_crops
from bladescan.exporting.quantisation import CropCutter, compare, judge, split, symmetric
from bladescan.exporting.reports import EngineReport
from bladescan.heads.detector import Detector, DetectorModule, load_detector
from bladescan.networks.low_precision import DTYPES, lower
from bladescan.networks.torch_graph import torch_to_onnx
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.cuda import Cuda, CudaDevice
from bladescan.runtimes.engine_file import SUFFIX, EngineBuild, EngineFile, encode_engine
from bladescan.runtimes.onnx_session import open_session
from bladescan.runtimes.registry import choose_plugin
from bladescan.runtimes.tensorrt_library import (
    CROPS,
    EMBEDDING,
    TensorRTLibrary,
    build_engine,
    find_library,
    listed_capabilities,
)

TOLERANCES = {"fp32": 1e-3, "fp16": 2e-2}
"""Largest length of the embedding's error allowed, relative to the embedding's."""

PRECISIONS = (*TOLERANCES, "int8")
N_CROPS = 12
_BATCH = 8


class BuiltEngine(NamedTuple):
    """An engine, and what has been found out on the way.

    Attributes:
        data: the engine file.
        library: that built it, with its version.
        built_for: the device, or compute capabilities when it was built without one.
        reference: what the detector says of the crops that it is compared on.
        graph: error of the graph that it was built from.
        runs_here: whether the device that it is for is here.
    """

    data: bytes
    library: str
    built_for: str
    reference: _Reference
    graph: float
    runs_here: bool


class EngineExporter:
    """An engine for the device that is here, or for all that the library can build for without one.

    Args:
        path: the detector file.
        precision: one of `PRECISIONS`.
        max_batch: most crops in one run.
        cut: gives the face crops of photographs that int8 is calibrated on.
        photographs: where those are, to be noted for who builds the engine again.
        builder: one of `bladescan.exporting.engine_builders.BUILDERS`, or ``auto``.

    Raises:
        UsageError: int8 without crops, or crops without int8.
    """

    def __init__(
        self,
        path: Path,
        *,
        precision: str = "fp16",
        max_batch: int = 64,
        cut: CropCutter | None = None,
        photographs: Sequence[str] = (),
        builder: str = "auto",
    ) -> None:
        if precision not in PRECISIONS:
            raise UnknownNameError("precision of an engine", precision, PRECISIONS)
        if (precision == "int8") != (cut is not None):
            raise UsageError("--precision int8 and --photos go together: int8 is calibrated on photographs")
        self._path, self._precision, self._max_batch = path, precision, max_batch
        self._cut, self._photographs, self._builder = cut, tuple(photographs), builder

    def build(self) -> BuiltEngine:
        """Check the graph on the CPU, then build the engine of it.

        Raises:
            BackendError: TensorRT is missing, has no device, or cannot build the engine.
            DetectorError: the detector is not one, or the graph differs from it.
        """
        library, device = find_library(), _device()
        builder = choose_builder(self._builder, library, self._precision)
        capabilities = _capabilities(library, device)
        detector = load_detector(self._path)
        graph, crops = self._graph(detector)
        reference = _Reference(detector, self._precision, crops, where=self._path.name)
        error = reference.error_of_graph(graph)
        engine = self._engine(library, builder, detector, graph, capabilities)
        build = self._noted(library, device, capabilities, builder)
        return BuiltEngine(
            data=encode_engine(EngineFile(detector.manifest, build, heads_graph(detector), engine)),
            library=f"{library.name} {library.version}",
            built_for=f"{device.name} ({device.capability})" if device else ", ".join(capabilities),
            reference=reference,
            graph=error,
            runs_here=device is not None,
        )

    def check(self, built: BuiltEngine) -> EngineReport:
        """Run the engine where its device is here, and compare it with the detector."""
        reference = built.reference
        engine = reference.error_of_engine(built.data) if built.runs_here else None
        return EngineReport(
            library=built.library,
            built_for=built.built_for,
            n_crops=len(reference.crops),
            graph=built.graph,
            engine=engine,
            same_verdict=reference.same_verdict,
        )

    def encode(self, built: BuiltEngine, report: EngineReport) -> bytes:
        """Give the file, whose header holds the manifest already."""
        return built.data

    def _graph(self, detector: Detector) -> tuple[bytes, NDArray[np.uint8]]:
        """Make what the engine is built from, and the crops that it is compared on."""
        if self._cut is None:
            crops = seeded_crops(N_CROPS, detector.manifest.preprocessing.size)
            return embedding_graph(detector, self._precision), crops
        crops = self._cut(detector.manifest)
        calibrating, compared = split(len(crops))
        return symmetric(embedding_graph(detector, "fp32"), crops[calibrating]), crops[compared]

    def _engine(
        self,
        library: TensorRTLibrary,
        builder: str,
        detector: Detector,
        graph: bytes,
        capabilities: tuple[str, ...],
    ) -> bytes:
        size, most = detector.manifest.preprocessing.size, self._max_batch
        if builder == TORCH_TENSORRT:
            module = _Embedding(detector, self._precision)
            return build_by_torch_tensorrt(module, size=size, max_batch=most, device="cuda:0")
        return build_engine(library, graph, size=size, max_batch=most, capabilities=capabilities)

    def _noted(
        self,
        library: TensorRTLibrary,
        device: CudaDevice | None,
        capabilities: tuple[str, ...],
        builder: str,
    ) -> EngineBuild:
        return EngineBuild(
            library=library.name,
            library_version=library.version,
            device="" if device is None or library.builds_without_device else device.name,
            capabilities=capabilities,
            precision=self._precision,
            max_batch=self._max_batch,
            detector=str(self._path),
            detector_sha256=hashlib.sha256(self._path.read_bytes()).hexdigest(),
            photos=self._photographs,
            builder=builder,
        )


def embedding_graph(detector: Detector, precision: str) -> bytes:
    """Write the encoder as ONNX: crops uint8 ``[n, size, size, 3]`` to embedding float32 ``[n, d]``.

    Args:
        detector: whose encoder.
        precision: of the trunk; what is float16 is so by the graph's own types.
    """
    size = detector.manifest.preprocessing.size
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    return torch_to_onnx(_Embedding(detector, precision), example, CROPS, [EMBEDDING])


def heads_graph(detector: Detector) -> bytes:
    """Write the heads as ONNX in float64: embedding in, scores out; empty without a head."""
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


def _device() -> CudaDevice | None:
    """Describe the first CUDA device, None if there is none."""
    try:
        cuda = Cuda()
    except MissingDependencyError:
        return None
    return cuda.describe(0) if cuda.n_devices() else None


def _capabilities(library: TensorRTLibrary, device: CudaDevice | None) -> tuple[str, ...]:
    """Choose what to build for.

    Raises:
        DeviceUnavailableError: nothing can be built for here.
    """
    listed = listed_capabilities(library)
    if device is None and not listed:
        raise DeviceUnavailableError(
            f"{library.name} builds an engine on the device that will run it, and this machine has none: "
            "export where the scan will run (with cuda-bindings installed)"
        )
    if device is None:
        return tuple(listed)
    if listed and device.capability not in listed:
        raise DeviceUnavailableError(
            f"{library.name} {library.version} has nothing for {device.name} (compute capability "
            f"{device.capability}), only for {', '.join(listed)}: pip install tensorrt"
        )
    return (device.capability,)


class _Reference:
    """Crops, what the detector says of them, and how far something else may be from that.

    Args:
        detector: the reference.
        precision: of what is to be compared.
        crops: uint8 ``[n, size, size, 3]``.
        where: the detector's name, for errors.
    """

    def __init__(self, detector: Detector, precision: str, crops: NDArray[np.uint8], *, where: str) -> None:
        self.crops = crops
        self.same_verdict: dict[HeadName, float] | None = None
        self._manifest, self._precision, self._where = detector.manifest, precision, where
        self._module = DetectorModule(detector)
        with torch.inference_mode():
            parts = [self._module.embed(torch.from_numpy(part)) for part in _batches(crops)]
        self._wanted = torch.cat(parts).numpy()

    def error_of_graph(self, graph: bytes) -> float:
        """Measure the error of an ONNX graph, run on the CPU."""
        session = open_session(graph)
        parts = [session.run([EMBEDDING], {CROPS: part})[0] for part in _batches(self.crops)]
        return self._error("graph", np.concatenate(parts))

    def error_of_engine(self, data: bytes) -> float:
        """Measure the error of an engine file, run by the backend that will run it."""
        with tempfile.TemporaryDirectory(prefix="bladescan-") as folder:
            path = Path(folder) / f"built{SUFFIX}"
            path.write_bytes(data)
            backend = choose_plugin("auto", path).open(path, BackendSettings("cuda:0"))
        try:
            return self._error("engine", backend.embed(self.crops))
        finally:
            backend.close()

    def _error(self, what: str, embedding: NDArray[np.float32]) -> float:
        """DetectorError if it is too large."""
        if self._precision not in TOLERANCES:
            report = compare(self._scores(self._wanted), self._scores(embedding), self._manifest, 0)
            judge(report, where=self._where)
            self.same_verdict = report.same_verdict
            return report.embedding
        wanted, limit = self._wanted, TOLERANCES[self._precision]
        error = float((norm(embedding - wanted, axis=1) / norm(wanted, axis=1)).max())
        if not error <= limit:  # negated, so that what is not a number fails too
            raise DetectorError(
                f"{self._where}: the {self._precision} {what} differs from the detector: embedding by "
                f"{error:.2g} of its length, at most {limit:g} is allowed; nothing was written"
            )
        return error

    def _scores(self, embedding: NDArray[np.float32]) -> Scores:
        with torch.inference_mode():
            likelihood, probability = self._module.heads(torch.from_numpy(embedding))
        return Scores(
            None if likelihood is None else likelihood.numpy(),
            None if probability is None else probability.numpy(),
            embedding,
        )


def _batches(crops: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    return [crops[i : i + _BATCH] for i in range(0, len(crops), _BATCH)]
