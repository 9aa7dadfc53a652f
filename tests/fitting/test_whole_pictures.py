"""A detector of whole pictures from its fit to its evaluation: tiles are learned, pictures calibrate."""

from __future__ import annotations

import json
import re
from contextlib import closing
from dataclasses import replace

import msgspec
import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image
from typer.testing import CliRunner

from bladescan.base.errors import DataError, UsageError
from bladescan.command.app import app
from bladescan.command.inputs import picture_rule
from bladescan.detectors.calibration import photographic_scores
from bladescan.detectors.manifest import PictureRule
from bladescan.detectors.tile_scores import join_scores
from bladescan.evaluation.job import EvaluateOptions, evaluate
from bladescan.faces.tiles import cut_tiles
from bladescan.fitting.calibrate_job import CalibrateOptions, calibrate
from bladescan.fitting.fit_settings import FitSettings
from bladescan.fitting.heads_fit import FitFaces, fit_detector
from bladescan.fitting.job import FitOptions, fit
from bladescan.heads.detector import save_detector
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.registry import get_plugin
from tests.pictures import picture_detector, save_textures
from tests.tiny import bare_encoder

RULE = PictureRule(most=2, join="top")
SETTINGS = FitSettings("diag", 1, held_out=0.5, binary_head="logistic")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pool")
    (root / "generated").mkdir()
    for path in sorted(save_textures(root / "plain", 12, (460, 240), 7).iterdir()):
        soft = Image.open(path).resize((46, 24)).resize((460, 240), Image.Resampling.BICUBIC)
        soft.save(root / "generated" / path.name)
    return save_textures(root / "photographs", 44, (460, 240)), root / "generated"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    path = tmp_path_factory.mktemp("encoder") / "encoder.safetensors"
    save_detector(bare_encoder(), path)
    return path


@pytest.fixture(scope="module")
def fitted(folders, encoder, tmp_path_factory):
    options = FitOptions(str(encoder), subject="image", picture_rule=RULE, fit=SETTINGS, backend="pytorch")
    detector = fit(str(folders[0]), options, ai_generated=str(folders[1]))
    path = tmp_path_factory.mktemp("fitted") / "image.safetensors"
    save_detector(detector, path)
    return detector, path


def naive_scores(path, folder):
    """The photographic scores of every picture, tile by tile."""
    found = {"binary": [], "one-class": []}
    with closing(get_plugin("pytorch").open(path, BackendSettings("cpu"))) as backend:
        for picture in sorted(folder.iterdir()):
            crops = cut_tiles(Image.open(picture), RULE, 2).crops
            joined = join_scores(backend.score(crops), [len(crops)], "top")
            for head, scores in found.items():
                scores.append(photographic_scores(joined, head)[0])
    return found


def test_the_manifest_says_what_was_fitted(fitted):
    manifest = fitted[0].manifest
    assert (manifest.subject, manifest.picture_rule, manifest.face_rule.finder) == ("image", RULE, "none")
    images = manifest.provenance["images"]
    assert images["photographic"] == {"images": 44, "tiles": 88, "skipped": {}}
    report = manifest.provenance["fit"]
    assert (report["n_photographs"], report["n_held_out"], report["n_ai_generated"]) == (44, 22, 24)


@pytest.mark.parametrize("head", ["one-class", "binary"])
def test_whole_held_out_pictures_calibrate_by_their_joined_scores(fitted, folders, head):
    calibration = fitted[0].manifest.heads[head]
    every = np.array(naive_scores(fitted[1], folders[0])[head])
    assert calibration.n_held_out == len(calibration.calibration) == 22
    for score in calibration.calibration:
        assert np.isclose(every, score, rtol=1e-4, atol=1e-7).any()


def test_a_tile_of_a_held_out_picture_is_in_no_fit():
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(60, 24)).astype(np.float32)
    pictures = np.repeat(np.arange(20), 3)
    held = pictures >= 0
    faces = FitFaces(embeddings, groups=pictures, held_out=held, pictures=pictures)
    with pytest.raises(DataError, match="20 photographs are held out; a false-alarm rate of 0.01 needs"):
        fit_detector(picture_detector(), faces, replace(SETTINGS, false_alarm=0.01))


