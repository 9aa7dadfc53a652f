"""The metrics of an evaluation against naive loops, scikit-learn and cases with a known answer."""

from __future__ import annotations

from dataclasses import astuple

import msgspec
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score

from bladescan.evaluation.intervals import bootstrap_interval, wilson_interval
from bladescan.evaluation.metrics import (
    METRIC_NAMES,
    Sample,
    anomaly_scores,
    bootstrap_metrics,
    compute_metrics,
)
from bladescan.evaluation.report import METRIC_TITLES, Interval, VariantReport


def test_every_metric_has_a_column_on_the_page():
    assert sorted(METRIC_TITLES) == sorted(METRIC_NAMES)


def sample(scores, threshold: float = 0.0, files=None) -> Sample:
    """Faces flagged above a threshold, each its own file unless said otherwise."""
    anomaly = np.asarray(scores, np.float64)
    return Sample(anomaly, anomaly > threshold, np.arange(len(anomaly)) if files is None else files)


def drawn(n: int, mean: float, seed: int) -> np.ndarray:
    """Normal scores, rounded so that some are tied within and across classes."""
    return np.round(np.random.default_rng(seed).normal(mean, 1, n), 1)


@pytest.fixture(scope="module")
def two() -> tuple[Sample, Sample]:
    return sample(drawn(83, 0, 1), 1.2), sample(drawn(41, 1, 2), 1.2)


def naive(photographs: Sample, generated: Sample) -> dict[str, float]:
    """AUC by counting pairs, TPR by trying every threshold."""
    pairs = [(a > b) + (a == b) / 2 for a in generated.anomaly for b in photographs.anomaly]
    found = {"auc": sum(pairs) / len(pairs)}
    for name, rate in (("tpr_at_5", 0.05), ("tpr_at_1", 0.01)):
        best = 0.0
        for threshold in [*photographs.anomaly, *generated.anomaly]:
            flagged = sum(score >= threshold for score in photographs.anomaly)
            if flagged / len(photographs.anomaly) <= rate:
                hits = sum(score >= threshold for score in generated.anomaly)
                best = max(best, hits / len(generated.anomaly))
        found[name] = best
    found["fpr"] = sum(photographs.flagged) / len(photographs.flagged)
    found["fnr"] = 1 - sum(generated.flagged) / len(generated.flagged)
    return found


def test_higher_anomaly_is_more_ai_generated_for_either_head():
    raw = np.asarray([0.2, 0.9])
    assert anomaly_scores("one-class", raw).argmax() == 0  # the lower log-likelihood
    assert anomaly_scores("binary", raw).argmax() == 1  # the higher probability


def test_the_metrics_are_those_of_a_naive_loop(two):
    measured = compute_metrics(two[0], {"x": two[1]}, n_draws=2).generators["x"]
    for name, expected in naive(*two).items():
        assert getattr(measured, name).value == pytest.approx(expected, abs=1e-12), name
    assert measured.tnr.value == pytest.approx(1 - measured.fpr.value)
    assert (measured.n_photographs, measured.n_ai_generated) == (83, 41)


def test_the_metrics_are_scikit_learns_with_both_classes_weighing_the_same(two):
    measured = compute_metrics(two[0], {"x": two[1]}, n_draws=2).generators["x"]
    truth = np.r_[np.zeros(83), np.ones(41)]
    weights = np.r_[np.full(83, 1 / 83), np.full(41, 1 / 41)]
    scores, flagged = (np.concatenate([getattr(s, n) for s in two]) for n in ("anomaly", "flagged"))
    expected = {
        "auc": roc_auc_score(truth, scores),
        "average_precision": average_precision_score(truth, scores, sample_weight=weights),
        "accuracy": accuracy_score(truth, flagged, sample_weight=weights),
        "f_score": f1_score(truth, flagged, sample_weight=weights),
    }
    for name, value in expected.items():
        assert getattr(measured, name).value == pytest.approx(value, abs=1e-12), name


def test_a_perfect_detector_and_one_that_sees_nothing():
    low, high = sample(np.full(30, -1.0)), sample(np.full(20, 1.0))
    perfect = compute_metrics(low, {"x": high}, n_draws=50).mean
    for name in ("accuracy", "auc", "average_precision", "tpr_at_5", "tpr_at_1", "f_score"):
        assert getattr(perfect, name) == Interval(1, 1, 1), name
    blind = compute_metrics(low, {"x": sample(np.full(20, -1.0))}, n_draws=50).mean
    assert blind.auc == Interval(0.5, 0.5, 0.5)
    assert blind.average_precision.value == pytest.approx(0.5)
    assert blind.tpr_at_5.value == blind.f_score.value == 0


