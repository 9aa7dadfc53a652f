"""The picture of embeddings: photographs at the same places in every panel."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from bladescan.evaluation import embedding_plot
from bladescan.evaluation.report import PHOTOGRAPHS, Scored
from tests.evaluation.drawn import NAN, scored, texts


def clouds(panel):
    """Places of the points of a panel, by set."""
    return {cloud.get_label(): np.array(cloud.get_offsets()) for cloud in panel.collections}


def test_every_generator_has_a_panel_in_which_the_photographs_stand_at_the_same_places():
    panels = embedding_plot.tsne_figure(scored(3, n=24)).axes
    found = [clouds(panel) for panel in panels]
    assert [list(cloud) for cloud in found] == [[PHOTOGRAPHS, f"g{k}"] for k in range(3)]
    for cloud in found:
        assert cloud[PHOTOGRAPHS].shape == (24, 2)
        assert_array_equal(cloud[PHOTOGRAPHS], found[0][PHOTOGRAPHS])


def test_the_points_of_a_set_far_from_another_stand_apart():
    rng = np.random.default_rng(0)
    far = {PHOTOGRAPHS: rng.normal(0, 1, (40, 5)), "g": rng.normal(50, 1, (40, 5))}
    (panel,) = embedding_plot.tsne_figure(Scored({}, far)).axes
    places = clouds(panel)
    centres = {name: cloud.mean(axis=0) for name, cloud in places.items()}
    for name, other in ((PHOTOGRAPHS, "g"), ("g", PHOTOGRAPHS)):
        own = np.linalg.norm(places[name] - centres[name], axis=1)
        assert (own < np.linalg.norm(places[name] - centres[other], axis=1)).all()


def test_the_same_seed_gives_the_same_picture_and_another_draws_other_faces(coarse, monkeypatch, tmp_path):
    monkeypatch.setattr(embedding_plot, "MAX_POINTS", 30)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        embedding_plot.plot_tsne(scored(), tmp_path / name, seed=seed)
    files = [(tmp_path / name).read_bytes() for name in "abc"]
    assert files[0] == files[1] != files[2]


def test_of_many_faces_a_part_is_drawn_and_the_title_says_so(monkeypatch):
    monkeypatch.setattr(embedding_plot, "MAX_POINTS", 40)
    figure = embedding_plot.tsne_figure(scored(2, n=60))
    drawn = [{name: len(cloud) for name, cloud in clouds(panel).items()} for panel in figure.axes]
    assert drawn == [{PHOTOGRAPHS: 20, "g0": 10}, {PHOTOGRAPHS: 20, "g1": 10}]
    assert "▲ g0 (10 of 30)" in texts(figure)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([9000, 9000, 9000], [1000, 500, 500]),
        ([9000, 100, 9000], [1266, 100, 633]),
        ([400, 9000, 9000], [400, 800, 800]),
        ([50, 60, 70], [50, 60, 70]),
        ([9000], [2000]),
    ],
)
def test_room_that_small_sets_leave_goes_to_the_others(sizes, expected):
    assert embedding_plot._shares(sizes, True) == expected


def test_embeddings_that_are_not_finite_are_left_out():
    given = scored(1, n=24)
    given.embeddings["g0"][3, 2] = NAN
    figure = embedding_plot.tsne_figure(given)
    assert len(clouds(figure.axes[0])["g0"]) == 11
    assert "▲ g0 (11 of 12)" in texts(figure)


def test_three_faces_are_too_few_for_a_tsne_and_the_picture_says_so():
    given = {PHOTOGRAPHS: np.ones((2, 4), np.float32), "g": np.zeros((1, 4), np.float32)}
    assert texts(embedding_plot.tsne_figure(Scored({}, given))) == [
        "3 faces with embeddings are too few for a t-SNE: it takes 10"
    ]


@pytest.mark.parametrize("n", [10, 11])
def test_the_fewest_faces_do(n):
    (panel,) = embedding_plot.tsne_figure(Scored({}, {"g": np.eye(n, 4, dtype=np.float32)})).axes
    assert clouds(panel)["g"].shape == (n, 2)


def test_embeddings_that_are_all_equal_are_said_to_be():
    given = {PHOTOGRAPHS: np.ones((20, 4), np.float32)}
    assert texts(embedding_plot.tsne_figure(Scored({}, given))) == ["no t-SNE: all 20 embeddings are equal"]
