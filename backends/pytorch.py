"""The ``pytorch`` backend: a ``.safetensors`` detector in PyTorch, on the CPU or a CUDA device.

It is the reference that other runtimes are compared with. Importing this module imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bladescan.backend import BackendSettings, BackendStatus, check_crops
from bladescan.errors import BackendError, DeviceUnavailableError, MissingDependencyError, UsageError
from bladescan.records import Scores

from ._checks import check_finite

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bladescan.detector import DetectorModule
    from bladescan.manifest import Manifest

_INSTALL = "pip install 'bladescan[train]'"
_PRECISIONS = ("fp32", "bf16", "fp16")


class PyTorchBackend:
    """A detector module on one device.

    Args:
        module: the detector, already on ``device``.
        manifest: of the detector.
        device: where the module is.
        settings: threads and precision; the encoder alone computes in a lower precision.
    """

    def __init__(
        self, module: DetectorModule, manifest: Manifest, device: str, settings: BackendSettings
    ) -> None:
        self.device = device
        self.manifest = manifest
        self._module: DetectorModule | None = module
        self._settings = settings

    def embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `bladescan.backend.Backend.embed`."""
        return self._run(crops, heads=False).embedding

    def score(self, crops: NDArray[np.uint8]) -> Scores:
        """See `bladescan.backend.Backend.score`."""
        return self._run(crops, heads=True)

    def close(self) -> None:
        """Drop the module; closing twice is fine."""
        self._module = None

    def _run(self, crops: NDArray[np.uint8], *, heads: bool) -> Scores:
        import torch

        if self._module is None:
            raise BackendError("the pytorch backend is closed")
        check_crops(crops, self.manifest.preprocessing.size)
        try:
            with torch.inference_mode(), _threads(self._settings.threads):
                scores = self._forward(self._module, crops, heads=heads)
        except RuntimeError as exc:
            raise BackendError(f"pytorch on {self.device}: {str(exc).splitlines()[0]}") from exc
        return check_finite(scores, "pytorch")

    def _forward(self, module: DetectorModule, crops: NDArray[np.uint8], *, heads: bool) -> Scores:
        import numpy as np
        import torch

        # torch warns on arrays that it must not write to, as memory-mapped and shared crops are.
        pixels = torch.from_numpy(np.require(crops, requirements=["C", "W"])).to(self.device)
        with self._autocast():
            embedding = module.embed(pixels)
        likelihood, probability = module.heads(embedding) if heads else (None, None)
        return Scores(
            None if likelihood is None else likelihood.cpu().numpy(),
            None if probability is None else probability.cpu().numpy(),
            embedding.cpu().numpy(),
        )

    def _autocast(self) -> AbstractContextManager[Any]:
        import torch

        if self._settings.precision == "fp32":
            return nullcontext()
        dtype = torch.bfloat16 if self._settings.precision == "bf16" else torch.float16
        return torch.autocast(self.device.partition(":")[0], dtype=dtype)


class PyTorchPlugin:
    """Opens ``.safetensors`` detectors with PyTorch."""

    name = "pytorch"
    suffixes: tuple[str, ...] = (".safetensors",)

    def status(self) -> BackendStatus:
        """See `bladescan.backend.BackendPlugin.status`."""
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
        """See `bladescan.backend.BackendPlugin.open`."""
        try:
            import torch

            from bladescan.detector import DetectorModule, load_detector
        except ImportError as exc:
            raise MissingDependencyError("the pytorch backend", exc.name or "torch", _INSTALL) from exc
        if settings.precision not in _PRECISIONS:
            raise UsageError(
                f"the pytorch backend computes in {', '.join(_PRECISIONS)}, not {settings.precision!r}"
            )
        device = _device(settings.device)
        detector = load_detector(path)
        module = DetectorModule(detector, where=path.name).double_heads()
        module.to(device)
        module.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return PyTorchBackend(module, detector.manifest, device, settings)


plugin = PyTorchPlugin()


def _device(asked: str) -> str:
    """The device to compute on; anything but ``auto`` is had or refused."""
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
            f"device {asked!r} cannot be had: torch {torch.__version__} sees {n_cuda} CUDA devices here; "
            "use --device cpu or a CUDA build of torch"
        )
    return f"cuda:{int(index or 0)}"


@contextmanager
def _threads(n: int) -> Iterator[None]:
    """Set torch's thread count for one call: it is the process's, so it is put back."""
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
