"""Real pictures, real face finder, real processes."""

import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import time
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from bladescan.base.errors import DataError, UnknownNameError, UsageError
from bladescan.faces.finders import open_face_finder
from bladescan.photographs.index import IndexEntry, PhotographIndex
from bladescan.photographs.indexing import index_photographs, open_index
from bladescan.photographs.tag_summary import TagSummary, summarise

N_FACES = 3


def tagged(iso, model="NIKON D70"):
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "NIKON CORPORATION", model
    exif.get_ifd(0x8769)[0x8827] = iso
    return exif


def encoded(image, kind="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(seed, side=400):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3)).astype(np.uint8))


@pytest.fixture(scope="module")
def portrait(samples):
    with Image.open(samples / "portrait.jpg") as image:
        return image.convert("RGB")


@pytest.fixture(scope="module")
def pictures(portrait):
    """What a folder holds: three faces, two patches, and seven files of no use."""
    jpeg = encoded(portrait, exif=tagged(200), quality=92)
    return {
        "copy.jpg": jpeg,
        "cut-off.jpg": jpeg[: len(jpeg) // 2],
        "empty.jpg": b"",
        "notes.txt": b"these are my photographs",
        "portrait.jpg": jpeg,
        "portrait-smaller.jpg": encoded(portrait.resize((384, 450)), exif=tagged(1600, "NIKON D80")),
        "portrait-untagged.jpg": encoded(portrait, quality=85),
        "scene-1.jpg": encoded(noise(1), exif=tagged(400)),
        "scene-2.webp": encoded(noise(2), "WEBP", exif=tagged(800, "NIKON D80").tobytes()),
        "scene-untagged.jpg": encoded(noise(3)),
        "scene-small.jpg": encoded(noise(4, 255), exif=tagged(100)),
        "sky.jpg": encoded(Image.new("RGB", (640, 480), (90, 140, 220)), exif=tagged(100)),
    }


@pytest.fixture(scope="module")
def photos(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for name, data in pictures.items():
        (folder / name).write_bytes(data)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def filled(photos, tmp_path_factory):
    index = open_index(tmp_path_factory.mktemp("index") / "index.sqlite", "auto")
    done = []
    indexed = index_photographs(photos, index, "auto", n_workers=2, progress=done.append)
    assert done == [1] * len(photos)
    return index, indexed


@pytest.fixture
def copy(filled, tmp_path):
    """The filled index, to be written to."""
    index, indexed = filled
    path = shutil.copy(index.path, tmp_path / "index.sqlite")
    return PhotographIndex(path, index.finder), indexed


def test_every_file_is_a_face_a_patch_or_has_a_reason(filled):
    _, indexed = filled
    assert (len(indexed.faces), len(indexed.patches)) == (N_FACES, 2)
    assert indexed.skipped == {
        "duplicate": 1,
        "empty": 1,
        "flat": 1,
        "no-face": 2,
        "not-an-image": 1,
        "truncated": 1,
    }


def test_the_index_holds_the_tags_and_the_camera_of_each_photograph(filled):
    index, indexed = filled
    entries = {entry.digest: entry for entry in index.entries()}
    found = sorted((entries[d].tags.get("iso_speed", 0), entries[d].camera) for d in indexed.faces)
    assert found == [(0, ""), (200, "nikon d70"), (1600, "nikon d80")]
    photograph = index.get(indexed.patches[0])
    assert photograph.tags["make"] == "Nikon" and photograph.box is None


def test_the_number_of_workers_changes_nothing(filled, photos, tmp_path):
    index, indexed = filled
    alone = open_index(tmp_path / "alone.sqlite", "auto")
    assert index_photographs(reversed(photos), alone, "auto", n_workers=1) == indexed
    assert alone.entries() == index.entries()
    for digest in (*indexed.faces, *indexed.patches):
        assert np.array_equal(alone.get(digest).pixels, index.get(digest).pixels)


def test_files_that_look_the_same_are_not_opened_again(copy, photos):
    index, indexed = copy
    readable = [path for path in photos if path.name != "empty.jpg"]
    # A process would have to load this face finder, and there is none of that name.
    found = index_photographs(readable, index, "no such finder")
    assert (found.faces, found.patches) == (indexed.faces, indexed.patches)
    with pytest.raises(UnknownNameError):
        index_photographs(photos, index, "no such finder")


def rows(index):
    """Number of each photograph's row, which a row that is written again does not keep."""
    with closing(sqlite3.connect(index.path)) as db:
        return dict(db.execute("SELECT digest, rowid FROM photograph"))


def test_only_new_content_is_looked_at(copy, pictures, portrait, tmp_path):
    index, indexed = copy
    before = rows(index)
    (tmp_path / "elsewhere.jpg").write_bytes(pictures["portrait.jpg"])
    (tmp_path / "new.jpg").write_bytes(encoded(portrait, quality=70))
    found = index_photographs(sorted(tmp_path.glob("*.jpg")), index, "auto")
    assert len(found.faces) == 2 and len(set(found.faces) & set(indexed.faces)) == 1
    after = rows(index)
    assert len(after) == len(before) + 1
    assert {digest: after[digest] for digest in before} == before


def test_a_file_with_new_content_is_another_photograph(copy, pictures, tmp_path):
    index, _ = copy
    path = tmp_path / "a.jpg"
    path.write_bytes(pictures["portrait.jpg"])
    first = index_photographs([path], index, "auto").faces
    path.write_bytes(pictures["portrait-smaller.jpg"])
    assert index_photographs([path], index, "auto").faces != first


def test_a_photograph_that_takes_too_long_is_a_reason_and_is_tried_again(pictures, tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(pictures["portrait.jpg"])
    index = open_index(tmp_path / "index.sqlite", "auto")
    with pytest.raises(DataError, match=r"\(1 timeout\)"):
        index_photographs([path], index, "auto", timeout_s=1e-4)
    assert len(index_photographs([path], index, "auto").faces) == 1


def test_photographs_without_any_face_are_an_error_that_counts(photos, tmp_path):
    index = open_index(tmp_path / "index.sqlite", "auto")
    scenes = [path for path in photos if path.name.startswith(("s", "notes"))]
    with pytest.raises(DataError, match=r"\(1 flat, 2 no-face, 1 not-an-image, 2 without a face\)"):
        index_photographs(scenes, index, "auto")
    with pytest.raises(DataError, match="no file listed"):
        index_photographs([], index, "auto")


def test_an_index_for_another_face_finder_is_an_error(photos, tmp_path):
    index = PhotographIndex(tmp_path / "index.sqlite", "other")
    with pytest.raises(UsageError, match="the index is for the face finder 'other'"):
        index_photographs(photos, index, "auto")


RUN = """
    import sys
    from pathlib import Path
    from bladescan.photographs.indexing import index_photographs, open_index
    if __name__ == "__main__":
        index, *paths = sys.argv[1:]
        progress = lambda n: print(n, flush=True)
        index_photographs(paths, open_index(Path(index), "auto"), "auto", progress=progress)
"""


def started(script_folder, index, paths):
    script = script_folder / "run.py"
    script.write_text(textwrap.dedent(RUN))
    return subprocess.Popen([sys.executable, script, index, *paths], stdout=subprocess.PIPE)


def test_an_indexing_that_was_killed_goes_on_where_it_was(portrait, tmp_path):
    paths = []
    for quality in range(60, 84):
        paths.append(tmp_path / f"{quality}.jpg")
        paths[-1].write_bytes(encoded(portrait, quality=quality))
    index = open_index(tmp_path / "index.sqlite", "auto")
    with started(tmp_path, index.path, paths) as run:
        while not index.known() and run.poll() is None:
            time.sleep(0.01)
        run.kill()
    before = rows(index)
    assert 0 < len(before) < len(paths)
    found = index_photographs(paths, index, "auto")
    assert len(found.faces) == len(paths)
    after = rows(index)
    assert {digest: after[digest] for digest in before} == before


def test_two_runs_fill_one_index_at_once(photos, filled, tmp_path):
    path = tmp_path / "index.sqlite"
    with started(tmp_path, path, photos) as first, started(tmp_path, path, photos[::-1]) as second:
        for run in (first, second):
            assert len(run.stdout.read().split()) == len(photos)
    assert (first.returncode, second.returncode) == (0, 0)
    index, _ = filled
    assert PhotographIndex(path, index.finder).entries() == index.entries()


def square_face(portrait, finder):
    """The portrait as one of FDF's pictures, 128 pixels square, and its box as shares of the side."""
    face = finder.find(np.asarray(portrait))[0]
    side = 1.7 * face.side
    x, y = (face.x0 + face.x1 - side) / 2, (face.y0 + face.y1 - side) / 2
    cut = portrait.resize((128, 128), Image.Resampling.BOX, (x, y, x + side, y + side))
    return cut, [
        (v - o) / side for v, o in zip((face.x0, face.y0, face.x1, face.y1), (x, y, x, y), strict=True)
    ]


@pytest.fixture
def fdf(portrait, tmp_path):
    """A small imitation of the data set: four pictures, the last without an entry, and one bad box."""
    root = tmp_path / "fdf"
    (root / "images" / "128").mkdir(parents=True)
    picture, box = square_face(portrait, open_face_finder("auto"))
    for number, flip in enumerate((False, True, False, True)):
        image = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else picture
        image = image.point(lambda v, n=number: min(v + n // 2, 255))
        image.save(root / "images" / "128" / f"{number}.png")
    narrow = [box[0] + 0.05, box[1], box[2] - 0.05, box[3]]
    boxes = [narrow, [1 - box[2], box[1], 1 - box[0], box[3]], [0.5, 0.5, 0.4, 0.6]]
    metainfo = {
        str(number): {
            "author": "someone",
            "bounding_box": box,
            "category": "training",
            "landmark": [[0.5, 0.5]] * 7,
            "license": "Attribution License",
            "photo_url": f"http://www.flickr.com/photos/someone/10{number}/",
        }
        for number, box in enumerate(boxes)
    }
    (root / "fdf_metainfo.json").write_text(json.dumps(metainfo))
    return root, narrow


def index_of(root, name="index.sqlite"):
    index = open_index(root.parent / name, "auto")
    return index, index_photographs(sorted(root.rglob("*.png")), index, "auto")


FIELDS = {"ISO": "400", "ExposureTime": "1/60 sec", "FNumber": "f/2.8", "Make": "NIKON CORPORATION"}


def test_fdfs_boxes_stand_in_for_the_finder_and_its_pictures_are_kept_whole(fdf):
    root, box = fdf
    (root / "exif.json").write_text(json.dumps({"0": FIELDS}))
    index, indexed = index_of(root)
    assert len(indexed.faces) == 3 and indexed.skipped == {"bad-box": 1}
    photographs = [index.get(digest) for digest in indexed.faces]
    assert all(p.pixels.shape == (128, 128, 3) for p in photographs[:2])
    first = next(p for p in photographs if p.tags)
    np.testing.assert_allclose(first.box, [128 * v for v in box])
    assert first.tags["iso_speed"] == 400 and first.tags["exposure_time"] == pytest.approx(1 / 60)
    assert first.tags["make"] == "Nikon"


RELEASED = {
    "path": "/data/FDF/data/fdf/images/128/1.png",
    "EXIF_ordinal": {"ISO": 200, "Aperture": 2.8, "Focal Length": 50.0, "Exposure Time": 60.0},
    "EXIF_categorical": {
        "Make": {"cls_label": 3},
        "Metering Mode": {"cls_label": 4},
        "Exposure Mode": {"cls_label": 0},
        "White Balance Mode": {"cls_label": 1},
        "Exposure Program": {"cls_label": 99},
    },
}


def test_the_tags_of_the_released_json_are_read_by_task(fdf):
    root, _ = fdf
    (root / "fdf_ccby2_exif_ordinal_categorical.json").write_text(json.dumps({"77": RELEASED}))
    index, indexed = index_of(root)
    (tags,) = [tags for digest in indexed.faces if (tags := index.get(digest).tags)]
    assert tags.pop("exposure_time") == pytest.approx(1 / 60)
    assert tags == {
        "iso_speed": 200,
        "aperture": 2.8,
        "focal_length": 50,
        "make": "Canon",
        "metering_mode": "spot",
        "exposure_mode": "auto",
        "white_balance_mode": "manual",
    }


def test_one_json_for_each_photo_is_found_by_its_number_at_flickr(fdf):
    root, _ = fdf
    (root / "exif").mkdir()
    (root / "exif" / "101.json").write_text(json.dumps({"EXIF": {"ISO Speed Ratings": "800"}}))
    index, indexed = index_of(root)
    assert [index.get(d).tags for d in indexed.faces if index.get(d).tags] == [{"iso_speed": 800}]


def test_new_tags_are_read_though_the_pictures_are_the_same(fdf):
    root, _ = fdf
    (root / "exif.json").write_text(json.dumps({"0": FIELDS}))
    index_of(root)
    (root / "exif.json").write_text(json.dumps({"0": {**FIELDS, "ISO": "1600"}}))
    index, indexed = index_of(root)
    assert [index.get(d).tags["iso_speed"] for d in indexed.faces if index.get(d).tags] == [1600]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("fdf_metainfo.json", "{", "fdf_metainfo.json: cannot be read"),
        ("fdf_metainfo.json", '{"0": {"bounding_box": [1, 2]}}', "bounding_box"),
        ("exif.json", "[]", "exif.json: cannot be read"),
        ("exif.json", "", "exif.json: cannot be read"),
    ],
)
def test_json_that_is_something_else_is_an_error_that_names_the_file(fdf, name, text, message):
    root, _ = fdf
    (root / name).write_text(text)
    with pytest.raises(DataError, match=message):
        index_of(root)


def test_two_files_of_tags_are_an_error(fdf):
    root, _ = fdf
    for name in ("exif.json", "old_exif.json"):
        (root / name).write_text("{}")
    with pytest.raises(DataError, match=r"expected one .* found .*exif.json and .*old_exif.json"):
        index_of(root)


def entry(kind="face", reason=None, camera="", **tags):
    return IndexEntry(os.urandom(4).hex(), kind, tags, camera, reason)


@pytest.mark.integration
def test_the_shared_photographs_give_faces_patches_and_tags(data_dir, tmp_path):
    index = open_index(tmp_path / "index.sqlite", "auto")
    paths = [p for pool in ("faces", "scenes") for p in sorted((data_dir / "photographs" / pool).iterdir())]
    indexed = index_photographs(paths[::8], index, "auto", n_workers=2)
    assert len(indexed.faces) >= 15 and len(indexed.patches) >= 15
    summary: list[TagSummary] = summarise(index.entries())
    assert all(row.n_present >= 0.6 * (row.n_present + row.n_missing) for row in summary)
