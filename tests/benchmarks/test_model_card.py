"""The benchmark behind the model card: what it says of pictures of which the truth is known."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from PIL import Image

from benchmarks.quality import failures, model_card, own_photographs, pictures
from bladescan.detectors.manifest import FaceRule
from bladescan.evaluation.report import Report
from bladescan.fitting.fit_settings import FitSettings
from bladescan.fitting.heads_fit import FitFaces, fit_detector
from bladescan.heads.detector import Detector, save_detector
from tests.tiny import D, bare_encoder

SETS = {
    "evaluation/photographic/first": ("one", ""),
    "evaluation/photographic/second": ("two", ""),
    "evaluation/ai-generated/known-2": ("made", "known-2"),
    "evaluation/ai-generated/other": ("made", "other"),
    "ai-generated-train/known": ("made", "known"),
    "ai-generated-train/third": ("made", "third"),
}
SOURCES = ("site", "studio", "csvconf", "ols", "interfaces_cc0")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder laid out as the real data, of pictures that are face crops by decree."""
    top = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    rows = []
    wanted = [(folder, source, generator) for folder, (source, generator) in SETS.items()]
    wanted += [("faces", source, "") for source in SOURCES]
    for folder, source, generator in wanted:
        (top / folder).mkdir(parents=True, exist_ok=True)
        n, grain = (44, 8) if source == "csvconf" else (12, 24 if generator else 8)
        for i in range(n):
            name = f"{folder}/{source}-{i:02}.png"
            small = Image.fromarray(rng.integers(90, 220, (grain, grain, 3), dtype=np.uint8))
            small.resize((96, 96), Image.Resampling.BICUBIC).save(top / name)
            rows.append({"path": name, "pool": "any", "generator": generator, "source": source})
    with open(top / "manifest.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return top


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> Path:
    rng = np.random.default_rng(0)
    photographic, generated = (rng.normal(size=(n, D)).astype(np.float32) for n in (120, 20))
    settings = FitSettings("diag", n_components=2, max_epochs=2)
    encoder = bare_encoder()
    manifest = msgspec.structs.replace(encoder.manifest, face_rule=FaceRule("none"))
    encoder = Detector(manifest, encoder.vision)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (photographic, generated)]
    path = tmp_path_factory.mktemp("detector") / "tiny.safetensors"
    save_detector(fit_detector(encoder, FitFaces(*unit), settings), path)
    return path


@pytest.fixture(scope="module")
def bench(data, detector):
    return pictures.Bench(data, detector, n_jobs=1)


@pytest.fixture(scope="module")
def card(bench, tmp_path_factory):
    folder = tmp_path_factory.mktemp("card")
    return folder, model_card.card(bench, folder, n_draws=20)


