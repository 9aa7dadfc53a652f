"""Measures against counting by hand."""

import math

import pytest
import torch
from torch import tensor

from bladescan.tasks.pretext_tasks import TASKS, prompt_columns
from bladescan.training.task_accuracy import ranking_accuracy, task_accuracies

NAN = float("nan")


def naive_ranking(levels, values):
    right = pairs = 0.0
    for i, v in enumerate(values):
        for j, w in enumerate(values):
            if v > w:
                pairs += 1
                right += 1 if levels[i] > levels[j] else 0.5 if levels[i] == levels[j] else 0
    return right / pairs


def test_ranking_accuracy_counts_pairs_with_different_tags(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(5, (40,), generator=generator).double()
    values = torch.randint(7, (40,), generator=generator).double()
    values[::9] = NAN
    expected = naive_ranking(levels.tolist(), values.tolist())
    assert ranking_accuracy(levels, values) == pytest.approx(expected)
    monkeypatch.setattr("bladescan.training.task_accuracy._ROWS", 7)
    assert ranking_accuracy(levels, values) == pytest.approx(expected)


def test_a_perfect_order_is_one_a_reversed_one_zero_and_a_constant_a_half():
    values = tensor([1.0, 2.0, 2.0, 8.0, NAN])
    assert ranking_accuracy(values.nan_to_num(0), values) == 1
    assert ranking_accuracy(-values.nan_to_num(0), values) == 0
    assert ranking_accuracy(torch.zeros(5), values) == 0.5
    assert ranking_accuracy(torch.zeros(2), tensor([3.0, 3.0])) is None


def test_every_kind_of_task_is_measured_against_its_best_constant_answer():
    names = ["coarse_manipulation", "fine_manipulation", "aperture", "white_balance_mode", "make"]
    where = prompt_columns(names)
    outputs = torch.zeros(4, sum(len(TASKS[name].classes) for name in names))
    outputs[:, where["coarse_manipulation"]] = tensor([[2.0, 0], [0, 2], [2, 0], [2, 0]])
    outputs[:, where["fine_manipulation"]] = tensor([[-1.0, -1, -1], [1, 1, -1], [1, -1, -1], [0, 0, 0]])
    outputs[:, where["aperture"]] = tensor([[9.0, 0, 0], [0, 9, 0], [0, 0, 9], [9, 0, 0]])
    outputs[:, where["white_balance_mode"]] = tensor([[2.0, 0], [2, 0], [0, 2], [0, 2]])
    targets = {
        "coarse_manipulation": tensor([0, 1, 1, -1]),
        "fine_manipulation": tensor([[0.0, 0, 0], [1, 0, 0], [1, 0, 0], [NAN, NAN, NAN]]),
        "aperture": tensor([2.0, 1.0, 4.0, NAN]),
        "white_balance_mode": tensor([0, 0, 0, 1]),
        "make": tensor([-1, -1, -1, -1]),
    }
    found = task_accuracies(outputs, targets, where)
    assert found["coarse_manipulation"] == (2 / 3, 2 / 3, 3)
    assert found["fine_manipulation"] == pytest.approx((8 / 9, (2 / 3 + 1 + 1) / 3, 3))
    assert found["aperture"] == pytest.approx((2 / 3, 0.5, 3))
    assert found["white_balance_mode"] == (3 / 4, 3 / 4, 4)
    assert "make" not in found


def test_a_scalar_head_is_measured_too():
    where = {"coarse_manipulation": slice(0, 1), "iso_speed": slice(1, 2)}
    outputs = tensor([[3.0, 0.1], [-3.0, 0.2]])
    targets = {"coarse_manipulation": tensor([1, 0]), "iso_speed": tensor([100.0, 200.0])}
    found = task_accuracies(outputs, targets, where)
    assert found["coarse_manipulation"].accuracy == found["iso_speed"].accuracy == 1
    assert math.isclose(found["coarse_manipulation"].chance, 0.5)
