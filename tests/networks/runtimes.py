"""Networks as exported detectors, and their embeddings in every runtime."""

import contextlib
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch

from bladescan.detectors.manifest import EncoderSpec
from bladescan.exporting.onnx import export_onnx
from bladescan.heads.detector import DetectorModule
from bladescan.networks.encoders import vision_state
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.registry import get_plugin
from tests.tiny import bare_encoder, faces_like


def export_encoder(name, encoder, folder):
    """A detector of a network of width 8 and 24 numbers, and the file of its export, compared with it."""
    bare = bare_encoder()
    manifest = msgspec.structs.replace(bare.manifest, encoder=EncoderSpec(name, width=8, embedding_dim=24))
    detector = replace(bare, manifest=manifest, vision=vision_state(encoder))
    export_onnx(detector, folder / f"{name}.onnx")
    return detector, folder / f"{name}.onnx"


def check_runtime(runtime, detector, path):
    """Every row is PyTorch's, and the same alone as among others."""
    if runtime == "openvino":
        pytest.importorskip("openvino")
    crops = faces_like(4)
    with torch.inference_mode():
        expected = DetectorModule(detector)(torch.from_numpy(crops))[-1].numpy()
    with contextlib.closing(get_plugin(runtime).open(path, BackendSettings(threads=1))) as opened:
        got = opened.embed(crops)
        alone = np.concatenate([opened.embed(crops[i : i + 1]) for i in range(len(crops))])
    assert np.abs(got - expected).max() <= 1e-3 * np.abs(expected).max()
    assert (got == alone).all()
