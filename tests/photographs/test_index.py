import sqlite3
from contextlib import closing

import cv2
import numpy as np
import pytest

from bladescan.base.errors import DataError
from bladescan.base.records import FaceBox
from bladescan.photographs.cutting import (
    BLOCK,
    CONTEXT,
    MAX_STORED_SIDE,
    PATCH_SIDE,
    UnusableError,
    cut_face,
    cut_patch,
    flat_share,
    square,
    textured_blocks,
    whole_face,
)
from bladescan.photographs.index import (
    APPLICATION_ID,
    SCHEMA_VERSION,
    FileStamp,
    PhotographIndex,
    Record,
    encoded,
)
from bladescan.photographs.indexing import index_photographs, open_index
from bladescan.photographs.photograph import Photograph

MARKS = np.array([[45, 55], [75, 55], [60, 72], [48, 88], [72, 88]], np.float32)
TAGS = {"iso_speed": 200.0, "make": "Nikon"}


class KnownFace:
    """Finds one face, where it was told, and a smaller one that is surer."""

    name = "known"

    def __init__(self, box=(150.0, 120.0, 250.0, 240.0)):
        self.box = box

    def find(self, image):
        x0, y0, x1, y1 = self.box
        points = [(0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8)]
        landmarks = tuple((x0 + u * (x1 - x0), y0 + v * (y1 - y0)) for u, v in points)
        return [FaceBox(0, 0, 20, 20, 0.99, landmarks), FaceBox(x0, y0, x1, y1, 0.9, landmarks)]


def grain(seed=0, width=400, height=360, low=0, high=256):
    return np.random.default_rng(seed).integers(low, high, (height, width, 3)).astype(np.uint8)


def face(seed=0, **changes):
    return Photograph(grain(seed, 120, 130), (25.0, 25.0, 95.0, 100.0), MARKS, **changes)


@pytest.fixture
def index(tmp_path):
    return PhotographIndex(tmp_path / "index.sqlite", "known")


# The file


def test_a_face_comes_back_as_it_was_stored(index):
    index.add("a", face(tags=TAGS, camera="nikon d70"))
    stored, given = index.get("a"), face()
    assert np.array_equal(stored.pixels, given.pixels)
    assert np.array_equal(stored.landmarks, given.landmarks)
    assert (stored.box, stored.tags, stored.camera, stored.kind) == (given.box, TAGS, "nikon d70", "face")


def test_a_patch_comes_back_without_box_and_landmarks(index):
    index.add("a", Photograph(grain(), tags=TAGS))
    stored = index.get("a")
    assert (stored.box, stored.landmarks, stored.kind) == (None, None, "patch")
    assert np.array_equal(stored.pixels, grain())


def test_entries_tell_kind_tags_and_reason_without_the_pixels(index):
    index.add("b", Photograph(grain(), tags=TAGS, camera="nikon d70"))
    index.add("a", face())
    index.add("c", None, "no-face")
    found = [(e.digest, e.kind, dict(e.tags), e.camera, e.reason) for e in index.entries()]
    assert found == [
        ("a", "face", {}, "", None),
        ("b", "patch", TAGS, "nikon d70", None),
        ("c", "none", {}, "", "no-face"),
    ]
    assert index.known() == {"a": ("face", None), "b": ("patch", None), "c": ("none", "no-face")}
    assert index.knows("c") == ("none", "no-face") and index.knows("d") is None


@pytest.mark.parametrize("digest", ["c", "d"])
def test_a_photograph_that_is_not_there_is_an_error(index, digest):
    index.add("c", None, "no-face")
    with pytest.raises(DataError, match="neither face nor patch"):
        index.get(digest)


def test_faces_of_another_finder_are_not_used(index):
    index.add("a", face())
    other = PhotographIndex(index.path, "other")
    assert other.entries() == [] and other.known() == {}
    other.add("a", None, "no-face")
    assert index.knows("a") == ("face", None)


