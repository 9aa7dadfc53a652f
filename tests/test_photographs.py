import io

import numpy as np
import pytest
import torch
from PIL import Image

from bladescan.errors import DataError
from bladescan.faces import open_face_detector
from bladescan.photographs import (
    CONTEXT,
    Examples,
    Photograph,
    PhotographIndex,
    augment,
    collate,
    cut_face,
    flat_share,
    index_photographs,
    square,
)
from bladescan.recipe import AugmentationRecipe, ManipulationRecipe
from bladescan.records import FaceBox

PLAIN = AugmentationRecipe(
    scale=(1.3, 1.3), shift=0.0, rescale=0.0, blur=0.0, noise=0.0, jpeg=0.0, colour=0.0, flip=0.0
)


class KnownFace:
    """Finds one face, where it was told."""

    name = "known"

    def __init__(self, box=(150.0, 120.0, 250.0, 240.0)):
        self.box = box
        self.n_asked = 0

    def find(self, image):
        self.n_asked += 1
        if image.shape[0] < 200:
            return []
        x0, y0, x1, y1 = self.box
        points = [(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)]
        landmarks = tuple((x0 + u * (x1 - x0), y0 + v * (y1 - y0)) for u, v in points)
        return [FaceBox(x0, y0, x1, y1, 0.9, landmarks), FaceBox(0, 0, 20, 20, 0.99, landmarks)]


def picture(seed, width=400, height=360):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(6):
        (folder / f"{seed}.png").write_bytes(picture(seed))
    (folder / "copy.png").write_bytes(picture(0))
    (folder / "small.png").write_bytes(picture(9, 150, 150))
    (folder / "broken.png").write_bytes(picture(1)[:500])
    return sorted(folder.iterdir())


@pytest.fixture
def indexed(photos, tmp_path):
    index = PhotographIndex(tmp_path / "index.sqlite", "known")
    return index, index_photographs(photos, index, KnownFace())


def test_each_photograph_is_indexed_once_and_the_rest_have_a_reason(indexed):
    _, found = indexed
    assert len(found.digests) == 6
    assert found.skipped["duplicate"] == 1 and found.skipped["no-face"] == 1
    assert sum(found.skipped.values()) == 3


def test_a_second_run_finds_no_face_again(indexed, photos):
    index, found = indexed
    finder = KnownFace()
    assert index_photographs(photos, index, finder) == found
    assert finder.n_asked == 0


def test_faces_of_another_finder_are_not_used(indexed, photos):
    index, _ = indexed
    finder = KnownFace()
    index_photographs(photos, PhotographIndex(index.path, "other"), finder)
    assert finder.n_asked > 0


def test_the_stored_face_is_the_photographs_own_pixels(indexed):
    index, found = indexed
    whole = [np.asarray(Image.open(io.BytesIO(picture(seed)))) for seed in range(6)]
    stored = index.get(found.digests[0])
    side = CONTEXT * 120
    assert abs(stored.pixels.shape[0] - side) <= 1
    x0, y0, x1, y1 = stored.box
    assert (x1 - x0, y1 - y0) == (100, 120)
    top, left = round(120 - y0), round(150 - x0)
    h, w = stored.pixels.shape[:2]
    assert any(np.array_equal(stored.pixels, image[top : top + h, left : left + w]) for image in whole)
    np.testing.assert_allclose(stored.landmarks[0], (x0 + 30, y0 + 48), atol=1e-3)


def test_a_large_face_is_stored_smaller_with_box_and_landmarks_in_step():
    photograph = cut_face(picture(0, 1400, 1300), KnownFace((300.0, 200.0, 900.0, 800.0)))
    assert max(photograph.pixels.shape) == 320
    x0, y0, x1, y1 = photograph.box
    assert x1 - x0 == pytest.approx(320 / CONTEXT, abs=1)
    np.testing.assert_allclose(photograph.landmarks[2], ((x0 + x1) / 2, y0 + 0.6 * (y1 - y0)), atol=0.01)


def test_flat_colour_is_a_drawing_and_grain_is_not():
    box = (10.0, 10.0, 110.0, 110.0)
    marks = np.zeros((5, 2), np.float32)
    flat = Photograph(np.full((120, 120, 3), 90, np.uint8), box, marks)
    grain = np.random.default_rng(0).integers(80, 100, (120, 120, 3)).astype(np.uint8)
    assert flat_share(flat) == 1
    assert flat_share(Photograph(grain, box, marks)) < 0.1


