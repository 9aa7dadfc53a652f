"""Whole pictures through a scan: one row each, of tiles whose scores are joined, beside faces or alone."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from bladescan.base.errors import UsageError
from bladescan.base.records import Verdict
from bladescan.detectors.calibration import p_values
from bladescan.detectors.manifest import PictureRule
from bladescan.detectors.tile_scores import join_scores
from bladescan.faces.tiles import cut_tiles
from bladescan.ledger.entries import decode, encode
from bladescan.outputs.rows import rows
from bladescan.runtimes.backend import BackendSettings
from bladescan.runtimes.registry import get_plugin
from bladescan.scanning.decoder_process import DecoderSettings, Request, decode_request
from bladescan.scanning.scan_options import Decision, ScanOptions
from bladescan.scanning.scanner import Scanner
from tests.pictures import picture_detector, save_pair, texture

RULE = PictureRule(most=4)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return save_pair(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, samples):
    """A picture without a face, a small one, the same turned by EXIF, an animation, and one with a face."""
    folder = tmp_path_factory.mktemp("pictures")
    plain = Image.fromarray(texture(700, 500, 1))
    plain.save(folder / "a.png")
    Image.fromarray(texture(90, 60, 2)).save(folder / "b.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    plain.transpose(Image.Transpose.ROTATE_90).save(folder / "c.png", exif=exif)
    frames = [Image.fromarray(texture(500, 300, seed)) for seed in (3, 4, 5)]
    frames[0].save(folder / "d.webp", save_all=True, append_images=frames[1:], lossless=True)
    (folder / "e.jpg").write_bytes((samples / "portrait.jpg").read_bytes())
    return folder


def scan(folder, **options):
    options = {"n_workers": 1, **options}
    with Scanner(ScanOptions(**options)) as scanner:
        return list(scanner.scan(str(folder)))


@pytest.fixture(scope="module")
def records(models, folder):
    return scan(folder, model=models[0], subject="image")


def test_a_picture_without_a_face_has_the_joined_score_of_its_tiles(models, folder, records):
    with closing(get_plugin("onnx").open(models[0], BackendSettings("cpu"))) as backend:
        crops = cut_tiles(np.asarray(Image.open(folder / "a.png")), RULE, 4).crops
        one_by_one = [backend.score(crop[None]) for crop in crops]
        head = backend.manifest.heads["binary"]
    p = np.array([scores.p_ai_generated[0] for scores in one_by_one])
    odds = np.log(p / (1 - p)).mean()
    (face,) = records[0].faces
    assert face.p_ai_generated == pytest.approx(1 / (1 + np.exp(-odds)), rel=1e-12)
    assert face.log_likelihood == pytest.approx(np.mean([s.log_likelihood[0] for s in one_by_one]))
    assert face.p_value == p_values(head, [-face.p_ai_generated])[0]
    assert (face.subject, face.box, face.tiles) == ("image", None, 4)
    assert face.coverage == pytest.approx(4 * 224**2 / (700 * 500))


def test_every_picture_has_one_row_and_none_is_without_a_face(records):
    assert [len(record.faces) for record in records] == [1] * 5
    assert {record.verdict for record in records} <= {Verdict.AI_GENERATED, Verdict.NOT_FLAGGED}
    small = records[1].faces[0]
    assert small.tiles == 1 and small.coverage == pytest.approx(224**2 / (90 * 60))


def test_a_picture_turned_by_exif_is_judged_upright(records):
    assert records[0].faces == records[2].faces


def test_the_frames_of_an_animation_share_the_tiles_of_one_picture(models, folder, records):
    assert records[3].n_frames == 3 and records[3].faces[0].tiles == 4  # 1 + 1 + 2
    many = DecoderSettings(subject="image", picture_rule=PictureRule(most=2))
    decoded = decode_request(Request(str(folder / "d.webp").encode()), many, None)
    assert decoded.faces[0].n_crops == 2


@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": 3}, {"n_workers": 2}])
def test_rows_do_not_depend_on_batches_or_workers(models, folder, records, options):
    assert scan(folder, model=models[0], **options) == records


@pytest.mark.parametrize("name", ["pytorch", "openvino"])
def test_every_backend_joins_what_it_scores(models, folder, records, name, tmp_path):
    if get_plugin(name).status().version is None:
        pytest.skip(f"{name} is not installed")
    from bladescan.heads.detector import save_detector

    save_detector(picture_detector(), tmp_path / "image.safetensors")
    model = tmp_path / "image.safetensors" if name == "pytorch" else models[0]
    for ours, theirs in zip(records, scan(folder, model=model, backend=name), strict=True):
        assert theirs.faces[0].tiles == ours.faces[0].tiles
        assert theirs.faces[0].p_ai_generated == pytest.approx(ours.faces[0].p_ai_generated, abs=1e-4)


def test_both_gives_face_rows_and_then_the_picture(models, folder, records):
    image, face = models
    both = scan(folder, model=face, image_model=image, decision=Decision("binary", 0.3))
    faces = scan(folder, model=face, decision=Decision("binary", 0.3))
    alone = scan(folder, model=image, decision=Decision("binary", 0.3))
    for joined, of_faces, whole in zip(both, faces, alone, strict=True):
        assert joined.faces == of_faces.faces + whole.faces
    assert Counter(face.subject for face in both[4].faces)["face"] >= 1
    assert faces[0].verdict is Verdict.NO_FACE and both[0].verdict is alone[0].verdict


def test_views_of_a_picture_are_joined_tile_by_tile(models, folder):
    asked = Decision("binary", 0.3, stability=0.75)
    image, face = models
    found = [record.faces[-1] for record in scan(folder, model=face, image_model=image, decision=asked)]
    assert any(len(one.views) == 6 for one in found)
    with closing(get_plugin("onnx").open(image, BackendSettings("cpu"))) as backend:
        for path, one in zip(sorted(folder.iterdir()), found, strict=True):
            if path.name == "a.png" and one.views:
                views = cut_tiles(Image.open(path), RULE, 4, views=True).views
                scores = [join_scores(backend.score(view), [4], "mean").p_ai_generated[0] for view in views]
                wanted = p_values(backend.manifest.heads["binary"], -np.array(scores))
                assert one.views == tuple(wanted)


def test_a_record_survives_the_ledger(records):
    for record in records:
        kept = decode(encode(record), record.source)
        assert kept == replace(record, cost=None)


def test_a_row_says_what_was_judged(records):
    (row,) = rows(records[0])
    assert (row["subject"], row["tiles"], row["x0"], row["rotation"]) == ("image", 4, None, None)
    assert row["coverage"] == round(4 * 224**2 / (700 * 500), 6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"model": "image", "subject": "face"}, "--model: .*'tiny pictures' was made for whole pictures"),
        (
            {"model": "face", "subject": "image"},
            "--model: .*'tiny' was made for faces and cannot judge whole",
        ),
        ({"image_model": "face"}, "--image-model: the detector 'tiny' was made for faces"),
        ({"model": "image", "image_model": "image"}, "give it as --image-model, or with --subject image"),
        ({"subject": "image"}, "needs a detector made for whole pictures, of which none ships"),
        ({"subject": "both", "model": "face"}, "--subject both needs a detector made for whole pictures"),
        ({"subject": "image", "model": "face", "image_model": "image"}, "leave out --model"),
        ({"subject": "face", "image_model": "image"}, "leave out --image-model"),
        ({"subject": "picture"}, "unknown choice of --subject"),
        (
            {"image_model": "image", "decision": Decision(fdr=0.1)},
            "--fdr keeps its rate among the rows of one",
        ),
    ],
)
def test_a_detector_for_something_else_is_an_error_that_says_what_to_do(models, options, said):
    named = dict(zip(("image", "face"), models, strict=True))
    options = {
        key: named.get(value, value) if isinstance(value, str) and "model" in key else value
        for key, value in options.items()
    }
    with pytest.raises(UsageError, match=said):
        Scanner(ScanOptions(**options)).close()


def test_inspect_tells_of_both_as_a_scan_does(in_process, models, folder):
    image, face = models
    asked = ("--model", face, "--image-model", image, "--head", "binary", "--false-alarm", "0.3")
    both = in_process("inspect", folder / "e.jpg", *asked)
    (record,) = scan(folder / "e.jpg", model=face, image_model=image, decision=Decision("binary", 0.3))
    assert [face.subject for face in record.faces] == ["face", "image"]
    assert f"score {record.faces[-1].score:g}" in both.stdout
    assert "whole picture judged by: tiny pictures" in both.stdout
