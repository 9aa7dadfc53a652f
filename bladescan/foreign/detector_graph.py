"""Our heads behind a stranger's encoder, as nodes of the same graph, computed in float64 as everywhere."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from bladescan.detectors.onnx_metadata import import_onnx, with_manifest
from bladescan.foreign.builder import GraphBuilder, opset_of
from bladescan.foreign.fed_network import EMBEDDING, append, set_outputs
from bladescan.heads.detector import Detector
from bladescan.heads.mixture import Mixture, log_constants


def detector_graph(detector: Detector) -> bytes:
    """Put the heads of a detector behind its encoder's graph, and its manifest into the metadata.

    Args:
        detector: with a ``graph``.
    """
    model = import_onnx("export").load_from_string(detector.graph)
    nodes = GraphBuilder(opset_of(model, where="the encoder"), "heads/")
    outputs: dict[str, tuple[str, list[Any]]] = {}
    if detector.mixture is not None or detector.classifier is not None:
        rows = nodes.cast(EMBEDDING, "float64")
    if detector.mixture is not None:
        _add_mixture(nodes, rows, detector.mixture)
        outputs["log_likelihood"] = ("float64", ["n"])
    if detector.classifier is not None:
        _add_classifier(nodes, rows, detector.classifier)
        outputs["p_ai_generated"] = ("float64", ["n"])
    append(model, nodes)
    dim = detector.manifest.encoder.embedding_dim
    set_outputs(model, {**outputs, EMBEDDING: ("float32", ["n", dim])})
    return with_manifest(model, detector.manifest)


def _add_mixture(nodes: GraphBuilder, rows: str, mixture: Mixture) -> None:
    """Add `bladescan.heads.mixture.log_likelihood`."""
    factors = mixture.precisions_cholesky_
    constants = log_constants(mixture.weights_, factors)
    centred = nodes.add("Sub", rows, _stored(nodes, mixture.means_[:, None]))  # [k, n, d]
    if factors.ndim == 3:
        whitened = nodes.add("MatMul", centred, _stored(nodes, factors))
    else:
        whitened = nodes.add("Mul", centred, _stored(nodes, factors[:, None]))
    squares = nodes.reduce("ReduceSum", nodes.add("Mul", whitened, whitened), [2])  # [k, n]
    half = nodes.add("Mul", squares, nodes.constant(0.5, "float64"))
    joint = nodes.add("Sub", nodes.constant(constants.numpy()[:, None], "float64"), half)
    by_row = nodes.add("Transpose", joint, perm=[1, 0])
    nodes.add("Identity", nodes.reduce("ReduceLogSumExp", by_row, [1]), output="log_likelihood")


def _add_classifier(nodes: GraphBuilder, rows: str, state: dict[str, Tensor]) -> None:
    """Add `bladescan.heads.classifier.Classifier.p_ai_generated`, with the power and not an exponential."""
    if "fc1.weight" in state:
        rows = nodes.add("Relu", _linear(nodes, rows, state, "fc1"))
    logits = _linear(nodes, rows, state, "fc2")
    photographic, generated = (
        nodes.add("Gather", logits, nodes.constant(i, "int64"), axis=1) for i in (0, 1)
    )
    power = nodes.add("Pow", nodes.constant(math.e, "float64"), nodes.add("Sub", photographic, generated))
    one = nodes.constant(1.0, "float64")
    nodes.add("Div", one, nodes.add("Add", one, power), output="p_ai_generated")


def _linear(nodes: GraphBuilder, rows: str, state: dict[str, Tensor], layer: str) -> str:
    product = nodes.add("MatMul", rows, _stored(nodes, state[f"{layer}.weight"].T))
    return nodes.add("Add", product, _stored(nodes, state[f"{layer}.bias"]))


def _stored(nodes: GraphBuilder, values: Tensor) -> str:
    """Keep weights as float32, which makes the file half as large, and compute with them in float64."""
    return nodes.cast(nodes.constant(values.float().numpy()), "float64")
