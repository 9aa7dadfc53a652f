"""Faces near the threshold are looked at again; those whose verdict does not last are unsure."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from bladescan.base.errors import UsageError
from bladescan.base.exit_codes import ExitCode, ExitRule
from bladescan.base.records import FaceVerdict, FlaggedBy, ImageRecord, Scores, Verdict
from bladescan.detectors.calibration import p_values
from bladescan.detectors.manifest import CalibratedHead
from bladescan.scanning.decoder_process import MOST_VIEWED, DecoderSettings
from bladescan.scanning.judging import Judge, judge_image
from bladescan.scanning.scan_options import Decision, ScanOptions
from bladescan.scanning.scanner import Scanner
from bladescan.scanning.stability import Stability, is_near

HEAD = CalibratedHead(tuple(float(i) for i in range(199)), 199)
JUDGE = Judge("one-class", HEAD, 0.05, Stability(0.75))  # flags below a log-likelihood of 9
FACE = FaceVerdict(0, None, 8.5, None, 0.05, Verdict.AI_GENERATED, "one-class", -8.5, -9.0, 0.0525)


def views(*log_likelihoods):
    return Scores(np.asarray(log_likelihoods, np.float64), None, np.zeros((len(log_likelihoods), 1)))


@pytest.mark.parametrize(
    "scores,stability,verdict",
    [
        ((8.0, 8.0, 8.0, 8.0), 1.0, Verdict.AI_GENERATED),
        ((8.0, 8.0, 8.0, 9.0), 0.75, Verdict.AI_GENERATED),
        ((8.0, 8.0, 9.0, 9.0), 0.5, Verdict.UNSURE),
        ((9.0, 99.0, 9.0, 9.0), 0.0, Verdict.UNSURE),
    ],
)
def test_a_verdict_that_too_few_views_share_is_unsure(scores, stability, verdict):
    judged = JUDGE.with_views(FACE, views(*scores))
    assert (judged.stability, judged.verdict) == (stability, verdict)
    assert judged.views == tuple(p_values(HEAD, np.asarray(scores)))
    assert judged.score == FACE.score


def test_a_face_that_was_not_flagged_may_be_unsure_as_well():
    near = replace(FACE, p_value=0.06, p_smooth=0.062, verdict=Verdict.NOT_FLAGGED)
    assert JUDGE.with_views(near, views(8.0, 8.0, 9.0, 9.0)).verdict is Verdict.UNSURE
    assert JUDGE.with_views(near, views(8.0, 9.0, 9.0, 9.0)).verdict is Verdict.NOT_FLAGGED


@pytest.mark.parametrize("p,near", [(0.0124, False), (0.0125, True), (0.2, True), (0.201, False)])
def test_only_faces_in_the_band_are_looked_at(p, near):
    assert is_near(p, 0.05) == near == JUDGE.looks_at(replace(FACE, p_smooth=p))
    assert not replace(JUDGE, stability=None).looks_at(FACE)


def test_another_rate_judges_views_anew_and_leaves_faces_out_of_its_band_alone():
    record = judge_image(
        ImageRecord("x", Verdict.NO_FACE, faces=(JUDGE.with_views(FACE, views(8.0, 8.0, 9.0, 9.0)),)),
        declares=False,
    )
    assert record.verdict is Verdict.UNSURE and record.flagged_by is None
    at_6 = replace(JUDGE, rate=0.06).again(record)  # all four views are flagged there
    assert (at_6.faces[0].stability, at_6.verdict) == (1.0, Verdict.AI_GENERATED)
    nothing = replace(JUDGE, rate=0.0).again(record)
    assert (nothing.faces[0].stability, nothing.verdict) == (None, Verdict.NOT_FLAGGED)


def test_an_image_is_flagged_before_it_is_unsure():
    unsure, flagged = replace(FACE, verdict=Verdict.UNSURE), FACE
    two = judge_image(ImageRecord("x", Verdict.NO_FACE, faces=(unsure, flagged)), declares=False)
    assert (two.verdict, two.flagged_by) == (Verdict.AI_GENERATED, FlaggedBy.DETECTOR)
    declared = judge_image(ImageRecord("x", Verdict.NO_FACE, faces=(unsure,)), declares=True)
    assert (declared.verdict, declared.flagged_by) == (Verdict.AI_GENERATED, FlaggedBy.DECLARED)


@pytest.mark.parametrize("limit", [0.0, -1.0, 1.1, float("nan")])
def test_a_limit_that_is_no_share_is_refused(limit):
    with pytest.raises(UsageError, match="--stability-limit"):
        Decision(stability=limit)


def test_something_unsure_is_exit_code_1_unless_that_is_not_asked_for():
    counts = {"n_flagged": 0, "n_unsure": 1, "n_unreadable": 0, "is_empty": False}
    assert ExitRule().code(**counts) is ExitCode.FLAGGED
    assert ExitRule(flagged=False).code(**counts) is ExitCode.FLAGGED
    assert ExitRule(unsure=False).code(**counts) is ExitCode.CLEAN
    assert ExitRule().code(**counts | {"n_unreadable": 1}) is ExitCode.FLAGGED_AND_INCOMPLETE


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stability")
    rng = np.random.default_rng(11)
    for i in range(12):
        pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((300, 300), Image.Resampling.BICUBIC).save(folder / f"{i:02}.png")
    return str(folder)


def options(**decision):
    return ScanOptions(model="blades", decision=Decision(**decision), decoder=DecoderSettings(faces="none"))


def test_a_scan_looks_at_the_views_of_near_faces_alone_and_changes_no_score(folder):
    with Scanner(options(head="one-class", false_alarm=0.2)) as plain:
        before = list(plain.scan(folder))
    with Scanner(options(head="one-class", false_alarm=0.2, stability=1.0)) as looking:
        after = list(looking.scan(folder))
        judge = looking._pipeline.judge
    assert [f.score for r in before for f in r.faces] == [f.score for r in after for f in r.faces]
    looked = [face for record in after for face in record.faces]
    assert [bool(face.views) for face in looked] == [judge.looks_at(face) for face in looked]
    for face in looked:
        if face.views:
            agree = sum((p <= 0.2) == (face.p_value <= 0.2) for p in face.views)
            assert len(face.views) == 6 and face.stability == agree / 6
            assert (face.verdict is Verdict.UNSURE) == (agree < 6)


def test_views_are_scored_as_a_scan_of_the_changed_picture_would_score_them(folder, tmp_path):
    from bladescan.faces.views import VIEWS, face_views

    everything = options(head="one-class", fdr=0.9, storey=True, stability=0.5)  # looks at all
    with Scanner(everything) as looking:
        found = {record.source: record.faces[0] for record in looking.scan(folder)}
    assert found and all(len(face.views) == len(VIEWS) for face in found.values())
    source, face = next(iter(found.items()))
    with Image.open(source) as image:
        for index, view in enumerate(face_views(image.convert("RGB"), None)):
            Image.fromarray(view).save(tmp_path / f"{index}.png")
    with Scanner(options(head="one-class")) as plain:
        ranks = [record.faces[0].p_value for record in plain.scan(str(tmp_path))]
    assert ranks == list(face.views)


def test_a_crowd_has_views_of_its_first_faces_only():
    from bladescan.base.records import FaceBox
    from bladescan.scanning.decoder_process import _decode

    class Crowd:
        name, notice = "crowd", ""

        def find(self, image):
            return [FaceBox(i, i, i + 40, i + 40, 0.9) for i in range(20)]

    from io import BytesIO

    file = BytesIO()
    Image.effect_noise((200, 200), 60).convert("RGB").save(file, "PNG")
    decoded = _decode(file.getvalue(), DecoderSettings(views=True), Crowd())
    assert len(decoded.faces) == len(decoded.views) == 20
    assert [bool(views) for views in decoded.views] == [True] * MOST_VIEWED + [False] * (20 - MOST_VIEWED)
    assert not _decode(file.getvalue(), DecoderSettings(), Crowd()).views
