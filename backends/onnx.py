"""The ``onnx`` backend: an exported detector in onnxruntime, on the CPU or a CUDA device.

Importing this module imports no onnxruntime. A file is read and checked before the runtime sees it.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bladescan.base.errors import (
    BackendError,
    DetectorError,
    DeviceUnavailableError,
    UsageError,
    first_line,
    import_failed,
)
from bladescan.base.records import Scores
from bladescan.detectors.manifest import Manifest, network_heads
from bladescan.runtimes.backend import (
    Backend,
    BackendSettings,
    BackendStatus,
    PendingScores,
    ReadyScores,
    check_crops,
)
from bladescan.runtimes.onnx_session import CPU, UnloadableGraphError, open_session

from ._checks import check_finite, installed
from ._onnx_detector import HEAD_OUTPUTS, read_onnx_detector
from ._onnx_runs import Columns, Runs, RunsAhead, RunsAtOnce

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_INSTALL = "pip install onnxruntime"
_INSTALL_CUDA = "pip install onnxruntime-gpu (instead of onnxruntime)"
_PACKAGES = ("onnxruntime", "onnxruntime-gpu")
_CUDA = "CUDAExecutionProvider"
# By default each new batch size costs a search among all kernels, and float32 becomes TF32.
_CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
_MOST = 4096
"""Crops in one run, until the device reports that its memory is full."""
_TYPES = {
    "log_likelihood": ("tensor(double)", 1),
    "p_ai_generated": ("tensor(double)", 1),
    "embedding": ("tensor(float)", 2),
}


class OnnxBackend(Backend):
    """A detector graph in an onnxruntime session.

    Args:
        runs: of the session.
        outputs: names of all that the graph computes.
        manifest: of the detector.
        device: where the session runs.
    """

    def __init__(self, runs: Runs, outputs: tuple[str, ...], manifest: Manifest, device: str) -> None:
        self.device, self.manifest = device, manifest
        self._runs: Runs | None = runs
        self._outputs = outputs

    def embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed crops, as `bladescan.runtimes.backend.Backend.embed` promises."""
        return self._begin(crops, ("embedding",)).result().embedding

    def score(self, crops: NDArray[np.uint8]) -> Scores:
        """Score crops, as `bladescan.runtimes.backend.Backend.score` promises."""
        return self._begin(crops, self._outputs).result()

    def submit(self, crops: NDArray[np.uint8]) -> PendingScores:
        """Begin to score, as `bladescan.runtimes.backend.Backend.submit` promises; on the CPU it is done."""
        return self._begin(crops, self._outputs)

    def close(self) -> None:
        """Drop the session; closing twice is fine."""
        runs, self._runs = self._runs, None
        if runs is not None:
            runs.close()

    def _begin(self, crops: NDArray[np.uint8], outputs: tuple[str, ...]) -> PendingScores:
        import numpy as np

        if self._runs is None:
            raise BackendError("the onnx backend is closed")
        check_crops(crops, self.manifest.preprocessing.size)
        if not len(crops):
            return ReadyScores(self._empty(outputs))
        return self._runs.begin(np.ascontiguousarray(crops), outputs, partial(_scores, outputs))

    def _empty(self, outputs: tuple[str, ...]) -> Scores:
        """Make scores without rows, without the runtime: not every kernel accepts an empty batch."""
        import numpy as np

        return Scores(
            np.empty(0) if "log_likelihood" in outputs else None,
            np.empty(0) if "p_ai_generated" in outputs else None,
            np.empty((0, self.manifest.encoder.embedding_dim), np.float32),
        )


def _scores(outputs: tuple[str, ...], parts: list[Columns]) -> Scores:
    """Join the outputs of all runs."""
    import numpy as np

    named = dict(zip(outputs, map(np.concatenate, zip(*parts, strict=True)), strict=True))
    scores = Scores(named.get("log_likelihood"), named.get("p_ai_generated"), named["embedding"])
    return check_finite(scores, "onnx")


