"""The registered runtime plugins, and the detector that ships in the form that each opens. It runs none.

Built-in plugins and those of other packages use the same entry points, see `bladescan.runtimes.backend`.
"""

from __future__ import annotations

import os
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from bladescan.base.errors import BackendError, DetectorError, UnknownNameError, UsageError
from bladescan.detectors.combination import check_combination
from bladescan.detectors.shipped import FORMS, SAFETENSORS, named_detector
from bladescan.runtimes.backend import Backend, BackendPlugin, BackendSettings
from bladescan.runtimes.combined import CombinedBackend

ENTRY_POINT_GROUP = "bladescan.backends"
DISABLE_VARIABLE = "BLADESCAN_NO_PLUGINS"
CODE_SUFFIXES = frozenset({".py", *EXTENSION_SUFFIXES})
"""Of the files that Python takes code from."""


def plugin_names() -> list[str]:
    """List the names of the registered backends, sorted, without importing them."""
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


def plugin_files(name: str) -> list[Path]:
    """List the code of a registered backend: every file of its outermost package, or its one module.

    Nothing of it is imported but a package that holds its package.

    Raises:
        UnknownNameError: none is registered under ``name``.
        BackendError: it is registered, but not there.
    """
    found = _registered()
    if name not in found:
        raise UnknownNameError("backend", name, found)
    module = found[name].module
    for package in _outermost_first(module):
        spec = find_spec(package)
        if spec is None:
            break
        if spec.origin is not None:  # a namespace has no file of its own
            origin = Path(spec.origin)
            return _code_below(origin.parent) if spec.submodule_search_locations else [origin]
    raise BackendError(f"backend {name!r} ({module}): no such module")


def _outermost_first(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _code_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in CODE_SUFFIXES)


def choose_plugin(name: str, path: Path) -> BackendPlugin:
    """Get the plugin that the user named; for ``auto``, the first by name that opens this kind of file.

    Raises:
        UsageError: no registered backend opens it, or others than the one that is named.
    """
    suffix = path.suffix.lower()
    if name != "auto":
        plugin = get_plugin(name)
        able = [] if suffix in plugin.suffixes else _opening(suffix)
        if able:
            raise UsageError(
                f"{path.name}: the {name} backend opens {' and '.join(plugin.suffixes)}; "
                f"use --backend {' or '.join(able)}"
            )
        return plugin
    for candidate in plugin_names():
        plugin = get_plugin(candidate)
        if suffix in plugin.suffixes:
            return plugin
    raise UsageError(
        f"no backend opens {path.name!r}: expected .cascade, .combined, .onnx, .safetensors or .engine"
    )


def _opening(suffix: str) -> list[str]:
    return [name for name in plugin_names() if suffix in get_plugin(name).suffixes]


class OpenedDetector(NamedTuple):
    """A detector that is loaded.

    Attributes:
        path: of its file.
        plugin: name of the backend that was chosen.
        backend: where it is loaded.
    """

    path: Path
    plugin: str
    backend: Backend


def open_detector(
    detector: str | Path | None = None,
    name: str = "auto",
    settings: BackendSettings = BackendSettings(),  # noqa: B008 (it is frozen)
) -> OpenedDetector:
    """Load a detector.

    Args:
        detector: the name of a shipped one, taken in the form that the backend opens, or the path of a file;
            None for the default. A `Path` is never a name.
        name: of the backend, or ``auto`` for the first that opens this kind of file.
        settings: of the runtime.

    Raises:
        UsageError: no shipped detector has this name, or this one has no form that the backend opens.
        DetectorError: there is no such file, or it is no detector.
        BackendError: the backend cannot be had.
    """
    path = find_detector(detector, name)
    if path.is_dir():
        raise DetectorError(
            f"{path}: is a folder; expected a detector file (.onnx, .safetensors, .cascade, .combined)"
        )
    if not path.is_file():
        raise DetectorError(f"{path}: no such detector file; leave it out for the default one")
    plugin = choose_plugin(name, path)
    return OpenedDetector(path, plugin.name, open_file(plugin, path, settings))


def open_file(plugin: BackendPlugin, path: Path, settings: BackendSettings) -> Backend:
    """Load a detector file by a plugin; the head ``combined``, where it has one, is computed from the others.

    Raises:
        BladescanError: as `bladescan.runtimes.backend.BackendPlugin.open`.
    """
    backend = plugin.open(path, settings)
    if backend.manifest.combination is None or isinstance(backend, CombinedBackend):
        return backend
    try:
        check_combination(backend.manifest, 1, where=path.name)
    except BaseException:
        backend.close()
        raise
    return CombinedBackend(backend.manifest, [backend])


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


def find_detector(asked: str | Path | None, backend: str = "auto") -> Path:
    """Find the file of a detector, a shipped one in the form that a backend opens.

    Args:
        asked: a shipped detector's name, a path, or None for the default.
        backend: name of a plugin, or ``auto``, which prefers what scans fastest.

    Raises:
        UsageError: no shipped detector has this name, or this one has no form that the backend opens.
    """
    forms = FORMS if backend == "auto" else get_plugin(backend).suffixes
    # A backend for which nothing ships, as that of engines, says itself what it opens.
    return named_detector(asked, forms) or SAFETENSORS


def default_detector(backend: str = "auto") -> Path:
    """Find the default detector in the form that a backend opens."""
    return find_detector(None, backend)
