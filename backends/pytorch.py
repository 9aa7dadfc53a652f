"""The ``pytorch`` backend: a ``.safetensors`` detector in PyTorch, on the CPU or a CUDA device.

It is the reference that other runtimes are compared with. Importing this module imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bladescan.base.errors import (
    BackendError,
    DeviceUnavailableError,
    UsageError,
    first_line,
    import_failed,
)
from bladescan.base.records import Scores
from bladescan.runtimes.backend import (
    Backend,
    BackendSettings,
    BackendStatus,
    PendingScores,
    ReadyScores,
    check_crops,
)

from ._checks import check_finite

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from bladescan.detectors.manifest import Manifest
    from bladescan.heads.detector import DetectorModule

_INSTALL = "pip install 'bladescan[train]'"
_PRECISIONS = ("fp32", "bf16", "fp16")
_MOST_CUDA, _MOST_CPU = 256, 4096
"""Crops in one run, until the device reports that its memory is full."""
_WARM_UPS = 3
_NO_ROOM = ("out of memory", "CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED")


class _Outputs(NamedTuple):
    """`Scores` as tensors."""

    log_likelihood: Tensor | None
    p_ai_generated: Tensor | None
    embedding: Tensor


class PyTorchBackend(Backend):
    """A detector module on one device. A batch that does not fit into its memory is halved.

    Args:
        module: the detector, already on ``device``, its encoder in the precision asked for.
        manifest: of the detector.
        device: where the module is.
        threads: CPU threads for one run; 0 leaves torch's own number.
    """

    def __init__(self, module: DetectorModule, manifest: Manifest, device: str, threads: int = 0) -> None:
        self.device = device
        self.manifest = manifest
        self._threads = threads
        self._most = _MOST_CUDA if device.startswith("cuda") else _MOST_CPU
        self._runner: _Eager | _Graphs | None = (
            _Graphs(module, device) if device.startswith("cuda") else _Eager(module)
        )

    def embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed crops, as `bladescan.runtimes.backend.Backend.embed` promises."""
        return self._begin(crops, heads=False).result().embedding

    def score(self, crops: NDArray[np.uint8]) -> Scores:
        """Score crops, as `bladescan.runtimes.backend.Backend.score` promises."""
        return self._begin(crops, heads=True).result()

    def submit(self, crops: NDArray[np.uint8]) -> PendingScores:
        """Begin to score, as `bladescan.runtimes.backend.Backend.submit` promises; on the CPU it is done."""
        return self._begin(crops, heads=True)

    def close(self) -> None:
        """Drop the module; closing twice is fine."""
        self._runner = None

    def _begin(self, crops: NDArray[np.uint8], *, heads: bool) -> PendingScores:
        import torch

        if self._runner is None:
            raise BackendError("the pytorch backend is closed")
        check_crops(crops, self.manifest.preprocessing.size)
        try:
            with torch.inference_mode(), _threads(self._threads), _exact(self.device):
                return self._runner.hand_over(self._in_batches(self._runner, crops, heads=heads))
        except RuntimeError as exc:
            raise _failure(self.device, exc) from exc

    def _in_batches(
        self, runner: _Eager | _Graphs, crops: NDArray[np.uint8], *, heads: bool
    ) -> list[_Outputs]:
        """Run the crops in batches; the results stay on the device."""
        found: list[_Outputs] = []
        start = 0
        while start < len(crops) or not found:
            batch = crops[start : start + self._most]
            try:
                found.append(runner(batch, heads=heads))
            except RuntimeError as exc:
                if not _is_out_of_memory(exc):
                    raise
                if len(batch) < 2:
                    raise BackendError(
                        f"pytorch on {self.device}: out of memory with one crop; end other programs that use "
                        "this device"
                    ) from exc
                self._most = len(batch) // 2
                runner.forget()
                continue
            start += max(1, len(batch))
        return found


def _failure(device: str, exc: Exception) -> BackendError:
    return BackendError(f"pytorch on {device}: {first_line(exc)}")


def _is_out_of_memory(exc: BaseException) -> bool:
    """Tell whether the device's memory is full, in the words of PyTorch, a library or a failed capture."""
    import torch

    if isinstance(exc, torch.OutOfMemoryError) or any(words in str(exc) for words in _NO_ROOM):
        return True
    return exc.__context__ is not None and _is_out_of_memory(exc.__context__)


