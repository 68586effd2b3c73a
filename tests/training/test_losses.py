"""The losses of P3 against their equations."""

from __future__ import annotations

import math

import pytest
import torch

from dicom_ai_node.training.losses import dice_cross_entropy, heatmap_loss


def test_heatmap_loss_is_smooth_l1_summed_over_maps() -> None:
    target = torch.zeros(1, 2, 4)
    predicted = torch.zeros(1, 2, 4)
    predicted[0, 0, 1] = 0.5  # quadratic: 0.125
    predicted[0, 1, 2] = 3.0  # linear: 2.5
    assert float(heatmap_loss(predicted, target)) == pytest.approx((0.125 + 2.5) / 4)


def test_an_error_near_any_landmark_weighs_more_in_every_map() -> None:
    target = torch.zeros(1, 2, 4)
    target[0, 0, 1] = 1.0
    predicted = target.clone()
    predicted[0, 1, 1] = 0.5
    assert float(heatmap_loss(predicted, target, near=20.0)) == pytest.approx(20 * 0.125 / 4)
    predicted = target.clone()
    predicted[0, 1, 3] = 0.5
    assert float(heatmap_loss(predicted, target, near=20.0)) == pytest.approx(0.125 / 4)


def test_smoothing_factor_sets_where_the_loss_turns_linear() -> None:
    target, predicted = torch.zeros(1, 1, 1), torch.full((1, 1, 1), 2.0)
    assert float(heatmap_loss(predicted, target, smoothing=0.5)) == pytest.approx(
        0.5 * (0.5 * 2.0) ** 2 * 4 / 4
    )
    assert float(heatmap_loss(predicted, target, smoothing=1.0)) == pytest.approx(1.5)


def test_right_and_certain_answer_costs_nothing() -> None:
    target = torch.randint(0, 3, (2, 4, 4, 4), generator=torch.Generator().manual_seed(0))
    logits = 50.0 * torch.nn.functional.one_hot(target, 3).movedim(-1, 1).float()
    assert float(dice_cross_entropy(logits, target)) == pytest.approx(0.0, abs=1e-5)


def test_undecided_answer_costs_what_the_equation_says() -> None:
    target = torch.tensor([[[0, 1]]])
    logits = torch.zeros(1, 3, 1, 2)
    third = 1 / 3
    foreground = 1 - 2 * (2 * third) / (2 * (2 * third) ** 2 + 1)
    normal = 1 - 2 * third / (2 * third**2 + 1)
    expected = math.log(3) + 0.5 * foreground + 0.5 * normal
    assert float(dice_cross_entropy(logits, target)) == pytest.approx(expected, abs=1e-4)


def test_a_class_that_is_absent_from_the_batch_has_no_dice_term() -> None:
    target = torch.tensor([[[0, 1, 1, 0]]])
    wrong = 50.0 * torch.nn.functional.one_hot(torch.tensor([[[0, 2, 2, 0]]]), 3).movedim(-1, 1).float()
    right = 50.0 * torch.nn.functional.one_hot(target, 3).movedim(-1, 1).float()
    assert float(dice_cross_entropy(right, target)) == pytest.approx(0.0, abs=1e-4)
    # Body drawn, class wrong: the cross-entropy and the normal class pay, the fractured class is not counted.
    assert float(dice_cross_entropy(wrong, target)) == pytest.approx(0.5 * 50 + 0.5, abs=1e-2)
