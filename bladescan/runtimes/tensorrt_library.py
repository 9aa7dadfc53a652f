"""TensorRT or TensorRT for RTX, whichever is installed: one API under two names. It knows no detector.

Importing this module imports neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

from bladescan.base.errors import BackendError, MissingDependencyError, first_line

INSTALL = "pip install 'bladescan[tensorrt]' (TensorRT for data-centre GPUs) or tensorrt-rtx (for RTX GPUs)"
LIBRARIES = ("tensorrt", "tensorrt_rtx")
"""Import names, preferred first. The second builds engines without a GPU, for RTX GPUs only."""

_OLDEST = 80
"""For compute capability 7.5 TensorRT for RTX has no float32 matrix product, the encoder's last layer."""

CROPS, EMBEDDING = "crops", "embedding"
"""The engine's one input and one output."""


class TensorRTLibrary(NamedTuple):
    """An imported library.

    Attributes:
        name: of `LIBRARIES`.
        version: as it reports it.
        api: the module.
    """

    name: str
    version: str
    api: Any

    @property
    def builds_without_device(self) -> bool:
        """Whether engines are finished on the device when loaded, so that none is needed to build them."""
        return self.name == "tensorrt_rtx"


def find_library(preferred: str = LIBRARIES[0]) -> TensorRTLibrary:
    """Import the preferred library, or another of `LIBRARIES` if that is not installed.

    Raises:
        MissingDependencyError: none is installed.
        BackendError: one is, but cannot be imported.
    """
    for name in sorted(LIBRARIES, key=lambda name: name != preferred):
        if find_spec(name) is None:
            continue
        try:
            api = import_module(name)
            return TensorRTLibrary(name, str(api.__version__), api)
        except Exception as exc:  # a library that lacks its libraries raises whatever its loader raises
            raise BackendError(f"{name} cannot be imported ({first_line(exc)}): {INSTALL}") from exc
    raise MissingDependencyError("the tensorrt backend", "TensorRT", INSTALL)


def listed_capabilities(library: TensorRTLibrary) -> dict[str, Any]:
    """List the compute capabilities that the library can build for without a device, for example ``8.6``."""
    members = getattr(library.api, "ComputeCapability", None)
    if members is None or not library.builds_without_device:
        return {}
    found = {name[2:]: value for name, value in members.__members__.items() if name.startswith("SM")}
    return {f"{n[:-1]}.{n[-1]}": value for n, value in found.items() if int(n) >= _OLDEST}


def build_engine(
    library: TensorRTLibrary, graph: bytes, *, size: int, max_batch: int, capabilities: Sequence[str]
) -> bytes:
    """Build an engine from an ONNX graph, for batches from 1 to ``max_batch``.

    The engine uses the graph's types: nothing is computed in a lower precision than the graph states.

    Args:
        library: that builds it.
        graph: from `CROPS` uint8 ``[n, size, size, 3]`` to `EMBEDDING` float32 ``[n, d]``.
        size: side of a crop.
        max_batch: most crops in one run; the engine is tuned for this many.
        capabilities: compute capabilities to build for, if not for the device that is here.

    Raises:
        BackendError: the library cannot build it.
    """
    api, log = library.api, new_log(library)
    builder = api.Builder(log)
    flag = api.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    network = builder.create_network(1 << int(flag))
    parser = api.OnnxParser(network, log)
    if not parser.parse(graph):
        why = parser.get_error(0).desc() if parser.num_errors else log.last_error()
        raise BackendError(f"{library.name} {library.version} cannot read the graph: {_first_line(why)}")
    config = builder.create_builder_config()
    config.clear_flag(api.BuilderFlag.TF32)  # float32 means float32
    profile = builder.create_optimization_profile()
    profile.set_shape(CROPS, *((n, size, size, 3) for n in (1, max_batch, max_batch)))
    config.add_optimization_profile(profile)
    _target(config, listed_capabilities(library), capabilities)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise BackendError(f"{library.name} {library.version} cannot build the engine: {log.last_error()}")
    return bytes(engine)


def _target(config: Any, listed: dict[str, Any], capabilities: Sequence[str]) -> None:
    if not listed:
        return
    config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        config.set_compute_capability(listed[capability], index)


def load_engine(library: TensorRTLibrary, engine: bytes, *, where: str) -> Any:
    """Load a serialised engine onto the current device.

    Args:
        library: of exactly the version that built it.
        engine: what it serialised.
        where: the file's name, for the error.

    Raises:
        BackendError: the library refuses it.
    """
    log = new_log(library)
    loaded = library.api.Runtime(log).deserialize_cuda_engine(engine)
    if loaded is None:
        raise BackendError(f"{where}: {library.name} cannot load the engine: {log.last_error()}")
    return loaded


def new_log(library: TensorRTLibrary) -> Any:
    """Make a logger that keeps the library's errors and prints nothing."""

    class Log(library.api.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (library.api.ILogger.ERROR, library.api.ILogger.INTERNAL_ERROR):
                self.errors.append(message)

        def last_error(self) -> str:
            return _first_line(self.errors[-1]) if self.errors else "it does not say why"

    return Log()


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0]
