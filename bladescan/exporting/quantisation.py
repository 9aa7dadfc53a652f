"""An exported detector's encoder in 8-bit integers, calibrated on photographs, and what that changes.

The weights become signed, one scale for each output channel; the activations unsigned (U8S8): the pair for
which onnxruntime has its quickest kernels. Heads and last layer stay as they are. See docs/speed.md.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import DetectorError, MissingDependencyError
from bladescan.base.records import Scores
from bladescan.detectors.calibration import p_values, photographic_scores
from bladescan.detectors.manifest import METADATA_KEY, HeadName, Manifest, decode_manifest, encode_manifest
from bladescan.runtimes.onnx_session import open_session

MOST_CALIBRATING = 512
"""Crops that set the ranges."""
FEWEST_CROPS = 32
LEAST_SAME = 0.95
"""Share of verdicts that have to stay, with each head, unless another is asked for."""

_BATCH = 8
# What an encoder's trunk is made of. Activations have to be among them: onnxruntime would resolve the range
# before a clip at 6, and lose most of its 256 steps to values that never pass.
_OPERATORS = ("Conv", "Relu", "Clip", "Add", "MaxPool")
# The first convolutions and what they feed stay: a third of the error comes from them, and none of
# the speed (docs/speed.md).
_KEPT = 4
# A bias in integers would need one of 32 bits, which TensorRT lacks.
_SYMMETRIC = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
_OUTPUTS: dict[HeadName, str] = {"one-class": "log_likelihood", "binary": "p_ai_generated"}


@dataclass(frozen=True, slots=True)
class QuantisationReport:
    """How far the integer detector is from the other, on photographs that set no range.

    Attributes:
        n_calibrating: crops that set the ranges.
        n_compared: crops compared.
        embedding: root mean square of the embedding's error over that of the embedding.
        same_verdict: share of the crops with the same verdict at the detector's own rate, by head.
        flagged_before, flagged_after: share of the crops flagged, by head.
    """

    n_calibrating: int
    n_compared: int
    embedding: float
    same_verdict: dict[HeadName, float]
    flagged_before: dict[HeadName, float]
    flagged_after: dict[HeadName, float]


def quantise(
    data: bytes, crops: NDArray[np.uint8], *, where: str, least_same: float = LEAST_SAME
) -> tuple[bytes, QuantisationReport]:
    """The same detector with an encoder in integers, the report in its manifest's provenance.

    Args:
        data: an exported detector (ONNX).
        crops: face crops of photographs, uint8 RGB ``[n, size, size, 3]``: a part sets the ranges, the others
            are compared. Fewer than `FEWEST_CROPS` would tell nothing.
        where: the detector's name, for the errors.
        least_same: share of verdicts that have to stay, with each head.

    Raises:
        DetectorError: as `quantisable`, or too many verdicts change.
        MissingDependencyError: onnx is not installed.
    """
    manifest = quantisable(data, where=where)
    calibrating, compared = split(len(crops))
    with _quiet():
        lowered = _lowered(data, crops[calibrating])
    old, new = _scores(data, crops[compared]), _scores(lowered, crops[compared])
    report = compare(old, new, manifest, len(calibrating))
    judge(report, least_same, where=where)
    told = {**manifest.provenance, "int8": msgspec.to_builtins(report)}
    return _with_manifest(lowered, msgspec.structs.replace(manifest, provenance=told)), report


def symmetric(data: bytes, crops: NDArray[np.uint8]) -> bytes:
    """The same graph with signed activations around zero (S8S8): the only integers that TensorRT computes in.

    Args:
        data: a graph from crops to embedding, or a whole detector.
        crops: that set the ranges.
    """
    with _quiet():
        return _lowered(data, crops, symmetric=True)


def split(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of the crops that set the ranges, spread evenly, and of the others."""
    chosen = np.linspace(0, n - 1, min(MOST_CALIBRATING, n // 2)).astype(np.intp)
    return chosen, np.setdiff1d(np.arange(n), chosen)


def quantisable(data: bytes, *, where: str) -> Manifest:
    """The manifest of an exported detector whose encoder can be put into integers here.

    Raises:
        DetectorError: it is none, or is in integers already.
        MissingDependencyError: onnx is not installed.
    """
    model = _onnx().load_from_string(data)
    texts = [entry.value for entry in model.metadata_props if entry.key == METADATA_KEY]
    if not texts:
        raise DetectorError(f"{where}: not a bladescan detector: its metadata has no manifest")
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        raise DetectorError(f"{where}: is in 8-bit integers already; give the detector that it was made from")
    return decode_manifest(texts[0], where=where)


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as exc:
        raise MissingDependencyError("--precision int8", "onnx", "pip install onnx") from exc
    return onnx


def _lowered(data: bytes, crops: NDArray[np.uint8], *, symmetric: bool = False) -> bytes:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    # These two work on files only.
    with tempfile.TemporaryDirectory() as folder:
        whole, folded, lowered = (Path(folder, name) for name in ("whole.onnx", "folded.onnx", "int8.onnx"))
        whole.write_bytes(data)
        quant_pre_process(whole, folded, skip_symbolic_shape=True)
        quantize_static(
            folded,
            lowered,
            _reader(crops),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_OPERATORS),
            nodes_to_quantize=_trunk(_onnx().load(folded)),
            per_channel=True,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options=_SYMMETRIC if symmetric else {},
        )
        return lowered.read_bytes()


def _reader(crops: NDArray[np.uint8]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        batches = iter([{"crops": crops[i : i + _BATCH]} for i in range(0, len(crops), _BATCH)])

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            return next(self.batches, None)

    return Reader()


def _trunk(model: Any) -> list[str]:
    """Names of the encoder's nodes that become integer ones; an addition only where it joins two branches."""
    encoder = _onnx().utils.Extractor(model).extract_model(["crops"], ["embedding"]).graph
    computed = {output for node in encoder.node for output in node.output}
    convolutions = [index for index, node in enumerate(encoder.node) if node.op_type == "Conv"]
    start = (convolutions[_KEPT:] or [len(encoder.node)])[0]
    return [
        node.name
        for node in encoder.node[start:]
        if node.op_type in _OPERATORS and (node.op_type != "Add" or computed.issuperset(node.input))
    ]


def compare(old: Scores, new: Scores, manifest: Manifest, n_calibrating: int) -> QuantisationReport:
    """What has changed on the same crops."""
    flags = [_flagged(scores, manifest) for scores in (old, new)]
    error = np.square(new.embedding - old.embedding).mean() / np.square(old.embedding).mean()
    return QuantisationReport(
        n_calibrating=n_calibrating,
        n_compared=len(old.embedding),
        embedding=float(np.sqrt(error)),
        same_verdict={head: float((flags[0][head] == flags[1][head]).mean()) for head in manifest.heads},
        flagged_before={head: float(flags[0][head].mean()) for head in manifest.heads},
        flagged_after={head: float(flags[1][head].mean()) for head in manifest.heads},
    )


def _scores(data: bytes, crops: NDArray[np.uint8]) -> Scores:
    session = open_session(data)
    names = [output.name for output in session.get_outputs()]
    runs = [session.run(names, {"crops": crops[i : i + _BATCH]}) for i in range(0, len(crops), _BATCH)]
    found = dict(zip(names, map(np.concatenate, zip(*runs, strict=True)), strict=True))
    return Scores(found.get("log_likelihood"), found.get("p_ai_generated"), found["embedding"])


def _flagged(scores: Scores, manifest: Manifest) -> dict[HeadName, NDArray[np.bool_]]:
    return {
        name: p_values(head, photographic_scores(scores, name)) <= manifest.default_false_alarm
        for name, head in manifest.heads.items()
    }


def judge(report: QuantisationReport, least_same: float = LEAST_SAME, *, where: str) -> None:
    """Raise DetectorError if too many verdicts have changed."""
    for head, share in report.same_verdict.items():
        if share < least_same:
            raise DetectorError(
                f"{where}: in 8-bit integers {share:.1%} of {report.n_compared} photographs keep the verdict "
                f"of the {head} head; at least {least_same:.0%} must; nothing was written"
            )


def _with_manifest(data: bytes, manifest: Manifest) -> bytes:
    model = _onnx().load_from_string(data)
    # onnxruntime writes down every operator set that it has, used or not.
    used = {node.domain for node in model.graph.node}
    for opset in [opset for opset in model.opset_import if opset.domain not in used]:
        model.opset_import.remove(opset)
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, encode_manifest(manifest)
    encoded: bytes = model.SerializeToString(deterministic=True)
    return encoded


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what onnxruntime's tools print and log."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
