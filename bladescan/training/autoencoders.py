"""The autoencoders of the manipulation ``autoencode``: those that a recipe names, or a zoo trained first.

One network of each kind of `bladescan.networks.autoencoders.KINDS` is trained on the photographs to learn
from and written to the run's folder as ONNX, one file after the other: a run that was killed goes on with the
next. Each follows from the recipe's seed and its own kind alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import l1_loss

from bladescan.base.output_files import write_file
from bladescan.networks.autoencoders import KINDS, STRIDE, PictureAutoencoder
from bladescan.networks.torch_graph import torch_to_onnx
from bladescan.photographs.index import PhotographIndex
from bladescan.pretext.autoencoders import Autoencoders
from bladescan.pretext.manipulations import AUTOENCODE
from bladescan.tasks.recipe import Recipe
from bladescan.training.photograph_split import Split

FOLDER = "autoencoders"
"""In the run's folder: the zoo, one ONNX file of each kind."""

_PATCH, _PATCHES = 64, 16  # side in pixels, and how many are in a step
_PER_PHOTOGRAPH = 4  # patches: a photograph costs more to decode than a patch to cut
_ZOOM = (0.5, 1.5)  # of the photograph before a patch is cut: grain and edges of every size
_LR, _WARMUP = 2e-3, 0.1
_EDGES = 1.0  # weight of the differences between neighbours, without which a reconstruction is blurred
_UNQUANTISED = 0.25  # share of the steps before latents are quantised
_MEASURED = 32  # photographs

Say = Callable[[str], None]


def with_autoencoders(
    recipe: Recipe, index: PhotographIndex, parts: Split, out_dir: Path, say: Say
) -> Recipe:
    """Name the autoencoders that a run uses in its recipe, trained first if it names none.

    Args:
        recipe: returned as it is if it does not ask for `AUTOENCODE`.
        index: holds the photographs.
        parts: the zoo learns from those to learn from, and is measured on those to measure on.
        out_dir: the run's folder, where the zoo is, or will be.
        say: told how good each one is.

    Raises:
        RecipeError: a file that the recipe names is no such autoencoder.
        OutputError: the zoo cannot be written.
    """
    if AUTOENCODE not in recipe.manipulations.names:
        return recipe
    wanted = recipe.manipulations.autoencode
    named = Autoencoders(wanted)
    named.check()
    files = named.files
    if not files:
        folder = out_dir / FOLDER
        files = tuple(folder / f"{kind}.onnx" for kind in KINDS)
        for kind, file in zip(KINDS, files, strict=True):
            if not file.exists():
                _train_into(file, kind, recipe, index, parts, say)
    chosen = dataclasses.replace(wanted, files=tuple(str(file) for file in files))
    manipulations = dataclasses.replace(recipe.manipulations, autoencode=chosen)
    return dataclasses.replace(recipe, manipulations=manipulations)


def _train_into(
    file: Path,
    kind: str,
    recipe: Recipe,
    index: PhotographIndex,
    parts: Split,
    say: Say,
) -> None:
    steps = recipe.manipulations.autoencode.steps
    network = train_autoencoder(kind, index, [e.digest for e in parts.train], steps, recipe.seed)
    measured = (parts.held_out or parts.train)[:_MEASURED]
    ratio = psnr(network, [index.get(e.digest).pixels for e in measured])
    say(f"autoencoder {kind}: {steps} steps, {ratio:.1f} dB on {len(measured)} photographs")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_file(file, autoencoder_graph(network))


def train_autoencoder(
    kind: str, index: PhotographIndex, digests: Sequence[str], n_steps: int, seed: int
) -> PictureAutoencoder:
    """Train one autoencoder on patches of photographs.

    Args:
        kind: of the network.
        index: holds the photographs.
        digests: of those to learn from.
        n_steps: of Adam, each on 16 patches of 64 pixels.
        seed: of weights and patches; the kind is mixed in.

    Returns:
        The network, evaluating.
    """
    sequence = np.random.SeedSequence((seed, KINDS.index(kind)))
    rng = np.random.default_rng(sequence)
    generator = torch.Generator().manual_seed(int(sequence.generate_state(1)[0]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(sequence.generate_state(2)[1]))
        network = PictureAutoencoder(kind)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=_LR)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, _LR, total_steps=max(n_steps, 2), pct_start=_WARMUP
    )
    for step in range(n_steps):
        x = _patches(index, digests, rng)
        if step == round(_UNQUANTISED * n_steps):
            network.start_quantising(x, generator)
        made = network.reconstruct(x)
        loss = l1_loss(made.pixels, x) + _EDGES * _edge_loss(made.pixels - x) + made.loss
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    network.eval()
    return network


def autoencoder_graph(network: PictureAutoencoder) -> bytes:
    """Write a network as ONNX: one picture or several, of any size that is a multiple of 4."""
    rows = STRIDE * torch.export.Dim("rows", min=2, max=4096)
    columns = STRIDE * torch.export.Dim("columns", min=2, max=4096)
    sides = {0: torch.export.Dim("n", min=1, max=1 << 20), 2: rows, 3: columns}
    return torch_to_onnx(network, torch.zeros(2, 3, 64, 48), "pixels", ["reconstruction"], dynamic=sides)


@torch.no_grad()
def psnr(network: PictureAutoencoder, pictures: Sequence[NDArray[np.uint8]]) -> float:
    """Measure the mean peak signal-to-noise ratio of reconstructions of uint8 RGB pictures, in dB."""
    ratios = []
    for picture in pictures:
        height, width = (STRIDE * (n // STRIDE) for n in picture.shape[:2])
        x = _normalised(picture[None, :height, :width])
        error = float(((network(x).clamp(-1, 1) - x) / 2).square().mean())
        ratios.append(-10 * np.log10(max(error, 1e-10)))
    return float(np.mean(ratios))


def _edge_loss(error: Tensor) -> Tensor:
    """Average the absolute differences of an error between neighbours."""
    return error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()


def _patches(index: PhotographIndex, digests: Sequence[str], rng: np.random.Generator) -> Tensor:
    """Draw the patches of one step, ``[16, 3, 64, 64]`` in [-1, 1]."""
    cut = []
    for i in rng.integers(len(digests), size=_PATCHES // _PER_PHOTOGRAPH):
        pixels = index.get(digests[int(i)]).pixels
        for _ in range(_PER_PHOTOGRAPH):
            cut.append(_patch(pixels, rng))
    return _normalised(np.stack(cut))


def _patch(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    zoom = float(np.exp(rng.uniform(*np.log(_ZOOM))))
    side = min(round(_PATCH / zoom), *pixels.shape[:2])
    top, left = (int(rng.integers(n - side + 1)) for n in pixels.shape[:2])
    part = pixels[top : top + side, left : left + side]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    kernel = cv2.INTER_AREA if side > _PATCH else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(part, (_PATCH, _PATCH), interpolation=kernel), np.uint8)


def _normalised(pictures: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
