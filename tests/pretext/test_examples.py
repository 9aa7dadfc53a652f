import math

import cv2
import numpy as np
import pytest
import torch

from bladescan.base.errors import DataError
from bladescan.base.records import CROP_SIZE
from bladescan.photographs.cutting import square, textured_blocks
from bladescan.photographs.index import PhotographIndex
from bladescan.photographs.photograph import Photograph
from bladescan.pretext.examples import PATCH, Examples, augment, batch_of, collate, patch_box
from bladescan.pretext.manipulations import UNTOUCHED
from bladescan.tasks.pretext_tasks import COARSE, FINE, TASKS, TaskKind
from bladescan.tasks.recipe import AugmentationRecipe, AutoencodeRecipe, ManipulationRecipe
from tests.pretext.graphs import blur

PLAIN = AugmentationRecipe(
    scale=(1.3, 1.3), shift=0.0, rescale=0.0, blur=0.0, noise=0.0, jpeg=0.0, colour=0.0, flip=0.0
)
MARKS = np.array([[85, 95], [135, 95], [110, 125], [92, 150], [128, 150]], np.float32)
BOX = (60.0, 60.0, 160.0, 180.0)
TAGS = {"iso_speed": 400.0, "exposure_time": 1 / 60, "make": "Canon", "white_balance_mode": "manual"}


