"""The ``tensorrt`` backend: an engine of ``bladescan export --to tensorrt`` on its CUDA device.

The engine computes the embedding; the heads stay in onnxruntime, in float64. An engine is machine code: run
only engines that you built. Importing this module imports no TensorRT.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bladescan.base.errors import (
    BackendError,
    DetectorError,
    MissingDependencyError,
    UsageError,
)
from bladescan.detectors.manifest import network_heads
from bladescan.runtimes.backend import BackendSettings, BackendStatus
from bladescan.runtimes.cuda import Cuda, OutOfDeviceMemoryError, cuda_index
from bladescan.runtimes.engine_file import SUFFIX, EngineFile, read_engine, rebuild_command, why_unusable
from bladescan.runtimes.tensorrt_library import (
    CROPS,
    EMBEDDING,
    INSTALL,
    LIBRARIES,
    find_library,
    load_engine,
)

from ._checks import installed
from ._onnx_detector import DOMAINS, HEAD_OUTPUTS, OnnxHeads
from ._onnx_file import read_onnx
from ._split_detector import SplitBackend

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bladescan.detectors.manifest import Manifest

_PACKAGES = ("tensorrt", "tensorrt-rtx")


class _Slot:
    """Memory for one batch being processed: page-locked on the host, plain on the device, and the events.

    Args:
        cuda: the runtime.
        n: most crops.
        crop: shape of one.
        embedding_dim: numbers that are returned for each.

    Attributes:
        owner: whose batch it is, None if there is none.
        rows: of the owner, that the batch is.
    """

    def __init__(self, cuda: Cuda, n: int, crop: tuple[int, ...], embedding_dim: int) -> None:
        self._cuda = cuda
        self._pinned: list[Any] = []
        self._device: list[int] = []
        self.owner: _EngineRun | None = None
        self.rows = slice(0, 0)
        try:
            self.crops = self._pin((n, *crop), "uint8")
            self.embedding = self._pin((n, embedding_dim), "float32")
            self.device_crops = self._allocate(self.crops.array.nbytes)
            self.device_embedding = self._allocate(self.embedding.array.nbytes)
        except BaseException:
            self.free()
            raise
        self.copied = cuda.call("cudaEventCreate")
        self.done = cuda.call("cudaEventCreate")

    def _pin(self, shape: tuple[int, ...], dtype: str) -> Any:
        pinned = self._cuda.pinned(shape, dtype)
        self._pinned.append(pinned)
        return pinned

    def _allocate(self, n_bytes: int) -> int:
        address = int(self._cuda.call("cudaMalloc", n_bytes))
        self._device.append(address)
        return address

    def free(self) -> None:
        """Free the memory."""
        while self._pinned:
            self._pinned.pop().free()
        while self._device:
            self._cuda.call("cudaFree", self._device.pop())


class _Engine:
    """An engine and its execution: while one batch is computed, the next is copied, of the same call or not.

    Args:
        cuda: the runtime.
        engine: an ``ICudaEngine`` with one input and one output.
        index: of the device.
        size: side of a crop.
        embedding_dim: of the output.

    Raises:
        BackendError: the device has too little memory even for one crop.
    """

    def __init__(self, cuda: Cuda, engine: Any, index: int, size: int, embedding_dim: int) -> None:
        self._cuda, self._index = cuda, index
        self._crop, self._dim = (size, size, 3), embedding_dim
        self._context = engine.create_execution_context()
        if self._context is None:
            raise BackendError(f"cuda:{index}: no room for the engine; end other programs on this device")
        self._most = int(engine.get_tensor_profile_shape(CROPS, 0)[2][0])
        self._copying = cuda.call("cudaStreamCreate")
        self._computing = cuda.call("cudaStreamCreate")
        self._slots: list[_Slot] = []
        self._turns: Iterator[_Slot] = iter(())
        while not self._slots:
            try:
                self._reserve()
            except OutOfDeviceMemoryError:
                if self._most == 1:
                    raise
                self._most //= 2

    def _reserve(self) -> None:
        slots: list[_Slot] = []
        try:
            slots += [_Slot(self._cuda, self._most, self._crop, self._dim)]
            slots += [_Slot(self._cuda, self._most, self._crop, self._dim)]
        except BaseException:
            for slot in slots:
                slot.free()
            raise
        self._slots, self._turns = slots, cycle(slots)

    def begin(self, crops: NDArray[np.uint8]) -> _EngineRun:
        """Queue crops ``[n, size, size, 3]``, n at least 1; a slot that is in use is waited for."""
        self._cuda.call("cudaSetDevice", self._index)  # the device is set for each thread
        arriving = _EngineRun(self, len(crops), self._dim)
        try:
            for start in range(0, len(crops), self._most):
                slot = next(self._turns)
                self._collect(slot)
                self._start(slot, crops, slice(start, min(start + self._most, len(crops))))
                slot.owner = arriving
        except BaseException:
            self._abandon(arriving)
            raise
        return arriving

    def collect(self, arriving: _EngineRun) -> None:
        """Wait for all batches of one call."""
        self._cuda.call("cudaSetDevice", self._index)
        for slot in self._slots:
            if slot.owner is arriving:
                self._collect(slot)

    def has(self, arriving: _EngineRun) -> bool:
        """Tell, without waiting, whether `collect` would return at once."""
        return all(self._cuda.has_happened(slot.done) for slot in self._slots if slot.owner is arriving)

    def _abandon(self, arriving: _EngineRun) -> None:
        """Drop the batches of one call, once the device no longer writes to them; those of others stay."""
        for slot in self._slots:
            if slot.owner is arriving:
                slot.owner = None
        self._cuda.call("cudaDeviceSynchronize")

    def _start(self, slot: _Slot, crops: NDArray[np.uint8], rows: slice) -> None:
        """Queue one batch: to the device, through the engine, and back."""
        call, n = self._cuda.call, rows.stop - rows.start
        slot.crops.array[:n] = crops[rows]
        self._cuda.copy_in(slot.device_crops, slot.crops, n * slot.crops.array[0].nbytes, self._copying)
        call("cudaEventRecord", slot.copied, self._copying)
        call("cudaStreamWaitEvent", self._computing, slot.copied, 0)
        context = self._context
        context.set_input_shape(CROPS, (n, *self._crop))
        context.set_tensor_address(CROPS, slot.device_crops)
        context.set_tensor_address(EMBEDDING, slot.device_embedding)
        if not context.execute_async_v3(int(self._computing)):
            raise BackendError(f"cuda:{self._index}: TensorRT failed to run the engine")
        n_bytes = n * slot.embedding.array[0].nbytes
        self._cuda.copy_out(slot.embedding, slot.device_embedding, n_bytes, self._computing)
        call("cudaEventRecord", slot.done, self._computing)
        slot.rows = rows

    def _collect(self, slot: _Slot) -> None:
        """Wait for the batch of a slot, if there is one, and hand it to its owner."""
        owner, slot.owner = slot.owner, None
        if owner is None:
            return
        try:
            self._cuda.call("cudaEventSynchronize", slot.done)
        except BaseException as exc:
            owner.lose(str(exc) or type(exc).__name__)
            raise
        rows = slot.rows
        owner.embedding[rows] = slot.embedding.array[: rows.stop - rows.start]

    def close(self) -> None:
        """Free everything; what was not asked for is lost."""
        for slot in self._slots:
            if slot.owner is not None:
                slot.owner.lose("the backend is closed")
        self._cuda.call("cudaSetDevice", self._index)
        self._cuda.call("cudaDeviceSynchronize")
        self._context = None
        for slot in self._slots:
            slot.free()
            for event in (slot.copied, slot.done):
                self._cuda.call("cudaEventDestroy", event)
        for stream in (self._copying, self._computing):
            self._cuda.call("cudaStreamDestroy", stream)


class _EngineRun:
    """Embeddings of one call on their way from the device.

    Attributes:
        embedding: float32 ``[n, d]``, filled batch by batch.
    """

    def __init__(self, engine: _Engine, n: int, embedding_dim: int) -> None:
        import numpy as np

        self.embedding = np.empty((n, embedding_dim), np.float32)
        self._engine: _Engine | None = engine
        self._lost = ""

    def lose(self, why: str) -> None:
        """Note that the rest will not come."""
        self._engine, self._lost = None, why

    def done(self) -> bool:
        """Tell, as `PendingEmbedding.done` promises."""
        return self._engine is None or self._engine.has(self)

    def result(self) -> NDArray[np.float32]:
        """Wait, as `PendingEmbedding.result` promises."""
        if self._engine is not None:
            self._engine.collect(self)
            self._engine = None
        if self._lost:
            raise BackendError(f"tensorrt: this batch was lost: {self._lost}")
        return self.embedding


class TensorRTPlugin:
    """Opens TensorRT engines (``.engine``)."""

    name = "tensorrt"
    suffixes: tuple[str, ...] = (SUFFIX,)

    def status(self) -> BackendStatus:
        """Report what is installed, as `bladescan.runtimes.backend.BackendPlugin.status` promises."""
        try:
            library, cuda = find_library(), Cuda()
        except MissingDependencyError as exc:
            package = "" if installed(*_PACKAGES) is None else f"{exc}; "
            return BackendStatus(None, (), package + INSTALL)
        except BackendError as exc:
            return BackendStatus(None, (), str(exc))
        devices = tuple(f"cuda:{i}" for i in range(cuda.n_devices()))
        hint = "" if devices else "no CUDA device or driver here"
        return BackendStatus(f"{library.name} {library.version}", devices, hint)

    def open(self, path: Path, settings: BackendSettings) -> SplitBackend:
        """Load a detector, as `bladescan.runtimes.backend.BackendPlugin.open` promises."""
        find_library()  # without any, report that first
        cuda = Cuda()
        file = read_engine(path)
        if settings.precision not in ("fp32", file.build.precision):
            raise UsageError(
                f"{path.name} computes in {file.build.precision}, not {settings.precision!r}: "
                "a TensorRT engine has its precision from bladescan export"
            )
        index = cuda_index(settings.device, cuda.n_devices())
        return _open(file, path, cuda, index)


plugin = TensorRTPlugin()


def _open(file: EngineFile, path: Path, cuda: Cuda, index: int) -> SplitBackend:
    build = file.build
    library = find_library(build.library if build.library in LIBRARIES else LIBRARIES[0])
    cuda.call("cudaSetDevice", index)
    if why := why_unusable(build, library.name, library.version, cuda.describe(index)):
        raise DetectorError(f"{path.name}: {why}; build it again: {rebuild_command(build, path)}")
    heads = _open_heads(file, where=path.name)
    engine = load_engine(library, file.engine, where=path.name)
    _check_engine(engine, file.manifest, where=path.name)
    size, dim = file.manifest.preprocessing.size, file.manifest.encoder.embedding_dim
    encoder = _Engine(cuda, engine, index, size, dim)
    return SplitBackend("tensorrt", encoder, heads, file.manifest, f"cuda:{index}")


def _check_engine(engine: Any, manifest: Manifest, *, where: str) -> None:
    """Raise DetectorError unless inputs and outputs are those of a detector with this manifest."""
    size = manifest.preprocessing.size
    names = {engine.get_tensor_name(i) for i in range(engine.num_io_tensors)}
    shapes = {name: tuple(engine.get_tensor_shape(name)) for name in names}
    kinds = {name: engine.get_tensor_dtype(name).name for name in names}
    wanted = {CROPS: (-1, size, size, 3), EMBEDDING: (-1, manifest.encoder.embedding_dim)}
    if shapes != wanted or kinds != {CROPS: "UINT8", EMBEDDING: "FLOAT"}:
        raise DetectorError(f"{where}: expected an engine from {CROPS} to {EMBEDDING}, found {shapes}")


def _open_heads(file: EngineFile, *, where: str) -> OnnxHeads:
    if not file.manifest.heads:
        return OnnxHeads(b"", where=where)
    found = read_onnx(file.heads, where=where)
    if found.has_external_data or found.domains - DOMAINS:
        raise DetectorError(f"{where}: its heads need data that is not in the file")
    heads = OnnxHeads(file.heads, where=where)
    wanted = {HEAD_OUTPUTS[head] for head in network_heads(file.manifest)}
    if set(heads.outputs) != wanted:
        raise DetectorError(f"{where}: expected the heads {sorted(wanted)}")
    return heads
