"""Networks that learn from labelled faces: what they see, how they learn, and when their rate falls."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from bladescan.base.errors import DataError, RecipeError, UsageError
from bladescan.photographs.index import PhotographIndex
from bladescan.photographs.photograph import Photograph
from bladescan.pretext.examples import Examples, augment
from bladescan.pretext.losses import categorical_loss
from bladescan.tasks.recipe import AugmentationRecipe
from bladescan.tasks.recipe_files import load_recipe
from bladescan.training import runs
from bladescan.training.distributed import ALONE
from bladescan.training.loop import TrainingListener, train
from bladescan.training.minibatches import Sampler
from bladescan.training.photograph_split import is_generated, split
from bladescan.training.schedule import plateau_rate
from tests.training.entries import entry
from tests.training.tiny import LANDMARKS, equal, weights

SMALL = [
    "encoder.width=8",
    "encoder.embedding_dim=16",
    "augmentation.window=64",
    "augmentation.blur=0.0",
    "augmentation.jpeg=0.1",
    "inner.batch_size=8",
    "inner.lr=3.0e-3",
    "inner.patience=5",
    "inner.final_lr=2.0e-4",
    "inner.epochs=40",
    "workers=0",
]


def small(name):
    shape = "encoder.name=resnet10" if name == "cnnd" else "encoder.name=gramnet"
    return load_recipe(name, [shape, *SMALL])


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Forty faces with grain, sixteen AI-generated ones with hardly any."""
    path = tmp_path_factory.mktemp("labelled") / "index.sqlite"
    rng = np.random.default_rng(0)
    digests = [entry(i).digest for i in range(56)]
    index = PhotographIndex(path, "known", frozenset(digests[40:]))
    for i, digest in enumerate(digests):
        grain = rng.normal(0, 40 if i < 40 else 2, (120, 120, 3))
        pixels = np.clip(rng.integers(80, 180) + grain, 0, 255).astype(np.uint8)
        index.add(digest, Photograph(pixels, (25.0, 25.0, 95.0, 95.0), LANDMARKS, {"iso_speed": 100.0}, "c"))
    return index


