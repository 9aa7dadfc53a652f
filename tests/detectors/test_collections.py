"""Calibration by folder, against naive loops over the formulas and against the promise itself."""

import msgspec
import numpy as np
import pytest

from bladescan.base.errors import DataError, DetectorError, UnknownNameError, UsageError
from bladescan.detectors.calibration import (
    check_calibration,
    false_alarm_threshold,
    held_out_told,
    lowest_p_value,
    p_values,
    photographs_behind,
)
from bladescan.detectors.collections import (
    Collections,
    calibrate_by,
    check_unit,
    collection_names,
    find_collections,
    left_out_told,
    promised,
)
from bladescan.detectors.discovery_rate import least_flagged_share
from bladescan.detectors.manifest import EncoderSpec, Manifest, decode_manifest, encode_manifest
from bladescan.detectors.measured import rates_by_source
from bladescan.detectors.smoothing import smooth_p_values
from bladescan.scanning.judging import Judge

BOTH = ("folder", "strictest-folder")


def naive(by, folders, score):
    """The p-value of one score, written from the module's formulas; ``folders`` is a list of lists."""
    if by == "folder":
        return (1 + sum(sum(h <= score for h in own) / len(own) for own in folders)) / (len(folders) + 1)
    return max((1 + sum(h <= score for h in own)) / (len(own) + 1) for own in folders)


def head_of(by, folders, max_stored=4096):
    of = np.repeat(np.arange(len(folders)), [len(own) for own in folders])
    collections = Collections(tuple(map(str, range(len(folders)))), of)
    return calibrate_by(by, np.concatenate(folders), collections, max_stored=max_stored)


def drawn(rng, n_folders, sizes=(1, 2, 7, 40), spread=1.0):
    """Folders of unequal sizes whose photographs are alike within each: lists of scores."""
    return [rng.normal(rng.normal(0, spread), 1, rng.choice(sizes)).round(2) for _ in range(n_folders)]


@pytest.mark.parametrize("by", BOTH)
def test_p_values_are_those_of_the_formula(by):
    rng = np.random.default_rng(0)
    folders = drawn(rng, 12)
    head = head_of(by, folders)
    asked = np.concatenate([*folders, np.linspace(-5, 5, 100)])
    expected = [naive(by, folders, score) for score in asked]
    np.testing.assert_allclose(p_values(head, asked), expected, rtol=0, atol=1e-11)
    assert (head.by, head.n_folders, head.n_held_out) == (by, 12, sum(map(len, folders)))
    check_calibration(head, where="x")


def test_folders_of_one_photograph_each_are_photographs():
    scores = np.random.default_rng(1).normal(size=30)
    plain = calibrate_by("file", scores)
    alone = head_of("folder", [[score] for score in scores])
    np.testing.assert_allclose(p_values(alone, scores), p_values(plain, scores), rtol=1e-11)


@pytest.mark.parametrize("by", BOTH)
@pytest.mark.parametrize("max_stored", [4096, 32])
def test_threshold_p_value_and_smooth_p_value_agree(by, max_stored):
    folders = drawn(np.random.default_rng(2), 25, sizes=(20, 30))
    head, exact = head_of(by, folders, max_stored), head_of(by, folders)
    scores = np.concatenate(folders)
    asked = np.concatenate([scores, np.nextafter(scores, -9), np.nextafter(scores, 9), [-99.0, 99.0]])
    found = p_values(head, asked)
    assert (found >= p_values(exact, asked)).all()  # rounded up between stored scores
    for rate in (0.05, 1 / 26, 0.1, 0.29, 0.5, 0.99):
        if rate >= lowest_p_value(head):
            assert ((asked < false_alarm_threshold(head, rate)) == (found <= rate)).all()
    smooth = smooth_p_values(head, "one-class", -asked)
    assert (smooth >= found - 1e-12).all() and (smooth <= 1).all()
    assert smooth_p_values(head, "one-class", 1e9) == lowest_p_value(head)


