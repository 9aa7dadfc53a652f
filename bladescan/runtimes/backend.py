"""The protocol of a runtime plugin. It is no runtime itself, and finds none.

A backend runs one detector file on one device. A package offers one by an entry point in the group
``bladescan.backends`` that names a `BackendPlugin` instance (see CONTRIBUTING.md). The built-in ones are
found in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from bladescan.base.errors import BackendError
from bladescan.base.records import Scores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bladescan.detectors.manifest import Manifest


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """The user's choices for a runtime.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; one that is named but not available is an error.
        threads: CPU threads for one model run; 0 lets the runtime choose.
        precision: ``fp32``, or ``bf16``/``fp16`` if the runtime supports it.
    """

    device: str = "auto"
    threads: int = 0
    precision: str = "fp32"


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """What ``bladescan backends`` prints about a runtime, found without loading a detector.

    Attributes:
        version: of the runtime, None if it cannot be imported.
        devices: the values of ``--device`` that would work.
        hint: one line on how to install it, empty if nothing is missing.
    """

    version: str | None
    devices: tuple[str, ...]
    hint: str = ""


class PendingScores(Protocol):
    """Scores of one `Backend.submit`, perhaps still being computed."""

    def done(self) -> bool:
        """Tell, without waiting, whether `result` would return at once."""

    def result(self) -> Scores:
        """Wait for the scores; asked again, it returns the same.

        Raises:
            BackendError: as for `Backend.score`.
        """


class ReadyScores:
    """Scores that need no waiting."""

    def __init__(self, scores: Scores) -> None:
        self._scores = scores

    def done(self) -> bool:
        """Say yes."""
        return True

    def result(self) -> Scores:
        """Return the scores."""
        return self._scores


@runtime_checkable
class Backend(Protocol):
    """A detector loaded on a device. Its methods are called from one thread.

    A class that names it as its base inherits a `submit` that computes at once.

    Attributes:
        device: where it runs, for example ``cpu`` or ``cuda:0``; never ``auto``.
        manifest: of the detector file.
    """

    device: str
    manifest: Manifest

    def embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed face crops.

        Args:
            crops: RGB, uint8 ``[n, 224, 224, 3]``; n may be 0.

        Returns:
            float32 ``[n, d]``.

        Raises:
            BackendError: as for `score`.
        """

    def score(self, crops: NDArray[np.uint8]) -> Scores:
        """Score face crops. A row never depends on the others of its batch.

        No run of the detector's graph may have more than ``manifest.encoder.batch`` crops, unless it is 0.

        Args:
            crops: RGB, uint8 ``[n, 224, 224, 3]``; n may be 0.

        Returns:
            Rows in the order of the crops.

        Raises:
            BackendError: the runtime failed, or ``crops`` has another shape or dtype.
        """

    def submit(self, crops: NDArray[np.uint8]) -> PendingScores:
        """Begin to score face crops: the caller decodes and copies while the device computes.

        Several may be under way, and their results are asked for in any order. The crops may be overwritten
        as soon as this returns.

        Args:
            crops: as for `score`.

        Raises:
            BackendError: as for `score`, here or when the result is asked for.
        """
        return ReadyScores(self.score(crops))

    def close(self) -> None:
        """Free the runtime; results that were not asked for are lost. Closing twice is fine."""


@runtime_checkable
class BackendPlugin(Protocol):
    """What an entry point names. Importing it must not import its runtime.

    Attributes:
        name: the value of ``--backend``.
        suffixes: of the files that it opens, preferred first, for example ``(".onnx",)``.
    """

    name: str
    suffixes: tuple[str, ...]

    def status(self) -> BackendStatus:
        """Report whether the runtime can be used, without loading a detector. Never raises."""

    def open(self, path: Path, settings: BackendSettings) -> Backend:
        """Load a detector.

        Args:
            path: of the detector file, its suffix one of ``suffixes``.
            settings: what the user chose.

        Raises:
            UsageError: an unknown device, or a precision that the runtime does not support.
            MissingDependencyError: the runtime is not installed.
            DeviceUnavailableError: the device is not available.
            DetectorError: the file is not a detector, or not one of this runtime.
        """


def check_crops(crops: NDArray[np.uint8], size: int = 224) -> None:
    """Raise BackendError unless ``crops`` is uint8 ``[n, size, size, 3]``."""
    if crops.ndim != 4 or crops.shape[1:] != (size, size, 3) or crops.dtype.name != "uint8":
        raise BackendError(
            f"crops must be uint8 [n, {size}, {size}, 3], got {crops.dtype} {list(crops.shape)}"
        )
