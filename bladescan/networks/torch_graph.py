"""A PyTorch module to an ONNX graph. It checks no number: whoever asked for the graph does."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bladescan.base.errors import DetectorError, MissingDependencyError
from bladescan.detectors.manifest import Manifest
from bladescan.detectors.onnx_metadata import with_manifest

OPSET = 20


def torch_to_onnx(
    module: nn.Module,
    example: Tensor,
    input_name: str,
    outputs: list[str],
    manifest: Manifest | None = None,
    *,
    dynamic: Mapping[int, Any] | None = None,
) -> bytes:
    """Write a module of one input, with any number of rows, as ONNX.

    Args:
        module: it is set to evaluation.
        example: an input of two rows.
        input_name: name of the input.
        outputs: names of the outputs.
        manifest: goes into the metadata.
        dynamic: axes of the input of any length, as `torch.export.Dim`; None is the number of rows alone.

    Raises:
        DetectorError: torch cannot export it.
        MissingDependencyError: onnx or onnxscript is not installed.
    """
    with _quiet(), torch.inference_mode(False):
        try:
            program = torch.onnx.export(
                module.eval(),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[input_name],
                output_names=outputs,
                dynamic_shapes=(dict(dynamic or {0: torch.export.Dim("n", min=1, max=1 << 20)}),),
                external_data=False,
                verbose=False,
            )
        except ImportError as exc:
            package = exc.name or "onnxscript"
            raise MissingDependencyError("export", package, "pip install 'bladescan[train]'") from exc
        except torch.onnx.OnnxExporterError as exc:
            raise DetectorError(f"torch {torch.__version__} cannot export this detector: {exc}") from exc
    assert program is not None  # only the legacy exporter returns None
    model = program.model_proto
    _strip(model)
    if manifest is not None:
        return with_manifest(model, manifest)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _strip(model: Any) -> None:
    """Remove the exporter's stack traces: they name files of the machine that exported."""
    del model.metadata_props[:]
    for part in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's prints, log lines and deprecation warnings."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
