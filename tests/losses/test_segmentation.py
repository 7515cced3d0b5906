"""Losses between logits and masks, against loops over pixels."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from src_training.losses.segmentation import (
    WEIGHTS,
    focal_loss,
    region_dice_loss,
    supervised_losses,
)


def logits_and_mask():
    random = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 3, 4, 5, generator=random, dtype=torch.float64)
    return logits, torch.randint(3, (2, 4, 5), generator=random)


@pytest.mark.parametrize("supervision", WEIGHTS)
def test_the_losses_are_those_that_have_a_weight(supervision):
    losses = supervised_losses(*logits_and_mask(), supervision)
    assert losses.keys() == WEIGHTS[supervision].keys()


def test_a_perfect_prediction_costs_nothing():
    _, mask = logits_and_mask()
    logits = 200.0 * F.one_hot(mask, 3).movedim(-1, 1)
    for supervision in WEIGHTS:
        for name, loss in supervised_losses(logits, mask, supervision).items():
            assert loss.item() == pytest.approx(0, abs=1e-4), name


def test_focal_loss_is_the_mean_of_a_loop_over_pixels():
    logits, mask = logits_and_mask()
    terms = []
    for b, y, x in np.ndindex(2, 4, 5):
        powers = np.exp(logits[b, :, y, x].numpy())
        p = powers[mask[b, y, x]] / powers.sum()
        terms.append(-((1 - p) ** 2) * np.log(p))
    assert focal_loss(logits, mask).item() == pytest.approx(np.mean(terms), rel=1e-9)


def test_a_detached_factor_weighs_the_gradient_of_cross_entropy():
    logits, mask = logits_and_mask()
    ours = logits.clone().requires_grad_()
    loss = focal_loss(ours, mask, detached=True)
    assert loss.item() == pytest.approx(focal_loss(logits, mask).item(), rel=1e-12)
    loss.backward()
    # d(-log p) / d logits is the prediction minus the one-hot mask.
    p, truth = logits.softmax(1), F.one_hot(mask, 3).movedim(-1, 1)
    factor = (1 - (p * truth).sum(1, keepdim=True)) ** 2
    torch.testing.assert_close(ours.grad, factor * (p - truth) / mask.numel())
    detached = supervised_losses(logits, mask, "dice_focal_detached")
    assert detached["focal"].item() == pytest.approx(loss.item())


def test_focal_loss_is_that_of_monai_times_the_classes():
    from monai.losses import FocalLoss

    logits, mask = logits_and_mask()
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    reference = 3 * FocalLoss(to_onehot_y=True, use_softmax=True)(theirs, mask[:, None])
    loss = focal_loss(ours, mask)
    assert loss.item() == pytest.approx(reference.item(), rel=1e-6)
    loss.backward()
    reference.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-8)


def test_dice_loss_pools_the_batch_and_averages_the_regions():
    random = np.random.default_rng(0)
    p, y = random.random((2, 3, 4, 5)), random.integers(0, 2, (2, 3, 4, 5))
    overlap, total = (p * y).sum((0, 2, 3)), (p + y).sum((0, 2, 3))
    loss = region_dice_loss(torch.from_numpy(p), torch.from_numpy(y).double())
    assert loss.item() == pytest.approx((1 - 2 * overlap / total).mean(), abs=1e-6)


def test_dice_leaves_the_background_out():
    logits, mask = logits_and_mask()
    foreground = F.one_hot(mask, 3).movedim(-1, 1)[:, 1:].double()
    expected = region_dice_loss(logits.softmax(1)[:, 1:], foreground)
    found = supervised_losses(logits, mask, "dice_ce")["dice"]
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_an_absent_region_that_is_predicted_costs_one():
    region = torch.ones(1, 1, 4, 4)
    assert region_dice_loss(torch.zeros_like(region), region).item() == pytest.approx(1, abs=1e-3)
