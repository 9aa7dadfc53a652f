"""The runtime plugin: its protocol and its registry. It is no runtime itself.

A backend runs one detector file on one device. A package offers one by an entry point in the group
``bladescan.backends`` that names a `BackendPlugin` instance (see CONTRIBUTING.md). The built-in ones
come in by the same door.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from bladescan.errors import BackendError, UnknownNameError, UsageError
from bladescan.records import Scores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bladescan.manifest import Manifest

ENTRY_POINT_GROUP = "bladescan.backends"
DISABLE_VARIABLE = "BLADESCAN_NO_PLUGINS"


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """What the user asked of a runtime.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; anything but ``auto`` is had or refused.
        threads: CPU threads for one model run; 0 lets the runtime choose.
        precision: ``fp32``, or ``bf16``/``fp16`` where the runtime can compute in it.
    """

    device: str = "auto"
    threads: int = 0
    precision: str = "fp32"


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """What ``bladescan backends`` prints of a runtime, found without loading a detector.

    Attributes:
        version: of the runtime, None if it cannot be imported.
        devices: the values of ``--device`` that would be had.
        hint: one line, the way to install it, empty when all is well.
    """

    version: str | None
    devices: tuple[str, ...]
    hint: str = ""


@runtime_checkable
class Backend(Protocol):
    """A detector loaded on a device.

    Attributes:
        device: where it runs, for example ``cpu`` or ``cuda:0``; never ``auto``.
        manifest: what the file says of itself.
    """

    device: str
    manifest: Manifest

    def embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeddings ``[n, d]`` of RGB crops ``[n, 224, 224, 3]``; n may be 0."""

    def score(self, crops: NDArray[np.uint8]) -> Scores:
        """Scores of RGB crops ``[n, 224, 224, 3]``; n may be 0. A row never depends on its batch.

        Raises:
            BackendError: the runtime failed, or ``crops`` has another shape or dtype.
        """

    def close(self) -> None:
        """Free the runtime. Closing twice is fine."""


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
        """Whether the runtime is there, without loading a detector. Never raises."""

    def open(self, path: Path, settings: BackendSettings) -> Backend:
        """Load a detector.

        Raises:
            MissingDependencyError: the runtime is not installed.
            DeviceUnavailableError: the device cannot be had.
            DetectorError: the file is not a detector, or not one of this runtime.
        """


def check_crops(crops: NDArray[np.uint8], size: int = 224) -> None:
    """Raise BackendError unless ``crops`` is uint8 ``[n, size, size, 3]``."""
    if crops.ndim != 4 or crops.shape[1:] != (size, size, 3) or crops.dtype.name != "uint8":
        raise BackendError(
            f"crops must be uint8 [n, {size}, {size}, 3], got {crops.dtype} {list(crops.shape)}"
        )


def plugin_names() -> list[str]:
    """Names of the registered backends, sorted, without importing them."""
    return sorted(_registered())


def get_plugin(name: str) -> BackendPlugin:
    """Import the backend plugin of that name.

    Raises:
        UnknownNameError: none is registered under ``name``.
        BackendError: its module cannot be imported, or is not a plugin.
    """
    found = _registered()
    if name not in found:
        raise UnknownNameError("backend", name, found)
    entry = found[name]
    try:
        plugin = entry.load()
    except Exception as exc:
        raise BackendError(f"backend {name!r} ({entry.value}) cannot be imported: {exc}") from exc
    if not isinstance(plugin, BackendPlugin):
        raise BackendError(f"backend {name!r} ({entry.value}) is not a BackendPlugin")
    return plugin


def choose_plugin(name: str, path: Path) -> BackendPlugin:
    """The plugin asked for, or for ``auto`` the first (by name) that opens this kind of file."""
    if name != "auto":
        return get_plugin(name)
    for candidate in plugin_names():
        plugin = get_plugin(candidate)
        if path.suffix.lower() in plugin.suffixes:
            return plugin
    raise UsageError(f"no backend opens {path.name!r}: expected .onnx, .safetensors or .engine")


def _registered() -> dict[str, EntryPoint]:
    builtin_only = bool(os.environ.get(DISABLE_VARIABLE))
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        ours = entry.value.startswith("bladescan_backends.")
        if builtin_only and not ours:
            continue
        if entry.name in found and found[entry.name].value != entry.value:
            raise BackendError(
                f"two packages register the backend {entry.name!r}: "
                f"{found[entry.name].value} and {entry.value}; uninstall one"
            )
        found[entry.name] = entry
    return found
