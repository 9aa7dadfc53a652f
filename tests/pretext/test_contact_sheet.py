import numpy as np
import pytest
from PIL import Image

from bladescan.base.errors import DataError, OutputError
from bladescan.exif.tags import EXIF_TASKS
from bladescan.photographs.index import PhotographIndex
from bladescan.photographs.indexing import Indexed
from bladescan.photographs.photograph import Photograph
from bladescan.pretext.contact_sheet import MARGIN, caption, contact_sheet, recipe_sheet, sheet
from bladescan.pretext.examples import PATCH, Drawn, Examples
from bladescan.pretext.manipulations import UNTOUCHED
from bladescan.tasks.pretext_tasks import TASKS, TaskKind
from bladescan.tasks.recipe import AugmentationRecipe, DataRecipe, ManipulationRecipe, Recipe

MARKS = np.array([[85, 95], [135, 95], [110, 125], [92, 150], [128, 150]], np.float32)
ALL_TAGS = {
    name: 2.0 if TASKS[name].kind is TaskKind.ORDINAL else TASKS[name].classes[0] for name in EXIF_TASKS
}
FACES = ("f0", "f1", "f2", "f3")


def grain(seed, side=230):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    index = PhotographIndex(tmp_path_factory.mktemp("index") / "index.sqlite", "known")
    for i, digest in enumerate(FACES):
        box = (60.0, 60.0, 160.0, 180.0)
        index.add(digest, Photograph(grain(i), box, MARKS, ALL_TAGS if i == 0 else {}))
    index.add("p0", Photograph(grain(10, 300), tags={"iso_speed": 100.0}))
    return index


def examples(index, digests=FACES, pairs=False, window=224):
    recipe = ManipulationRecipe(pairs=pairs)
    return Examples(index, digests, recipe, AugmentationRecipe(window=window), 0)


def pixels_of(path):
    with Image.open(path) as image:
        return np.asarray(image)


def shows(whole, pixels):
    """Whether the pixels stand somewhere in the picture, unchanged."""
    side = len(pixels)
    rows, columns = np.nonzero((whole == pixels[0, 0]).all(-1))
    return any(
        np.array_equal(whole[y : y + side, x : x + side], pixels) for y, x in zip(rows, columns, strict=True)
    )


@pytest.mark.parametrize("window", [64, 224])
def test_every_example_is_shown_pixel_for_pixel(index, tmp_path, window):
    data = examples(index, window=window)
    assert contact_sheet(data, tmp_path / "sheet.png") == 4
    whole = pixels_of(tmp_path / "sheet.png")
    for i in range(4):
        assert shows(whole, data.draw((0, i))[0].pixels)


def test_a_pair_stands_side_by_side_the_untouched_face_first(index, tmp_path):
    data = examples(index, pairs=True)
    assert contact_sheet(data, tmp_path / "sheet.png", n=2) == 2
    whole = pixels_of(tmp_path / "sheet.png")[MARGIN : MARGIN + 224]
    first, second = whole[:, MARGIN : MARGIN + 224], whole[:, 224 + 2 * MARGIN :][:, :224]
    shown = [(data.draw((0, i))[0].pixels, data.draw((0, i))[1].pixels) for i in range(4)]
    assert any(np.array_equal(first, a) and np.array_equal(second, b) for a, b in shown)


def test_a_sheet_never_shows_more_than_was_asked_for(index, tmp_path):
    assert contact_sheet(examples(index, pairs=True), tmp_path / "sheet.png", n=5) == 4
    assert contact_sheet(examples(index), tmp_path / "sheet.png", n=3) == 3


def test_the_same_seed_gives_the_same_sheet_and_another_one_another(index, tmp_path):
    sheets = []
    for seed in (0, 0, 1):
        contact_sheet(examples(index), tmp_path / "sheet.png", n=2, seed=seed)
        sheets.append((tmp_path / "sheet.png").read_bytes())
    assert sheets[0] == sheets[1] != sheets[2]


def test_no_photograph_or_no_folder_is_an_error(index, tmp_path):
    with pytest.raises(DataError, match="no photograph"):
        contact_sheet(examples(index, ()), tmp_path / "sheet.png")
    with pytest.raises(OutputError):
        contact_sheet(examples(index), tmp_path / "none" / "sheet.png")


@pytest.mark.parametrize(
    ("name", "labels", "title"),
    [
        (UNTOUCHED, (0, 0, 0), "untouched"),
        ("face-warp", (1, 1, 1), "face-warp: mouth, eye, nose"),
        (PATCH, None, "patch, no face"),
    ],
)
def test_the_title_names_the_manipulation_and_the_regions(name, labels, title):
    assert caption(Drawn(grain(0), name, labels, {}))[0] == title


def test_the_caption_tells_the_tags_as_people_write_them():
    tags = {
        "iso_speed": 400.0,
        "aperture": 2.8,
        "exposure_time": 1 / 60,
        "focal_length": 50.0,
        "make": "Canon",
    }
    words = caption(Drawn(grain(0), UNTOUCHED, (0, 0, 0), tags))[2]
    assert words == ["ISO 400", "f/2.8", "1/60 s", "50 mm", "Canon"]
    assert caption(Drawn(grain(0), UNTOUCHED, (0, 0, 0), {"exposure_time": 2.0}))[2] == ["2 s"]
    assert caption(Drawn(grain(0), UNTOUCHED, (0, 0, 0), {}))[2] == ["no tags"]


def test_captions_leave_the_pixels_free_whatever_their_length():
    longest = {
        name: 1 / 8000 if TASKS[name].kind is TaskKind.ORDINAL else max(TASKS[name].classes, key=len)
        for name in EXIF_TASKS
    }
    drawn = [Drawn(grain(i, 64), "mouth-flip-horizontal", (1, 1, 1), longest) for i in range(10)]
    whole = np.asarray(sheet(drawn))
    assert all(shows(whole, d.pixels) for d in drawn)


@pytest.mark.parametrize(
    ("data", "n_shown"),
    [
        (DataRecipe(), 4),
        (DataRecipe(patches=True), 5),
        (DataRecipe(require_all_tags=True), 1),
    ],
)
def test_a_recipe_shows_the_photographs_that_it_would_use(index, tmp_path, data, n_shown):
    indexed = Indexed(FACES, ("p0",), {})
    assert recipe_sheet(Recipe(data=data), index, indexed, tmp_path / "sheet.png") == n_shown
