import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bladescan.photographs.flickr_diverse_faces import METAINFO, Annotation, Annotations, exif_of
from bladescan.tasks.pretext_tasks import TASKS, TaskKind

BOX = [0.1, 0.2, 0.7, 0.9]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
ORDINAL_KEYS = ("ISO", "Aperture", "Focal Length", "Exposure Time")
CATEGORICAL_KEYS = {
    "Make": "make",
    "Metering Mode": "metering_mode",
    "Exposure Mode": "exposure_mode",
    "White Balance Mode": "white_balance_mode",
    "Exposure Program": "exposure_program",
}


@pytest.fixture
def root(tmp_path):
    (tmp_path / METAINFO).write_text(json.dumps({"7": {"bounding_box": BOX, "photo_url": "x", "more": {}}}))
    return tmp_path


@pytest.mark.parametrize("below", ["", "128", "images/128", "train/images/128"])
def test_a_picture_up_to_three_folders_below_the_metainfo_has_its_box(root, below):
    assert Annotations().of(str(root / below / "7.png")) == Annotation(tuple(BOX), None)


@pytest.mark.parametrize("name", ["8.png", "a/b/c/d/7.png", "../7.png"])
def test_nothing_is_said_of_other_pictures(root, name):
    assert Annotations().of(str((root / name).resolve())) is None


def test_a_picture_with_tags_and_no_box_is_searched(root):
    (root / "exif.json").write_text(json.dumps({"8.png": {"ISO": 100}}))
    assert Annotations().of(str(root / "8.png")) == Annotation(None, {"ISO": 100})


@pytest.mark.parametrize("key", ["7", "7.png", "images/128/7.png"])
def test_tags_are_found_by_index_name_or_path(root, key):
    (root / "fdf_exif.json").write_text(json.dumps({key: {"ISO": 100}}))
    assert Annotations().of(str(root / "7.png")).fields == {"ISO": 100}


def test_a_photo_without_a_file_of_tags_has_none(root):
    (root / "exif").mkdir()
    assert Annotations().of(str(root / "7.png")) == Annotation(tuple(BOX), None)


@pytest.mark.parametrize("time", ["1/60 sec", 60, 60.0, 1 / 60])
def test_every_spelling_of_an_exposure_time_in_the_release_is_the_same_time(time):
    tags = exif_of({"EXIF_ordinal": {"Exposure Time": time}}).tags
    assert tags == {"exposure_time": pytest.approx(1 / 60)}


def test_class_numbers_of_the_release_are_those_of_the_tasks():
    for key, name in CATEGORICAL_KEYS.items():
        for number, expected in enumerate(TASKS[name].classes):
            assert exif_of({"EXIF_categorical": {key: {"cls_label": number}}}).tags == {name: expected}


@given(
    fields=st.dictionaries(
        st.sampled_from(["EXIF", "ISO", "Make", "EXIF_ordinal", "EXIF_categorical"]), JSON
    ),
    ordinal=st.dictionaries(st.sampled_from(ORDINAL_KEYS), JSON),
    categorical=st.dictionaries(
        st.sampled_from(sorted(CATEGORICAL_KEYS)), JSON | st.fixed_dictionaries({"cls_label": JSON})
    ),
    released=st.booleans(),
)
def test_whatever_the_json_holds_every_tag_is_of_its_tasks_kind(fields, ordinal, categorical, released):
    if released:
        fields = {"EXIF_ordinal": ordinal, "EXIF_categorical": categorical}
    for name, value in exif_of(fields).tags.items():
        if TASKS[name].kind is TaskKind.ORDINAL:
            assert isinstance(value, float) and 0 < value < float("inf")
        else:
            assert value in TASKS[name].classes
