"""The recipe `sdaie`: whole photographs to a detector of whole pictures, and no face is looked for."""

import numpy as np
import piexif
import pytest
from PIL import Image

import bladescan
from bladescan.base.errors import DataError, RecipeError
from bladescan.photographs.faceless import NO_FACES
from bladescan.photographs.index import PhotographIndex
from bladescan.pretext.contact_sheet import recipe_sheet
from bladescan.sources.given import sources_of
from bladescan.training.job import INDEX_FILE, fill_index, finder_for
from bladescan.training.runs import read_history

TINY = [
    *("encoder.width=8", "encoder.embedding_dim=16", "augmentation.window=64", "inner.epochs=1"),
    *("inner.batch_size=4", "data.held_out=0.3", "data.held_out_by=content", "workers=0"),
]


def grain(i):
    rng = np.random.default_rng(i)
    return Image.fromarray(rng.normal(128, 5 + i, (256, 272, 3)).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def photographs(samples, tmp_path_factory):
    """Fifteen photographs without a face, and one with; a picture without EXIF."""
    folder = tmp_path_factory.mktemp("photographs")
    portrait = Image.open(samples / "portrait.jpg").resize((400, 470))
    for i, picture in enumerate([portrait, *map(grain, range(15))]):
        tags = {piexif.ExifIFD.ISOSpeedRatings: 100 * (i + 1), piexif.ExifIFD.ExposureMode: i % 2}
        picture.save(folder / f"{i}.jpg", exif=piexif.dump({"Exif": tags}), quality=95)
    grain(99).save(folder / "untagged.jpg")
    return folder


@pytest.fixture(scope="module")
def run(photographs, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "sdaie"
    recipe = bladescan.load_recipe("sdaie", TINY)
    bladescan.train([photographs], recipe, bladescan.TrainOptions(out, device="cpu"))
    return out


def test_every_tagged_photograph_is_learned_from_with_a_face_or_without(run):
    entries = PhotographIndex(run.parent / INDEX_FILE, NO_FACES).entries()
    assert sorted(e.kind for e in entries) == ["none"] + ["patch"] * 16
    last = list(read_history(run))[-1]
    assert set(last["losses"]) == set(bladescan.load_recipe("sdaie").tasks)
    assert last["losses"]["iso_speed"] > 0 and last["losses"]["make"] == 0  # nobody says who made it
    assert last["held_out"]["iso_speed"]["n"] > 0


def test_a_face_recipe_and_this_one_share_an_index_file(photographs, run):
    recipe = bladescan.load_recipe("small")
    path = run.parent / INDEX_FILE
    _, found = fill_index(sources_of([photographs]), path, finder_for(recipe, "auto"))
    assert len(found.faces) == 1
    _, again = fill_index(sources_of([photographs]), path, NO_FACES)
    assert len(again.patches) == 16 and not again.faces


def test_the_contact_sheet_shows_the_squares(photographs, run, tmp_path):
    recipe = bladescan.load_recipe("sdaie")
    index, found = fill_index(sources_of([photographs]), run.parent / INDEX_FILE, NO_FACES)
    assert recipe_sheet(recipe, index, found, tmp_path / "sheet.png", n=4) == 4


def test_a_fit_of_its_run_scores_whole_pictures(photographs, run):
    mixture = bladescan.FitSettings("diag", 2, held_out=0.4, false_alarm=0.3)
    options = bladescan.FitOptions(str(run), backend="pytorch", fit=mixture, subject="image")
    manifest = bladescan.fit([photographs], options).manifest
    assert (manifest.subject, manifest.encoder.name) == ("image", "sdaie")
    assert set(manifest.heads) == {"one-class"}


def test_photographs_without_exif_are_an_error_that_says_so(tmp_path):
    grain(0).save(tmp_path / "untagged.jpg")
    recipe = bladescan.load_recipe("sdaie", TINY)
    with pytest.raises(DataError, match="no photograph with EXIF and texture"):
        bladescan.train([tmp_path], recipe, bladescan.TrainOptions(tmp_path / "run", device="cpu"))


def test_there_is_no_face_to_manipulate():
    with pytest.raises(RecipeError, match="coarse_manipulation: with data.subject image there is no face"):
        bladescan.load_recipe("small", ["data.subject=image"])
