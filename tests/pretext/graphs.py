"""ONNX graphs that take pictures: what an autoencoder may be, and what is none."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def _saved(path, nodes, constants, given, made):
    graph = helper.make_graph(
        nodes,
        "pictures",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, given)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, made)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def blur(path, side=None):
    """A mean of 3 x 3 pixels of each channel, the border repeated; of any size, or of one."""
    kernel = np.full((3, 1, 3, 3), 1 / 9, np.float32)
    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["padded"], mode="edge"),
        helper.make_node("Conv", ["padded", "kernel"], ["y"], group=3),
    ]
    shape = ["n", 3, side or "h", side or "w"]
    return _saved(path, nodes, {"kernel": kernel, "pads": pads}, shape, shape)


def halves(path):
    """Half the height and width."""
    node = helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2])
    return _saved(path, [node], {}, ["n", 3, "h", "w"], ["n", 3, "h2", "w2"])


def unit_range(path):
    """The picture again, from 0 to 1 where -1 to 1 went in."""
    nodes = [
        helper.make_node("Add", ["x", "one"], ["more"]),
        helper.make_node("Mul", ["more", "half"], ["y"]),
    ]
    constants = {"one": np.array(1, np.float32), "half": np.array(0.5, np.float32)}
    return _saved(path, nodes, constants, ["n", 3, "h", "w"], ["n", 3, "h", "w"])


def flat(path):
    """Rows of numbers, no pictures."""
    node = helper.make_node("Identity", ["x"], ["y"])
    return _saved(path, [node], {}, ["n", 3], ["n", 3])
