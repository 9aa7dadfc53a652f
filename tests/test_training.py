import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from bladescan import runs
from bladescan.errors import DataError, DetectorError, UsageError
from bladescan.photographs import Batch, Photograph, PhotographIndex
from bladescan.recipe import (
    AugmentationRecipe,
    EncoderRecipe,
    InnerRecipe,
    ManipulationRecipe,
    Recipe,
    load_recipe,
)
from bladescan.training import JointEmbedding, learning_rate, step, task_losses, train

LANDMARKS = np.array([[45, 55], [75, 55], [60, 72], [48, 88], [72, 88]], np.float32)
TINY = Recipe(
    name="tiny",
    encoder=EncoderRecipe("resnet10", width=8, embedding_dim=16),
    manipulations=ManipulationRecipe(("face-warp", "mouth-flip-vertical"), pairs=True),
    augmentation=AugmentationRecipe(window=64),
    inner=InnerRecipe(lr=1e-3, batch_size=4, epochs=2, warmup=0.2, clip_norm=1.0),
    held_out=0.25,
    workers=0,
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """These models are too small to share among threads."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    index = PhotographIndex(tmp_path_factory.mktemp("index") / "index.sqlite", "known")
    rng = np.random.default_rng(0)
    digests = [f"{int(share * 2**32):08x}" + "0" * 56 for share in (0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)]
    for digest in digests:
        pixels = rng.integers(0, 256, (120, 120, 3)).astype(np.uint8)
        index.add(digest, Photograph(pixels, (25.0, 25.0, 95.0, 95.0), LANDMARKS))
    return index, digests


@pytest.fixture(scope="module")
def finished(photographs, tmp_path_factory):
    index, digests = photographs
    seen = []
    out = train(TINY, index, digests, tmp_path_factory.mktemp("runs") / "tiny", progress=seen.append)
    return out, seen


def weights(run):
    return runs.load_encoder_run(run).encoder.state_dict()


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_a_run_holds_its_recipe_its_history_and_an_encoder_that_loads(finished):
    out, seen = finished
    assert load_recipe(str(out / runs.RECIPE_FILE)) == TINY
    history = [json.loads(line) for line in (out / runs.HISTORY_FILE).read_text().splitlines()]
    assert [entry["epoch"] for entry in history] == [1, 2]
    assert set(history[0]["losses"]) == set(history[0]["held_out_accuracy"]) == set(TINY.tasks)
    assert [p.step for p in seen] == list(range(1, 7)) and seen[-1].n_steps == 6
    run = runs.load_encoder_run(out)
    assert run.manifest.encoder.embedding_dim == 16
    assert run.manifest.provenance["n_photographs"] == 6
    assert run.encoder(torch.zeros(1, 3, 224, 224)).shape == (1, 16)
    assert not run.encoder.training


def test_the_same_seed_gives_the_same_weights_whatever_the_number_of_workers(finished, photographs, tmp_path):
    index, digests = photographs
    again = train(dataclasses.replace(TINY, workers=2), index, digests[::-1], tmp_path / "again")
    assert equal(weights(finished[0]), weights(again))


def test_another_seed_gives_other_weights(finished, photographs, tmp_path):
    index, digests = photographs
    other = train(dataclasses.replace(TINY, seed=1), index, digests, tmp_path / "other")
    assert not equal(weights(finished[0]), weights(other))


def test_a_resumed_run_ends_with_the_weights_of_an_undisturbed_one(finished, photographs, tmp_path):
    index, digests = photographs

    class Killed(Exception):
        pass

    def kill(progress):
        if progress.step == 5:
            raise Killed

    with pytest.raises(Killed):
        train(TINY, index, digests, tmp_path / "run", progress=kill)
    with pytest.raises(DetectorError, match="has not finished"):
        runs.load_encoder_run(tmp_path / "run")
    steps = []
    resumed = train(TINY, index, digests, tmp_path / "run", resume=True, progress=steps.append)
    assert steps[0].step == 4
    assert equal(weights(finished[0]), weights(resumed))
    assert (resumed / runs.HISTORY_FILE).read_text() == (finished[0] / runs.HISTORY_FILE).read_text()


def test_a_folder_in_use_and_a_changed_recipe_are_refused(finished, photographs):
    index, digests = photographs
    with pytest.raises(UsageError, match="not empty"):
        train(TINY, index, digests, finished[0])
    with pytest.raises(UsageError, match="another recipe"):
        train(dataclasses.replace(TINY, seed=5), index, digests, finished[0], resume=True)


def test_too_few_photographs_are_an_error_that_says_how_many(photographs, tmp_path):
    index, digests = photographs
    with pytest.raises(DataError, match=r"1 photographs to learn from \(0 kept out\).*takes 2"):
        train(TINY, index, digests[-1:], tmp_path / "run")


@pytest.mark.parametrize("damage", ["truncated", "pickle", "foreign"])
def test_a_broken_encoder_file_gets_one_clear_line(finished, tmp_path, damage):
    whole = (finished[0] / runs.ENCODER_FILE).read_bytes()
    path = tmp_path / runs.ENCODER_FILE
    if damage == "truncated":
        path.write_bytes(whole[:-100])
    elif damage == "pickle":
        torch.save({"a": torch.zeros(1)}, path)
    else:
        from safetensors.torch import save_file

        save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(DetectorError, match=r"^[^\n]*encoder\.safetensors[^\n]*$"):
        runs.load_encoder_run(path)


def batch(n=6):
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (n, 64, 64, 3), generator=rng, dtype=torch.uint8)
    coarse = torch.arange(n) % 2
    fine = coarse[:, None].float() * torch.tensor([1.0, 0.0, 1.0])
    return Batch(pixels, coarse, fine)


def test_steps_on_one_minibatch_lower_every_task_loss():
    torch.manual_seed(0)
    model = JointEmbedding(TINY)
    optimizer = torch.optim.AdamW(model.parameters())
    course = [step(model, optimizer, batch(), TINY, 3e-3) for _ in range(25)]
    assert all(course[-1][name] < 0.5 * course[0][name] for name in TINY.tasks)


def test_a_task_that_is_left_out_has_no_prompt_and_no_loss():
    coarse_only = dataclasses.replace(TINY, tasks={"coarse_manipulation": 1.0})
    model = JointEmbedding(coarse_only)
    similarities = model(batch().pixels)
    assert similarities.shape == (6, 2)
    assert set(task_losses(similarities, batch(), list(coarse_only.tasks), 0.0)) == {"coarse_manipulation"}


def test_similarities_are_bounded_by_the_inverse_temperature():
    model = JointEmbedding(TINY)
    limit = 1 / TINY.text.temperature
    assert model(batch().pixels).abs().max() <= limit + 1e-4
    assert math.exp(model.logit_scale.item()) == pytest.approx(limit)


def test_a_divergence_stops_with_a_clear_word_and_leaves_the_weights():
    model = JointEmbedding(TINY)
    with torch.no_grad():
        model.logit_scale.fill_(float("nan"))
    before = model.prompts.detach().clone()
    with pytest.raises(DataError, match=r"training diverged.*lower inner\.lr"):
        step(model, torch.optim.AdamW(model.parameters()), batch(), TINY, 1e-3)
    assert torch.equal(model.prompts, before)


def test_the_learning_rate_rises_then_falls_to_zero():
    inner = InnerRecipe(lr=1.0, warmup=0.1)
    course = [learning_rate(k, 100, inner) for k in range(101)]
    assert course[0] == pytest.approx(0.1) and max(course) == course[10] == 1.0
    assert course[55] == pytest.approx(0.5) and course[100] == pytest.approx(0.0)
