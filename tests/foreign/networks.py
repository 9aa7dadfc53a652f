"""Image encoders and detectors small enough for tests, as strangers would hand them over."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from bladescan.networks.torch_graph import torch_to_onnx
from tests.once import once

SIDE, PATCH, WIDTH, N_BLOCKS = 32, 8, 16, 3
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
CHANGES = ("encoder.mean=0.4,0.5,0.6", "encoder.std=0.2,0.25,0.3")


class Block(nn.Module):
    """A block as of CLIP and DINO: attention and a perceptron, each added to what comes in."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 32), nn.GELU(), nn.Linear(32, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norms[0](x)).chunk(3, -1)
        x = x + self.out(torch.softmax(q @ k.transpose(1, 2) / 4, -1) @ v)
        return x + self.mlp(self.norms[1](x))


class VisionTransformer(nn.Module):
    """Patches, a class token, positions, blocks; the class token is the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.randn(1, 1 + (SIDE // PATCH) ** 2, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(N_BLOCKS))
        self.norm = nn.LayerNorm(WIDTH)

    def hidden(self, pixels: Tensor) -> list[Tensor]:
        """What each block gives to the next."""
        x = self.patches(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        found = []
        for block in self.blocks:
            x = block(x)
            found.append(x)
        return found

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        last = self.hidden(pixels)[-1]
        return self.norm(last[:, 0]), last


def transformer() -> tuple[VisionTransformer, bytes]:
    """A transformer and its ONNX, with the outputs ``picture`` and ``tokens``."""
    torch.manual_seed(0)
    network = VisionTransformer().eval()
    example = torch.zeros(2, 3, SIDE, SIDE)
    outputs = ["picture", "tokens"]
    path = once(
        "transformer.onnx", lambda path: path.write_bytes(torch_to_onnx(network, example, "pixels", outputs))
    )
    return network, path.read_bytes()


def save_convolution(path, *, shape=("n", 3, 56, 56), opset=17, dtype=TensorProto.FLOAT, domain="", seed=0):
    """Save one convolution: what it says of patches is ``map`` ``[n, 4, 7, 7]``, their mean ``vector``."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(4, 3, 8, 8)).astype(np.float32) / 14
    nodes = []
    pixels = "pixels"
    if dtype != TensorProto.FLOAT:
        nodes.append(helper.make_node("Cast", [pixels], ["cast"], to=TensorProto.FLOAT))
        pixels = "cast"
    if shape[3] == 3:
        nodes.append(helper.make_node("Transpose", [pixels], ["first"], perm=[0, 3, 1, 2]))
        pixels = "first"
    nodes += [
        helper.make_node("Conv", [pixels, "weights"], ["conv"], strides=[8, 8]),
        helper.make_node("Relu", ["conv"], ["map"], domain=domain),
        helper.make_node("GlobalAveragePool", ["map"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["vector"]),
    ]
    n = None if isinstance(shape[0], str) else shape[0]
    graph = helper.make_graph(
        nodes,
        "convolution",
        [helper.make_tensor_value_info("pixels", dtype, list(shape))],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, [n, 4])],
        [numpy_helper.from_array(weights, "weights")],
    )
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return weights
