import sqlite3
from contextlib import closing

import numpy as np
import pytest

from bladescan.base.errors import DataError
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


def grain(seed=0, width=400, height=360, low=0, high=256):
    return np.random.default_rng(seed).integers(low, high, (height, width, 3)).astype(np.uint8)


def face(seed=0, **changes):
    return Photograph(grain(seed, 120, 130), (25.0, 25.0, 95.0, 100.0), MARKS, **changes)


@pytest.fixture
def index(tmp_path):
    return PhotographIndex(tmp_path / "index.sqlite", "known")


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
    with pytest.raises(DataError, match="neither a face nor a patch"):
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
