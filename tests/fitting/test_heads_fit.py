import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from bladescan.base.errors import DataError, UnknownNameError, UsageError
from bladescan.detectors.calibration import false_alarm_threshold, hold_out, p_values
from bladescan.detectors.combination import combined_scores
from bladescan.fitting.binary_fit import binary_scores
from bladescan.fitting.fit_settings import FitSettings
from bladescan.fitting.heads_fit import DegradedCopies, FitFaces, fit_detector
from bladescan.heads.classifier import Classifier
from bladescan.heads.detector import load_detector, save_detector
from tests.tiny import D, bare_encoder


def embeddings(n, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, D)) * np.linspace(2, 0.2, D)
    x[:, 0] += 3.0
    x[:, 1] += shift
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


SETTINGS = FitSettings(n_components=2, max_epochs=4)


def test_the_asked_false_alarm_rate_holds_on_unseen_photographs_for_both_heads():
    detector = fit_detector(bare_encoder(), FitFaces(embeddings(600), embeddings(100, 1, 3.0)), SETTINGS)
    unseen = embeddings(4000, seed=2)
    one_class, binary = detector.manifest.heads["one-class"], detector.manifest.heads["binary"]
    low, high = detector.manifest.provenance["fit"]["false_alarm_interval_95"]
    # The interval is of the law of this draw; four binomial deviations of 4,000 photographs come on top.
    margin = 4 * math.sqrt(high * (1 - high) / 4000)
    model = Classifier(D)
    model.load_state_dict(detector.classifier)
    with torch.no_grad():
        probability = model.p_ai_generated(torch.from_numpy(unseen.astype(np.float64))).numpy()
    for head, scores in ((one_class, detector.mixture.score_samples(unseen)), (binary, -probability)):
        realised = (p_values(head, scores) <= 0.05).mean()
        assert low - margin < realised < high + margin
        assert head.n_held_out == len(head.calibration) == 180


def test_the_paper_threshold_alarms_too_often_when_photographs_are_few():
    fit = fit_detector(bare_encoder(), FitFaces(embeddings(120), None), FitSettings(n_components=5)).manifest
    report = fit.provenance["fit"]
    low, high = report["paper_false_alarm_interval_95"]
    assert report["paper_false_alarm"] > 0.2
    assert low <= report["paper_false_alarm"] <= high
    assert "degenerate" in report["notices"][0]
    assert report["paper_threshold"] == fit.heads["one-class"].paper_threshold
    assert report["threshold"] == false_alarm_threshold(fit.heads["one-class"], 0.05)


