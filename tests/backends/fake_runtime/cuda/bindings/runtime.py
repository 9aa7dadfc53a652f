"""A CUDA device in host memory, for tests. What is queued on a stream runs when somebody waits for it.

So code that reads a result, or writes over its input, before it has waited gets wrong numbers here too.
"""

import ctypes
import enum
from types import SimpleNamespace


class cudaError_t(enum.Enum):  # noqa: N801
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorNotReady = 600


class cudaMemcpyKind(enum.Enum):  # noqa: N801
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


OK = cudaError_t.cudaSuccess
devices = [SimpleNamespace(name=b"Fake 9000\0\0", major=9, minor=0)]
memory_limit = 1 << 40
allocated = {}
streams = {}
events = {}


def _new(table, value):
    handle = max(table, default=0) + 1
    table[handle] = value
    return OK, handle


def cudaGetDeviceCount():  # noqa: N802
    return OK, len(devices)


def cudaGetDeviceProperties(index):  # noqa: N802
    return OK, devices[index]


def cudaSetDevice(index):  # noqa: N802
    return (OK if index < len(devices) else cudaError_t.cudaErrorInvalidValue,)


def cudaMalloc(n_bytes):  # noqa: N802
    if sum(map(len, allocated.values())) + n_bytes > memory_limit:
        return cudaError_t.cudaErrorMemoryAllocation, None
    buffer = (ctypes.c_uint8 * n_bytes)()
    allocated[ctypes.addressof(buffer)] = buffer
    return OK, ctypes.addressof(buffer)


cudaMallocHost = cudaMalloc  # noqa: N816


def cudaFree(address):  # noqa: N802
    del allocated[address]
    return (OK,)


cudaFreeHost = cudaFree  # noqa: N816


def cudaStreamCreate():  # noqa: N802
    return _new(streams, [])


def cudaStreamDestroy(stream):  # noqa: N802
    assert not streams.pop(stream)
    return (OK,)


def cudaEventCreate():  # noqa: N802
    return _new(events, None)


def cudaEventDestroy(event):  # noqa: N802
    del events[event]
    return (OK,)


def enqueue(stream, work):
    streams[stream].append(work)


def cudaMemcpyAsync(target, source, n_bytes, kind, stream):  # noqa: N802
    assert isinstance(kind, cudaMemcpyKind)
    enqueue(stream, lambda: ctypes.memmove(target, source, n_bytes))
    return (OK,)


def cudaEventRecord(event, stream):  # noqa: N802
    mark = object()
    events[event] = (stream, mark)
    enqueue(stream, mark)
    return (OK,)


def cudaStreamWaitEvent(stream, event, flags):  # noqa: N802
    assert flags == 0
    recorded = events[event]
    enqueue(stream, lambda: _run_to(*recorded))
    return (OK,)


def cudaEventSynchronize(event):  # noqa: N802
    _run_to(*events[event])
    return (OK,)


def cudaEventQuery(event):  # noqa: N802
    """Say what is so now; the device gets on meanwhile."""
    stream, mark = events[event]
    if mark not in streams[stream]:
        return (OK,)
    _run_to(stream, mark)
    return (cudaError_t.cudaErrorNotReady,)


def cudaDeviceSynchronize():  # noqa: N802
    for stream in list(streams):
        _run_to(stream, None)
    return (OK,)


def _run_to(stream, mark):
    """Run what a stream has queued, up to a mark if it is still there."""
    queued = streams[stream]
    if mark is not None and mark not in queued:
        return
    while queued:
        work = queued.pop(0)
        if work is mark:
            return
        if callable(work):
            work()
