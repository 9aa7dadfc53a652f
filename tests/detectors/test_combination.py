"""P-values of several scores to one: the formulas, what is promised of them, and what files may say."""

import math
from itertools import pairwise
from statistics import NormalDist

import msgspec
import numpy as np
import pytest

from bladescan.base.errors import DetectorError, UnknownNameError, UsageError
from bladescan.detectors.calibration import compress_calibration, p_values
from bladescan.detectors.combination import (
    RULES,
    bound,
    calibrate_together,
    check_combination,
    check_reachable,
    check_rule,
    combined_scores,
    component_p_values,
    least,
    least_p_value,
    stouffer,
)
from bladescan.detectors.manifest import (
    CalibratedHead,
    Combination,
    Component,
    EncoderSpec,
    FaceRule,
    Manifest,
    crop_rules,
)
from bladescan.runtimes.several import manifest_of_several

N = NormalDist()


def head(scores):
    return CalibratedHead(compress_calibration(scores), len(scores))


def components(table):
    return tuple(Component(f"c{i}", "one-class", head(column)) for i, column in enumerate(table.T))


def photographs(n, k, correlation, rng, *shape):
    """Normal scores ``[*shape, n, k]``, any two components with the same correlation."""
    shared = rng.normal(size=(*shape, n, 1)) * math.sqrt(abs(correlation))
    return shared + rng.normal(size=(*shape, n, k)) * math.sqrt(1 - correlation)


def test_statistics_are_the_textbooks():
    assert stouffer([0.5, 0.5, 0.5]) == pytest.approx(0.0, abs=1e-15)
    assert stouffer([N.cdf(-1.0), N.cdf(-2.0)]) == pytest.approx(3.0 / math.sqrt(2))
    assert least([0.1, 0.4]) == pytest.approx(N.inv_cdf(0.9**2))
    assert least([0.2]) == pytest.approx(stouffer([0.2]))
    assert least([1e-12, 0.3]) == pytest.approx(-N.inv_cdf(2e-12), rel=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_of_independent_p_values_the_statistic_is_standard_normal(rule):
    p = np.random.default_rng(0).uniform(size=(20000, 3))
    z = np.sort([RULES[rule](row) for row in p.tolist()])
    steps = np.abs(np.array([N.cdf(value) for value in z]) - np.arange(1, 20001) / 20000)
    assert steps.max() < 1.63 / math.sqrt(20000)  # Kolmogorov's bound at 1%


@pytest.mark.parametrize("rule", RULES)
def test_scores_are_what_a_loop_over_the_formula_gives(rule):
    rng = np.random.default_rng(1)
    held, asked = rng.normal(size=(30, 2)), rng.normal(size=(9, 2)) * 2
    parts, joint = calibrate_together(rule, components(held), held)
    # What is stored: each photograph's ranks among all 30, without a count for itself.
    wanted = []
    for i in range(30):
        p = [sum(held[j, c] <= held[i, c] for j in range(30)) / 31 for c in range(2)]
        wanted.append(-RULES[rule](p))
    assert joint.calibration == pytest.approx(sorted(wanted))
    found = combined_scores(Combination(rule, parts), asked)
    for row, score in zip(asked, found, strict=True):
        p = [(1 + sum(held[j, c] <= row[c] for j in range(30))) / 31 for c in range(2)]
        least_suspicious = -RULES[rule]([min(one + 1 / 64 / 31, 1 - 1 / 62) for one in p])
        most_suspicious = -RULES[rule]([min(one, 1 - 1 / 62) for one in p])
        assert most_suspicious <= score <= least_suspicious


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.95])
def test_the_empirical_null_keeps_every_rate_whatever_the_dependence(rule, correlation):
    rng = np.random.default_rng(2)
    rates, hits, n_draws = np.array([0.05, 0.1, 0.3]), np.zeros(3), 400
    for held, new in zip(
        photographs(60, 2, correlation, rng, n_draws),
        photographs(10, 2, correlation, rng, n_draws),
        strict=True,
    ):
        parts, joint = calibrate_together(rule, components(held), held)
        p = p_values(joint, combined_scores(Combination(rule, parts), new))
        hits += (p[:, None] <= rates).mean(0)
    share = hits / n_draws
    # Ten faces of one draw share a calibration: its spread, Beta(k, 61 - k), is what the margin is made of.
    margin = 4 * np.sqrt(rates * (1 - rates) * (1 / 61 + 1 / 10) / n_draws)
    assert (share <= rates + margin).all()
    assert (share >= 0.7 * rates - margin).all()  # and not by never flagging