def test_no_usable_photograph_is_an_error_that_counts(tmp_path):
    small = tmp_path / "small.png"
    small.write_bytes(picture(0, 150, 150))
    index = PhotographIndex(tmp_path / "index.sqlite", "known")
    with pytest.raises(DataError, match="1 no-face"):
        index_photographs([small], index, KnownFace())


def test_a_file_that_is_no_index_is_an_error(tmp_path):
    path = tmp_path / "index.sqlite"
    path.write_bytes(b"not a database, certainly not one" * 50)
    with pytest.raises(DataError, match="cannot be used as an index"):
        PhotographIndex(path, "known")


def test_a_square_is_clipped_to_the_image_and_never_empty():
    image = np.zeros((50, 80, 3), np.uint8)
    assert square(image, (10, 10, 30, 30), 1.0).shape == (20, 20, 3)
    assert square(image, (-20, -20, 30, 30), 1.3).shape[:2] < (65, 65)
    assert square(image, (40, 40, 79, 49), 30.0).shape == image.shape


def test_without_chance_augmentation_is_the_crop_of_a_scan():
    image = np.random.default_rng(0).integers(0, 256, (320, 320, 3)).astype(np.uint8)
    box = (60.0, 60.0, 60.0 + 224 / 1.3, 60.0 + 224 / 1.3)
    out = augment(image, box, PLAIN, np.random.default_rng(0))
    assert np.array_equal(out, square(image, box, 1.3))


@pytest.mark.parametrize("window", [64, 160, 223, 224])
def test_augmentation_gives_the_window_whatever_happens(window):
    recipe = AugmentationRecipe(window=window, rescale=1, blur=1, noise=1, jpeg=1, colour=1)
    image = np.random.default_rng(0).integers(0, 256, (150, 320, 3)).astype(np.uint8)
    for seed in range(5):
        out = augment(image, (100, 20, 200, 120), recipe, np.random.default_rng(seed))
        assert out.shape == (window, window, 3) and out.dtype == np.uint8


def examples(indexed, *, seed=0, pairs=False, augmentation=None):
    index, found = indexed
    recipe = ManipulationRecipe(pairs=pairs)
    return Examples(index, found.digests, recipe, augmentation or AugmentationRecipe(), seed)


def test_an_example_depends_on_seed_epoch_and_place_alone(indexed):
    first, again, other = examples(indexed), examples(indexed), examples(indexed, seed=1)
    assert torch.equal(first[2, 3].pixels, again[2, 3].pixels)
    assert not torch.equal(first[2, 3].pixels, first[3, 3].pixels)
    assert not torch.equal(first[2, 3].pixels, other[2, 3].pixels)


def test_a_pair_is_one_face_twice_and_differs_by_the_manipulation_alone(indexed):
    jpegless = AugmentationRecipe(jpeg=0, rescale=0, noise=1)
    changed = []
    for epoch in range(6):
        batch = examples(indexed, pairs=True, augmentation=jpegless)[epoch, 0]
        assert batch.coarse.tolist() == [0, 1]
        assert batch.fine[0].sum() == 0 and batch.fine[1].sum() >= 1
        changed.append((batch.pixels[0] != batch.pixels[1]).any(-1).float().mean().item())
    assert all(0 < share < 0.9 for share in changed)


def test_fine_labels_are_empty_exactly_where_the_face_is_untouched(indexed):
    data = examples(indexed)
    batch = collate([data[epoch, i] for epoch in range(8) for i in range(6)])
    assert torch.equal(batch.fine.sum(1) > 0, batch.coarse == 1)
    assert 0 < batch.coarse.float().mean() < 1
    assert batch.pixels.shape == (48, 224, 224, 3)


@pytest.mark.integration
def test_real_photographs_give_faces_whose_landmarks_lie_in_the_box(data_dir, tmp_path):
    finder = open_face_detector("auto")
    index = PhotographIndex(tmp_path / "index.sqlite", finder.name)
    paths = sorted((data_dir / "faces").iterdir())[::150]
    found = index_photographs(paths, index, finder)
    assert len(found.digests) >= 0.8 * len(paths)
    for digest in found.digests:
        photograph = index.get(digest)
        x0, y0, x1, y1 = photograph.box
        x, y = photograph.landmarks.T
        assert ((x0 < x) & (x < x1) & (y0 < y) & (y < y1)).all()
        assert y[:2].max() < y[3:].min()  # eyes above the mouth