class _Eager:
    """A module run operation by operation, as PyTorch does."""

    def __init__(self, module: DetectorModule) -> None:
        self._module = module

    def __call__(self, crops: NDArray[np.uint8], *, heads: bool) -> _Outputs:
        return _compute(self._module, _tensor(crops), heads=heads)

    def hand_over(self, parts: list[_Outputs]) -> PendingScores:
        """Give the results to the caller."""
        columns = [None if column is None else column.numpy() for column in _joined(parts)]
        return ReadyScores(check_finite(Scores(*columns), "pytorch"))  # type: ignore[arg-type]

    def forget(self) -> None:
        """Do nothing: it holds no memory."""


class _Graphs:
    """A module on a CUDA device as CUDA graphs, one for each power of two of crops.

    The encoder is many small kernels: launched one by one, they leave the device idle. A batch is padded to
    the next power of two with whatever the memory holds; rows do not depend on each other. Crops travel on a
    stream of their own, so those of the next batch arrive while this one is computed.
    """

    def __init__(self, module: DetectorModule, device: str) -> None:
        import torch

        self._module, self._device = module, device
        self._copying = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._captured: dict[tuple[int, bool], tuple[Any, Tensor, _Outputs]] = {}

    def __call__(self, crops: NDArray[np.uint8], *, heads: bool) -> _Outputs:
        import torch

        n = len(crops)
        with torch.cuda.device(self._device):
            if not n:
                return _compute(self._module, _tensor(crops).to(self._device), heads=heads)
            key = (1 << (n - 1).bit_length(), heads)
            if key not in self._captured:
                self._captured[key] = self._capture(*key)
            graph, pixels, outputs = self._captured[key]
            pixels[:n].copy_(self._sent(crops))
            graph.replay()
            return _rows(outputs, n)

    def _sent(self, crops: NDArray[np.uint8]) -> Tensor:
        """Queue the copy of crops to the device; what is queued next on its stream waits for it."""
        import torch

        # Page-locked memory is not reused while a copy still reads it.
        pinned = _tensor(crops).pin_memory()
        computing = torch.cuda.current_stream()
        with torch.cuda.stream(self._copying):
            sent = pinned.to(self._device, non_blocking=True)
        computing.wait_stream(self._copying)
        sent.record_stream(computing)
        return sent

    def hand_over(self, parts: list[_Outputs]) -> PendingScores:
        """Queue the copy of the results to the host."""
        import torch

        with torch.cuda.device(self._device):
            return _Arriving(_joined(parts), self._device)

    def forget(self) -> None:
        """Free the memory that the graphs hold, once none of them runs."""
        import torch

        torch.cuda.synchronize(self._device)
        self._captured.clear()
        torch.cuda.empty_cache()

    def _capture(self, n: int, heads: bool) -> tuple[Any, Tensor, _Outputs]:
        import torch

        size = self._module.size
        pixels = torch.zeros((n, size, size, 3), dtype=torch.uint8, device=self._device)
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(
            side
        ):  # libraries choose kernels in their first runs, which no graph may contain
            for _ in range(_WARM_UPS):
                _compute(self._module, pixels, heads=heads)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = _compute(self._module, pixels, heads=heads)
        return graph, pixels, outputs


class _Arriving:
    """Results on their way from a CUDA device.

    Args:
        outputs: on the device, all rows.
        device: that the current stream belongs to.
    """

    def __init__(self, outputs: _Outputs, device: str) -> None:
        import torch

        self._device = device
        self._scores: Scores | None = None
        self._pinned = [None if column is None else _pinned_copy(column) for column in outputs]
        self._event = torch.cuda.current_stream().record_event()

    def done(self) -> bool:
        """Tell, as `bladescan.runtimes.backend.PendingScores.done` promises."""
        return self._scores is not None or bool(self._event.query())

    def result(self) -> Scores:
        """Wait, as `bladescan.runtimes.backend.PendingScores.result` promises."""
        if self._scores is None:
            try:
                self._event.synchronize()
            except RuntimeError as exc:
                raise _failure(self._device, exc) from exc
            # Copies: page-locked memory is scarce, and the next batch wants it.
            columns = [None if column is None else column.numpy().copy() for column in self._pinned]
            self._scores = check_finite(Scores(*columns), "pytorch")  # type: ignore[arg-type]
            self._pinned = []
        return self._scores


