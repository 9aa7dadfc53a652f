"""Nodes added to a stranger's ONNX graph, in whatever operator set that graph is written. It runs none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bladescan.base.errors import DetectorError
from bladescan.detectors.onnx_metadata import import_onnx

LEAST_OPSET = 11
"""Oldest operator set that a graph may be written in."""

_AXES_ARE_INPUTS = {"ReduceSum": 13}
"""Since which operator set the axes of a reduction are an input; for all others, since 18."""


class GraphBuilder:
    """A list of nodes and constants that belong together.

    Args:
        opset: the operator set that they are written in.
        prefix: of every name that it makes up.

    Attributes:
        nodes: in an order in which they can be computed.
        initializers: their constants.
    """

    def __init__(self, opset: int, prefix: str) -> None:
        self._onnx = import_onnx("a foreign network")
        self._opset, self._prefix = opset, prefix
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def constant(self, values: ArrayLike, dtype: str = "float32") -> str:
        """Keep an array and give its name."""
        name = f"{self._prefix}constant_{len(self.initializers)}"
        array = np.asarray(values, dtype, order="C")
        self.initializers.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node of one output and give the output's name."""
        name = f"{self._prefix}{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(
            self._onnx.helper.make_node(operator, list(inputs), [output or name], name=name, **attributes)
        )
        return output or name

    def cast(self, tensor: str, dtype: str, output: str = "") -> str:
        """Turn a tensor into another type of number."""
        to = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.add("Cast", tensor, output=output, to=to)

    def reduce(self, operator: str, tensor: str, axes: Sequence[int], *, keep: bool = False) -> str:
        """Reduce a tensor over axes, which some operator sets take as an input and others as an attribute."""
        if self._opset >= _AXES_ARE_INPUTS.get(operator, 18):
            return self.add(operator, tensor, self.constant(axes, "int64"), keepdims=int(keep))
        return self.add(operator, tensor, axes=list(axes), keepdims=int(keep))


def opset_of(model: Any, *, where: str) -> int:
    """Read the operator set of a model.

    Raises:
        DetectorError: it has none, or one that is too old.
    """
    found = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if found < LEAST_OPSET:
        raise DetectorError(
            f"{where}: is written in operator set {found}; at least {LEAST_OPSET} is needed: "
            "export it anew, or convert it with onnx.version_converter"
        )
    return int(found)