@pytest.fixture(scope="module", params=["cnnd", "gramnet"])
def learned(request, labelled, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / request.param
    train(small(request.param), labelled, labelled.entries(), out)
    return request.param, out


def test_the_index_says_the_origin_only_where_somebody_has(labelled):
    assert [e.tags["origin"] for e in labelled.entries()].count("AI-generated") == 16
    plain = PhotographIndex(labelled.path, "known")
    assert not any("origin" in e.tags for e in plain.entries())
    chosen = next(e for e in labelled.entries() if is_generated(e))
    assert labelled.get(chosen.digest).tags == {"iso_speed": 100.0, "origin": "AI-generated"}
    assert plain.get(chosen.digest).tags == {"iso_speed": 100.0}


def test_it_learns_to_tell_the_classes_on_faces_that_it_has_not_seen(learned):
    history = runs.read_history(learned[1])
    measured = [line["held_out"]["origin"] for line in history if "held_out" in line]
    assert measured[-1]["accuracy"] > 0.95 > measured[-1]["chance"]
    assert history[-1]["losses"]["origin"] < 0.5 * history[0]["losses"]["origin"]


def test_a_resumed_run_ends_as_an_undisturbed_one_and_at_the_same_rates(learned, labelled, tmp_path):
    name, out = learned

    class Killed(Exception):
        pass

    def kill(progress):
        if progress.step == 11:
            raise Killed

    run, entries = tmp_path / "run", labelled.entries()
    with pytest.raises(Killed):
        train(small(name), labelled, entries, run, checkpoint_every_s=0, listener=TrainingListener(kill))
    train(small(name), labelled, entries, run, resume=True)
    assert equal(weights(out), weights(run))
    assert (out / runs.HISTORY_FILE).read_text() == (run / runs.HISTORY_FILE).read_text()


def test_faces_that_change_sides_cannot_go_on_with_a_run(learned, labelled):
    name, out = learned
    theirs = [e.digest for e in labelled.entries() if is_generated(e)]
    other = PhotographIndex(labelled.path, "known", frozenset(theirs[1:]))
    with pytest.raises(UsageError, match="other photographs"):
        train(small(name), other, other.entries(), out, resume=True)


def test_the_rate_falls_after_a_plateau_and_the_training_ends_below_the_last_rate(learned):
    lines = runs.read_history(learned[1])
    ends = [line for line in lines if "validation" in line]
    seen = [line["validation"]["origin"]["accuracy"] for line in ends]
    inner = small(learned[0]).inner
    for i, line in enumerate(ends[1:], 1):
        assert line["lr"] == plateau_rate(seen[:i], inner)
    assert sorted({line["lr"] for line in lines}) == pytest.approx([3e-4, 3e-3])
    assert len(ends) < inner.epochs


def test_a_plateau_is_so_many_epochs_without_a_thousandth_more():
    inner = dataclasses.replace(load_recipe("cnnd").inner, patience=2)
    assert inner.lr == 1e-4
    assert plateau_rate([], inner) == plateau_rate([0.5, 0.6, 0.6], inner) == 1e-4
    assert plateau_rate([0.5, 0.6, 0.6, 0.6], inner) == plateau_rate([0.6, 0.6005, 0.6009], inner) == 1e-5
    assert plateau_rate([0.6, 0.6005, 0.6011, 0.6021], inner) == 1e-4
    assert plateau_rate([0.6] * 5, inner) == 1e-6


def test_half_of_every_minibatch_is_generated_and_no_face_is_manipulated(labelled):
    recipe = small("cnnd")
    parts = split(recipe, labelled.entries())
    sampler = Sampler(recipe, parts, ALONE)
    for step in range(20):
        drawn = [parts.train[i] for _, _, i in sampler.keys(step)]
        assert [is_generated(e) for e in drawn].count(True) == 4 and len(drawn) == 8
    digests = [e.digest for e in parts.train]
    examples = Examples(labelled, digests, recipe.manipulations, recipe.augmentation, 0)
    batches = [examples[0, i] for i in range(len(digests))]
    told = [int(b.targets["origin"]) for b in batches]
    assert told == [int(is_generated(e)) for e in parts.train]
    assert not any(int(b.targets["coarse_manipulation"]) for b in batches)


def test_parts_hold_different_faces(labelled):
    parts = split(small("cnnd"), labelled.entries())
    digests = [e.digest for part in parts for e in part]
    assert len(digests) == len(set(digests)) == 56 and all(parts)
    one_class = [e for e in labelled.entries() if not is_generated(e)]
    with pytest.raises(DataError, match="and 0 AI-generated faces to learn from"):
        split(small("cnnd"), one_class)


def test_two_outputs_and_cross_entropy_are_one_logit_and_its_binary_one():
    rng = torch.Generator().manual_seed(0)
    outputs = torch.randn(9, 2, generator=rng, dtype=torch.float64)
    targets = torch.arange(9) % 2
    found = categorical_loss(outputs, targets, gamma=0.0, distance="cross-entropy")
    wanted = binary_cross_entropy_with_logits(outputs[:, 1] - outputs[:, 0], targets.double())
    torch.testing.assert_close(found, wanted)
    # An image without a label counts for nothing.
    more = categorical_loss(
        torch.cat([outputs, outputs]),
        torch.cat([targets, targets * 0 - 1]),
        gamma=0.0,
        distance="cross-entropy",
    )
    torch.testing.assert_close(more, wanted)


def only(**changes):
    none = dict.fromkeys(("rescale", "blur", "noise", "jpeg", "colour", "flip"), 0.0)
    return AugmentationRecipe(**{**none, "scale": (1.3, 1.3), "shift": 0.0, **changes})


def grain():
    return np.random.default_rng(0).integers(0, 256, (320, 320, 3)).astype(np.uint8)


def test_the_blur_is_between_nothing_and_the_largest_sigma():
    box, plain = (70.0, 70.0, 250.0, 250.0), only()
    sharp = augment(grain(), box, plain, np.random.default_rng(0)).astype(float).std()
    recipe = only(blur=1.0, blur_sigma=(0.0, 3.0))
    left = sorted(augment(grain(), box, recipe, np.random.default_rng(s)).std() / sharp for s in range(60))
    strongest = augment(grain(), box, only(blur=1.0, blur_sigma=(3.0, 3.0)), np.random.default_rng(0))
    none = augment(grain(), box, only(blur=1.0, blur_sigma=(0.0, 0.0)), np.random.default_rng(0))
    assert 0.97 * strongest.std() / sharp < left[0] < 0.3 and 0.8 < left[-1] <= 1.0
    assert none.std() == sharp


def test_jpeg_is_drawn_within_its_qualities_once_or_twice(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "bladescan.pretext.examples.recompress_pixels", lambda x, quality: asked.append(quality) or x
    )
    box = (70.0, 70.0, 250.0, 250.0)
    given = load_recipe("cnnd").augmentation
    for twice, times in ((False, 1), (True, 2)):
        recipe = only(jpeg=1.0, jpeg_twice=twice, jpeg_quality=given.jpeg_quality)
        asked.clear()
        for seed in range(300):
            augment(grain(), box, recipe, np.random.default_rng(seed))
        assert len(asked) == 300 * times and (min(asked), max(asked)) == (30, 100)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["tasks={origin: 1.0, make: 1.0}"], "origin is learned alone"),
        (["head=joint"], "head: joint; with origin it is linear"),
        (["normalise=true"], "normalise: the head of origin"),
        (["data.subject=image"], "data.subject: origin is learned from faces"),
        (["data.held_out=0"], "data.held_out: 0"),
        (["augmentation.blur_sigma=[3.0, 1.0]"], "augmentation.blur_sigma: smallest 3.0"),
        (["manipulations.pairs=true"], "manipulations.pairs: there is no manipulation"),
        (["tasks={coarse_manipulation: 1.0}", "primary=coarse_manipulation"], "none, but tasks has coarse"),
    ],
)
def test_what_cannot_be_learned_so_is_said(changes, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("cnnd", changes)


def test_a_plateau_and_an_outer_loop_exclude_each_other():
    with pytest.raises(RecipeError, match="plateau goes with outer.enabled false"):
        load_recipe("blades", ["inner.schedule=plateau"])


def test_the_recipes_have_the_papers_figures():
    cnnd, gramnet = load_recipe("cnnd"), load_recipe("gramnet")
    a, inner = cnnd.augmentation, cnnd.inner
    assert (cnnd.encoder.name, a.blur, a.blur_sigma, a.jpeg, a.jpeg_quality) == (
        "resnet50",
        0.5,
        (0.0, 3.0),
        0.5,
        (30, 100),
    )
    assert (inner.optimizer, inner.lr, inner.final_lr, inner.patience) == ("adam", 1e-4, 1e-6, 5)
    assert gramnet.encoder.name == "gramnet" and gramnet.supervised and not gramnet.augmentation.jpeg
    assert math.isclose(sum(cnnd.tasks.values()), 1)