def test_the_same_seed_gives_the_same_file(tmp_path):
    for name in ("a", "b"):
        detector = fit_detector(bare_encoder(), FitFaces(embeddings(150), embeddings(40, 1, 3.0)), SETTINGS)
        save_detector(detector, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert load_detector(tmp_path / "a").manifest == detector.manifest


def test_groups_do_not_straddle_fit_and_calibration():
    # Every photograph occurs four times: split apart, the held-out ones would be as likely as those fitted.
    copies = np.repeat(embeddings(60), 4, axis=0)
    settings = FitSettings(n_components=5)
    apart = fit_detector(bare_encoder(), FitFaces(copies), settings)
    together = fit_detector(bare_encoder(), FitFaces(copies, groups=np.repeat(np.arange(60), 4)), settings)
    rates = [d.manifest.provenance["fit"]["paper_false_alarm"] for d in (apart, together)]
    assert rates[0] < rates[1]
    assert together.manifest.provenance["fit"]["n_groups"] == 60


def test_without_ai_generated_faces_there_is_one_head():
    detector = fit_detector(bare_encoder(), FitFaces(embeddings(100)), SETTINGS)
    assert detector.classifier is None
    assert set(detector.manifest.heads) == {"one-class"}
    assert detector.manifest.default_head == "one-class"
    head = detector.manifest.heads["one-class"]
    assert detector.manifest.neighbours.n == head.n_held_out  # sketches of the photographs that calibrate


def test_the_report_is_plain_json_and_joins_the_provenance():
    detector = fit_detector(
        bare_encoder(),
        FitFaces(embeddings(100)),
        FitSettings(covariance="auto"),
        provenance={"recipe": "x"},
    )
    provenance = detector.manifest.provenance
    assert json.loads(json.dumps(provenance)) == provenance
    assert provenance["recipe"] == "x"
    assert (
        provenance["fit"]["tried"][0][:3] == list(detector.manifest.heads["one-class"].settings.values())[:3]
    )


def test_progress_names_its_stages():
    seen = []
    settings = FitSettings(covariance="auto", n_components=1, max_epochs=2)
    faces = FitFaces(embeddings(100), embeddings(30, 1, 3.0))
    fit_detector(bare_encoder(), faces, settings, progress=lambda *step: seen.append(step))
    assert {stage for stage, _, _ in seen} == {"mixture", "classifier"}
    assert all(0 <= done <= total for _, done, total in seen)
    assert seen[-1] == ("classifier", 2, 2)


@pytest.mark.parametrize(
    ("n", "change", "error", "message"),
    [
        (40, {}, DataError, "12 photographs are held out; .* needs at least 19: give about 63"),
        (1, {}, DataError, "fewer than two groups"),
        (100, {"false_alarm": 0.001}, DataError, "needs at least 999"),
        (100, {"held_out": 1.0}, UsageError, "held-out share"),
        (100, {"false_alarm": 0.0}, UsageError, "false-alarm rate"),
    ],
)
def test_a_fit_that_cannot_be_calibrated_is_refused(n, change, error, message):
    with pytest.raises(error, match=message):
        fit_detector(bare_encoder(), FitFaces(embeddings(n)), FitSettings(**{"n_components": 2, **change}))


def test_embeddings_of_another_encoder_are_refused():
    with pytest.raises(DataError, match=r"photographic embeddings must be finite \[n, 24\], got \[100, 5\]"):
        fit_detector(bare_encoder(), FitFaces(np.zeros((100, 5), np.float32), None), SETTINGS)
    with pytest.raises(DataError, match="AI-generated embeddings"):
        fit_detector(bare_encoder(), FitFaces(embeddings(100), np.zeros((5, 3), np.float32)), SETTINGS)
    with pytest.raises(DataError, match="100 photographs but groups of shape"):
        fit_detector(bare_encoder(), FitFaces(embeddings(100), None, groups=np.zeros(5)), SETTINGS)


def test_copies_of_photographs_that_calibrate_are_not_learned_from():
    photographic, generated = embeddings(200), embeddings(60, 1, 3.0)
    held = np.arange(200) >= 140
    copies = np.stack([embeddings(200, seed) for seed in (7, 8)], 1)
    spoilt = copies.copy()
    spoilt[held] = 1e3
    of_generated = np.stack([embeddings(60, seed, 3.0) for seed in (9, 10)], 1)

    def fit(of_both):
        faces = FitFaces(photographic, generated, held_out=held, copies=of_both)
        return fit_detector(bare_encoder(), faces, SETTINGS)

    first, second = (fit(DegradedCopies(part, of_generated)) for part in (copies, spoilt))
    assert torch.equal(first.mixture.means_, second.mixture.means_)
    assert all(torch.equal(first.classifier[key], second.classifier[key]) for key in first.classifier)
    assert first.manifest.heads["one-class"].n_held_out == 60
    plain = fit(DegradedCopies())
    assert not torch.equal(first.mixture.means_, plain.mixture.means_)
    assert not torch.equal(first.classifier["fc1.weight"], plain.classifier["fc1.weight"])


def test_a_face_and_its_copies_are_validated_or_learned_from_together():
    """Were a copy on the other side, the validation loss of faces learned by heart would be near zero."""
    rng = np.random.default_rng(0)
    noise = [
        (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in rng.normal(size=(2, 80, D))
    ]
    copies = [np.repeat(part[:, None], 4, axis=1) for part in noise]
    settings = FitSettings(n_components=1, max_epochs=60, held_out=0.3)
    fitted = fit_detector(bare_encoder(), FitFaces(*noise, copies=DegradedCopies(*copies)), settings)
    assert fitted.manifest.heads["binary"].settings["validation_loss"] > 0.5


def test_degraded_copies_teach_but_do_not_count_as_photographs():
    photographs = embeddings(120)
    settings = FitSettings(n_components=5)
    copies = np.repeat(photographs[:, None], 9, axis=1)
    fit = fit_detector(
        bare_encoder(), FitFaces(photographs, copies=DegradedCopies(copies)), settings
    ).manifest
    held = 36  # 30% of 120
    n_each = (120 - held) // 5
    assert f"{n_each} photographs for each matrix" in fit.provenance["fit"]["notices"][0]
    generated = embeddings(9, 1, 3.0)
    both = DegradedCopies(copies, np.repeat(generated[:, None], 9, axis=1))
    with pytest.raises(DataError, match="9 AI-generated faces: the binary head needs"):
        fit_detector(bare_encoder(), FitFaces(photographs, generated, copies=both), settings)


def test_the_paper_threshold_is_of_the_photographs_fitted_and_not_of_their_copies():
    photographs = embeddings(200)
    copies = embeddings(200, 1)[:, None] * -1.0  # far away, so that they would move it
    settings = FitSettings(covariance="diag", n_components=2)
    fitted = fit_detector(bare_encoder(), FitFaces(photographs, copies=DegradedCopies(copies)), settings)
    held = hold_out(200, settings.held_out, np.random.default_rng(settings.seed), None)
    scores = np.sort(fitted.mixture.score_samples(photographs[~held]))
    assert fitted.manifest.heads["one-class"].paper_threshold == scores[int(0.05 * len(scores))]


@pytest.mark.parametrize("rule", ["stouffer", "min"])
def test_the_combined_head_keeps_the_rate_on_unseen_photographs_and_decides(rule, tmp_path):
    settings = replace(SETTINGS, combine=rule)
    detector = fit_detector(bare_encoder(), FitFaces(embeddings(600), embeddings(100, 1, 3.0)), settings)
    manifest = detector.manifest
    assert manifest.default_head == "combined" and manifest.combination.rule == rule
    assert (
        manifest.combination.components[0].calibration.calibration == manifest.heads["one-class"].calibration
    )
    unseen = embeddings(4000, seed=2)
    columns = np.stack(
        [detector.mixture.score_samples(unseen), binary_scores(detector.classifier, unseen)], 1
    )
    realised = (
        p_values(manifest.heads["combined"], combined_scores(manifest.combination, columns)) <= 0.05
    ).mean()
    low, high = manifest.provenance["fit"]["false_alarm_interval_95"]
    margin = 4 * math.sqrt(high * (1 - high) / 4000)
    # Each component counts a photograph of the calibration once less than a new one: two of 181 steps.
    assert low - margin - 2 / 181 < realised < high + margin
    about = manifest.provenance["fit"]["combined"]
    assert set(about["dependence"]) == {"one-class and binary"}
    save_detector(detector, tmp_path / "d.safetensors")
    assert load_detector(tmp_path / "d.safetensors").manifest == manifest


def test_one_head_alone_cannot_be_combined():
    with pytest.raises(UsageError, match="--combine joins both heads"):
        fit_detector(bare_encoder(), FitFaces(embeddings(120), None), replace(SETTINGS, combine="min"))
    with pytest.raises(UnknownNameError, match="rule of combination"):
        fit_detector(bare_encoder(), FitFaces(embeddings(120), None), replace(SETTINGS, combine="fisher"))


def test_rates_by_folder_are_of_the_folders_held_out():
    photographs = embeddings(300)
    folders = np.asarray([f"folder {i % 100}" for i in range(300)])
    faces = FitFaces(photographs, groups=folders, sources=folders)
    settings = FitSettings("diag", 1, by="folder")
    detector = fit_detector(bare_encoder(), faces, settings)
    head = detector.manifest.heads["one-class"]
    assert (head.by, head.n_folders, head.n_held_out) == ("folder", 30, 90)
    assert detector.manifest.provenance["fit"]["n_folders"] == 30
    assert "false_alarm_interval_95" not in detector.manifest.provenance["fit"]
    with pytest.raises(DataError, match="30 folders: .* at least 49"):
        fit_detector(bare_encoder(), faces, replace(settings, false_alarm=0.02))
    with pytest.raises(DataError, match="where each photograph comes from"):
        fit_detector(bare_encoder(), replace(faces, sources=None), settings)
