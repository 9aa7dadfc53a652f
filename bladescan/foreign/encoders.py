"""A stranger's image encoder by its address, ``onnx:FILE`` or ``torch:FILE``, as a bare encoder of ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bladescan import __version__
from bladescan.base.errors import UsageError
from bladescan.base.records import CROP_SIZE
from bladescan.detectors.manifest import Manifest, Preprocessing
from bladescan.foreign.encoder_graph import build_encoder_graph
from bladescan.foreign.layout import EncoderLayout, read_layout
from bladescan.foreign.onnx_graph import ForeignGraph, read_graph
from bladescan.heads.detector import Detector

ONNX_PREFIX, TORCH_PREFIX = "onnx:", "torch:"


def is_foreign(encoder: str) -> bool:
    """Tell the address of a stranger's encoder from that of one of ours."""
    return encoder.startswith((ONNX_PREFIX, TORCH_PREFIX))


def load_foreign_encoder(encoder: str, changes: Sequence[str] = ()) -> Detector:
    """Load a stranger's encoder: a manifest, and a graph from face crops to an embedding.

    Args:
        encoder: ``onnx:FILE``, or ``torch:FILE`` for a safetensors file of a known layout.
        changes: ``encoder.KEY=VALUE``, see `bladescan.foreign.layout.EncoderLayout`.

    Raises:
        DetectorError: the file is none, cannot run, or something has to be said of it.
        RecipeError: ``changes`` that cannot be.
        MissingDependencyError: onnx is not installed, or for ``torch:`` transformers.
    """
    network, layout = _opened(encoder, changes)
    built = build_encoder_graph(network, layout)
    manifest = Manifest(
        layout.name or network.where,
        built.spec,
        Preprocessing(CROP_SIZE, tuple(built.about["mean"]), tuple(built.about["std"])),
        licence=layout.licence,
        provenance={"encoder": built.about, "versions": {"bladescan": __version__}},
    )
    return Detector(manifest, {}, graph=built.data)


def _opened(encoder: str, changes: Sequence[str]) -> tuple[ForeignGraph, EncoderLayout]:
    if encoder.startswith(TORCH_PREFIX):
        from bladescan.foreign.torch_encoder import read_torch_encoder

        return read_torch_encoder(Path(encoder.removeprefix(TORCH_PREFIX)), changes)
    path = Path(encoder.removeprefix(ONNX_PREFIX))
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name the .onnx file")
    network = read_graph(path)
    return network, read_layout(path, network.sha256, changes)
