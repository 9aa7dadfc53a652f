"""Frames of animations and pages of documents."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from bladescan.base.errors import ImageError
from bladescan.images.decoding import decode_image
from bladescan.images.limits import Limits
from tests.images.pictures import LIMITS, animation, corners, encode, everything


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_frames_are_spread_evenly_from_first_to_last(kind):
    decoded = decode_image(animation(20, kind), Limits(max_frames=4))
    frames = everything(decoded)
    assert decoded.n_frames == 20
    assert [index for index, _ in frames] == [0, 6, 13, 19]
    for index, pixels in frames:
        assert np.abs(pixels[0, 0].astype(int) - (10 * index, 255 - 10 * index, 128)).max() <= 2


def test_frames_beyond_the_pixel_budget_are_not_played():
    frames = everything(decode_image(animation(20), Limits(max_frames=4, max_total_pixels=7 * 400)))
    assert [index for index, _ in frames] == [0, 2, 4, 6]


def test_later_frames_are_decoded_only_when_asked_for():
    data = animation(4, "PNG")
    at = data.rindex(b"fdAT")
    decoded = decode_image(data[: at + 8] + bytes(4) + data[at + 12 :], LIMITS)
    assert next(decoded.frames)[0] == 0
    with pytest.raises(ImageError):
        everything(decoded)


def test_only_the_first_picture_of_an_mpo_is_read():
    data = encode(corners(), "MPO", save_all=True, append_images=[Image.new("RGB", (24, 24))])
    decoded = decode_image(data, LIMITS)
    assert (decoded.format, decoded.n_frames) == ("MPO", 2)
    assert [(i, p.shape) for i, p in decoded.frames] == [(0, (32, 48, 3))]
