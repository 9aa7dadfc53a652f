import dataclasses

import numpy as np
import pytest
import torch

from bladescan.base.errors import RecipeError
from bladescan.networks.autoencoders import KINDS, PictureAutoencoder
from bladescan.photographs.index import PhotographIndex
from bladescan.photographs.photograph import Photograph
from bladescan.pretext.autoencoders import Autoencoders
from bladescan.pretext.manipulations import AUTOENCODE
from bladescan.tasks.recipe import AutoencodeRecipe, ManipulationRecipe
from bladescan.training import runs
from bladescan.training.autoencoders import FOLDER, psnr, train_autoencoder
from bladescan.training.loop import TrainingListener, train
from bladescan.training.photograph_split import split
from tests.pretext.graphs import blur, halves
from tests.training.tiny import LANDMARKS, TINY, equal, weights

BOX = (25.0, 25.0, 95.0, 95.0)


def autoencoding(steps=1, **recipe):
    manipulations = ManipulationRecipe(
        (AUTOENCODE,), pairs=True, autoencode=AutoencodeRecipe(steps=steps, side=(64, 96), **recipe)
    )
    inner = dataclasses.replace(TINY.inner, epochs=1)
    return dataclasses.replace(TINY, manipulations=manipulations, inner=inner)


def trained(photographs, steps, seed=0, kind="nearest"):
    index, entries = photographs
    return train_autoencoder(kind, index, [entry.digest for entry in entries], steps, seed)


@pytest.fixture(scope="module")
def slopes(tmp_path_factory):
    """Two soft pictures, which are quickly learned."""
    index = PhotographIndex(tmp_path_factory.mktemp("slopes") / "index.sqlite", "known")
    x, y = np.meshgrid(np.linspace(0, 255, 96), np.linspace(0, 255, 96))
    for name, channels in (("a", (x, y, x)), ("b", (255 - x, y, 255 - y))):
        index.add(name * 64, Photograph(np.stack(channels, 2).astype(np.uint8), BOX, LANDMARKS))
    return index, index.entries()


def test_another_seed_is_another_autoencoder(slopes):
    first, other = (trained(slopes, 1, seed).state_dict() for seed in (0, 1))
    assert not equal(first, other)


def test_training_brings_a_reconstruction_nearer_to_its_picture(slopes):
    index, entries = slopes
    pictures = [index.get(entry.digest).pixels for entry in entries]
    assert psnr(trained(slopes, 8), pictures) > psnr(trained(slopes, 1), pictures) + 1


def test_the_signal_to_noise_ratio_is_that_of_the_definition():
    class Shifted(PictureAutoencoder):
        def forward(self, x):
            return x + 2 / 255

    pictures = [np.full((9, 10, 3), 100, np.uint8)]
    assert psnr(Shifted("nearest"), pictures) == pytest.approx(20 * np.log10(255), abs=1e-3)


def test_a_killed_run_trains_the_autoencoders_that_are_missing(photographs, tmp_path):
    index, entries = photographs
    recipe, run, said = autoencoding(), tmp_path / "run", []
    missing = "quantised"
    runs.prepare(run, recipe, resume=False)
    (run / FOLDER).mkdir()
    for kind in KINDS:
        if kind != missing:
            blur(run / FOLDER / f"{kind}.onnx")
    train(recipe, index, entries, run, resume=True, listener=TrainingListener(say=said.append))
    assert [line.split(",")[0] for line in said if line.startswith("auto")] == [
        "autoencoder quantised: 1 steps"
    ]
    assert sorted(path.stem for path in (run / FOLDER).iterdir()) == sorted(KINDS)
    # The graph is the network that follows from the seed, at any size.
    network = trained((index, split(recipe, entries).train), 1, recipe.seed, missing)
    graph = Autoencoders(AutoencodeRecipe((str(run / FOLDER / f"{missing}.onnx"),)))
    for height, width in ((32, 48), (80, 64)):
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.no_grad():
            out = ((network(x)[0].permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).numpy()
        # A latent that is as near to one code as to another may go to either.
        assert (np.abs(out - graph.reconstruct(0, pixels)) <= 1).mean() > 0.95


def test_a_run_with_autoencoders_resumes_to_the_same_weights(photographs, tmp_path):
    index, entries = photographs
    recipe = autoencoding(files=(str(blur(tmp_path / "blur.onnx")),))
    whole = train(recipe, index, entries, tmp_path / "whole")

    def stop(progress):
        if progress.step == 1:
            raise KeyboardInterrupt

    killed = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        train(recipe, index, entries, killed, checkpoint_every_s=0, listener=TrainingListener(stop))
    more_workers = dataclasses.replace(recipe, workers=1)
    train(more_workers, index, entries, killed, resume=True)
    assert equal(weights(whole), weights(killed))
    assert not (whole / FOLDER).exists()


def test_a_file_that_is_no_autoencoder_stops_a_run_before_it_learns(photographs, tmp_path):
    index, entries = photographs
    with pytest.raises(RecipeError, match="half.onnx: gives .* expected an autoencoder"):
        train(autoencoding(files=(str(halves(tmp_path / "half.onnx")),)), index, entries, tmp_path / "run")