def test_the_rate_holds_for_a_photograph_of_a_new_folder_where_ranks_among_all_do_not():
    rng, rate, n_draws = np.random.default_rng(3), 0.1, 2000
    flagged = {"file": 0, "folder": 0}
    for _ in range(n_draws):
        folders = drawn(rng, 12, sizes=(1, 3, 60))
        new = rng.normal(rng.normal(0, 1.0), 1)
        for by in flagged:
            flagged[by] += p_values(head_of(by, folders), new) <= rate
    deviation = (rate * (1 - rate) / n_draws) ** 0.5
    assert flagged["folder"] / n_draws < rate + 3 * deviation
    assert flagged["folder"] / n_draws > 0.02  # and it is not empty
    assert flagged["file"] / n_draws > rate + 3 * deviation


def test_the_strictest_folder_is_stricter_than_a_new_one_of_k_plus_1():
    rng, rate, n_draws, k = np.random.default_rng(4), 0.05, 1000, 9
    stricter = 0
    for _ in range(n_draws):
        *folders, new = drawn(rng, k + 1, sizes=(20, 60, 99))
        ours = false_alarm_threshold(head_of("strictest-folder", folders), rate)
        stricter += false_alarm_threshold(calibrate_by("file", new), rate) < ours
    expected = 1 / (k + 1)
    assert abs(stricter / n_draws - expected) < 4 * (expected * (1 - expected) / n_draws) ** 0.5


def test_one_folder_far_off_weighs_one_folder_whatever_its_size():
    rng = np.random.default_rng(5)
    folders = [rng.normal(0, 1, 30) for _ in range(39)]
    far = [rng.normal(-100, 1, 1000)]
    at_the_median = {by: p_values(head_of(by, folders + far), 0.0) for by in BOTH}
    alone = p_values(head_of("folder", folders), 0.0)
    assert at_the_median["folder"] == pytest.approx((40 * alone + 1) / 41)
    assert at_the_median["strictest-folder"] == 1.0
    plain = calibrate_by("file", np.concatenate(folders + far))
    assert p_values(plain, -50.0) > 0.4
    assert p_values(head_of("folder", folders + far), -50.0) == pytest.approx(2 / 41)


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["a", "b", "b"], ["a", "b", "b"]),
        (["p/a", "p/b", "p/a/2019", "p/a/2020/may"], ["a", "b", "a", "a"]),
        (["p", "p/a", "p/b/c"], ["p", "a", "b"]),
        (["/x/portraits", "/y/portraits"], ["x", "y"]),
        (["s3://bucket/a/1", "s3://bucket/b"], ["a", "b"]),
        (["p/a", "p/ab", "p/a"], ["a", "ab", "a"]),
        (["p/a", "p/a"], ["a", "a"]),
        (["", ""], [".", "."]),
        ([], []),
    ],
)
def test_a_folder_in_a_folder_belongs_to_it(folders, names):
    assert collection_names(folders) == names


def test_too_few_folders_name_the_number_and_the_rate_that_can_be_had():
    names = [f"folder {i % 14}" for i in range(140)]
    with pytest.raises(DataError, match=r"^14 folders: .* at least 19; .* ask for 0\.0667 or more, or use"):
        find_collections("folder", names, 0.05)
    found = find_collections("folder", names, 0.0667)
    head = calibrate_by("folder", np.arange(140.0), found)
    assert lowest_p_value(head) == pytest.approx(1 / 15)
    assert false_alarm_threshold(head, 0.0667) == 0.0  # below every photograph
    with pytest.raises(UsageError, match="19 folders, the detector was calibrated on 14: ask for 0.0667"):
        false_alarm_threshold(head, 0.05)
    assert Judge("one-class", head, 0.05).threshold() is None
    with pytest.raises(UsageError, match="140 held-out photographs of 14 folders: .* on 19 folders or more"):
        least_flagged_share(head, 0.05)
    assert least_flagged_share(head, 0.1) == pytest.approx(10 / 15)


