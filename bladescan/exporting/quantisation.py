"""An exported detector's encoder in 8-bit integers, calibrated on photographs, and what that changes.

The weights become signed, one scale for each output channel; the activations unsigned (U8S8): the pair for
which onnxruntime has its quickest kernels. Heads and last layer stay as they are. See docs/speed.md.

Of a stranger's transformer the matrix products become integer ones, and each is scaled as it runs: a few
large activations, which transformers have, would leave a fixed range nothing for the rest.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import DetectorError
from bladescan.base.records import Scores
from bladescan.detectors.calibration import p_values, photographic_scores
from bladescan.detectors.manifest import GRAPH_ENCODER, HeadName, Manifest, network_heads
from bladescan.detectors.onnx_metadata import import_onnx, manifest_of, with_manifest
from bladescan.exporting.reports import QuantisationReport
from bladescan.foreign.onnx_graph import PREFIX
from bladescan.runtimes.onnx_session import open_session

MOST_CALIBRATING = 512
"""Crops that set the ranges."""
FEWEST_CROPS = 32
LEAST_SAME = 0.95
"""Share of verdicts that have to stay, with each head, unless another is asked for."""

CropCutter = Callable[[Manifest], NDArray[np.uint8]]
"""From the rule of a detector to face crops of photographs."""

_WHAT = "--precision int8"
_BATCH = 8
# What an encoder's trunk is made of. Activations have to be among them: onnxruntime would resolve the range
# before a clip at 6, and lose most of its 256 steps to values that never pass.
_OPERATORS = ("Conv", "Relu", "Clip", "Add", "MaxPool")
_IN_INTEGERS = ("QuantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearMatMul")
# The first convolutions and what they feed stay: a third of the error comes from them, and none of
# the speed (docs/speed.md).
_KEPT = 4
# A bias in integers would need one of 32 bits, which TensorRT lacks.
_SYMMETRIC = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
_OUTPUTS: dict[HeadName, str] = {"one-class": "log_likelihood", "binary": "p_ai_generated"}


class Lowered(NamedTuple):
    """A detector with an encoder in integers, and what it is to be compared on.

    Attributes:
        data: the ONNX model, without a manifest.
        manifest: of the detector that it was made from; crops run one by one if ranges are set as it runs.
        compared: crops that set no range.
        n_calibrating: crops that did.
    """

    data: bytes
    manifest: Manifest
    compared: NDArray[np.uint8]
    n_calibrating: int


class Int8Exporter:
    """An exported detector with an encoder in integers, the report in its manifest's provenance.

    Args:
        data: an exported detector (ONNX).
        cut: gives face crops of photographs, uint8 RGB ``[n, size, size, 3]``, cut by the detector's rule: a
            part sets the ranges, the others are compared. Fewer than `FEWEST_CROPS` would tell nothing.
        where: the detector's name, for errors.
        least_same: share of verdicts that have to stay, with each head.
    """

    def __init__(self, data: bytes, cut: CropCutter, *, where: str, least_same: float = LEAST_SAME) -> None:
        self._data, self._cut, self._where, self._least_same = data, cut, where, least_same

    def build(self) -> Lowered:
        """Put the encoder into integers.

        Raises:
            DetectorError: as `quantisable`, before the minutes that cutting takes.
            MissingDependencyError: onnx is not installed.
        """
        manifest = quantisable(self._data, where=self._where)
        crops = self._cut(manifest)
        calibrating, compared = split(len(crops))
        with _quiet():
            if products := _products(self._data, manifest):
                lowered = _lowered_products(self._data, products)
                encoder = msgspec.structs.replace(manifest.encoder, batch=1)
                manifest = msgspec.structs.replace(manifest, encoder=encoder)
            else:
                lowered = _lowered(self._data, crops[calibrating])
        return Lowered(lowered, manifest, crops[compared], len(calibrating))

    def check(self, built: Lowered) -> QuantisationReport:
        """Compare verdicts.

        Raises:
            DetectorError: too many change.
        """
        most = built.manifest.encoder.batch or _BATCH
        old, new = (_scores(data, built.compared, most) for data in (self._data, built.data))
        report = compare(old, new, built.manifest, built.n_calibrating)
        judge(report, self._least_same, where=self._where)
        return report

    def encode(self, built: Lowered, report: QuantisationReport) -> bytes:
        """Write manifest and report into the model."""
        model = import_onnx(_WHAT).load_from_string(built.data)
        # onnxruntime writes down every operator set that it has, used or not.
        used = {node.domain for node in model.graph.node}
        for opset in [opset for opset in model.opset_import if opset.domain not in used]:
            model.opset_import.remove(opset)
        provenance = {**built.manifest.provenance, "int8": msgspec.to_builtins(report)}
        return with_manifest(model, msgspec.structs.replace(built.manifest, provenance=provenance))


def quantise(
    data: bytes, crops: NDArray[np.uint8], *, where: str, least_same: float = LEAST_SAME
) -> tuple[bytes, QuantisationReport]:
    """Put a detector into integers with crops that are there, see `Int8Exporter`."""
    exporter = Int8Exporter(data, lambda rule: crops, where=where, least_same=least_same)
    built = exporter.build()
    report = exporter.check(built)
    return exporter.encode(built, report), report


def symmetric(data: bytes, crops: NDArray[np.uint8]) -> bytes:
    """Quantise with signed activations around zero (S8S8), the only integers that TensorRT computes in.

    Args:
        data: a graph from crops to embedding, or a whole detector.
        crops: that set the ranges.
    """
    with _quiet():
        return _lowered(data, crops, symmetric=True)


def split(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Choose the crops that set the ranges, spread evenly; return their indices and the others'."""
    chosen = np.linspace(0, n - 1, min(MOST_CALIBRATING, n // 2)).astype(np.intp)
    return chosen, np.setdiff1d(np.arange(n), chosen)


def quantisable(data: bytes, *, where: str) -> Manifest:
    """Read the manifest of an exported detector whose encoder can be quantised here.

    Raises:
        DetectorError: it is none, or is in integers already.
        MissingDependencyError: onnx is not installed.
    """
    model = import_onnx(_WHAT).load_from_string(data)
    manifest = manifest_of(model, where=where)
    if any(node.op_type in _IN_INTEGERS for node in model.graph.node):
        raise DetectorError(f"{where}: is in 8-bit integers already; give the detector that it was made from")
    return manifest


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
            nodes_to_quantize=_trunk(import_onnx(_WHAT).load(folded)),
            per_channel=True,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options=_SYMMETRIC if symmetric else {},
        )
        return lowered.read_bytes()


def _products(data: bytes, manifest: Manifest) -> list[str]:
    """Names of a transformer's products with weights; none for a network of convolutions or one of ours."""
    if manifest.encoder.name != GRAPH_ENCODER:
        return []
    onnx = import_onnx(_WHAT)
    graph = onnx.load_from_string(data).graph
    weights = {tensor.name for tensor in graph.initializer}
    theirs = [node for node in graph.node if node.name.startswith(PREFIX)]
    products = [
        node.name for node in theirs if node.op_type in ("MatMul", "Gemm") and node.input[1] in weights
    ]
    return products if len(products) > sum(node.op_type == "Conv" for node in theirs) else []


def _lowered_products(data: bytes, products: list[str]) -> bytes:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        whole, lowered = (Path(folder, name) for name in ("whole.onnx", "int8.onnx"))
        whole.write_bytes(data)
        quantize_dynamic(
            whole,
            lowered,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=products,
            extra_options={"MatMulConstBOnly": True},
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
    encoder = import_onnx(_WHAT).utils.Extractor(model).extract_model(["crops"], ["embedding"]).graph
    computed = {output for node in encoder.node for output in node.output}
    convolutions = [index for index, node in enumerate(encoder.node) if node.op_type == "Conv"]
    start = (convolutions[_KEPT:] or [len(encoder.node)])[0]
    return [
        node.name
        for node in encoder.node[start:]
        if node.op_type in _OPERATORS and (node.op_type != "Add" or computed.issuperset(node.input))
    ]


def compare(old: Scores, new: Scores, manifest: Manifest, n_calibrating: int) -> QuantisationReport:
    """Measure what has changed on the same crops."""
    flags = [_flagged(scores, manifest) for scores in (old, new)]
    heads = network_heads(manifest)
    error = np.square(new.embedding - old.embedding).mean() / np.square(old.embedding).mean()
    return QuantisationReport(
        n_calibrating=n_calibrating,
        n_compared=len(old.embedding),
        embedding=float(np.sqrt(error)),
        same_verdict={
            head: float((flags[0][head] == flags[1][head]).mean()) for head in network_heads(manifest)
        },
        flagged_before={head: float(flags[0][head].mean()) for head in heads},
        flagged_after={head: float(flags[1][head].mean()) for head in heads},
    )


def _scores(data: bytes, crops: NDArray[np.uint8], most: int) -> Scores:
    session = open_session(data)
    names = [output.name for output in session.get_outputs()]
    runs = [session.run(names, {"crops": crops[i : i + most]}) for i in range(0, len(crops), most)]
    found = dict(zip(names, map(np.concatenate, zip(*runs, strict=True)), strict=True))
    return Scores(found.get("log_likelihood"), found.get("p_ai_generated"), found["embedding"])


def _flagged(scores: Scores, manifest: Manifest) -> dict[HeadName, NDArray[np.bool_]]:
    return {
        name: p_values(manifest.heads[name], photographic_scores(scores, name))
        <= manifest.default_false_alarm
        for name in network_heads(manifest)
    }


def judge(report: QuantisationReport, least_same: float = LEAST_SAME, *, where: str) -> None:
    """Raise DetectorError if too many verdicts have changed."""
    for head, share in report.same_verdict.items():
        if share < least_same:
            raise DetectorError(
                f"{where}: in 8-bit integers {share:.1%} of {report.n_compared} photographs keep the verdict "
                f"of the {head} head; at least {least_same:.0%} must; nothing was written"
            )


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