def test_a_draw_is_the_metric_of_the_files_repeated(two):
    """With weights of 0, 1, 2 ... the weighted values are the plain ones of faces written out so often."""
    from bladescan.evaluation.metrics import _values

    rng = np.random.default_rng(3)
    ours, theirs = (rng.multinomial(n, np.full(n, 1 / n)) for n in (83, 41))
    weighted = _values(*two, ours[None].astype(float), theirs[None].astype(float))[0]
    repeated = [sample(np.repeat(s.anomaly, w), 1.2) for s, w in zip(two, (ours, theirs), strict=True)]
    plain = compute_metrics(repeated[0], {"x": repeated[1]}, n_draws=2).mean
    for name, value in zip(METRIC_NAMES, weighted, strict=True):
        assert value == pytest.approx(getattr(plain, name).value, abs=1e-12), name


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Two normals a standard deviation apart: AUC = Phi(1 / sqrt(2)) = 0.7602."""
    truth, held = 0.76025, 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        ours, theirs = sample(rng.normal(0, 1, 80)), sample(rng.normal(1, 1, 60))
        auc = compute_metrics(ours, {"x": theirs}, n_draws=200, seed=seed).mean.auc
        assert auc.low <= auc.value <= auc.high
        held += auc.low <= truth <= auc.high
    assert 51 <= held  # 57 expected; fewer than 51 has a chance of one in a thousand


def test_faces_of_one_file_are_one_piece_of_evidence():
    scores, other = drawn(40, 0, 4), sample(drawn(40, 1, 5))
    alone = compute_metrics(sample(scores), {"x": other}).mean.fpr
    five_times = sample(np.repeat(scores, 5), files=np.repeat(np.arange(40), 5))
    together = compute_metrics(five_times, {"x": other}).mean.fpr
    assert together.value == pytest.approx(alone.value)
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.1)


def test_none_of_thirty_files_flagged_may_yet_be_one_of_nine():
    """No draw can vary it, so the interval is Wilson's, of the files and not of their faces."""
    quiet = sample(np.full(60, -1.0), files=np.repeat(np.arange(30), 2))
    found = compute_metrics(quiet, {"a": sample([1.0] * 20), "b": sample([1.0] * 5)}, n_draws=20)
    for metrics in (*found.generators.values(), found.mean):
        assert metrics.fpr == wilson_interval(0, 30) and metrics.tnr == wilson_interval(30, 30)
    assert 0.11 < found.mean.fpr.high < 0.12
    assert found.generators["b"].fnr == wilson_interval(0, 5) and found.mean.fnr == wilson_interval(0, 25)


def test_two_detectors_of_the_same_faces_meet_the_same_draws(two):
    """So their difference, draw by draw, is that of one with itself: nothing."""
    photographs, generated = two
    louder = [part._replace(anomaly=3 * part.anomaly + 1) for part in two]
    first = bootstrap_metrics({"x": (photographs, generated)}, 25)["x"]
    second = bootstrap_metrics({"x": (louder[0], louder[1])}, 25)["x"]
    assert first.shape == (26, len(METRIC_NAMES)) and np.array_equal(first, second)
    assert bootstrap_interval((first - second)[:, 0]) == Interval(0, 0, 0)


def test_the_mean_counts_each_generator_once():
    photographs = sample(drawn(50, 0, 6))
    report = compute_metrics(photographs, {"few": sample(drawn(10, 2, 7)), "many": sample(drawn(90, 0.5, 8))})
    few, many = report.generators["few"], report.generators["many"]
    assert report.mean.auc.value == pytest.approx((few.auc.value + many.auc.value) / 2)
    assert report.mean.n_ai_generated == 100
    assert few.fpr == many.fpr  # all meet the same photographs, drawn or not
    np.testing.assert_allclose(report.mean.fpr, few.fpr)


def test_the_same_seed_gives_the_same_intervals_whatever_the_blocks(two, monkeypatch):
    once = compute_metrics(two[0], {"x": two[1]}, n_draws=30)
    assert once == compute_metrics(two[0], {"x": two[1]}, n_draws=30)
    monkeypatch.setattr("bladescan.evaluation.intervals._LARGEST_BLOCK", 1)
    again = compute_metrics(two[0], {"x": two[1]}, n_draws=30)
    np.testing.assert_allclose(astuple(again.mean)[2:], astuple(once.mean)[2:], rtol=1e-12)


def test_a_report_is_json_and_back(two):
    report = compute_metrics(two[0], {"x": two[1]}, n_draws=5)
    assert msgspec.json.decode(msgspec.json.encode(report), type=VariantReport) == report