class OnnxPlugin:
    """Opens ``.onnx`` detectors with onnxruntime."""

    name = "onnx"
    suffixes: tuple[str, ...] = (".onnx",)

    def status(self) -> BackendStatus:
        """Report what is installed, as `bladescan.runtimes.backend.BackendPlugin.status` promises."""
        try:
            import onnxruntime
        except Exception as exc:  # a broken install raises whatever its loader raises
            hint = f"{_INSTALL} ({first_line(exc)})" if installed(*_PACKAGES) else _INSTALL
            return BackendStatus(None, (), hint)
        cuda = ("cuda:0",) if _CUDA in onnxruntime.get_available_providers() else ()
        return BackendStatus(installed(*_PACKAGES) or onnxruntime.__version__, ("cpu", *cuda))

    def open(self, path: Path, settings: BackendSettings) -> OnnxBackend:
        """Load a detector, as `bladescan.runtimes.backend.BackendPlugin.open` promises."""
        try:
            import onnxruntime
        except ImportError as exc:
            raise import_failed(exc, "the onnx backend", "onnxruntime", _INSTALL) from exc
        if settings.precision != "fp32":
            raise UsageError(
                f"the onnx backend computes in the file's own precision, not {settings.precision!r}: "
                "use --precision fp32 or the pytorch backend"
            )
        index = _cuda_index(settings.device, onnxruntime.get_available_providers())
        data, manifest = read_onnx_detector(path)
        session = _session(data, index, settings, where=path.name)
        _check_graph(session, manifest, where=path.name)
        device = f"cuda:{index}" if _CUDA in session.get_providers() else "cpu"
        runs = RunsAtOnce if device == "cpu" else RunsAhead
        outputs = tuple(output.name for output in session.get_outputs())
        return OnnxBackend(runs(session, device, manifest.encoder.batch or _MOST), outputs, manifest, device)


plugin = OnnxPlugin()


def _cuda_index(asked: str, providers: list[str]) -> int | None:
    """Read the number of the CUDA device, None for the CPU; refuse a device that this build cannot use."""
    kind, _, index = asked.partition(":")
    if asked == "cpu" or (asked == "auto" and _CUDA not in providers):
        return None
    if asked != "auto" and (kind != "cuda" or (index and not index.isdigit())):
        raise UsageError(f"unknown device {asked!r}: expected auto, cpu, cuda or cuda:N")
    if _CUDA not in providers:
        raise DeviceUnavailableError(
            f"device {asked!r} is not available: this onnxruntime has no CUDA provider: {_INSTALL_CUDA}, "
            "or use --backend pytorch, or --device cpu"
        )
    return int(index or 0)


def _session(data: bytes, index: int | None, settings: BackendSettings, *, where: str) -> Any:
    providers = [CPU] if index is None else [(_CUDA, _CUDA_OPTIONS | {"device_id": str(index)}), CPU]
    try:
        session = open_session(data, threads=settings.threads, providers=providers)
    except UnloadableGraphError as exc:
        if index is not None and settings.device != "auto":
            raise _no_cuda(settings.device, str(exc)) from exc
        raise DetectorError(f"{where}: onnxruntime cannot load it: {exc}") from exc
    if index is not None and settings.device != "auto" and _CUDA not in session.get_providers():
        raise _no_cuda(settings.device, "its CUDA provider did not load")
    return session


def _no_cuda(device: str, why: str) -> DeviceUnavailableError:
    return DeviceUnavailableError(f"device {device!r} is not available: {why}; use --device cpu")


def _check_graph(session: Any, manifest: Manifest, *, where: str) -> None:
    """Raise DetectorError unless inputs and outputs are those of a detector with this manifest."""
    size = manifest.preprocessing.size
    inputs = [(i.name, i.type, list(i.shape[1:])) for i in session.get_inputs()]
    if inputs != [("crops", "tensor(uint8)", [size, size, 3])]:
        raise DetectorError(f"{where}: expected one input crops uint8 [n, {size}, {size}, 3], found {inputs}")
    wanted = {HEAD_OUTPUTS[head] for head in network_heads(manifest)} | {"embedding"}
    found = {o.name: (o.type, len(o.shape)) for o in session.get_outputs()}
    if found != {name: _TYPES[name] for name in wanted}:
        raise DetectorError(f"{where}: expected outputs {sorted(wanted)}, found {found}")