def test_the_independent_null_fails_where_scores_depend_on_each_other():
    z = photographs(20000, 2, 0.95, np.random.default_rng(3))
    statistic = z.sum(1) / math.sqrt(2)
    assert (statistic > N.inv_cdf(0.95)).mean() > 0.1  # asked for 5%


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("correlation", [0.0, 0.5, 1.0, -1.0])
def test_the_bound_keeps_every_rate_whatever_the_dependence(rule, correlation):
    """Also where one score is the other, and where it is its opposite."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(20000, 1))
    two = photographs(20000, 2, correlation, rng) if abs(correlation) < 1 else np.hstack([x, correlation * x])
    exact = components(np.repeat(-np.array([[N.inv_cdf(i / 1000)] for i in range(1, 1000)]), 2, 1))
    joint = bound(rule, exact)
    p = p_values(joint, combined_scores(Combination(rule, exact, seen_together=False), two))
    for rate in (0.01, 0.05, 0.2):
        assert (p <= rate).mean() <= rate + 4 * math.sqrt(rate / 20000)


def test_the_bound_of_the_minimum_is_bonferronis():
    held = np.arange(99.0)[:, None].repeat(2, 1)
    parts = components(held)
    joint = bound("min", parts)
    assert joint.n_held_out == 49  # the least p-value is 2 / 100
    scores = np.array([[-1.0, 50.0], [0.5, 98.5], [4.5, 50.0], [40.5, 45.5]])
    found = p_values(joint, combined_scores(Combination("min", parts, seen_together=False), scores))
    # 1, 2, 6 and 42 hundredths, doubled.
    assert found == pytest.approx([1 / 50, 2 / 50, 6 / 50, 42 / 50])


def test_the_bound_of_two_is_the_union_and_of_many_the_worst_mean():
    parts = components(np.arange(999.0)[:, None].repeat(8, 1))
    two, many = bound("stouffer", parts[:2]), bound("stouffer", parts)
    rate, n2, n8 = 0.05, two.n_held_out, many.n_held_out
    reached = -two.calibration[round(rate * (n2 + 1)) - 1] / math.sqrt(2)
    assert reached == pytest.approx(-N.inv_cdf(rate / 2), abs=0.02)
    reached = -many.calibration[round(rate * (n8 + 1)) - 1] / math.sqrt(8)
    assert reached == pytest.approx(N.pdf(N.inv_cdf(rate)) / rate, abs=0.02)
    assert reached < -N.inv_cdf(rate / 8)


def test_faces_beyond_all_photographs_keep_their_order():
    parts = components(np.random.default_rng(5).normal(size=(50, 2)))
    p = component_p_values(parts[0], -np.arange(3.0, 12.0))
    assert all(later < earlier for earlier, later in pairwise(p)) and p.min() > 1 / 51


def test_each_way_to_cut_a_face_out_counts_once():
    own, other = FaceRule("yunet", 1.3), FaceRule("mtcnn", 1.1)
    parts = components(np.zeros((3, 2)))
    combination = Combination("min", parts, (own, other, FaceRule("scrfd", 1.3)))
    manifest = Manifest("two", EncoderSpec("none"), face_rule=own, combination=combination)
    assert crop_rules(manifest) == (own, other)
    assert crop_rules(msgspec.structs.replace(manifest, combination=None)) == (own,)


def broken(**changes):
    table = np.random.default_rng(6).normal(size=(20, 2))
    parts, joint = calibrate_together("min", components(table), table)
    combination = msgspec.structs.replace(Combination("min", parts), **changes)
    return Manifest("two", EncoderSpec("none"), heads={"combined": joint}, combination=combination)


@pytest.mark.parametrize(
    "manifest,said",
    [
        (broken(components=broken().combination.components[:1]), "1 scores cannot be combined"),
        (broken(components=broken().combination.components[:1] * 2), "two of the combined scores"),
        (
            broken(components=(*broken().combination.components, Component("x", "binary", head([1.0]), 7))),
            "'x' is of a detector that there is not",
        ),
        (
            broken(components=(*broken().combination.components, Component("x", "binary", head([1.0]), -1))),
            "'x' is of a detector that there is not",
        ),
        (
            broken(components=(Component("x", "binary", CalibratedHead((), 0)),) * 2),
            "'x': 0 calibration scores",
        ),
        (msgspec.structs.replace(broken(), heads={}), "needs the head 'combined'"),
        (msgspec.structs.replace(broken(), combination=None), "needs the head 'combined'"),
    ],
)
def test_a_combination_that_cannot_be_computed_is_an_error(manifest, said):
    check_combination(broken(), 1, where="fine")
    with pytest.raises(DetectorError, match=said):
        check_combination(manifest, 1, where="bad")


def test_another_rule_is_named_in_the_error():
    with pytest.raises(UnknownNameError, match="stouffer"):
        check_rule("fisher")


def test_a_bare_encoder_has_nothing_to_combine():
    whole = msgspec.structs.replace(broken(), heads={"binary": head([0.1, 0.2])}, default_head="binary")
    bare = msgspec.structs.replace(broken(), heads={}, default_head=None)
    with pytest.raises(UsageError, match="'b' is a bare encoder without a calibrated head"):
        manifest_of_several([("a", whole), ("b", bare)], "min")


def test_columns_of_detectors_with_one_name_or_a_column_s_name_differ():
    whole = msgspec.structs.replace(broken(), heads={"binary": head(np.arange(40.0))}, default_head="binary")
    named = [("a b", whole), ("a/b", whole), ("detection", whole)]
    found = manifest_of_several(named, "min").combination.components
    assert [one.name for one in found] == ["a_b", "a_b-2", "detection-2"]


def test_a_rate_that_no_face_can_reach_is_an_error():
    """By the rule min each score's most suspicious photograph is as suspicious as a face can be."""
    table = np.random.default_rng(8).normal(size=(39, 3))
    parts, joint = calibrate_together("min", components(table), table)
    combination = Combination("min", parts)
    beyond = combined_scores(combination, np.full((1, 3), -1e6))
    assert p_values(joint, beyond) == least_p_value(combination, joint) == pytest.approx(4 / 40)
    check_reachable(combination, joint, 0.1)
    with pytest.raises(UsageError, match="ask for 0.1 or more, or calibrate on about 78"):
        check_reachable(combination, joint, 0.05)
    parts, joint = calibrate_together("stouffer", components(table), table)
    check_reachable(Combination("stouffer", parts), joint, 0.05)
    bounded = Combination("min", parts, seen_together=False)
    assert least_p_value(bounded, bound("min", parts)) == pytest.approx(3 / 40, abs=0.01)