def grain(seed, height=230, width=220):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Faces f0 to f5, f0 with tags; patches p0 and p1, p0 with tags."""
    index = PhotographIndex(tmp_path_factory.mktemp("index") / "index.sqlite", "known")
    for i in range(6):
        index.add(f"f{i}", Photograph(grain(i), BOX, MARKS, TAGS if i == 0 else {}))
    index.add("p0", Photograph(grain(10, 400, 512), tags=TAGS))
    index.add("p1", Photograph(grain(11, 256, 256), tags={"aperture": 2.8}))
    return index


FACES = tuple(f"f{i}" for i in range(6))


def examples(index, digests=FACES, *, seed=0, pairs=False, augmentation=None):
    return Examples(
        index, digests, ManipulationRecipe(pairs=pairs), augmentation or AugmentationRecipe(), seed
    )


# Augmentation


def test_without_chance_augmentation_is_the_crop_of_a_scan():
    image = grain(0, 320, 320)
    box = (60.0, 60.0, 60.0 + 224 / 1.3, 60.0 + 224 / 1.3)
    out = augment(image, box, PLAIN, np.random.default_rng(0))
    assert np.array_equal(out, square(image, box, 1.3))


@pytest.mark.parametrize("window", [64, 160, 223, 224])
def test_augmentation_gives_the_window_whatever_happens(window):
    recipe = AugmentationRecipe(window=window, rescale=1, blur=1, noise=1, jpeg=1, colour=1)
    image = grain(0, 150, 320)
    for seed in range(5):
        out = augment(image, (100, 20, 200, 120), recipe, np.random.default_rng(seed))
        assert out.shape == (window, window, 3) and out.dtype == np.uint8


def test_augmentation_draws_as_much_chance_whatever_the_pixels():
    recipe = AugmentationRecipe(rescale=0.5, blur=0.5, noise=0.5, jpeg=0.5, colour=0.5)
    for seed in range(8):
        left = []
        for image in (grain(0, 320, 320), np.zeros((320, 320, 3), np.uint8)):
            rng = np.random.default_rng(seed)
            augment(image, (80, 80, 240, 240), recipe, rng)
            left.append(rng.random())
        assert left[0] == left[1]


# Faces


def test_an_example_depends_on_seed_epoch_and_place_alone(index):
    first, again, other = examples(index), examples(index), examples(index, seed=1)
    assert torch.equal(first[2, 3].pixels, again[2, 3].pixels)
    assert not torch.equal(first[2, 3].pixels, first[3, 3].pixels)
    assert not torch.equal(first[2, 3].pixels, other[2, 3].pixels)


def test_a_pair_is_one_face_twice_and_differs_by_the_manipulation_alone(index):
    jpegless = AugmentationRecipe(jpeg=0, rescale=0, noise=1)
    changed = []
    for epoch in range(6):
        batch = examples(index, pairs=True, augmentation=jpegless)[epoch, 0]
        fine = batch.targets[FINE]
        assert batch.targets[COARSE].tolist() == [0, 1]
        assert fine[0].sum() == 0 and fine[1].sum() >= 1
        changed.append((batch.pixels[0] != batch.pixels[1]).any(-1).float().mean().item())
    assert all(0 < share < 0.9 for share in changed)


def test_fine_labels_are_empty_exactly_where_the_face_is_untouched(index):
    data = examples(index)
    batch = collate([data[epoch, i] for epoch in range(8) for i in range(6)])
    assert torch.equal(batch.targets[FINE].sum(1) > 0, batch.targets[COARSE] == 1)
    assert 0 < batch.targets[COARSE].float().mean() < 1
    assert batch.pixels.shape == (48, 224, 224, 3)


def test_what_is_drawn_says_which_manipulation_it_is(index):
    data = examples(index)
    for epoch in range(6):
        (drawn,) = data.draw((epoch, 0))
        targets = data[epoch, 0].targets
        assert (drawn.name == UNTOUCHED) == (targets[COARSE].item() == 0)
        assert targets[FINE].tolist() == [list(drawn.labels)]
        assert drawn.tags == TAGS


def test_a_face_and_its_reconstruction_are_a_pair(index, tmp_path):
    graph = blur(tmp_path / "blur.onnx")
    recipe = ManipulationRecipe(("autoencode",), True, AutoencodeRecipe((str(graph),), side=(128, 160)))
    data = Examples(index, FACES, recipe, PLAIN, 0)
    for epoch in range(3):
        untouched, reconstructed = data.draw((epoch, 0))
        assert untouched.labels == (0, 0, 0) and reconstructed.labels == (1, 1, 1)
        # Of another size than the stored picture, both still show the same part of the face.
        shown = [
            cv2.resize(d.pixels, (8, 8), interpolation=cv2.INTER_AREA) for d in (untouched, reconstructed)
        ]
        stored = cv2.resize(
            square(index.get("f0").pixels, BOX, 1.3), (8, 8), interpolation=cv2.INTER_AREA
        ).astype(float)
        assert all(np.corrcoef(s.ravel(), stored.ravel())[0, 1] > 0.8 for s in shown)
        assert not np.array_equal(untouched.pixels, reconstructed.pixels)
    batch = data[0, 0]
    assert batch.targets[COARSE].tolist() == [0, 1] and batch.targets[FINE][1].tolist() == [1, 1, 1]


def test_without_an_autoencoder_there_is_nothing_to_reconstruct_by(index):
    with pytest.raises(DataError, match="manipulations.autoencode.files"):
        Examples(index, FACES, ManipulationRecipe(("autoencode",), True), PLAIN, 0)


# Truth


def test_every_task_has_a_truth_of_its_own_type(index):
    targets = examples(index)[0, 0].targets
    assert tuple(targets) == tuple(TASKS)
    types = {
        TaskKind.COARSE: torch.int64,
        TaskKind.FINE: torch.float32,
        TaskKind.ORDINAL: torch.float64,
        TaskKind.CATEGORICAL: torch.int64,
    }
    for name, values in targets.items():
        assert values.dtype == types[TASKS[name].kind]
        assert values.shape == ((1, 3) if name == FINE else (1,))


def test_a_manipulated_face_keeps_the_tags_of_its_photograph(index):
    batch = examples(index, pairs=True)[0, 0]
    assert batch.targets["iso_speed"].tolist() == [400, 400]
    assert batch.targets["exposure_time"].tolist() == [1 / 60, 1 / 60]
    assert batch.targets["make"].tolist() == [TASKS["make"].classes.index("Canon")] * 2
    assert batch.targets["white_balance_mode"].tolist() == [1, 1]


def test_a_missing_tag_is_nan_or_minus_one(index):
    targets = examples(index)[0, 1].targets
    for name, task in TASKS.items():
        if task.kind is TaskKind.ORDINAL:
            assert math.isnan(targets[name].item())
        elif task.kind is TaskKind.CATEGORICAL:
            assert targets[name].item() == -1


def test_collated_truth_is_that_of_the_items_one_after_the_other(index):
    data = examples(index, ("p0", "f0", "f1", "p1"), pairs=True)
    items = [data[0, i] for i in range(4)]
    batch = collate(items)
    assert batch.pixels.shape[0] == 8
    for name, values in batch.targets.items():
        expected = torch.cat([item.targets[name] for item in items])
        assert torch.equal(torch.nan_to_num(values, -7), torch.nan_to_num(expected, -7))
    assert batch.targets[COARSE].tolist() == [-1, -1, 0, 1, 0, 1, -1, -1]


# Patches


def test_a_patch_says_nothing_of_manipulation_and_all_of_its_tags(index):
    targets = examples(index, ("p0",))[0, 0].targets
    assert targets[COARSE].tolist() == [-1] and targets[FINE].isnan().all()
    assert targets["iso_speed"].tolist() == [400] and math.isnan(targets["aperture"].item())


def test_a_patch_keeps_its_own_resolution(index):
    (drawn,) = examples(index, ("p0",), augmentation=PLAIN).draw((0, 0))
    whole = index.get("p0").pixels
    windows = np.lib.stride_tricks.sliding_window_view(whole[..., 0], (8, 8))
    assert (windows == drawn.pixels[100:108, 100:108, 0]).all((2, 3)).any()
    assert drawn.name == PATCH and drawn.pixels.shape == (224, 224, 3)


def test_a_pair_of_a_patch_is_two_parts_of_it(index):
    first, second = examples(index, ("p0",), pairs=True, augmentation=PLAIN).draw((0, 0))
    assert not np.array_equal(first.pixels, second.pixels)


@pytest.mark.parametrize("shape", [(512, 512), (256, 256), (256, 512), (300, 400)])
def test_the_crop_around_a_place_in_a_patch_stays_inside(shape):
    patch, recipe = grain(0, *shape), AugmentationRecipe(scale=(1.1, 1.3), shift=0.05)
    for seed in range(20):
        box = patch_box(patch, recipe, np.random.default_rng(seed))
        for shift in (-0.05, 0.05):
            height, width = square(patch, box, 1.3, (shift, shift)).shape[:2]
            assert abs(height - width) <= 1 or min(shape) == 256
    assert box[2] - box[0] == pytest.approx(CROP_SIZE / 1.3)


def test_a_place_in_a_patch_is_where_the_texture_is():
    patch = np.zeros((512, 512, 3), np.uint8)
    patch[:, 300:] = grain(0, 512, 212)
    textured = textured_blocks(patch)
    shares = []
    for seed in range(40):
        x0, _, x1, _ = patch_box(patch, PLAIN, np.random.default_rng(seed))
        centre = (x0 + x1) / 2
        shares.append(textured[:, round((centre - 112) / 16) : round((centre + 112) / 16)].mean())
    # One try in five would see no more than a tenth; four tries in a row hardly ever do.
    assert np.mean(np.array(shares) > 0.1) > 0.9


def test_examples_become_one_batch(index):
    drawn = [*examples(index).draw((0, 0)), *examples(index, ("p1",)).draw((0, 0))]
    batch = batch_of(drawn)
    assert torch.equal(batch.pixels, torch.from_numpy(np.stack([d.pixels for d in drawn])))
    assert batch.targets["aperture"].isnan().tolist() == [True, False]
