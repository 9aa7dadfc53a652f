"""Small autoencoders of pictures, one for each way in which image generators go up to full resolution.

They are made to leave the traces of a decoder, not to compress well. Pixels are RGB in [-1, 1].

References:
    Odena et al., "Deconvolution and Checkerboard Artifacts", 2016 (nearest, transposed); Karras et al.,
    arXiv:1812.04948 (bilinear); Shi et al., arXiv:1609.05158 (shuffle); Lee et al., arXiv:2203.01941
    (residual quantisation).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, mse_loss, silu

from bladescan.base.errors import UnknownNameError

KINDS = ("nearest", "bilinear", "transposed", "shuffle", "quantised")
"""How the decoder goes up; ``quantised`` goes up as ``nearest`` does, from quantised latents."""

STRIDE = 4
"""Pixels of a latent's side: height and width of a picture are multiples of it."""

N_CODES, N_CODEBOOKS = 256, 4
_COMMITMENT = 0.25


class _Residual(nn.Module):
    """Two convolutions around which the input passes by."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape ``[n, c, h, w]``."""
        out: Tensor = x + self.second(silu(self.first(silu(x))))
        return out


class _Up(nn.Module):
    """Twice the height and width, in one of the ways of `KINDS`."""

    blur: Tensor

    def __init__(self, kind: str, before: int, after: int) -> None:
        super().__init__()
        self.kind = kind
        if kind == "transposed":
            self.layer: nn.Module = nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)
        elif kind == "shuffle":
            self.layer = nn.Sequential(nn.Conv2d(before, 4 * after, 3, padding=1), nn.PixelShuffle(2))
        else:
            self.layer = nn.Conv2d(before, after, 3, padding=1)
        line = torch.tensor([1.0, 2.0, 1.0]) / 4
        blur = torch.outer(line, line).expand(after, 1, 3, 3).clone()
        self.register_buffer("blur", blur, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """From ``[n, before, h, w]`` to ``[n, after, 2 h, 2 w]``."""
        if self.kind in ("transposed", "shuffle"):
            out: Tensor = self.layer(x)
            return out
        if self.kind != "bilinear":
            return self._convolved(interpolate(x, scale_factor=2.0, mode="nearest"))
        up = self._convolved(interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False))
        return conv2d(up, self.blur, padding=1, groups=len(self.blur))

    def _convolved(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


class Quantised(NamedTuple):
    """Latents after quantisation.

    Attributes:
        latents: ``[n, d]``; their gradient passes to the latents before.
        codes: int64 ``[n, codebooks]``.
        loss: draws codes to latents, and latents to codes a little.
    """

    latents: Tensor
    codes: Tensor
    loss: Tensor


class ResidualQuantiser(nn.Module):
    """Vectors as a sum of codes: each codebook quantises what the ones before have left.

    Args:
        channels: length of a vector.
        n_codebooks: how many codes are summed.
        n_codes: in a codebook.
    """

    def __init__(self, channels: int, n_codebooks: int = N_CODEBOOKS, n_codes: int = N_CODES) -> None:
        super().__init__()
        self.codebooks = nn.Parameter(torch.randn(n_codebooks, n_codes, channels))

    def forward(self, latents: Tensor) -> Quantised:
        """Quantise ``[n, d]`` to the nearest codes."""
        left, codes, loss = latents, [], latents.new_zeros(())
        for book in self.codebooks:
            distances = (book**2).sum(1) - 2 * left @ book.T  # without |left|^2, which changes no order
            nearest = distances.argmin(1)
            code = book[nearest]
            loss = loss + mse_loss(code, left.detach()) + _COMMITMENT * mse_loss(left, code.detach())
            left = left - code.detach()
            codes.append(nearest)
        summed = latents - left.detach()  # straight through: the gradient is that of the latents
        return Quantised(latents + (summed - latents).detach(), torch.stack(codes, 1), loss)

    @torch.no_grad()
    def start_from(self, latents: Tensor, generator: torch.Generator) -> None:
        """Set each codebook to vectors that occur: draws from ``[n, d]``, or from what is left of them."""
        left = latents
        for i in range(len(self.codebooks)):
            chosen = torch.randint(len(left), (self.codebooks.shape[1],), generator=generator)
            book = left[chosen]
            if i:
                book[0] = 0  # so that a further codebook never has to make a vector worse
            self.codebooks[i] = book
            left = left - book[((book**2).sum(1) - 2 * left @ book.T).argmin(1)]


class Reconstruction(NamedTuple):
    """What an autoencoder makes of pictures.

    Attributes:
        pixels: as large as the pictures, about [-1, 1].
        loss: of the quantiser; 0 without one.
    """

    pixels: Tensor
    loss: Tensor


class PictureAutoencoder(nn.Module):
    """A convolutional autoencoder without normalisation: a picture of any size, quarter-size latents.

    Args:
        kind: one of `KINDS`.
        width: channels at full resolution; half and quarter resolution have twice and four times as many.
        channels: of the latents.

    Raises:
        UnknownNameError: there is no such kind.
    """

    def __init__(self, kind: str, width: int = 16, channels: int = 8) -> None:
        super().__init__()
        if kind not in KINDS:
            raise UnknownNameError("autoencoder", kind, KINDS)
        self.kind, half, quarter = kind, 2 * width, 4 * width
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, half, 4, stride=2, padding=1),
            _Residual(half),
            nn.Conv2d(half, quarter, 4, stride=2, padding=1),
            _Residual(quarter),
            nn.Conv2d(quarter, channels, 1),
        )
        self.quantiser = ResidualQuantiser(channels) if kind == "quantised" else None
        self.quantises = False
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, quarter, 3, padding=1),
            _Residual(quarter),
            _Up(kind, quarter, half),
            _Residual(half),
            _Up(kind, half, width),
            nn.SiLU(),
            nn.Conv2d(width, 3, 3, padding=1),
        )

    def reconstruct(self, x: Tensor) -> Reconstruction:
        """Reconstruct ``[n, 3, h, w]``, both sides multiples of `STRIDE`."""
        latents = self.encoder(x)
        if self.quantiser is None or not self.quantises:
            return Reconstruction(self.decoder(latents), x.new_zeros(()))
        n, d, height, width = latents.shape
        quantised = self.quantiser(latents.permute(0, 2, 3, 1).reshape(-1, d))
        grid = quantised.latents.reshape(n, height, width, d).permute(0, 3, 1, 2)
        return Reconstruction(self.decoder(grid), quantised.loss)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct pixels alone, for a graph."""
        return self.reconstruct(x).pixels

    @torch.no_grad()
    def start_quantising(self, x: Tensor, generator: torch.Generator) -> None:
        """Quantise from now on, with codes of these pictures' latents; nothing without a quantiser."""
        if self.quantiser is not None:
            latents = self.encoder(x)
            self.quantiser.start_from(latents.permute(0, 2, 3, 1).flatten(0, 2), generator)
            self.quantises = True
