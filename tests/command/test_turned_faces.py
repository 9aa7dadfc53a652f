"""Scans of pictures that somebody turned: the verdicts are those of the picture as it was taken."""

from __future__ import annotations

import csv
import io
import json

import pytest
from PIL import Image

from bladescan.base.records import ROTATIONS


@pytest.fixture(scope="module")
def turned(samples, tmp_path_factory):
    """The portrait of the demo in each rotation, without loss, and an animation of all four."""
    folder = tmp_path_factory.mktemp("turned")
    with Image.open(samples / "portrait.jpg") as image:
        portrait = image.convert("RGB").crop((0, 0, 512, 512))
    frames = [portrait.rotate(-rotation) for rotation in ROTATIONS]
    for rotation, frame in zip(ROTATIONS, frames, strict=True):
        frame.save(folder / f"{rotation:03}.png")
    frames[0].save(folder / "animation.webp", save_all=True, append_images=frames[1:], lossless=True)
    return folder


def test_a_turned_portrait_has_the_scores_of_the_upright_one_and_its_rotation(bladescan, turned):
    result = bladescan("scan", turned, "--include", "*.png", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(result.stdout.decode())))
    assert [int(row["rotation"]) for row in rows] == list(ROTATIONS)
    for column in ("log_likelihood", "p_value", "p_ai_generated", "face_verdict", "detection_score"):
        assert len({row[column] for row in rows}) == 1, column
    upright, lying = (tuple(float(row[name]) for name in ("x0", "y0", "x1", "y1")) for row in rows[:2])
    x0, y0, x1, y1 = upright
    assert lying == pytest.approx((512 - y1, x0, 512 - y0, x1), abs=0.11)


def test_each_frame_of_an_animation_has_its_own_rotation(bladescan, turned):
    result = bladescan("scan", turned / "animation.webp", "--format", "json")
    faces = json.loads(result.stdout)["images"][0]["faces"]
    assert [(face["frame"], face["rotation"]) for face in faces] == list(enumerate(ROTATIONS))


def test_a_picture_that_is_taken_as_a_crop_is_not_turned(bladescan, turned):
    result = bladescan("scan", turned / "180.png", "--faces", "none", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(result.stdout.decode()))
    assert row["rotation"] == row["x0"] == ""
