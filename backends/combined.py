"""The ``combined`` backend: detectors whose p-values are combined, each opened by its own backend.

Importing this module imports no runtime.
"""

from __future__ import annotations

from pathlib import Path

from bladescan.base.errors import DetectorError
from bladescan.detectors.combined_file import SUFFIX, combined_parts, read_combined
from bladescan.detectors.manifest import Manifest
from bladescan.runtimes.backend import Backend, BackendSettings, BackendStatus
from bladescan.runtimes.combined import CombinedBackend
from bladescan.runtimes.registry import choose_plugin, open_file

from .onnx import plugin as onnx


class CombinedPlugin:
    """Opens ``.combined`` files, whose parts are other detectors."""

    name = "combined"
    suffixes: tuple[str, ...] = (SUFFIX,)

    def status(self) -> BackendStatus:
        """Report the runtime of exported parts, as `runtimes.backend.BackendPlugin.status` promises."""
        return onnx.status()

    def open(self, path: Path, settings: BackendSettings) -> CombinedBackend:
        """Load all parts, as `bladescan.runtimes.backend.BackendPlugin.open` promises."""
        combined = read_combined(path)
        opened: list[Backend] = []
        try:
            for part in combined_parts(path, combined):
                opened.append(open_file(choose_plugin("auto", part), part, settings))
            _check_heads(combined.manifest, opened, where=path.name)
        except BaseException:
            for backend in opened:
                backend.close()
            raise
        return CombinedBackend(combined.manifest, opened)


def _check_heads(manifest: Manifest, parts: list[Backend], *, where: str) -> None:
    assert manifest.combination is not None  # the file was checked
    for one in manifest.combination.components:
        if one.head not in parts[one.part].manifest.heads:
            raise DetectorError(f"{where}: its part {one.name!r} has no {one.head} head")
        if parts[one.part].manifest.preprocessing.size != manifest.preprocessing.size:
            raise DetectorError(f"{where}: its part {one.name!r} looks at crops of another size")


plugin = CombinedPlugin()
