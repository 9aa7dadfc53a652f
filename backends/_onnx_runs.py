"""Runs of a detector graph in onnxruntime: at once, or while the next crops are laid ready. It is no backend.

Importing this module imports no onnxruntime.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from bladescan.base.errors import BackendError, first_line
from bladescan.base.records import Scores
from bladescan.runtimes.backend import PendingScores, ReadyScores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CROPS = "crops"
"""The graph's one input."""

_NO_ROOM = ("failed to allocate memory", "out of memory", "cudaerrormemoryallocation")
"""One of them is in what onnxruntime says when the memory of the device is full."""
_LAID = 2
"""Batches on the device at a time: one is computed, the next lies ready."""

Columns = list[Any]
"""The outputs of one run, an array each."""
Finish = Callable[[list[Columns]], Scores]
"""Makes scores of the outputs of all runs."""


class Runs(Protocol):
    """How a session is run.

    Attributes:
        most: crops in one run; halved when the memory of the device is full.
    """

    most: int

    def begin(self, crops: NDArray[np.uint8], outputs: tuple[str, ...], finish: Finish) -> PendingScores:
        """Begin to compute some outputs of crops ``[n, size, size, 3]``, n at least 1.

        The crops may be overwritten as soon as this returns.

        Raises:
            BackendError: onnxruntime failed, here or when the result is asked for.
        """

    def close(self) -> None:
        """Wait for the run under way; those that have not begun are lost."""


class RunsAtOnce:
    """A session that is called and waited for. On the CPU anything else would only cost.

    Args:
        session: an ``onnxruntime.InferenceSession``.
        device: for errors.
        most: crops in one run.
    """

    def __init__(self, session: Any, device: str, most: int) -> None:
        self.most = most
        self._session, self._device = session, device

    def begin(self, crops: NDArray[np.uint8], outputs: tuple[str, ...], finish: Finish) -> PendingScores:
        """Compute, as `Runs.begin` promises; the scores are there when this returns."""

        def run(at: slice) -> Columns:
            columns: Columns = self._session.run(outputs, {CROPS: crops[at]})
            return columns

        return ReadyScores(finish(_in_parts(self, len(crops), self._device, run)))

    def close(self) -> None:
        """Do nothing: no run is under way."""


class RunsAhead:
    """A session whose runs go on in a thread, which waits for the device without holding Python's lock.

    The caller copies the next crops to the device meanwhile: the copy takes another stream than the run, and
    is over when it returns. It starts in ordinary memory, which the driver stages through page-locked memory
    of its own; onnxruntime offers Python none that would save that.

    Args:
        session: an ``onnxruntime.InferenceSession``.
        device: where it runs, for example ``cuda:0``.
        most: crops in one run.
    """

    def __init__(self, session: Any, device: str, most: int) -> None:
        self.most = most
        self._session, self._device = session, device
        kind, _, index = device.partition(":")
        self._place = (kind, int(index or 0))
        self._thread = ThreadPoolExecutor(1, "onnxruntime")
        self._laid: deque[Future[list[Columns]]] = deque(maxlen=_LAID)

    def begin(self, crops: NDArray[np.uint8], outputs: tuple[str, ...], finish: Finish) -> PendingScores:
        """Lay the crops on the device, as `Runs.begin` promises; it waits while too many lie there."""
        futures: list[Future[list[Columns]]] = []
        start = 0
        while start < len(crops):
            part = crops[start : start + self.most]
            if len(self._laid) == _LAID:
                wait([self._laid.popleft()])
            try:
                batch = _lay(part, self._place)
            except Exception as exc:  # onnxruntime raises its own unrelated classes
                self.most = _halved(exc, len(part), self._device)
                wait(self._laid)  # and what they hold is free
                continue
            futures.append(self._thread.submit(self._compute, batch, outputs))
            self._laid.append(futures[-1])
            start += len(part)
        return _UnderWay(futures, finish)

    def _compute(self, batch: _LaidCrops, outputs: tuple[str, ...]) -> list[Columns]:
        """Run the graph on a batch that lies on the device, the outputs coming to the host."""
        import numpy as np

        def run(at: slice) -> Columns:
            binding = self._session.io_binding()
            binding.bind_input(CROPS, *self._place, np.uint8, *batch.rows(at))
            for name in outputs:
                binding.bind_output(name, "cpu")
            self._session.run_with_iobinding(binding)
            columns: Columns = binding.copy_outputs_to_cpu()
            return columns

        return _in_parts(self, batch.shape[0], self._device, run)

    def close(self) -> None:
        """Wait, as `Runs.close` promises."""
        self._thread.shutdown(wait=True, cancel_futures=True)


class _LaidCrops(NamedTuple):
    """Crops on a device.

    Attributes:
        value: an ``onnxruntime.OrtValue``, which holds the memory.
        shape: of the crops.
    """

    value: Any
    shape: tuple[int, ...]

    def rows(self, at: slice) -> tuple[tuple[int, ...], int]:
        """Give shape and address of some of the crops."""
        n, *crop = self.shape
        n_bytes = self.value.tensor_size_in_bytes() // n
        return (at.stop - at.start, *crop), self.value.data_ptr() + at.start * n_bytes


class _UnderWay:
    """Scores of runs that go on in the thread."""

    def __init__(self, runs: list[Future[list[Columns]]], finish: Finish) -> None:
        self._runs, self._finish = runs, finish
        self._scores: Scores | None = None

    def done(self) -> bool:
        """Tell, as `bladescan.runtimes.backend.PendingScores.done` promises."""
        return all(run.done() for run in self._runs)

    def result(self) -> Scores:
        """Wait, as `bladescan.runtimes.backend.PendingScores.result` promises."""
        if self._scores is None:
            try:
                parts = [columns for run in self._runs for columns in run.result()]
            except CancelledError as exc:
                raise BackendError("the onnx backend was closed before this batch was computed") from exc
            self._scores = self._finish(parts)
            self._runs = []
        return self._scores


def _lay(crops: NDArray[np.uint8], place: tuple[str, int]) -> _LaidCrops:
    """Copy crops to a device, or within the host's memory."""
    import numpy as np
    from onnxruntime import OrtValue

    value = OrtValue.ortvalue_from_shape_and_type(crops.shape, np.uint8, *place)
    value.update_inplace(crops)
    return _LaidCrops(value, crops.shape)


def _in_parts(runs: Runs, n: int, device: str, run: Callable[[slice], Columns]) -> list[Columns]:
    """Run n crops part by part; a part that does not fit into the memory of the device is halved."""
    found: list[Columns] = []
    start = 0
    while start < n:
        at = slice(start, min(start + runs.most, n))
        try:
            found.append(run(at))
        except Exception as exc:  # onnxruntime raises its own unrelated classes
            runs.most = _halved(exc, at.stop - at.start, device)
            continue
        start = at.stop
    return found


def _halved(exc: Exception, n: int, device: str) -> int:
    """Halve a number of crops for which there was no room; raise BackendError for anything else."""
    if n < 2 or not any(words in str(exc).lower() for words in _NO_ROOM):
        raise BackendError(f"onnxruntime on {device}: {first_line(exc)}") from exc
    return n // 2
