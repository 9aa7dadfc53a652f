"""CUDA devices, memory and streams through NVIDIA's own bindings, without PyTorch. It computes nothing.

Importing this module imports no CUDA.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bladescan.base.errors import BackendError, DeviceUnavailableError, MissingDependencyError, UsageError

INSTALL = "pip install 'bladescan[tensorrt]'"


class OutOfDeviceMemoryError(BackendError):
    """The device has too little free memory; a smaller batch may fit."""


class CudaDevice(NamedTuple):
    """What a compiled engine is tied to.

    Attributes:
        name: as the driver gives it.
        capability: compute capability, for example ``9.0``.
    """

    name: str
    capability: str


class Cuda:
    """The CUDA runtime; its error codes become exceptions.

    Raises:
        MissingDependencyError: cuda-bindings is not installed.
    """

    def __init__(self) -> None:
        try:
            from cuda.bindings import runtime
        except ImportError as exc:
            raise MissingDependencyError("the tensorrt backend", "cuda-bindings", INSTALL) from exc
        self._api: Any = runtime

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a function of the runtime API and return its value, None if it has none.

        Raises:
            OutOfDeviceMemoryError: too little memory is free.
            BackendError: it failed otherwise.
        """
        error, *values = getattr(self._api, name)(*arguments)
        codes = self._api.cudaError_t
        if error == codes.cudaErrorMemoryAllocation:
            raise OutOfDeviceMemoryError(f"CUDA: out of memory in {name}")
        if error != codes.cudaSuccess:
            raise BackendError(f"CUDA: {name} failed: {getattr(error, 'name', error)}")
        return values[0] if values else None

    def n_devices(self) -> int:
        """Count the available devices; 0 without a driver."""
        try:
            return int(self.call("cudaGetDeviceCount"))
        except BackendError:
            return 0

    def describe(self, index: int) -> CudaDevice:
        """Look up name and compute capability of a device."""
        properties = self.call("cudaGetDeviceProperties", index)
        name = properties.name
        text = name.decode(errors="replace").rstrip("\0") if isinstance(name, bytes) else str(name)
        return CudaDevice(text, f"{properties.major}.{properties.minor}")

    def has_happened(self, event: Any) -> bool:
        """Tell, without waiting, whether a recorded event has happened, or never will because of an error."""
        return bool(self._api.cudaEventQuery(event)[0] != self._api.cudaError_t.cudaErrorNotReady)

    def pinned(self, shape: Sequence[int], dtype: DTypeLike) -> PinnedArray:
        """Allocate an array in page-locked memory, from which a copy to the device can overlap other work."""
        return PinnedArray(self, tuple(shape), np.dtype(dtype))

    def copy_in(self, target: int, source: PinnedArray, n_bytes: int, stream: Any) -> None:
        """Queue a copy of ``n_bytes`` from page-locked memory to an address on the device."""
        kind = self._api.cudaMemcpyKind.cudaMemcpyHostToDevice
        self.call("cudaMemcpyAsync", target, source.address, n_bytes, kind, stream)

    def copy_out(self, target: PinnedArray, source: int, n_bytes: int, stream: Any) -> None:
        """Queue a copy of ``n_bytes`` from an address on the device to page-locked memory."""
        kind = self._api.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self.call("cudaMemcpyAsync", target.address, source, n_bytes, kind, stream)


class PinnedArray:
    """Page-locked host memory as an array; it lives until it is freed.

    Attributes:
        address: of its first byte.
        array: a view of it.
    """

    def __init__(self, cuda: Cuda, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._cuda = cuda
        n_bytes = int(np.prod(shape)) * dtype.itemsize
        self.address = int(cuda.call("cudaMallocHost", n_bytes))
        buffer = (ctypes.c_uint8 * n_bytes).from_address(self.address)
        self.array: NDArray[Any] = np.ctypeslib.as_array(buffer).view(dtype).reshape(shape)

    def free(self) -> None:
        """Free the memory; the array must not be used afterwards."""
        self._cuda.call("cudaFreeHost", self.address)


def cuda_index(asked: str, n_devices: int) -> int:
    """Read the number of a CUDA device from ``--device``, for a runtime that supports no other.

    Raises:
        UsageError: no such kind of device.
        DeviceUnavailableError: it is not here.
    """
    kind, _, index = asked.partition(":")
    if asked not in ("auto", "cpu") and (kind != "cuda" or (index and not index.isdigit())):
        raise UsageError(f"unknown device {asked!r}: expected auto, cuda or cuda:N")
    if asked == "cpu" or int(index or 0) >= n_devices:
        raise DeviceUnavailableError(
            f"device {asked!r} is not available: TensorRT needs a CUDA device, and this machine has "
            f"{n_devices}; scan with an .onnx detector instead"
        )
    return int(index or 0)
