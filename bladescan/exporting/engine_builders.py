"""What builds an engine: TensorRT's own parser from ONNX, or torch-tensorrt from PyTorch's own graph.

Both give TensorRT's bytes for the same input and output, so the engine runs without PyTorch. Importing this
module imports no torch_tensorrt, which asks for the device as soon as it is imported.
"""

from __future__ import annotations

import re
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import nn

from bladescan.base.errors import (
    BackendError,
    MissingDependencyError,
    UnknownNameError,
    UsageError,
    first_line,
)
from bladescan.runtimes.tensorrt_library import CROPS, EMBEDDING, TensorRTLibrary

PARSER, TORCH_TENSORRT = BUILDERS = ("parser", "torch-tensorrt")
"""The values of ``--builder``."""
_MODULE = "torch_tensorrt"
_OLDEST = (2, 14)
"""The first release that lets us name inputs and outputs. It wants torch of the same number."""
_INSTALL = "pip install 'bladescan[torch-tensorrt]', or use --builder parser"


def choose_builder(asked: str, library: TensorRTLibrary, precision: str) -> str:
    """Choose one of `BUILDERS`; ``auto`` is torch-tensorrt where it is installed and can build this.

    Raises:
        UnknownNameError: no such builder.
        UsageError: torch-tensorrt cannot build this.
        MissingDependencyError: torch-tensorrt was asked for and is not installed, or too old.
    """
    if asked not in (*BUILDERS, "auto"):
        raise UnknownNameError("builder", asked, (*BUILDERS, "auto"))
    # The ranges of int8 are in the ONNX graph; torch-tensorrt stands on TensorRT for data-centre GPUs.
    why_not = "--precision int8" if precision == "int8" else library.name.replace("_", "-")
    can = precision != "int8" and library.name == "tensorrt"
    if asked == TORCH_TENSORRT and not can:
        raise UsageError(f"--builder torch-tensorrt does not go with {why_not}; use --builder parser")
    found = _installed()
    if asked == TORCH_TENSORRT and not _is_new_enough(found):
        wanted = ".".join(map(str, _OLDEST))
        what = f"torch-tensorrt {wanted} or newer" + (f" (here is {found})" if found else "")
        raise MissingDependencyError("--builder torch-tensorrt", what, _INSTALL)
    if asked == "auto":
        return TORCH_TENSORRT if can and _is_new_enough(found) else PARSER
    return asked


def _installed() -> str | None:
    """Find the version of torch-tensorrt without importing it, None if it is not installed."""
    try:
        return version("torch-tensorrt")
    except PackageNotFoundError:
        return None


def _is_new_enough(found: str | None) -> bool:
    numbers = re.findall(r"\d+", found or "")[:2]
    return tuple(map(int, numbers)) >= _OLDEST


def build_by_torch_tensorrt(module: nn.Module, *, size: int, max_batch: int, device: str) -> bytes:
    """Build an engine from a module, for batches from 1 to ``max_batch``.

    The engine uses the module's types: nothing is computed in a lower precision than the module's.

    Args:
        module: from crops uint8 ``[n, size, size, 3]`` to embeddings float32 ``[n, d]``; it is moved there.
        size: side of a crop.
        max_batch: most crops in one run; the engine is tuned for this many.
        device: that builds and will run it, for example ``cuda:0``.

    Raises:
        BackendError: torch_tensorrt cannot be imported, or cannot build the engine.
    """
    try:
        library: Any = import_module(_MODULE)
    except Exception as exc:  # without a driver it raises whatever its parts raise
        raise BackendError(
            f"torch_tensorrt cannot be imported here ({first_line(exc)}): use --builder parser"
        ) from exc
    most = max(2, max_batch)  # a dimension of 1 alone would be no dimension
    batch = torch.export.Dim("batch", min=1, max=most)
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8, device=device)
    shapes = [(n, size, size, 3) for n in (1, most, most)]
    try:
        program = torch.export.export(module.eval().to(device), (example,), dynamic_shapes=({0: batch},))
        crops = library.Input(
            **dict(zip(("min_shape", "opt_shape", "max_shape"), shapes, strict=True)), dtype=torch.uint8
        )
        engine = library.dynamo.convert_exported_program_to_serialized_trt_engine(
            program,
            arg_inputs=(crops,),
            device=device,
            disable_tf32=True,  # float32 means float32
            require_full_compilation=True,
            arg_input_binding_names=(CROPS,),
            output_binding_names=EMBEDDING,
        )
    except Exception as exc:  # its errors and those of PyTorch's export have no common class
        raise BackendError(f"torch_tensorrt cannot build the engine: {first_line(exc)}") from exc
    return bytes(engine)
