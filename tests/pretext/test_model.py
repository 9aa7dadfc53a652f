"""Outputs, heads and losses by task."""

import dataclasses
import math

import pytest
import torch

from bladescan.pretext import losses
from bladescan.pretext.model import LinearHead, PretextModel, ScalarHead, coarse_outputs, levels, task_losses
from bladescan.tasks import pretext_tasks as tasks
from bladescan.tasks.recipe import LossRecipe, OrdinalRecipe, Recipe
from bladescan.tasks.recipe_files import load_recipe
from tests.training.tiny import TINY, batch


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return PretextModel(TINY)


def test_similarities_are_bounded_by_the_inverse_temperature(model):
    limit = 1 / TINY.text.temperature
    assert model(batch().pixels).abs().max() <= limit + 1e-4
    assert math.exp(model.head.logit_scale.item()) == pytest.approx(limit)


def test_the_temperature_is_held_within_clips_bound_and_can_come_back(model):
    from bladescan.pretext.model import MAX_SCALE

    head = PretextModel(TINY).head
    with torch.no_grad():
        head.logit_scale.fill_(9.0)
    head.bound()
    assert head.scale().item() == pytest.approx(MAX_SCALE)
    head.scale().backward()
    assert head.logit_scale.grad != 0


def test_a_frozen_text_encoder_learns_only_its_last_layer():
    text = dataclasses.replace(TINY.text, name="clip", frozen=True)
    head = PretextModel(dataclasses.replace(TINY, text=text)).head
    learned = {name for name, p in head.named_parameters() if p.requires_grad}
    assert learned == {"logit_scale", "text.text_fc.weight", "text.text_fc.bias"}


def test_under_autocast_prompts_and_similarities_are_not_rounded(model):
    torch.manual_seed(1)
    frozen = PretextModel(dataclasses.replace(TINY, text=dataclasses.replace(TINY.text, frozen=True)))
    with torch.autocast("cpu", torch.bfloat16):
        assert frozen(batch().pixels).dtype == torch.float32
    exact = frozen.head.text()
    assert torch.equal(frozen.head.prompts(), torch.nn.functional.normalize(exact, dim=1))


def test_a_task_that_is_left_out_has_no_prompt_and_no_loss():
    recipe = dataclasses.replace(TINY, tasks={"coarse_manipulation": 1.0})
    model = PretextModel(recipe)
    outputs = model(batch().pixels)
    assert outputs.shape == (8, 2)
    assert task_losses(outputs, batch().targets, model.columns, recipe.losses).shape == (1,)


def test_each_task_has_its_own_loss_on_its_own_columns(model):
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(8, 50, generator=generator)
    targets = batch().targets
    found = dict(zip(model.columns, task_losses(outputs, targets, model.columns, LossRecipe()), strict=True))
    assert tuple(found) == tasks.PAPER_TASKS
    start = 0
    for name, task in ((name, tasks.TASKS[name]) for name in found):
        own = outputs[:, start : start + len(task.classes)]
        start += len(task.classes)
        expected = {
            tasks.TaskKind.COARSE: lambda s, t: losses.coarse_loss(s, t),
            tasks.TaskKind.FINE: lambda s, t: losses.fine_loss(s, t),
            tasks.TaskKind.ORDINAL: lambda s, t: losses.ordinal_loss(losses.expected_level(s), t),
            tasks.TaskKind.CATEGORICAL: lambda s, t: losses.categorical_loss(s, t, gamma=2.0),
        }[task.kind](own, targets[name])
        assert torch.equal(found[name], expected.float()), name


def test_the_released_variants_come_through():
    released, paper = load_recipe("blades-released").losses, Recipe().losses
    outputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    targets = {"aperture": torch.tensor([1.0, 2, 2, 4, 5, 6, 7, 8])}
    where = {"aperture": slice(0, 3)}
    expected = losses.ordinal_loss(
        losses.expected_level(outputs),
        targets["aperture"],
        probability="released",
        pairs="upper",
        ties="half",
        eps=1e-8,
    )
    assert torch.equal(task_losses(outputs, targets, where, released)[0], expected)
    assert not torch.equal(task_losses(outputs, targets, where, paper)[0], expected)


def test_an_ordinal_tag_given_as_classes_is_aligned_with_its_prompts():
    outputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    classes = torch.tensor([0, 1, 2, -1, 0, 1, 2, -1])
    recipe = LossRecipe(ordinal=OrdinalRecipe(target="level"))
    found = task_losses(outputs, {"aperture": classes}, {"aperture": slice(0, 3)}, recipe)
    assert torch.equal(found[0], losses.categorical_loss(outputs, classes))


def test_a_scalar_head_has_one_output_per_task_and_a_linear_one_one_per_class():
    names = ["coarse_manipulation", "iso_speed"]
    assert ScalarHead(names, 16)(torch.zeros(2, 16)).shape == (2, 2)
    assert LinearHead(names, 16)(torch.zeros(2, 16)).shape == (2, 5)
    outputs = torch.tensor([[0.5, 7.0]])
    assert levels(outputs[:, 1:]).tolist() == [7.0]
    assert coarse_outputs(outputs[:, :1]).softmax(1)[0, 1] == torch.sigmoid(torch.tensor(0.5))


def test_half_precision_outputs_are_lost_in_float32():
    outputs = torch.randn(8, 2).bfloat16()
    found = task_losses(outputs, batch().targets, {"coarse_manipulation": slice(0, 2)}, LossRecipe())
    assert found.dtype == torch.float32
