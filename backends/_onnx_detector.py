"""``.onnx`` detectors, checked before a runtime sees them. It is shared by backends, and is none itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import BackendError, DetectorError, first_line
from bladescan.base.records import Scores
from bladescan.detectors.files import read_whole
from bladescan.detectors.manifest import METADATA_KEY, Manifest, decode_manifest
from bladescan.runtimes.onnx_session import UnloadableGraphError, open_session

from ._onnx_file import read_onnx

DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Operator sets that onnxruntime itself implements; any other would need foreign code."""

HEAD_OUTPUTS = {"one-class": "log_likelihood", "binary": "p_ai_generated"}


def read_onnx_detector(path: Path) -> tuple[bytes, Manifest]:
    """Read a detector file and check it.

    Returns:
        Its bytes and its manifest.

    Raises:
        DetectorError: it is no detector, it refers to other files, or it needs custom operators.
    """
    data = read_whole(path, "a detector file (.onnx)")
    found = read_onnx(data, where=path.name)
    if METADATA_KEY not in found.metadata:
        raise DetectorError(f"{path.name}: not a bladescan detector: its metadata has no manifest")
    if found.has_external_data:
        raise DetectorError(f"{path.name}: refers to data in other files; a detector is one file")
    if foreign := sorted(found.domains - DOMAINS):
        raise DetectorError(f"{path.name}: needs custom operators of {foreign[0]!r}, which are never loaded")
    return data, decode_manifest(found.metadata[METADATA_KEY], where=path.name)


class OnnxHeads:
    """The heads of a detector in onnxruntime, float64, on one thread.

    Args:
        graph: from the embedding to the scores; empty for a bare encoder.
        where: the file's name, for the error.

    Attributes:
        outputs: names of the scores that it computes.

    Raises:
        DetectorError: onnxruntime cannot load it.
    """

    def __init__(self, graph: bytes, *, where: str) -> None:
        self._session: Any = None
        self.outputs: tuple[str, ...] = ()
        if graph:
            try:
                self._session = open_session(graph, threads=1)
            except UnloadableGraphError as exc:
                raise DetectorError(f"{where}: its heads cannot be loaded: {exc}") from exc
            self.outputs = tuple(output.name for output in self._session.get_outputs())

    def score(self, embedding: NDArray[np.float32]) -> Scores:
        """Score embeddings ``[n, d]``; scores of a head that the detector lacks are None.

        Raises:
            BackendError: onnxruntime failed.
        """
        values: list[Any] = [np.empty(0)] * len(self.outputs)
        if self.outputs and len(embedding):  # not every kernel accepts an empty batch
            try:
                values = self._session.run(self.outputs, {"embedding": embedding})
            except Exception as exc:  # onnxruntime raises its own unrelated classes
                raise BackendError(f"onnxruntime: {first_line(exc)}") from exc
        named = dict(zip(self.outputs, values, strict=True))
        return Scores(named.get("log_likelihood"), named.get("p_ai_generated"), embedding)
