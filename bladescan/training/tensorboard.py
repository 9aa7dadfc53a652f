"""The history of a run as TensorBoard scalars. It reads no file and draws nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bladescan.base.errors import MissingDependencyError


class TensorBoardWriter:
    """Writes every line of the history to a folder of event files.

    Args:
        folder: made if missing; TensorBoard is pointed at it or at any folder above.

    Raises:
        MissingDependencyError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as exc:
            install = "pip install 'bladescan[tensorboard]'"
            raise MissingDependencyError("--tensorboard", "tensorboard", install) from exc
        # Untyped: whether torch's annotations cover it changes from version to version.
        self._open: Any = lambda step: SummaryWriter(str(folder), purge_step=step)
        self._writer: Any = None

    def log(self, line: Mapping[str, Any]) -> None:
        """Add one line; what an interrupted run wrote of the same or later steps is struck out."""
        if self._writer is None:
            self._writer = self._open(line["step"])
        for name, value in _scalars(line):
            self._writer.add_scalar(name, value, line["step"])
        self._writer.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()


def _scalars(line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name in ("lr", "temperature", "outer_loss"):
        if line[name] is not None:
            yield name, line[name]
    for group in ("losses", "weights"):
        for task, value in line[group].items():
            yield f"{group}/{task}", value
    for kept_out in ("held_out", "validation"):
        for task, measured in line.get(kept_out, {}).items():
            yield f"{kept_out}/{task}", measured["accuracy"]