def cells(text: str, first: str) -> list[list[str]]:
    """The rows of all tables that begin with a cell."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith(f"| {first} |")]
    return [line[1:] for line in lines]


def test_the_collection_keeps_what_is_measured_apart_from_what_is_fitted(data):
    found = pictures.collect(data)
    assert set(found.fitted) == {"site", "studio"}
    assert set(found.held_out) == {"csvconf", "ols", "interfaces_cc0"}
    assert set(found.trained) == {"known", "third"}
    measured = [
        path for groups in (found.photographic, found.generated) for p in groups.values() for path in p
    ]
    assert len(measured) == 48 and all("evaluation" in path.parts for path in measured)


def test_a_trial_takes_at_most_so_many_files_of_each_set(data):
    for groups in vars(pictures.collect(data, 5)).values():
        assert all(4 <= len(files) <= 5 for files in groups.values())


def test_the_card_has_every_section_and_both_reports(card):
    folder, text = card
    assert text.count("### ") == 9
    for kind in ("matched", "as-found"):
        assert {path.suffix for path in (folder / kind).iterdir()} == {".html", ".json", ".md", ".png"}


def test_false_alarms_of_the_card_are_those_of_the_report(bench, card):
    folder, text = card
    row = next(row for row in cells(text, "**all**"))
    shares = iter(row[1:])
    for head in bench.heads:
        for kind in ("matched", "as-found"):
            report = msgspec.json.decode((folder / kind / "report.json").read_bytes(), type=Report)
            fpr = report.heads[head].variants["none"].mean.fpr.value
            assert float(next(shares).split()[0]) == pytest.approx(100 * fpr, abs=0.051)


def test_the_mean_over_unknown_generators_holds_those_alone(card):
    measured = [[cell.split()[0] for cell in row] for row in cells(card[1], "other")]
    assert [[cell.split()[0] for cell in row] for row in cells(card[1], "mean of other")] == measured[:4]


def test_generators_of_a_family_that_was_shown_do_not_count_as_unknown(bench):
    assert model_card.familiar(bench) == ["known-2"]
    assert model_card.foreign(bench) == ["other"]


def test_the_false_alarm_rate_is_judged_by_its_number(card):
    row = cells(card[1], "**all**")[0]
    lines = [line for line in card[1].splitlines() if line.startswith("- Asked for 5%")]
    for share, line in zip(row[1:], lines, strict=True):
        assert share in line
        assert ("**outside**" in line) == (not 3 <= float(share.split()[0]) <= 7)


def test_a_head_is_never_tested_on_a_generator_that_it_was_shown(card):
    rows = {name: [row[0] for row in cells(card[1], name)] for name in ("known", "third")}
    assert rows == {"known": ["third"], "third": ["known"]}


def test_own_photographs_are_each_measured_once(card):
    rows = {row[0]: row[1] for row in cells(card[1], "csvconf")}
    assert set(rows.values()) == {"44"} and "one-class, calibrated on own" in rows
    enough = cells(card[1], "interfaces, advocates")
    assert [row[0] for row in enough] == ["one-class, before", "binary, before"]  # six cannot calibrate


def test_a_fit_on_own_photographs_is_calibrated_on_those_that_it_did_not_learn_from(bench):
    own = own_photographs.scored(bench, bench.cut(bench.collection.held_out)["csvconf"], 112)
    road = own_photographs.fit_on_own(bench, own)
    scores = road.head(own.found)
    assert road.calibration.n_held_out == 13  # 0.3 of 44
    assert np.isin(np.float64(road.calibration.calibration), scores).all()


def test_the_typology_angle_is_that_of_its_formula():
    colours = np.array(
        [[224, 172, 105], [141, 85, 36], [255, 219, 172], [128, 128, 128], [90, 100, 160]], np.uint8
    )
    crops = np.broadcast_to(colours[:, None, None], (5, 224, 224, 3))
    angles = failures.typology_angles(crops)
    for colour, angle in zip(colours[:3], angles[:3], strict=True):
        lightness, _, yellow = cv2.cvtColor(np.float32([[colour / 255]]), cv2.COLOR_RGB2LAB)[0, 0].tolist()
        assert angle == pytest.approx(math.degrees(math.atan((lightness - 50) / yellow)), abs=0.1)
    assert angles[1] < angles[0] < angles[2]
    assert np.isnan(angles[3:]).all()  # grey and blue have no skin colour


def test_the_typology_angle_is_taken_between_eyes_and_mouth():
    crops = np.full((1, 224, 224, 3), (224, 172, 105), np.uint8)
    around = crops.copy()
    around[:, :100] = around[:, 150:] = (10, 20, 200)
    assert failures.typology_angles(around) == failures.typology_angles(crops)


def test_filters_and_hard_pictures_keep_shape_and_change_what_they_promise():
    crops = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    made = failures.FILTERS | failures.HARD
    for name, change in made.items():
        changed = change(crops)
        assert changed.shape == crops.shape and changed.dtype == np.uint8
        assert (name == "none") == np.array_equal(changed, crops)
    grey = made["greyscale"](crops)
    assert np.array_equal(grey[..., 0], grey[..., 2])
    assert made["face of 32 px"](crops).std() < made["face of 64 px"](crops).std() < crops.std()


def test_a_share_has_its_interval_and_of_nothing_there_is_none():
    share = pictures.share_of(np.array([True, False, False, False]))
    assert share.value == 0.25 and share.low < 0.01 and share.high > 0.8
    assert pictures.share_of(np.zeros(0, bool)) is None