def test_embeddings_that_are_kept_serve_another_way_to_join(folders, encoder, tmp_path):
    options = FitOptions(str(encoder), subject="image", picture_rule=RULE, fit=SETTINGS, backend="pytorch")
    options = replace(options, embeddings=tmp_path / "kept.sqlite")
    first = fit(str(folders[0]), options)
    size = options.embeddings.stat().st_size
    mean = replace(options, picture_rule=msgspec.structs.replace(RULE, join="mean"))
    second = fit(str(folders[0]), mean)
    assert options.embeddings.stat().st_size == size
    assert first.manifest.heads["one-class"] != second.manifest.heads["one-class"]


def test_calibration_and_evaluation_see_one_score_for_each_picture(fitted, folders):
    _, path = fitted
    found = calibrate(str(folders[0]), CalibrateOptions(path, backend="pytorch"))
    wanted = sorted(naive_scores(path, folders[0])["binary"])
    np.testing.assert_allclose(found.manifest.heads["binary"].calibration, wanted, rtol=1e-4, atol=1e-7)
    assert found.report["n_faces"] == 44 and found.manifest.subject == "image"
    with pytest.raises(DataError, match="12 whole pictures in 12 photographs"):
        calibrate(str(folders[1]), CalibrateOptions(path, backend="pytorch"))
    options = EvaluateOptions(path, backend="pytorch", n_draws=20)
    report = evaluate(str(folders[0]), {"soft": str(folders[1])}, options).report
    assert (report.photographs.faces, report.ai_generated["soft"].faces, report.subject) == (44, 12, "image")
    assert report.heads["binary"].variants["none"].mean.auc.value > 0.9
    assert sum(part.n_photographs for part in report.heads["binary"].by_size) == 44


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (("face", "centre", 224, 9, "mean"), "are for --subject image"),
        (("image", "tiles", 100, 9, "mean"), "expected a multiple of 8"),
    ],
)
def test_a_view_that_cannot_be_is_an_error(rule, said):
    with pytest.raises(UsageError, match=said):
        picture_rule(*rule)


def test_the_commands_fit_scan_and_report_a_picture_without_a_face(folders, encoder, tmp_path):
    def run(*arguments):
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    asked = ["--subject", "image", "--view", "centre", "--covariance", "diag", "--components", "1"]
    named = ["--photos", folders[0], "--encoder", encoder, "--backend", "pytorch", "--held-out", "0.5"]
    model = tmp_path / "m.safetensors"
    done = run("fit", *asked, *named, "--copies", "0", "-o", model)
    assert done.exit_code == 0, done.output
    rows, page = tmp_path / "v.parquet", tmp_path / "page.html"
    some = sorted(folders[0].iterdir())[:3]
    scan = ["scan", "--subject", "image", "--image-model", model, *some, "--ledger", tmp_path / "l"]
    done = run(*scan, "-o", rows, "--report", page)
    assert done.exit_code in (0, 1) and "3 whole pictures" in done.stderr, done.output
    again = run(*scan, "--format", "jsonl", "--quiet")
    told, *images, summary = map(json.loads, again.stdout.splitlines())
    assert (told["subject"], told["image_detector"], summary["n_unchanged"]) == ("image", None, 3)
    assert (summary["n_faces"], summary["n_pictures"]) == (0, 3)
    table = pyarrow.parquet.read_table(rows).to_pylist()
    said = [(row["subject"], row["tiles"], row["score"], row["face_verdict"]) for row in table]
    faces = [face for image in images for face in image["faces"]]
    assert said == [(face["subject"], face["tiles"], face["score"], face["verdict"]) for face in faces]
    assert said[0][:2] == ("image", 1)
    assert len(re.findall(r'"subject": ?"image"', page.read_text())) >= 3