def test_a_file_is_known_as_long_as_it_looks_the_same(index):
    stamp = FileStamp(b"/photos/\xff.jpg", 10, 20, "")
    index.add_all([Record("a", encoded(face()), stamp)])
    assert index.files() == {stamp: "a"}
    index.add_all([Record("b", None, stamp._replace(mtime_ns=21))])
    assert index.files() == {stamp._replace(mtime_ns=21): "b"}
    assert index.known() == {"a": ("face", None)}


def test_records_are_stored_all_or_none(index):
    with pytest.raises(DataError, match="cannot be used"):
        index.add_all([Record("a", encoded(face()), None), Record("b", ("too", "short"), None)])
    assert index.known() == {}


def test_an_index_of_an_earlier_version_is_emptied_and_says_so(tmp_path):
    path = tmp_path / "index.sqlite"
    columns = "reason TEXT, pixels BLOB, x0 REAL, y0 REAL, x1 REAL, y1 REAL, landmarks BLOB"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"CREATE TABLE photograph (digest TEXT NOT NULL, finder TEXT NOT NULL, {columns})")
        db.execute("INSERT INTO photograph (digest, finder) VALUES ('a', 'known')")
    index = PhotographIndex(path, "known")
    assert "earlier version" in index.notice and index.known() == {}
    index.add("a", face())
    again = PhotographIndex(path, "known")
    assert again.notice == "" and again.knows("a") == ("face", None)


def test_an_index_of_a_later_version_is_an_error_and_stays(index):
    index.add("a", face())
    with closing(sqlite3.connect(index.path)) as db, db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(DataError, match="later version"):
        PhotographIndex(index.path, "known")
    assert index.knows("a") == ("face", None)


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE photograph (id, title)"],
        ["CREATE TABLE recipes (id)"],
        [f"PRAGMA application_id = {APPLICATION_ID + 1}"],
        ["PRAGMA user_version = 2"],
    ],
)
def test_another_programs_database_is_an_error_and_stays(tmp_path, statements):
    path = tmp_path / "index.sqlite"
    with closing(sqlite3.connect(path)) as db, db:
        for statement in statements:
            db.execute(statement)
    before = path.read_bytes()
    with pytest.raises(DataError, match="another program's database"):
        PhotographIndex(path, "known")
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_an_error(tmp_path):
    path = tmp_path / "index.sqlite"
    path.write_bytes(b"not a database, certainly not one" * 50)
    with pytest.raises(DataError, match="cannot be used as an index"):
        PhotographIndex(path, "known")


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DataError, match="cannot be used as an index"):
        PhotographIndex(tmp_path / "none" / "index.sqlite", "known")


# Cutting


def test_the_largest_face_is_cut_out_of_the_photographs_own_pixels():
    whole = grain()
    cut = cut_face(whole, KnownFace())
    assert abs(cut.pixels.shape[0] - CONTEXT * 120) <= 1
    x0, y0, x1, y1 = cut.box
    assert (x1 - x0, y1 - y0) == (100, 120)
    top, left = round(120 - y0), round(150 - x0)
    h, w = cut.pixels.shape[:2]
    assert np.array_equal(cut.pixels, whole[top : top + h, left : left + w])
    np.testing.assert_allclose(cut.landmarks[0], (x0 + 30, y0 + 48), atol=1e-3)


def test_a_large_face_is_stored_smaller_with_box_and_landmarks_in_step():
    cut = cut_face(grain(0, 1400, 1300), KnownFace((300.0, 200.0, 900.0, 800.0)))
    assert max(cut.pixels.shape) == MAX_STORED_SIDE
    x0, y0, x1, y1 = cut.box
    assert x1 - x0 == pytest.approx(MAX_STORED_SIDE / CONTEXT, abs=1)
    np.testing.assert_allclose(cut.landmarks[2], ((x0 + x1) / 2, y0 + 0.6 * (y1 - y0)), atol=0.01)


@pytest.mark.parametrize(
    ("image", "box", "reason"),
    [
        (grain(), (10.0, 10.0, 50.0, 50.0), "face-too-small"),
        (np.full((360, 400, 3), 90, np.uint8), (150.0, 120.0, 250.0, 240.0), "drawing"),
    ],
)
def test_a_face_that_cannot_be_used_has_a_reason(image, box, reason):
    with pytest.raises(UnusableError, match=f"^{reason}$"):
        cut_face(image, KnownFace(box))


