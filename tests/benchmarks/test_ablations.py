"""The table of ablations: what its rows change, and how results are kept and averaged."""

import dataclasses

from benchmarks.quality import ablations
from bladescan.exif.tags import EXIF_TASKS
from bladescan.tasks.pretext_tasks import MANIPULATION_TASKS
from bladescan.tasks.recipe_files import load_recipe


def flat(tree, path=""):
    for key, value in tree.items():
        if isinstance(value, dict) and key != "tasks":
            yield from flat(value, f"{path}{key}.")
        else:
            yield path + key, value


def test_a_row_changes_the_base_recipe_by_its_switch_and_nothing_else():
    base = ("inner.epochs=3", "encoder.embedding_dim=64")
    full = dict(flat(dataclasses.asdict(load_recipe("blades-small", ablations.changes_of("full", 7, base)))))
    changed = {}
    for row in ablations.ROWS:
        recipe = load_recipe("blades-small", ablations.changes_of(row, 7, base))
        keys = dict(flat(dataclasses.asdict(recipe)))
        assert (recipe.name, recipe.seed, recipe.inner.epochs) == (row, 7, 3)
        changed[row] = {key: keys[key] for key in full if keys[key] != full[key] and key != "name"}
    coarse, fine = MANIPULATION_TASKS
    assert changed == {
        "start": {},
        "full": {},
        "equal-weights": {"outer.enabled": False},
        "gamma-0": {"losses.gamma": 0.0},
        "no-ranking": {"losses.ordinal.target": "level"},
        "no-joint": {"head": "linear"},
        "exif": {"tasks": dict.fromkeys((coarse, *EXIF_TASKS), 1.0)},
        "manipulation": {"tasks": {coarse: 1.0, fine: 1.0}},
    }


def test_a_row_has_the_switches_of_its_shipped_recipe():
    for row, name in ablations.ROWS.items():
        if name is not None:
            made = load_recipe("blades", [*ablations.switches(row), f"name={name}"])
            assert made == load_recipe(name), row


def test_a_base_recipe_must_be_the_whole_method():
    assert ablations.missing_from_full(load_recipe("blades-small")) == []
    lacking = ablations.missing_from_full(load_recipe("small"))
    assert [change.partition("=")[0] for change in lacking] == ["outer.enabled", "tasks"]
    assert ablations.missing_from_full(load_recipe("small", lacking)) == []


def lines(row, seed, match="224 px, q90", **aucs):
    return [
        ablations.Result(row, seed, "digest", match, 10, head.replace("_", "-"), name, value)
        for head, values in aucs.items()
        for name, value in zip(("sd3", "sdxl"), values, strict=True)
    ]


def test_the_table_averages_generators_first_and_then_seeds():
    results = [
        *lines("full", 0, one_class=(0.5, 0.7), binary=(0.8, 0.8)),
        *lines("full", 1, one_class=(0.6, 0.6), binary=(0.9, 0.7)),
        *lines("full", 2, one_class=(0.7, 0.8), binary=(1.0, 0.6)),
        *lines("start", 0, one_class=(0.5, 0.4), binary=(0.6, 0.7)),
        *lines("full", 3, match="128 px, q75", one_class=(0.0, 0.0), binary=(0.0, 0.0)),
    ]
    assert ablations.means(results, "224 px, q90").splitlines() == [
        "| row | seeds | one-class | sd3 | sdxl | binary | sd3 | sdxl |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        "| start | 1 | 0.450 | 0.50 | 0.40 | 0.650 | 0.60 | 0.70 |",
        "| full | 3 | 0.650 ± 0.087 | 0.60 | 0.70 | 0.800 ± 0.000 | 0.90 | 0.70 |",
    ]


def test_results_are_read_back_as_they_were_added(tmp_path):
    path = tmp_path / "results.csv"
    assert ablations.read_results(path) == []
    first = lines("full", 0, one_class=(0.1 + 0.2, 0.7), binary=(0.8, 1 / 3))
    second = lines("exif", 1, one_class=(0.5, 0.5))
    ablations.add_results(path, first)
    ablations.add_results(path, second)
    assert ablations.read_results(path) == first + second
    assert [file.name for file in tmp_path.iterdir()] == ["results.csv"]
