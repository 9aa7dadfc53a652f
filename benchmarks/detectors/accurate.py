"""Fit the head of ``accurate``: logistic regression on the encoder of `clip_graph`, and write the detector.

    BLADESCAN_DATA=... python -m benchmarks.detectors.accurate encoder.onnx -o accurate.onnx

Three degraded views of every photograph, seven of every AI-generated face; classes weigh the same, groups by
the square root of their size. The result is not calibrated yet: ``bladescan calibrate`` does that.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from sklearn.linear_model import LogisticRegression

from benchmarks.detectors.faces import CutFace, cut_pool, draw_shares, scan_view, training_view
from benchmarks.tables import parser, say
from bladescan.base.output_files import write_file
from bladescan.detectors.manifest import CalibratedHead, EncoderSpec, Manifest
from bladescan.detectors.onnx_metadata import with_manifest
from bladescan.runtimes.onnx_session import open_session

N_VIEWS = {False: 3, True: 7}
STRENGTH = 0.001
"""Inverse of the regularisation; chosen by leaving each generator out."""


class Head(NamedTuple):
    """A logit: ``features @ weights + bias``."""

    weights: NDArray[np.float64]
    bias: float


def embed(encoder: Path, faces: list[CutFace]) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Embed the views of faces; also the index of each view's face."""
    session, rng = open_session(encoder.read_bytes(), threads=0), np.random.default_rng(0)
    rows, owners = [], []
    for index, face in enumerate(faces):
        views = [scan_view(face)] + [training_view(face, rng) for _ in range(N_VIEWS[face.ai_generated] - 1)]
        rows.append(session.run(["embedding"], {"crops": np.stack(views)})[0])
        owners += [index] * len(views)
        if index % 100 == 0:
            say(f"{index} of {len(faces)} faces")
    return np.concatenate(rows), np.asarray(owners)


def fit(
    features: NDArray[np.float32], classes: NDArray[np.bool_], groups: list[str], strength: float
) -> Head:
    """Fit a weighted logistic regression on standardised features."""
    weights = np.zeros(len(classes))
    for is_ai in (False, True):
        of_class = np.flatnonzero(classes == is_ai)
        weights[of_class] = draw_shares([groups[index] for index in of_class])
    weights /= weights.mean()
    mean = np.average(features, axis=0, weights=weights)
    spread = np.sqrt(np.average((features - mean) ** 2, axis=0, weights=weights)) + 1e-3
    model = LogisticRegression(C=strength, max_iter=300)
    model.fit((features - mean) / spread, classes, sample_weight=weights)
    slope = (model.coef_[0] / spread).astype(np.float64)
    return Head(slope, float(model.intercept_[0] - mean @ slope))


def with_head(encoder: Path, head: Head) -> onnx.ModelProto:
    """Append the head to the graph: P(AI-generated) in float64, so that no batch changes a row."""
    model = onnx.load(encoder)
    constants = {
        "weights": head.weights,
        "bias": np.float64(head.bias),
        "e": np.float64(math.e),
        "one": np.float64(1),
    }
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), f"head.{name}"))
    axis = numpy_helper.from_array(np.asarray([1], np.int64), "head.axis")
    model.graph.initializer.append(axis)
    steps = (
        ("Cast", ["embedding"], "head.double", {"to": onnx.TensorProto.DOUBLE}),
        ("Mul", ["head.double", "head.weights"], "head.products", {}),
        ("ReduceSum", ["head.products", "head.axis"], "head.sum", {"keepdims": 0}),
        ("Add", ["head.sum", "head.bias"], "head.logit", {}),
        ("Neg", ["head.logit"], "head.negative", {}),
        ("Pow", ["head.e", "head.negative"], "head.odds", {}),
        ("Add", ["head.one", "head.odds"], "head.whole", {}),
        ("Div", ["head.one", "head.whole"], "p_ai_generated", {}),
    )
    for kind, given, output, settings in steps:
        model.graph.node.append(helper.make_node(kind, given, [output], **settings))
    value = helper.make_tensor_value_info("p_ai_generated", onnx.TensorProto.DOUBLE, ["n"])
    model.graph.output.append(value)
    onnx.checker.check_model(model)
    return model


def manifest(name: str, n_features: int) -> Manifest:
    """Describe the detector, which still needs its thresholds."""
    heads = {"binary": CalibratedHead(calibration=(-1.0, 0.0), n_held_out=2)}
    spec = EncoderSpec(name="clip-vit-b16-blocks-1-9", width=768, embedding_dim=n_features, normalise=False)
    return Manifest(
        name=name, encoder=spec, heads=heads, default_head="binary", licence="MIT (weights of CLIP)"
    )


def main() -> None:
    options = parser(__spec__, __doc__)
    options.add_argument("encoder", type=Path)
    options.add_argument("-o", "--output", type=Path, required=True)
    options.add_argument("--name", default="bladescan-accurate-2")
    given = options.parse_args()
    faces = [face for face in cut_pool() if not face.calibrates]
    features, owners = embed(given.encoder, faces)
    classes = np.asarray([faces[owner].ai_generated for owner in owners])
    head = fit(features, classes, [faces[owner].group for owner in owners], STRENGTH)
    model = with_head(given.encoder, head)
    write_file(given.output, with_manifest(model, manifest(given.name, features.shape[1])))


if __name__ == "__main__":
    main()
