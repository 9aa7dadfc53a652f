"""Parts of a scan that were looked into alike are one; others are kept apart."""

from __future__ import annotations

import numpy as np

from bladescan.feedback.scanned_faces import FLAGGED, SIDES
from bladescan.feedback.strata import alike, representative, score_bands
from tests.feedback.decided import AI, PHOTO, read_scan, spread
from tests.reviewing.reviews import THRESHOLD


def test_bands_hold_every_face_once_by_verdict_and_score(tmp_path):
    scores = [*spread(53, 2.5, 9), *spread(100, -5, 1.5)]
    faces = read_scan(tmp_path, scores, {0: AI})
    bands = score_bands(faces).strata
    assert sum(band.n for band in bands) == len(scores) and len(bands) == 10
    assert [band.high for band in bands] == sorted((band.high for band in bands), reverse=True)
    assert all((band.low > THRESHOLD) == (band.side == FLAGGED) for band in bands)
    assert {band.n for band in bands if SIDES[band.side] == "not-flagged"} == {20}
    assert len(score_bands(read_scan(tmp_path, [1.0] * 40, {0: AI})).strata) == 1  # nothing tells them apart


def test_a_random_sample_leaves_one_stratum_and_the_most_suspicious_do_not(tmp_path):
    scores = spread(200, -5, 1.5)[::-1]
    drawn = np.random.default_rng(4).permutation(200)[:40]
    for decided, n_strata in ((drawn, 1), (range(40), 2)):
        faces = read_scan(tmp_path, scores, {int(number): PHOTO for number in decided})
        assert len(alike(faces, score_bands(faces)).strata) == n_strata


def test_the_representative_faces_are_the_same_share_of_each_stratum(tmp_path):
    scores = [*spread(20, 2.5, 9), *spread(80, -5, 1.5)]
    decided = dict.fromkeys(range(20), AI) | {20 + 4 * number: PHOTO for number in range(20)}
    faces = read_scan(tmp_path, scores, decided)
    strata = alike(faces, score_bands(faces))
    chosen = representative(faces, strata)
    places = [place for place, key in faces.keys.items() if key in chosen]
    assert [(faces.sides[places] == FLAGGED).sum(), len(places)] == [5, 25]
    assert chosen == representative(faces, strata)


def test_nothing_is_representative_of_what_nobody_looked_at(tmp_path):
    faces = read_scan(tmp_path, [*spread(20, 2.5, 9), *spread(80, -5, 1.5)], dict.fromkeys(range(20), PHOTO))
    assert representative(faces, alike(faces, score_bands(faces))) is None