def test_noise_without_a_face_has_no_landmarks():
    with pytest.raises(UnusableError, match="^no-landmarks$"):
        whole_face(grain(0, 128, 128), FaceBox(20.0, 20.0, 100.0, 100.0, 1.0))


def test_a_picture_that_is_a_face_is_kept_whole():
    found = KnownFace((30.0, 30.0, 80.0, 90.0)).find(None)[1]
    kept = whole_face(grain(0, 128, 128), found)
    assert np.array_equal(kept.pixels, grain(0, 128, 128))
    assert kept.box == (30.0, 30.0, 80.0, 90.0)
    with pytest.raises(UnusableError, match="^face-too-small$"):
        whole_face(grain(0, 64, 64), found)
    assert max(whole_face(grain(0, 1000, 1000), found).pixels.shape) < 128


def test_a_patch_is_the_part_with_texture_at_its_own_resolution():
    sky = np.full((1200, 1600, 3), 200, np.uint8)
    sky[640:1152, 800:1312] = grain(0, 512, 512)
    assert np.array_equal(cut_patch(sky).pixels, sky[640:1152, 800:1312])


def test_a_patch_of_a_small_picture_is_as_large_as_its_whole_blocks():
    image = grain(0, 300, 270)
    patch = cut_patch(image)
    assert np.array_equal(patch.pixels, image[: 270 // BLOCK * BLOCK, : 300 // BLOCK * BLOCK])
    assert max(cut_patch(grain(0, 2000, 700)).pixels.shape) == PATCH_SIDE


@pytest.mark.parametrize("image", [np.zeros((600, 600, 3), np.uint8), grain(0, 600, 600, 100, 103)])
def test_a_picture_without_texture_gives_no_patch(image):
    with pytest.raises(UnusableError, match="^flat$"):
        cut_patch(image)


def test_texture_of_blocks_agrees_with_a_naive_loop():
    rng = np.random.default_rng(0)
    image = rng.normal(128, rng.uniform(0, 6, (5, 7)).repeat(16, 0).repeat(16, 1))
    image = np.pad(image, ((0, 9), (0, 3)))[..., None].repeat(3, 2).astype(np.uint8)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    expected = [
        [grey[16 * i : 16 * i + 16, 16 * j : 16 * j + 16].std() > 2.5 for j in range(7)] for i in range(5)
    ]
    assert np.array_equal(textured_blocks(image), expected)
    assert 0 < np.mean(expected) < 1


def test_flat_colour_is_flat_and_grain_is_not():
    box = (10.0, 10.0, 110.0, 110.0)
    assert flat_share(np.full((120, 120, 3), 90, np.uint8), box) == 1
    assert flat_share(grain(0, 120, 120, 80, 100), box) < 0.1


def test_a_square_is_clipped_to_the_image_and_never_empty():
    image = np.zeros((50, 80, 3), np.uint8)
    assert square(image, (10, 10, 30, 30), 1.0).shape == (20, 20, 3)
    assert square(image, (-20, -20, 30, 30), 1.3).shape[:2] < (65, 65)
    assert square(image, (40, 40, 79, 49), 30.0).shape == image.shape


@pytest.mark.integration
def test_real_photographs_give_faces_whose_landmarks_lie_in_the_box(data_dir, tmp_path):
    index = open_index(tmp_path / "index.sqlite", "auto")
    paths = sorted((data_dir / "faces").iterdir())[::150]
    found = index_photographs(paths, index, "auto")
    assert len(found.faces) >= 0.8 * len(paths)
    for digest in found.faces:
        photograph = index.get(digest)
        x0, y0, x1, y1 = photograph.box
        x, y = photograph.landmarks.T
        assert ((x0 < x) & (x < x1) & (y0 < y) & (y < y1)).all()
        assert y[:2].max() < y[3:].min()  # eyes above the mouth
