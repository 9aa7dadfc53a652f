"""What a device can do, measured, and what a crop costs. It runs no backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.timing import Work, best
from bladescan.detectors.shipped import shipped_detector
from bladescan.heads.detector import DetectorModule, load_detector

CROP_BYTES = 224 * 224 * 3


class Bounds(NamedTuple):
    """What the machine can do, measured here, and what a crop costs.

    Attributes:
        bf16_tflops: of a large matrix product of random numbers.
        memory_gb_per_s: of a copy within the device, read and written bytes both counted.
        transfer_gb_per_s: of a copy from page-locked memory to the device.
        pinning_gb_per_s: of a copy by the processor to page-locked memory.
        crop_gflop: multiplications and additions of the convolutions and linear layers.
        crop_mb: bytes that they read and write in bfloat16 if all else is fused into them.
    """

    bf16_tflops: float
    memory_gb_per_s: float
    transfer_gb_per_s: float
    pinning_gb_per_s: float
    crop_gflop: float
    crop_mb: float

    def crops_per_second(self) -> dict[str, float]:
        """The rate that each of them allows on its own; the least is the bound."""
        return {
            "bfloat16 arithmetic": 1e3 * self.bf16_tflops / self.crop_gflop,
            "device memory": 1e3 * self.memory_gb_per_s / self.crop_mb,
            "crops to the device": 1e9 * self.transfer_gb_per_s / CROP_BYTES,
            "crops to page-locked memory": 1e9 * self.pinning_gb_per_s / CROP_BYTES,
        }


def bounds(device: str, *, side: int, megabytes: int) -> Bounds:
    """Measure the device; ``side`` is of the matrices, ``megabytes`` of the copies."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    plain = torch.empty(megabytes << 20, dtype=torch.uint8)
    here = torch.empty(len(plain), dtype=torch.uint8, pin_memory=device.startswith("cuda"))
    there, again = (torch.empty(len(here), dtype=torch.uint8, device=device) for _ in range(2))
    works: dict[str, Work] = {
        "product": lambda: to_its_end(device, lambda: a @ b),
        "memory": lambda: to_its_end(device, lambda: again.copy_(there)),
        "transfer": lambda: to_its_end(device, lambda: there.copy_(here, non_blocking=True)),
        "pinning": lambda: here.copy_(plain),
    }
    seconds = best(works, 8, uncounted=2)
    gflop, mb = cost(load_detector(shipped_detector("blades", (".safetensors",))))
    return Bounds(
        2e-12 * side**3 / seconds["product"],
        2e-9 * len(here) / seconds["memory"],
        1e-9 * len(here) / seconds["transfer"],
        1e-9 * len(here) / seconds["pinning"],
        gflop,
        mb,
    )


def to_its_end(device: str, work: Callable[[], object]) -> None:
    """Do work, and wait until the device has done it."""
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def cost(detector: Any) -> tuple[float, float]:
    """GFLOP and megabytes (bfloat16) of one crop, by layers that multiply."""
    flop = n_bytes = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal flop, n_bytes
        weight = module.weight
        assert isinstance(weight, Tensor)
        flop += 2 * output.numel() * weight[0].numel()
        n_bytes += 2 * (inputs[0].numel() + output.numel())

    module = DetectorModule(detector)
    for layer in module.encoder.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.inference_mode():
        module.embed(torch.zeros(1, 224, 224, 3, dtype=torch.uint8))
    return flop / 1e9, n_bytes / 1e6
