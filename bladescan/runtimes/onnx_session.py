"""The one way into onnxruntime: a graph in a session, with our threads, quietly. It checks no graph.

Importing this module imports no onnxruntime.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bladescan.base.errors import BackendError, first_line

CPU = "CPUExecutionProvider"
_SILENT, _WARNINGS = 4, 2


class UnloadableGraphError(BackendError):
    """onnxruntime takes no session of a graph; the text is its own first line."""


def open_session(graph: bytes | Path, *, threads: int = 0, providers: Sequence[Any] = (CPU,)) -> Any:
    """Load a graph into an ``onnxruntime.InferenceSession``.

    Args:
        graph: an ONNX file or its bytes.
        threads: that compute one run; 0 lets onnxruntime choose. With 1 sums come in the same order anywhere.
        providers: execution providers, preferred first, as onnxruntime takes them.

    Raises:
        UnloadableGraphError: onnxruntime cannot load it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1  # nodes run one after the other
    # Waiting threads would otherwise spin, and several scan workers share the cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        with _silenced():
            return onnxruntime.InferenceSession(graph, options, providers=list(providers))
    except Exception as exc:  # onnxruntime's own classes are private to it
        raise UnloadableGraphError(first_line(exc)) from exc


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Leave it to the caller to report a provider that does not load or start.

    The first is logged by the process-wide logger, the second printed, among the verdicts.
    """
    import onnxruntime

    onnxruntime.set_default_logger_severity(_SILENT)
    try:
        with contextlib.redirect_stdout(None):
            yield
    finally:
        onnxruntime.set_default_logger_severity(_WARNINGS)