def test_a_flat_folder_is_not_sent_from_one_unit_to_the_other():
    with pytest.raises(DataError, match=r"^1 folder: .* more folders, side by side, or leave out --by$"):
        find_collections("folder", ["photographs"] * 99, 0.05)


def test_nineteen_folders_are_enough_for_five_percent_to_the_last_digit():
    folders = [np.arange(7.0) for _ in range(19)]
    head = head_of("folder", folders)
    assert false_alarm_threshold(head, 0.05) == 0.0
    # Of 39 folders one whole folder, in sevenths that do not sum to 1, may be flagged.
    folders = [np.arange(7.0) + 100, *(np.arange(7.0) + 200 for _ in range(38))]
    assert false_alarm_threshold(head_of("folder", folders), 0.05) == 200.0


def test_folders_too_small_for_the_rate_set_no_strict_threshold_and_are_told():
    names = ["large"] * 30 + ["small"] * 5 + ["also large"] * 19
    found = find_collections("strictest-folder", names, 0.05)
    assert found.names == ("also large", "large") and found.left_out == ("small",)
    assert left_out_told(found, 0.05) == ["1 folder with fewer than 19 faces set no threshold (small)"]
    head = calibrate_by("strictest-folder", np.arange(54.0), found)
    assert head.n_held_out == 49 and held_out_told(head) == "49 held-out photographs of 2 folders"
    assert promised("strictest-folder", found, 54, 0.05) == {
        "by": "strictest-folder",
        "n_folders": 2,
        "smallest_folder": "also large (19 faces)",
        "largest_folder": "large (30 faces)",
    }
    with pytest.raises(UsageError, match="99 held-out photographs in each folder, .* ask for 0.05 or more"):
        false_alarm_threshold(head, 0.01)
    with pytest.raises(DataError, match="1 of 3 folders with 24 faces or more"):
        find_collections("strictest-folder", names, 0.04)


def test_a_p_value_says_how_many_photographs_are_as_suspicious():
    folders = drawn(np.random.default_rng(6), 20)
    scores = np.unique(np.concatenate(folders))
    head = head_of("folder", folders)
    counts = [photographs_behind(head, float(p)) for p in p_values(head, scores)]
    assert counts == [int((np.concatenate(folders) <= score).sum()) for score in scores]
    assert photographs_behind(head, lowest_p_value(head)) == 0


def test_rates_on_others_are_measured_by_the_same_rule_if_the_others_are_enough():
    rng = np.random.default_rng(7)
    names = np.repeat([f"{i:02}" for i in range(21)], 25).tolist()
    scores = rng.normal(size=len(names))
    found = rates_by_source("binary", scores, names, 0.05, "folder")
    assert len(found) == 21
    others = find_collections("folder", names[25:], 0.05)
    head = calibrate_by("folder", scores[25:], others)
    assert found[0].flagged == (p_values(head, scores[:25]) <= 0.05).mean()
    assert not rates_by_source("binary", scores[: 19 * 25], names[: 19 * 25], 0.05, "folder")
    assert len(rates_by_source("binary", scores, names, 0.05, "strictest-folder")) == 21


def test_a_manifest_keeps_it_and_one_that_contradicts_itself_is_refused():
    head = head_of("folder", [[1.0, 2.0], [0.5]])
    manifest = Manifest(name="d", encoder=EncoderSpec("resnet18"), heads={"binary": head})
    assert decode_manifest(encode_manifest(manifest), where="d").heads["binary"] == head
    for wrong in ({"steps": ()}, {"steps": head.steps[1:]}, {"n_folders": 0}, {"by": "file"}):
        with pytest.raises(DetectorError, match="^d: "):
            check_calibration(msgspec.structs.replace(head, **wrong), where="d")
    falling = (*head.steps[:-1], 0.1)
    with pytest.raises(DetectorError, match="must rise"):
        check_calibration(msgspec.structs.replace(head, steps=falling), where="d")


def test_an_unknown_unit_is_named():
    with pytest.raises(UnknownNameError, match="strictest-folder"):
        check_unit("camera")
