"""Several processes, one training: every minibatch is shared out, and the result is that of one process.

Started by ``torchrun``; without it everything here is a world of one and costs nothing. Losses compare all
images of the minibatch (pairs of an ordinal tag stand on different processes), so the model's *outputs* are
gathered, every process computes the same losses, and gradients are averaged explicitly: a gradient that is
taken by ``torch.autograd.grad`` passes the hooks of ``DistributedDataParallel`` by. Batch norms share their
statistics. What is left is rounding.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bladescan.base.errors import BladescanError, DeviceUnavailableError, UsageError
from bladescan.base.exit_codes import ExitCode

_T = TypeVar("_T")
_TIMEOUT = datetime.timedelta(days=1)  # the first process may index photographs for hours


class World(NamedTuple):
    """The processes of one training.

    Attributes:
        rank: of this process, from 0; 0 writes the files.
        size: how many there are.
        device: this process's.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")

    @property
    def leads(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def share(self, items: Sequence[_T]) -> Sequence[_T]:
        """Take this process's part of a minibatch, in order.

        Raises:
            UsageError: it cannot be shared out evenly.
        """
        each, rest = divmod(len(items), self.size)
        if rest:
            raise UsageError(f"{len(items)} photographs cannot be divided among {self.size} processes")
        return items[self.rank * each : (self.rank + 1) * each]

    def gather(self, own: Tensor) -> Tensor:
        """Gather the parts of all processes, in order: ``[b, ...]`` to ``[size b, ...]``.

        The own part keeps its gradient, times ``size``: averaged over processes, the gradients of whatever
        produced the parts are those of one process that had produced them all.
        """
        if self.size == 1:
            return own
        still = own.detach().contiguous()
        parts = [torch.empty_like(still) for _ in range(self.size)]
        dist.all_gather(parts, still)
        parts[self.rank] = still if not own.requires_grad else still + self.size * (own - still)
        return torch.cat(parts)

    @torch.no_grad()
    def average(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Average over all processes, tensor by tensor."""
        if self.size == 1:
            return tensors
        flat = torch.cat([t.reshape(-1) for t in tensors.values()])
        dist.all_reduce(flat)
        parts = torch.split(flat / self.size, [t.numel() for t in tensors.values()])
        return {name: part.view(t.shape) for (name, t), part in zip(tensors.items(), parts, strict=True)}

    def from_first(self, compute: Callable[[], _T]) -> _T:
        """Send what the first process computes to every process.

        If it cannot, its error is raised there, and the others end with the same exit code, in silence.
        """
        if self.size == 1:
            return compute()
        held: list[Any] = [None, True]
        error: BladescanError | None = None
        if self.leads:
            try:
                held = [compute(), False]
            except BladescanError as exc:
                error = exc
        dist.broadcast_object_list(held, device=self.device)
        value, failed = held
        if error is not None:
            raise error
        if failed:
            raise SystemExit(ExitCode.FAILED)
        result: _T = value
        return result

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            dist.barrier()


ALONE = World()
"""One process on the CPU."""


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Join the processes that ``torchrun`` started, or be alone.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; under ``torchrun`` each process takes the GPU of
            its local rank.

    Raises:
        DeviceUnavailableError: there is no such device.
    """
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    chosen = choose_device(device, int(os.environ.get("LOCAL_RANK", "0")) if size > 1 else None)
    if size == 1:
        yield World(device=chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
        dist.init_process_group("nccl", timeout=_TIMEOUT, device_id=chosen)
    else:
        dist.init_process_group("gloo", timeout=_TIMEOUT)
    try:
        yield World(rank, size, chosen)
    finally:
        dist.destroy_process_group()


def choose_device(name: str, local_rank: int | None = None) -> torch.device:
    """Get the device of that name, never another instead.

    Raises:
        DeviceUnavailableError: it cannot be had.
    """
    has_cuda = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if has_cuda else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as exc:
        raise DeviceUnavailableError(f"device {name!r}: expected auto, cpu, cuda or cuda:N") from exc
    if device.type == "cuda":
        index = local_rank if local_rank is not None else device.index or 0
        if not has_cuda or index >= torch.cuda.device_count():
            raise DeviceUnavailableError(
                f"device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices"
            )
        return torch.device("cuda", index)
    if device.type != "cpu":
        raise DeviceUnavailableError(f"device {name!r}: expected auto, cpu, cuda or cuda:N")
    return device


class _Sum(torch.autograd.Function):
    """Sum over all processes, in both directions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def _summed(x: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]
    return total


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the minibatch of all processes; the same on a CPU and on GPUs, in any precision."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise Normalise ``[b, c, h, w]``, as many images on every process."""
        if not self.training:
            return super().forward(x)
        y = x.to(torch.promote_types(x.dtype, torch.float32))
        n = y.numel() // y.shape[1] * dist.get_world_size()
        mean = _summed(y.sum((0, 2, 3))) / n
        centred = y - mean[:, None, None]
        variance = _summed(centred.square().sum((0, 2, 3))) / n
        if self.track_running_stats:
            self._remember(mean.detach(), variance.detach() * (n / (n - 1)))
        scale = torch.rsqrt(variance + self.eps) * self.weight
        out: Tensor = (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)
        return out

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        momentum = 0.1 if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(variance.to(self.running_var.dtype), momentum)


def share_batch_norms(model: nn.Module, world: World) -> None:
    """Let the batch norms of a model see the whole minibatch; parameters and names stay."""
    if world.size == 1:
        return
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm2d