def _pinned_copy(values: Tensor) -> Tensor:
    import torch

    here = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    return here.copy_(values, non_blocking=True)


def _rows(outputs: _Outputs, n: int) -> _Outputs:
    """Copy the first rows, which the next batch would overwrite."""
    likelihood, probability, embedding = outputs
    return _Outputs(
        None if likelihood is None else likelihood[:n].clone(),
        None if probability is None else probability[:n].clone(),
        embedding[:n].clone(),
    )


def _compute(module: DetectorModule, pixels: Tensor, *, heads: bool) -> _Outputs:
    embedding = module.embed(pixels)
    return _Outputs(*(module.heads(embedding) if heads else (None, None)), embedding)


def _tensor(crops: NDArray[np.uint8]) -> Tensor:
    import numpy as np
    import torch

    # torch warns on arrays that it must not write to, as memory-mapped and shared crops are.
    return torch.from_numpy(np.require(crops, requirements=["C", "W"]))


def _joined(parts: list[_Outputs]) -> _Outputs:
    """Join all rows."""
    import torch

    def column(rows: tuple[Tensor | None, ...]) -> Tensor | None:
        there = [values for values in rows if values is not None]
        return torch.cat(there) if there else None

    likelihoods, probabilities, embeddings = map(column, zip(*parts, strict=True))
    assert embeddings is not None
    return _Outputs(likelihoods, probabilities, embeddings)


class PyTorchPlugin:
    """Opens ``.safetensors`` detectors with PyTorch."""

    name = "pytorch"
    suffixes: tuple[str, ...] = (".safetensors",)

    def status(self) -> BackendStatus:
        """Report what is installed, as `bladescan.runtimes.backend.BackendPlugin.status` promises."""
        try:
            installed = version("torch")
        except PackageNotFoundError:
            return BackendStatus(None, (), _INSTALL)
        try:
            import torch

            cuda = tuple(f"cuda:{i}" for i in range(torch.cuda.device_count()))
        except Exception as exc:  # a broken install raises whatever its loader raises
            return BackendStatus(None, (), f"torch {installed} cannot be imported ({exc}): {_INSTALL}")
        return BackendStatus(installed, ("cpu", *cuda))

    def open(self, path: Path, settings: BackendSettings) -> PyTorchBackend:
        """Load a detector, as `bladescan.runtimes.backend.BackendPlugin.open` promises."""
        try:
            import torch

            from bladescan.heads.detector import DetectorModule, load_detector
            from bladescan.networks.low_precision import DTYPES, lower
        except ImportError as exc:
            raise import_failed(exc, "the pytorch backend", "torch", _INSTALL) from exc
        if settings.precision not in _PRECISIONS:
            raise UsageError(
                f"the pytorch backend computes in {', '.join(_PRECISIONS)}, not {settings.precision!r}"
            )
        device = _device(settings.device)
        detector = load_detector(path)
        module = DetectorModule(detector, where=path.name).double_heads()
        if settings.precision in DTYPES:
            lower(module.encoder, DTYPES[settings.precision])
        module.to(device)
        module.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return PyTorchBackend(module, detector.manifest, device, settings.threads)


plugin = PyTorchPlugin()


def _device(asked: str) -> str:
    """Choose the device to compute on; refuse one that is named but not available."""
    import torch

    kind, _, index = asked.partition(":")
    n_cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "auto":
        return "cuda:0" if n_cuda else "cpu"
    if asked == "cpu":
        return "cpu"
    if kind != "cuda" or (index and not index.isdigit()):
        raise UsageError(f"unknown device {asked!r}: expected auto, cpu, cuda or cuda:N")
    if int(index or 0) >= n_cuda:
        raise DeviceUnavailableError(
            f"device {asked!r} is not available: torch {torch.__version__} finds {n_cuda} CUDA devices; "
            "use --device cpu or a CUDA build of torch"
        )
    return f"cuda:{int(index or 0)}"


@contextmanager
def _threads(n: int) -> Iterator[None]:
    """Set torch's number of threads, which is the process's, for one call."""
    import torch

    before = torch.get_num_threads()
    if n in (0, before):
        yield
        return
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _exact(device: str) -> AbstractContextManager[None]:
    """On a CUDA device, keep float32 from becoming TF32, and search for the fastest kernels once a shape."""
    import torch

    if not device.startswith("cuda"):
        return nullcontext()
    return torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)
