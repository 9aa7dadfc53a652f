"""One step: it lowers the losses, moves the task weights, and only the refinement moves the statistics."""

import dataclasses

import pytest
import torch

from bladescan.base.errors import DataError
from bladescan.tasks.recipe import ComputeRecipe, OuterRecipe
from bladescan.training.distributed import ALONE
from bladescan.training.minibatches import Minibatch
from bladescan.training.state import new_training_state
from bladescan.training.step import step
from tests.training.tiny import TINY, batch, both, equal


@pytest.mark.parametrize("head", ["joint", "linear"])
def test_steps_on_one_minibatch_lower_every_task_loss(head):
    """An ordinal loss stays above 0: eight levels between 1 and 3 cannot all be far apart."""
    recipe = dataclasses.replace(TINY, head=head, outer=OuterRecipe(enabled=False))
    state = new_training_state(recipe, ALONE.device)
    course = [step(state, Minibatch(batch(), None), recipe, 3e-3, ALONE).losses for _ in range(80)]
    assert (course[-1] < 0.75 * course[0]).all(), state.named(course[-1] / course[0])


def test_a_bilevel_step_moves_the_weights_and_only_the_refinement_moves_the_statistics():
    state = new_training_state(TINY, ALONE.device)
    plain = new_training_state(dataclasses.replace(TINY, outer=OuterRecipe(enabled=False)), ALONE.device)
    result = step(state, both(TINY), TINY, 1e-3, ALONE)
    step(plain, Minibatch(batch(), None), TINY, 1e-3, ALONE)
    assert result.weight_gradient is not None and result.weight_gradient.abs().min() > 0
    assert torch.equal((state.weights - 1).sign(), -result.weight_gradient.sign())
    for name, value in plain.model.named_buffers():
        assert torch.equal(value, state.model.get_buffer(name)), name


def test_the_primary_task_is_what_the_outer_loop_serves():
    gradients = []
    for primary in ("coarse_manipulation", "make"):
        recipe = dataclasses.replace(TINY, primary=primary)
        gradients.append(step(new_training_state(recipe, ALONE.device), both(recipe), recipe, 1e-3, ALONE))
    assert not torch.allclose(gradients[0].weight_gradient, gradients[1].weight_gradient)
    assert torch.equal(gradients[0].losses, gradients[1].losses)


def test_a_frozen_text_encoder_stays_and_a_free_one_moves():
    for frozen in (True, False):
        recipe = dataclasses.replace(TINY, text=dataclasses.replace(TINY.text, frozen=frozen))
        state = new_training_state(recipe, ALONE.device)
        before = {name: value.clone() for name, value in state.model.head.text.state_dict().items()}
        step(state, both(recipe), recipe, 1e-3, ALONE)
        assert equal(before, state.model.head.text.state_dict()) == frozen


def test_a_least_weight_holds_the_weights_up():
    recipe = dataclasses.replace(TINY, outer=OuterRecipe(lr=0.5, minimum=0.9))
    state = new_training_state(recipe, ALONE.device)
    step(state, both(recipe), recipe, 1e-3, ALONE)
    assert state.weights.min() == 0.9


def test_bf16_computes_nearly_the_same_and_keeps_float32_parameters():
    recipe = dataclasses.replace(TINY, compute=ComputeRecipe(precision="bf16"))
    exact = step(new_training_state(TINY, ALONE.device), both(TINY), TINY, 1e-3, ALONE)
    state = new_training_state(recipe, ALONE.device)
    mixed = step(state, both(recipe), recipe, 1e-3, ALONE)
    assert torch.allclose(mixed.losses, exact.losses, atol=0.02)
    assert not torch.equal(mixed.losses, exact.losses)
    assert all(p.dtype == torch.float32 for p in state.params.values())
    a, b = mixed.weight_gradient, exact.weight_gradient
    assert torch.nn.functional.cosine_similarity(a, b, dim=0) > 0.95


def test_the_memory_layout_changes_only_the_rounding():
    recipe = dataclasses.replace(TINY, compute=ComputeRecipe(channels_last=False))
    last = step(new_training_state(TINY, ALONE.device), both(TINY), TINY, 1e-3, ALONE)
    first = step(new_training_state(recipe, ALONE.device), both(recipe), recipe, 1e-3, ALONE)
    assert torch.allclose(last.losses, first.losses, atol=1e-5)


def test_a_divergence_stops_with_a_clear_word_and_leaves_the_weights():
    state = new_training_state(TINY, ALONE.device)
    with torch.no_grad():
        state.model.head.logit_scale.fill_(float("nan"))
    before = {name: p.detach().clone() for name, p in state.params.items()}
    with pytest.raises(DataError, match=r"diverged: the loss of coarse_manipulation.*lower inner\.lr"):
        step(state, both(TINY), TINY, 1e-3, ALONE)
    assert all(torch.equal(p, before[n]) for n, p in state.params.items() if "logit_scale" not in n)
