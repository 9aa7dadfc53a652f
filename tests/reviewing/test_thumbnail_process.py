"""Thumbnails: what is made of a picture, and of a file that is none any more."""

from __future__ import annotations

import io
import os
import signal

import numpy as np
import pytest
from PIL import Image, ImageFilter

from bladescan.base.records import FaceBox, Reason
from bladescan.faces.crops import crop_face
from bladescan.images.limits import Limits
from bladescan.processes.service import Lost
from bladescan.reviewing.small_pictures import thumbnail_pool, with_thumbnails
from bladescan.reviewing.thumbnail_process import (
    MAKING_THUMBNAILS,
    PICTURE_SIDE,
    ThumbnailRequest,
    ThumbnailSettings,
    WantedFace,
    flat_share,
    make_thumbnails,
)
from bladescan.reviewing.verdict_files import ReviewedFace, ReviewedImage
from tests.reviewing.reviews import drawn, sha256

SETTINGS = ThumbnailSettings()
BOX = (100.0, 120.0, 300.0, 380.0)


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    return drawn(tmp_path_factory.mktemp("pictures") / "picture.png", 1, 640)


def pixels(webp: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(webp)).convert("RGB"), np.float64)


def asked(path, *faces, **more):
    return make_thumbnails(ThumbnailRequest(os.fsencode(path), faces, **more), SETTINGS)


def test_the_crop_is_what_the_detector_saw(picture):
    found = asked(picture, WantedFace(0, BOX), WantedFace(0, BOX, 90), WantedFace(0, None))
    assert found.reason is None and found.sha256 == sha256(picture)
    assert (found.format, found.width, found.height) == ("PNG", 640, 640)
    seen = crop_face(Image.open(picture), FaceBox(*BOX, score=1.0))
    assert np.abs(pixels(found.faces[0].crop) - seen).mean() < 3
    turned = crop_face(Image.open(picture), FaceBox(*BOX, score=1.0, rotation=90))
    assert np.abs(pixels(found.faces[1].crop) - turned).mean() < 3
    assert pixels(found.faces[2].crop).shape == (224, 224, 3)
    (small,) = found.pictures
    assert max(pixels(small.small).shape) == PICTURE_SIDE and (small.width, small.height) == (640, 640)


def test_the_frames_of_the_faces_are_shown_and_no_other(tmp_path):
    frames = [Image.open(drawn(tmp_path / "frame.png", seed)).convert("RGB") for seed in range(12)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    found = asked(tmp_path / "a.gif", WantedFace(10, None), WantedFace(2, None), WantedFace(99, None))
    assert [small.frame for small in found.pictures] == [2, 10]
    assert found.faces[2] is None and found.faces[0].frame == 10
    assert [small.frame for small in asked(tmp_path / "a.gif").pictures] == [0]


def test_what_cannot_be_read_again_says_why(tmp_path, picture):
    assert asked(tmp_path / "none.png").reason is Reason.NOT_FOUND
    (tmp_path / "text.png").write_bytes(b"no picture")
    broken = asked(tmp_path / "text.png", WantedFace(0, BOX))
    assert broken.reason is Reason.NOT_AN_IMAGE and broken.sha256 == sha256(tmp_path / "text.png")
    hashed = asked(tmp_path / "text.png", hash_only=True)
    assert hashed.reason is None and hashed.sha256 == broken.sha256 and hashed.pictures == ()
    small = ThumbnailSettings(limits=Limits(max_pixels=1000))
    assert make_thumbnails(ThumbnailRequest(os.fsencode(picture)), small).reason is Reason.TOO_MANY_PIXELS
    fetched = asked("https://example.org/x.png", data=picture.read_bytes())
    assert fetched.sha256 == sha256(picture) and fetched.modified is None


@pytest.mark.integration
def test_a_file_that_kills_its_process_costs_its_own_thumbnail_alone(picture, tmp_path):
    missing = ReviewedImage(path=str(tmp_path / "none.png"), verdict="no-face")
    face = ReviewedFace(face=0, verdict="not-flagged", x0=100, y0=120, x1=300, y1=380)
    seen = ReviewedImage(path=str(picture), verdict="not-flagged", faces=(face,))
    with thumbnail_pool(1, SETTINGS) as pool:
        pool.start()
        found = with_thumbnails([seen, missing, seen], pool)
        first = next(found)
        os.kill(pool.processes[0].process.pid, signal.SIGKILL)
        rest = list(found)
    assert [image for image, _ in [first, *rest]] == [seen, missing, seen]
    assert [one.reason for _, one in [first, *rest]] == [None, Reason.NOT_FOUND, None]
    lost = MAKING_THUMBNAILS.lost(Lost(Reason.TIMEOUT, "30 s", 30.0))
    assert (lost.reason, lost.detail) == (Reason.TIMEOUT, "not made small within 30 s")


def test_smooth_skin_has_little_texture():
    rng = np.random.default_rng(2)
    rough = rng.integers(90, 160, (224, 224, 3)).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(rough).filter(ImageFilter.GaussianBlur(9)))
    assert flat_share(rough) < 0.1 and flat_share(smooth) > 0.8
    assert flat_share(np.full((224, 224, 3), 77, np.uint8)) == 1.0
