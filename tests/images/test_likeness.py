"""A perceptual hash: what leaves it alone and what does not."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from bladescan.images.likeness import distance, perceptual_hash


def scene(seed: int) -> Image.Image:
    """Draw what has structure of every size, the coarse the strongest, as photographs have."""
    rng = np.random.default_rng(seed)
    levels = np.full((560, 400), 128.0)
    for octave in range(1, 7):
        patches = Image.fromarray(rng.normal(0, 60 / octave, (2**octave, 2**octave)))
        levels += np.asarray(patches.resize((400, 560), Image.Resampling.BICUBIC))
    grey = Image.fromarray((levels / 2 + 64).clip(10, 240).astype(np.uint8))
    return grey.convert("RGB")


def as_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


@pytest.mark.parametrize(
    "change",
    [
        lambda picture: picture.resize((200, 280)),
        lambda picture: picture.resize((173, 241)),
        lambda picture: as_jpeg(picture, 50),
        lambda picture: picture.point(lambda level: min(255, level + 12)),
        lambda picture: picture.convert("L").convert("RGB"),
    ],
)
def test_scaling_compression_and_light_leave_it(change):
    for seed in range(10):
        assert distance(perceptual_hash(scene(seed)), perceptual_hash(change(scene(seed)))) <= 4


def test_other_pictures_have_other_hashes():
    hashes = [perceptual_hash(scene(seed)) for seed in range(60)]
    apart = [distance(a, b) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(apart) > 8 and 24 < np.mean(apart) < 40
    assert all(0 <= hash < 1 << 64 for hash in hashes)


def test_a_flat_picture_has_no_structure():
    for grey in (0, 119, 255):
        assert perceptual_hash(Image.new("RGB", (50, 31), (grey, grey, grey))) == 0
