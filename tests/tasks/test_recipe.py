import dataclasses

import pytest
import yaml

from bladescan.base.errors import RecipeError, UnknownNameError
from bladescan.pretext import manipulations
from bladescan.tasks.pretext_tasks import PAPER_TASKS, TASKS, PretextTask, TaskKind
from bladescan.tasks.recipe import ManipulationRecipe, Recipe
from bladescan.tasks.recipe_files import dump_recipe, load_recipe, recipe_digest
from bladescan.tasks.shipped_recipes import shipped_recipes
from tests import ROOT


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "r.yaml"
        path.write_text(text)
        return str(path)

    return write


NAMES = [*manipulations.MANIPULATIONS, manipulations.AUTOENCODE]


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_shipped_recipe_is_valid_and_bears_its_own_name(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert set(recipe.tasks) <= set(TASKS)
    assert set(recipe.manipulations.names) <= set(NAMES)


def test_the_default_manipulations_are_the_papers():
    assert ManipulationRecipe().names == manipulations.PAPER


def test_the_manipulations_that_a_recipe_may_name_are_those_that_exist(written):
    recipe = load_recipe(written(yaml.safe_dump({"manipulations": {"names": NAMES, "pairs": True}})))
    assert list(recipe.manipulations.names) == NAMES


def leaves(cls, prefix=""):
    for field in dataclasses.fields(cls):
        inner = getattr(cls(), field.name)
        if dataclasses.is_dataclass(inner):
            yield from leaves(type(inner), f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


@pytest.mark.parametrize("key", list(leaves(Recipe)))
def test_every_key_is_documented(key):
    text = (ROOT / "docs" / "training.md").read_text()
    assert f"| `{key}` |" in text


@pytest.mark.parametrize("name", NAMES)
def test_every_manipulation_is_documented(name):
    text = (ROOT / "docs" / "training.md").read_text()
    assert f"| `{name}` |" in text


def test_an_empty_file_is_the_default_recipe(written):
    assert load_recipe(written("")) == Recipe()


def test_a_resolved_recipe_reads_back_the_same(written):
    recipe = load_recipe("small", ["inner.lr=3.0e-5", "tasks={coarse_manipulation: 2.0}"])
    assert load_recipe(written(dump_recipe(recipe))) == recipe


def test_all_mistakes_are_reported_at_once(written):
    text = """
    sede: 1
    encoder: {name: resnet19, width: 4}
    inner: {lr: -1.0, learning_rate: 3}
    manipulations: {names: [eye-flop]}
    data: {held_out: 0.9}
    """
    with pytest.raises(RecipeError) as caught:
        load_recipe(written(text))
    message = str(caught.value)
    for part in (
        "unknown key 'sede' (did you mean 'seed'?)",
        "encoder.name: got 'resnet19'",
        "resnet10, resnet18",
        "encoder.width: got 4",
        "inner.lr: got -1.0",
        "unknown key 'inner.learning_rate'",
        "manipulations.names: got ['eye-flop']",
        "data.held_out: got 0.9",
    ):
        assert part in message
    assert "\n" not in message


def test_a_float_without_a_point_is_explained(written):
    with pytest.raises(RecipeError, match=r"1\.0e-5, not 1e-5"):
        load_recipe(written("inner: {lr: 1e-5}"))


def test_set_changes_one_key_and_keeps_the_rest():
    changed = load_recipe("small", ["inner.lr=3.0e-5", "manipulations.pairs=false"])
    plain = load_recipe("small")
    assert changed.inner == dataclasses.replace(plain.inner, lr=3.0e-5)
    assert not changed.manipulations.pairs
    assert changed.encoder == plain.encoder


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("inner.lr", "expected dotted.key=value"),
        ("=3", "expected dotted.key=value"),
        ("inner.rl=3", "unknown key 'inner.rl'"),
        ("seed.x=3", "'seed' has a value"),
        ("seed=[", "not YAML"),
    ],
)
def test_a_wrong_set_says_what_is_wrong(override, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("small", [override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("augmentation: {jpeg_quality: [90, 50]}", "smallest 90 is above largest 50"),
        (
            "manipulations: {autoencode: {side: [300, 200]}}",
            "autoencode.side: smallest 300 is above largest 200",
        ),
        ("manipulations: {autoencode: {files: [x], range: [1, 1]}}", "range: got 1, 1: expected the lower"),
        ("manipulations: {autoencode: {range: [0, 1]}}", "range: is of manipulations.autoencode.files, and"),
        ("manipulations: {names: [autoencode]}", "autoencode needs manipulations.pairs: true"),
        ("tasks: {fine_manipulation: 1.0}", "primary: 'coarse_manipulation' is not one of tasks"),
        ("losses: {gamma: 0.5}", "its gradient is infinite"),
        ("head: scalar", "tasks: make: head scalar has ordinal tags and coarse_manipulation only"),
        ("text: {width: 10, heads: 4}", "4 do not divide text.width 10"),
        ("text: {width: 200}", "3 do not divide text.width 200"),
        ("text: {name: table, frozen: true}", "text.frozen: with text.name table no text encoder reads"),
        ("head: linear\ntext: {weights: x}", "text.weights: with head linear no text encoder reads"),
        ("inner: {lr: .inf}", "inner.lr: got inf: expected a finite number"),
        ("outer: {minimum: .nan}", "outer.minimum: got nan: expected a finite number"),
        ("manipulations: {pairs: true}\nouter: {batch_size: 3}", "outer.batch_size: got 3"),
        ("extends: 3", "expected another recipe's name or file"),
        ("manipulations: {pairs: true}\ninner: {batch_size: 7}", "manipulations.pairs needs an even number"),
        ("- a list", "expected keys and values"),
        ("inner: 3", "inner: expected keys and values, got 3"),
        ("a: [", "not YAML"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
    ],
)
def test_contradictions_and_foreign_files_are_errors(written, text, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe(written(text))


def test_a_recipe_extends_another_key_by_key_but_takes_its_own_tasks_whole():
    blades, top = load_recipe("blades"), load_recipe("blades-top-six")
    assert dataclasses.replace(top, name="blades", tasks=blades.tasks) == blades
    assert len(blades.tasks) == 11 and len(top.tasks) == 6
    released = load_recipe("blades-released")
    assert released.outer == dataclasses.replace(
        blades.outer, validation="training", virtual_weight_decay=True
    )


def test_recipes_that_extend_each_other_in_a_circle_are_an_error(tmp_path):
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("extends: two.yaml")
    two.write_text("extends: one.yaml")
    with pytest.raises(RecipeError, match="one.yaml -> .*two.yaml -> .*one.yaml"):
        load_recipe(str(one))


def test_a_recipe_in_a_folder_of_ones_own_extends_a_shipped_one(written):
    recipe = load_recipe(written("extends: blades\nname: mine\ninner: {epochs: 3}"))
    with pytest.raises(UnknownNameError, match="unknown recipe"):
        load_recipe(written("extends: nothing-like-it"))
    assert recipe.inner.epochs == 3 and recipe.inner.lr == load_recipe("blades").inner.lr


def test_the_papers_recipe_has_the_papers_figures():
    recipe = load_recipe("blades")
    assert tuple(recipe.tasks) == PAPER_TASKS and set(recipe.tasks.values()) == {1.0}
    assert (recipe.encoder.name, recipe.text.name, recipe.losses.gamma, recipe.losses.eps) == (
        "resnet50",
        "gpt2",
        2.0,
        0.0,
    )
    inner = recipe.inner
    assert (inner.lr, inner.weight_decay, inner.epochs, inner.batch_size) == (1e-5, 1e-3, 20, 48)
    assert recipe.outer.lr == 3e-4 and recipe.bilevel and recipe.data.require_all_tags


def test_a_new_task_changes_no_shipped_recipe(monkeypatch):
    before = {name: load_recipe(name) for name in shipped_recipes()}
    monkeypatch.setitem(TASKS, "flash", PretextTask("flash", TaskKind.CATEGORICAL, ("on", "off"), "{} flash"))
    for name, recipe in before.items():
        again = load_recipe(name)
        assert recipe_digest(again) == recipe_digest(recipe) and again.required_tags == recipe.required_tags


def test_required_tags_are_the_papers_and_those_of_the_tasks():
    assert load_recipe("small").required_tags == ()
    assert (
        load_recipe("blades").required_tags == load_recipe("blades-ordinal").required_tags == PAPER_TASKS[2:]
    )
    with_flash = dataclasses.replace(load_recipe("blades"), tasks={"coarse_manipulation": 1.0, "flash": 1.0})
    assert with_flash.required_tags == (*PAPER_TASKS[2:], "flash")


def test_one_task_alone_has_no_weight_to_learn():
    assert not load_recipe("blades", ["tasks={coarse_manipulation: 1.0}"]).bilevel


def test_an_unknown_recipe_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'small'"):
        load_recipe("smal")


def test_the_digest_follows_every_key_but_the_number_of_workers():
    recipe = load_recipe("small")
    assert recipe_digest(dataclasses.replace(recipe, workers=7)) == recipe_digest(recipe)
    assert recipe_digest(dataclasses.replace(recipe, seed=7)) != recipe_digest(recipe)
