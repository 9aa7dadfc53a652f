"""The ``openvino`` backend: an exported detector whose encoder runs in OpenVINO, on the CPU.

Its mixture and its perceptron stay in onnxruntime, in float64: OpenVINO computes this mixture wrongly.
Importing this module imports no OpenVINO.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
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
from bladescan.detectors.manifest import Manifest, network_heads
from bladescan.runtimes.backend import BackendSettings, BackendStatus

from ._onnx_detector import HEAD_OUTPUTS, OnnxHeads, read_onnx_detector
from ._split_detector import ReadyEmbedding, SplitBackend

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_INSTALL = "pip install 'bladescan[openvino]'"
_TELEMETRY = "openvino_telemetry"
_HINTS = {"fp32": "f32", "bf16": "bf16"}


class _CompiledEncoder:
    """An encoder compiled by OpenVINO, on the CPU.

    Args:
        compiled: an ``openvino.CompiledModel``, crops in, embedding out.
        most: crops in one run, 0 for any number.
    """

    def __init__(self, compiled: Any, most: int) -> None:
        self._request = compiled.create_infer_request()
        self._most = most

    def begin(self, crops: NDArray[np.uint8]) -> ReadyEmbedding:
        """Embed crops at once, as `SplitBackend` asks for: there is nothing to overlap it with."""
        import numpy as np

        most = self._most or len(crops)
        parts = [self._embed(crops[i : i + most]) for i in range(0, len(crops), most)]
        return ReadyEmbedding(np.concatenate(parts))

    def _embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        import numpy as np

        try:
            self._request.infer({0: np.ascontiguousarray(crops)})
        except Exception as exc:  # OpenVINO raises plain RuntimeErrors
            raise BackendError(f"openvino: {_last_line(exc)}") from exc
        embedding: NDArray[np.float32] = self._request.get_output_tensor().data.copy()
        return embedding

    def close(self) -> None:
        """Drop the compiled model."""
        self._request = None


class OpenVinoPlugin:
    """Opens ``.onnx`` detectors with OpenVINO."""

    name = "openvino"
    suffixes: tuple[str, ...] = (".onnx",)

    def status(self) -> BackendStatus:
        """Report what is installed, as `bladescan.runtimes.backend.BackendPlugin.status` promises."""
        try:
            installed = version("openvino")
        except PackageNotFoundError:
            return BackendStatus(None, (), _INSTALL)
        try:
            import onnx

            _openvino()
        except Exception as exc:  # a broken install raises whatever its loader raises
            return BackendStatus(None, (), f"{_INSTALL} ({first_line(exc)})")
        del onnx
        return BackendStatus(installed, ("cpu",))

    def open(self, path: Path, settings: BackendSettings) -> SplitBackend:
        """Load a detector, as `bladescan.runtimes.backend.BackendPlugin.open` promises."""
        try:
            import onnx

            _openvino()
        except ImportError as exc:
            raise import_failed(exc, "the openvino backend", "openvino", _INSTALL) from exc
        del onnx
        _check_device(settings.device)
        core = _core()
        _check_precision(settings.precision, core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
        data, manifest = read_onnx_detector(path)
        encoder = _compile(core, data, manifest, settings, where=path.name)
        heads = OnnxHeads(_heads_of(data, manifest, where=path.name), where=path.name)
        return SplitBackend(
            "openvino", _CompiledEncoder(encoder, manifest.encoder.batch), heads, manifest, "cpu"
        )


plugin = OpenVinoPlugin()


@cache
def _openvino() -> Any:
    """Import OpenVINO as if its telemetry were not installed.

    That looks into the user's home, which there may not be, whether it may report imports over the network.
    """
    before = sys.modules.get(_TELEMETRY)
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        import openvino
    finally:
        if before is None:
            del sys.modules[_TELEMETRY]
        else:
            sys.modules[_TELEMETRY] = before
    return openvino


@cache
def _core() -> Any:
    """Make OpenVINO's core, once in a process, and keep it to the end.

    Each core replaces the process's signal stack and restores the old one when it is destroyed: of two, the
    second restores the first one's stack, which is gone, and the next signal kills the process.
    """
    return _openvino().Core()


def _check_device(asked: str) -> None:
    kind, _, index = asked.partition(":")
    if asked in ("auto", "cpu"):
        return
    if kind != "cuda" or (index and not index.isdigit()):
        raise UsageError(f"unknown device {asked!r}: expected auto, cpu, cuda or cuda:N")
    raise DeviceUnavailableError(
        f"device {asked!r} is not available: the openvino backend computes on the CPU; "
        "use --backend onnx or pytorch"
    )


def _check_precision(asked: str, capabilities: list[str]) -> None:
    if asked not in _HINTS:
        raise UsageError(f"the openvino backend computes in {' or '.join(_HINTS)}, not {asked!r}")
    # Without such instructions OpenVINO would quietly compute in float32.
    if asked == "bf16" and "BF16" not in capabilities:
        raise UsageError("this CPU has no bf16 instructions: use --precision fp32")


def _compile(core: Any, data: bytes, manifest: Manifest, settings: BackendSettings, *, where: str) -> Any:
    """Compile the part of the graph from crops to embedding."""
    options: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": _HINTS[settings.precision],
        "PERFORMANCE_HINT": "LATENCY",  # one request uses all threads
        "ENABLE_CPU_PINNING": False,  # several scan workers would be pinned to the same cores
    }
    if settings.threads:
        options["INFERENCE_NUM_THREADS"] = settings.threads
    try:
        whole = core.read_model(data)
        _check_graph(whole, manifest, where=where)
        encoder = _openvino().Model([whole.output("embedding")], whole.get_parameters())
        return core.compile_model(encoder, "CPU", options)
    except RuntimeError as exc:
        raise DetectorError(f"{where}: openvino cannot load it: {_last_line(exc)}") from exc


def _check_graph(model: Any, manifest: Manifest, *, where: str) -> None:
    """Raise DetectorError unless inputs and outputs are those of a detector with this manifest."""
    size = manifest.preprocessing.size
    inputs = [(i.any_name, i.element_type.get_type_name(), str(i.partial_shape)) for i in model.inputs]
    if inputs != [("crops", "u8", f"[?,{size},{size},3]")]:
        raise DetectorError(f"{where}: expected one input crops uint8 [n, {size}, {size}, 3], found {inputs}")
    wanted = {HEAD_OUTPUTS[head] for head in network_heads(manifest)} | {"embedding"}
    found = {output.any_name for output in model.outputs}
    if found != wanted:
        raise DetectorError(f"{where}: expected outputs {sorted(wanted)}, found {sorted(found)}")


def _heads_of(data: bytes, manifest: Manifest, *, where: str) -> bytes:
    """Cut the graph from embedding to scores out of a detector; empty if there is no head."""
    if not manifest.heads:
        return b""
    import onnx

    wanted = [HEAD_OUTPUTS[head] for head in network_heads(manifest)]
    try:
        graph = onnx.utils.Extractor(onnx.load_from_string(data)).extract_model(["embedding"], wanted)
    except Exception as exc:  # onnx raises its own unrelated classes
        raise DetectorError(f"{where}: its heads cannot be loaded: {first_line(exc)}") from exc
    return bytes(graph.SerializeToString())


def _last_line(exc: Exception) -> str:
    """Return the last line, where OpenVINO says what went wrong, after the places in its own source."""
    return (str(exc).strip().splitlines() or [type(exc).__name__])[-1].strip()
