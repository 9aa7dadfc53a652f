"""The ``tensorrt`` backend: it says what is missing, for no engine can be built or opened yet.

Importing this module imports no TensorRT.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bladescan.backend import Backend, BackendSettings, BackendStatus
from bladescan.errors import BackendError, MissingDependencyError

_INSTALL = "pip install torch-tensorrt (for your torch; TensorRT's libraries are on NVIDIA's own index)"


class TensorRTPlugin:
    """Declares TensorRT engines (``.engine``)."""

    name = "tensorrt"
    suffixes: tuple[str, ...] = (".engine",)

    def status(self) -> BackendStatus:
        """See `bladescan.backend.BackendPlugin.status`."""
        installed = _installed()
        if installed is None:
            return BackendStatus(None, (), _INSTALL)
        return BackendStatus(installed, (), "this bladescan cannot open TensorRT engines yet: use onnx")

    def open(self, path: Path, settings: BackendSettings) -> Backend:
        """See `bladescan.backend.BackendPlugin.open`; for now it always raises.

        Raises:
            MissingDependencyError: torch-tensorrt is not installed.
            BackendError: it is, but this bladescan has no engines.
        """
        if _installed() is None:
            raise MissingDependencyError("the tensorrt backend", "torch-tensorrt", _INSTALL)
        raise BackendError(
            f"{path.name}: this bladescan cannot open TensorRT engines yet: export --to onnx, "
            "then scan with --backend onnx --device cuda"
        )


plugin = TensorRTPlugin()


def _installed() -> str | None:
    try:
        return version("torch-tensorrt")
    except PackageNotFoundError:
        return None
