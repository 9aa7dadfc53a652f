r"""Two tails for an encoder that gives one number: by how rare it is among photographs, on either side.

The number x becomes its normal score :math:`z = \Phi^{-1}(F(x))`, F being the distribution of photographs of
the fit. It is drawn by straight lines through a few quantiles, and goes on straight beyond the outermost. The
log-likelihood of one Gaussian over z falls with :math:`|z|`, so it ranks as :math:`2 \min(F, 1 - F)` does,
twice the lesser tail: both tails get half of the false alarms, whatever the shape of the distribution.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bladescan.detectors.onnx_metadata import import_onnx
from bladescan.foreign.builder import GraphBuilder, opset_of
from bladescan.foreign.fed_network import EMBEDDING, append

_QUANTILES = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99)
_NUMBER = "tails/number"


class Tails(NamedTuple):
    """Straight lines from one number to its normal score, as hinges.

    Attributes:
        first: number and score of the first point.
        slope: before the second point.
        bends: where the slope changes, ascending ``[m]``.
        changes: by how much, ``[m]``.
    """

    first: tuple[float, float]
    slope: float
    bends: NDArray[np.float64]
    changes: NDArray[np.float64]


def fit_tails(numbers: NDArray[np.float32]) -> Tails:
    """Learn the normal scores of numbers ``[n]``, at least 1; equal numbers have equal scores."""
    points = np.quantile(numbers.astype(np.float64), _QUANTILES)
    normal = NormalDist()
    scores = np.array([normal.inv_cdf(q) for q in _QUANTILES])
    distinct = np.unique(points)
    scores = np.array([scores[points == point].mean() for point in distinct])
    slopes = np.diff(scores) / np.diff(distinct) if len(distinct) > 1 else np.ones(1)
    return Tails((distinct[0], scores[0]), slopes[0], distinct[1:-1], np.diff(slopes))


def normal_scores(tails: Tails, numbers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the normal scores of numbers of any shape."""
    x, (at, score) = numbers.astype(np.float64), tails.first
    bent = (np.maximum(x[..., None] - tails.bends, 0.0) * tails.changes).sum(-1)
    found: NDArray[np.float32] = (score + (x - at) * tails.slope + bent).astype(np.float32)
    return found


def with_tails(graph: bytes, tails: Tails) -> bytes:
    """Put the normal score of its one number in the place of an encoder's embedding, float32 ``[n, 1]``."""
    model = import_onnx("a foreign network").load_from_string(graph)
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [_NUMBER if name == EMBEDDING else name for name in names]
    nodes = GraphBuilder(opset_of(model, where="the encoder"), "tails/")
    x, (at, score) = nodes.cast(_NUMBER, "float64"), tails.first
    found = nodes.add("Mul", nodes.add("Sub", x, _wide(nodes, at)), _wide(nodes, tails.slope))
    found = nodes.add("Add", found, _wide(nodes, score))
    if len(tails.bends):
        above = nodes.add("Relu", nodes.add("Sub", x, _wide(nodes, tails.bends)))
        bent = nodes.reduce("ReduceSum", nodes.add("Mul", above, _wide(nodes, tails.changes)), [1], keep=True)
        found = nodes.add("Add", found, bent)
    nodes.cast(found, "float32", output=EMBEDDING)
    append(model, nodes)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def _wide(nodes: GraphBuilder, values: NDArray[np.float64] | float) -> str:
    return nodes.constant(np.reshape(values, (1, -1)), "float64")
