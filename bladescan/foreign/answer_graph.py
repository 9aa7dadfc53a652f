"""A stranger's detector to one of our graphs: face crops in, P(AI-generated) out. It calibrates nothing."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from bladescan.base.errors import DetectorError
from bladescan.base.records import CROP_SIZE
from bladescan.detectors.manifest import GRAPH_ENCODER, EncoderSpec
from bladescan.foreign.builder import GraphBuilder, opset_of
from bladescan.foreign.detector_layout import DetectorLayout
from bladescan.foreign.fed_network import EMBEDDING, append, completed, set_outputs, tried, with_pixels
from bladescan.foreign.onnx_graph import PREFIX, ForeignGraph, input_of, tensors_named
from bladescan.foreign.pixels import line_matrix

SCORE = "p_ai_generated"


class AnswerGraph(NamedTuple):
    """A detector that runs and has no calibration.

    Attributes:
        model: an ``onnx.ModelProto``: crops to ``p_ai_generated`` and, as ``embedding``, what is behind it.
        spec: for the manifest.
        about: what was found and used, as plain JSON values.
    """

    model: Any
    spec: EncoderSpec
    about: dict[str, Any]


def build_answer_graph(network: ForeignGraph, layout: DetectorLayout) -> AnswerGraph:
    """Put pixels before a detector and the meaning of its answer behind it, and run the result.

    Raises:
        DetectorError: the answer is not what the layout says, or the detector cannot run.
        UnknownNameError: the output is not in it.
    """
    given = input_of(network)
    layout = completed(layout, given, key="detector", where=network.where)
    (name,) = _one_output(network, layout)
    side = layout.input or CROP_SIZE
    resized = layout.resize_to or side
    line = None if side == resized == CROP_SIZE else line_matrix(CROP_SIZE, resized, side, layout.resize)
    model = with_pixels(network, given, layout, line, (name,))
    nodes = GraphBuilder(opset_of(model, where=network.where), "answer/")
    rows = nodes.add("Flatten", nodes.cast(PREFIX + name, "float32"), output=EMBEDDING, axis=1)
    append(model, nodes)
    set_outputs(model, {EMBEDDING: ("float32", ["n", None])})
    (n_classes,), batch = tried(model.SerializeToString(), EMBEDDING, layout.batch, where=network.where)
    _check(layout, n_classes, where=network.where)
    more = GraphBuilder(opset_of(model, where=network.where), "probability/")
    _add_probability(more, more.cast(rows, "float64"), layout, n_classes)
    append(model, more)
    set_outputs(model, {SCORE: ("float64", ["n"]), EMBEDDING: ("float32", ["n", n_classes])})
    spec = EncoderSpec(GRAPH_ENCODER, 0, n_classes, normalise=False, batch=batch)
    return AnswerGraph(model, spec, _about(network, layout, name, batch))


def _one_output(network: ForeignGraph, layout: DetectorLayout) -> tuple[str, ...]:
    names = tensors_named(network, (layout.output,) if layout.output else ())
    if len(names) != 1:
        raise DetectorError(
            f"{network.where}: has the outputs {', '.join(names)}: choose one by --set detector.output=NAME"
        )
    return names


def _check(layout: DetectorLayout, n_classes: int, *, where: str) -> None:
    most = 1 if n_classes == 1 else n_classes - 1
    if n_classes > 1000 or not 0 <= (layout.ai_class or 0) <= most:
        raise DetectorError(
            f"{where}: its answer is {n_classes} numbers for one crop; detector.ai_class={layout.ai_class} "
            "is none of them"
        )


def _add_probability(nodes: GraphBuilder, rows: str, layout: DetectorLayout, n_classes: int) -> None:
    """Add P(AI-generated), float64 ``[n]``, of the answers ``[n, n_classes]``."""
    one, ours = nodes.constant(1.0, "float64"), layout.ai_class or 0
    if n_classes == 1:
        value = nodes.add("Gather", rows, nodes.constant(0, "int64"), axis=1)
        rises = ours == 1
        if layout.kind == "probability":
            nodes.add("Identity", value if rises else nodes.add("Sub", one, value), output=SCORE)
            return
        against = nodes.add("Neg", value) if rises else value
    else:
        value = nodes.add("Gather", rows, nodes.constant(ours, "int64"), axis=1)
        if layout.kind == "probability":
            nodes.add("Identity", value, output=SCORE)
            return
        others = [place for place in range(n_classes) if place != ours]
        rest = nodes.add("Gather", rows, nodes.constant(others, "int64"), axis=1)
        against = nodes.add("Sub", nodes.reduce("ReduceLogSumExp", rest, [1]), value)
    # A power, as in our own head: runtimes round the last bit of exponentials by their place in the batch.
    power = nodes.add("Pow", nodes.constant(math.e, "float64"), against)
    nodes.add("Div", one, nodes.add("Add", one, power), output=SCORE)


def _about(network: ForeignGraph, layout: DetectorLayout, name: str, batch: int) -> dict[str, Any]:
    return {
        "file": network.where,
        "sha256": network.sha256,
        "name": layout.name,
        "source": layout.source,
        "paper": layout.paper,
        "input": layout.input,
        "resize_to": layout.resize_to or layout.input,
        "resize": layout.resize,
        "channels": layout.channels,
        "scale": layout.scale,
        "mean": list(layout.mean or ()),
        "std": list(layout.std or ()),
        "output": name,
        "kind": layout.kind,
        "ai_class": layout.ai_class,
        "subject": layout.subject,
        "batch": batch,
    }
