import numpy as np
import pytest
import torch

from bladescan.base.errors import UnknownNameError
from bladescan.networks.autoencoders import KINDS, PictureAutoencoder, ResidualQuantiser


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quantising", [False, True])
def test_a_picture_comes_back_in_its_own_size(kind, quantising):
    network = PictureAutoencoder(kind, width=4, channels=4)
    x = torch.rand(2, 3, 16, 24) * 2 - 1
    if quantising:
        network.start_quantising(-x, torch.Generator().manual_seed(0))
    made = network.reconstruct(x)
    assert made.pixels.shape == x.shape
    assert network.quantises == (quantising and kind == "quantised")
    assert (made.loss > 0) == network.quantises


def test_an_unknown_kind_is_refused_with_those_there_are():
    with pytest.raises(UnknownNameError, match="nearest"):
        PictureAutoencoder("nearly")


def by_hand(latents, codebooks):
    """Nearest codes one after the other, without any algebra."""
    codes, sums = [], []
    for vector in latents:
        left, chosen = vector.copy(), []
        for book in codebooks:
            chosen.append(min(range(len(book)), key=lambda k: float(((left - book[k]) ** 2).sum())))
            left = left - book[chosen[-1]]
        codes.append(chosen)
        sums.append(vector - left)
    return np.array(codes), np.array(sums)


def test_the_quantiser_takes_the_nearest_codes_of_what_is_left():
    torch.manual_seed(0)
    quantiser = ResidualQuantiser(3, n_codebooks=3, n_codes=7)
    latents = torch.randn(20, 3)
    made = quantiser(latents)
    codes, sums = by_hand(latents.numpy(), quantiser.codebooks.detach().numpy())
    assert made.codes.tolist() == codes.tolist()
    np.testing.assert_allclose(made.latents.detach().numpy(), sums, atol=1e-5)


def test_the_gradient_passes_the_quantiser_as_if_it_were_not_there():
    latents = torch.randn(5, 3, requires_grad=True)
    (ResidualQuantiser(3)(latents).latents * torch.arange(3.0)).sum().backward()
    assert torch.equal(latents.grad, torch.arange(3.0).expand(5, 3))


def test_codes_that_start_from_vectors_quantise_them_better_with_every_codebook():
    rng = torch.Generator().manual_seed(0)
    latents = torch.randn(400, 4, generator=rng)
    errors = []
    for n in (1, 2, 4):
        quantiser = ResidualQuantiser(4, n_codebooks=n, n_codes=16)
        quantiser.start_from(latents, torch.Generator().manual_seed(1))
        errors.append(float((quantiser(latents).latents - latents).square().mean()))
    assert errors[0] > errors[1] > errors[2]


def test_bilinear_goes_up_without_a_grid():
    """A flat picture's latents are flat, and a convolution with a blur keeps them so but at the border."""
    torch.manual_seed(0)
    flat = torch.full((1, 8, 24, 24), 0.5)
    inner = {}
    for kind in ("bilinear", "transposed"):
        up = PictureAutoencoder(kind, width=4).decoder
        inner[kind] = up(flat)[0, :, 40:56, 40:56].std(dim=(1, 2)).max().item()
    assert inner["bilinear"] < 1e-6 < inner["transposed"]
