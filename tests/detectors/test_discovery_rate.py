import numpy as np
import pytest

from bladescan.base.errors import UsageError
from bladescan.detectors.calibration import p_values
from bladescan.detectors.discovery_rate import benjamini_hochberg, least_flagged_share, storey_share
from bladescan.detectors.manifest import CalibratedHead


def test_benjamini_hochberg_meets_a_naive_loop():
    rng = np.random.default_rng(0)
    for m in (1, 2, 10, 50):
        p = rng.uniform(size=m) ** 3
        naive = 0.0
        for i, value in enumerate(sorted(p), start=1):
            if value <= i * 0.2 / m:
                naive = value
        assert benjamini_hochberg(p, 0.2) == naive


def test_benjamini_hochberg_flags_past_a_rank_that_fails():
    assert benjamini_hochberg([0.09, 0.091, 0.5], 0.15) == 0.091  # 0.09 > 0.05, but 0.091 <= 0.1
    assert benjamini_hochberg([0.5, 0.9], 0.1) == 0.0
    assert benjamini_hochberg([], 0.1) == 0.0


def test_storeys_share_is_one_for_photographs_and_falls_with_what_is_none():
    uniform = (np.arange(100) + 0.5) / 100
    assert storey_share(uniform) == 1.0
    assert storey_share(np.r_[uniform, np.full(300, 0.01)]) == pytest.approx(51 / 200)
    assert storey_share([]) == 1.0 and storey_share([0.01]) == 1.0


def test_with_storeys_share_the_discovery_rate_holds_and_more_is_found():
    rng = np.random.default_rng(0)
    shares, more = [], 0
    for _ in range(300):
        head = CalibratedHead(tuple(np.sort(rng.normal(size=400))), 400)
        scores = np.r_[rng.normal(size=40), rng.normal(-3.0, 1.0, 60)]
        p = p_values(head, scores)
        found = [p <= benjamini_hochberg(p, 0.2 / share) for share in (1.0, storey_share(p))]
        more += found[1].sum() - found[0].sum()
        shares.append(found[1][:40].sum() / max(1, found[1].sum()))
    assert more > 300  # on average more than one face a batch
    assert np.mean(shares) < 0.2 + 3 * np.std(shares) / np.sqrt(300)


@pytest.mark.parametrize("n,q", [(9, 0.5), (19, 0.2), (109, 0.1)])
def test_below_the_least_share_nothing_is_flagged_and_at_it_something_is(n, q):
    head = CalibratedHead(tuple(float(i) for i in range(n)), n)
    share, m = least_flagged_share(head, q), 1000
    assert share == pytest.approx(1 / ((n + 1) * q))
    for k, flagged in ((int(np.ceil(share * m)), True), (int(np.ceil(share * m)) - 1, False)):
        scores = np.r_[np.full(k, -1.0), np.full(m - k, float(n))]
        assert (benjamini_hochberg(p_values(head, scores), q) > 0) == flagged


def test_a_discovery_rate_that_can_flag_nothing_is_refused():
    head = CalibratedHead((0.0, 1.0, 2.0), 3)
    with pytest.raises(UsageError, match="give at least 0.25, or calibrate on 9 or more"):
        least_flagged_share(head, 0.1)
