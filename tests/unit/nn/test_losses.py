"""Losses against published values and their definitions."""

import pytest
import torch
from torch.nn import functional as F

from boxel.nn.losses import (
    class_cross_entropy,
    focal_loss,
    mine_hard_negatives,
    segmentation_loss,
    soft_dice,
    soft_target_dice,
    soft_target_focal_loss,
)


def test_batch_dice_equals_the_toolkits_golden_values():
    """Specification section 12: one 2 x 2 image, foreground probabilities (.2 .7; .6 .1), ground truth (0 1; 1 0)."""
    foreground = torch.tensor([[[0.2, 0.7], [0.6, 0.1]]])
    probabilities = torch.stack([1 - foreground, foreground], dim=1)
    assert soft_dice(probabilities, torch.tensor([[[0, 1], [1, 0]]]))[1].item() == pytest.approx(0.7222, abs=1e-4)
    nothing = soft_dice(probabilities, torch.zeros(1, 2, 2, dtype=torch.int64))[1].item()
    assert nothing == pytest.approx(6.25e-7, rel=1e-3)


def test_dice_is_taken_over_the_batch_as_one_volume(ndim):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((3, 2) + (4,) * ndim, generator=generator)
    target = torch.randint(0, 2, (3,) + (4,) * ndim, generator=generator)
    together = soft_dice(logits.softmax(1), target)
    stacked = soft_dice(torch.cat(list(logits.softmax(1)), dim=1)[None], torch.cat(list(target))[None])
    assert torch.allclose(together, stacked)


def test_focal_loss_without_focus_is_weighted_cross_entropy():
    logits, labels = torch.randn(20, 3), torch.randint(-1, 3, (20,))
    plain = focal_loss(logits, labels, softmax=False, alpha=0.5, gamma=0.0)
    assert torch.allclose(plain, 0.5 * class_cross_entropy(logits, labels, softmax=False), atol=1e-6)
    softmax_logits = torch.randn(20, 4)
    plain = focal_loss(softmax_logits, labels, softmax=True, alpha=0.5, gamma=0.0)
    assert torch.allclose(plain, 0.5 * F.cross_entropy(softmax_logits, labels + 1, reduction="none"), atol=1e-6)


def test_focal_loss_equals_its_formula():
    """Lin et al. 2017, eq. (5), for one positive and one negative."""
    p = torch.tensor([0.9, 0.2])
    logits = torch.logit(p)[:, None]
    loss = focal_loss(logits, torch.tensor([0, -1]), softmax=False, alpha=0.25, gamma=2.0)
    foreground = -0.25 * (1 - p[0]) ** 2 * torch.log(p[0])
    background = -0.75 * p[1] ** 2 * torch.log(1 - p[1])
    assert torch.allclose(loss, torch.stack([foreground, background]), atol=1e-7)


@pytest.mark.parametrize("alpha", [None, 0.25])
def test_the_focal_loss_of_soft_targets_equals_the_usual_one_for_0_and_1(alpha):
    logits, labels = 3 * torch.randn(50, 3), torch.randint(-1, 3, (50,))
    target = torch.zeros(50, 4).scatter(1, (labels % 4)[:, None], 1.0)[:, :3]  # label -1: a row of zeros
    loss = soft_target_focal_loss(logits, target, alpha=alpha, gamma=2.0)
    usual = focal_loss(logits, labels, softmax=False, alpha=alpha, gamma=2.0)
    torch.testing.assert_close(loss.sum(-1), usual, rtol=1e-5, atol=1e-7)


def test_the_focal_loss_of_soft_targets_equals_its_formula():
    """p = 0.8, target 0.3: (0.5) ** 2 * -(0.3 log 0.8 + 0.7 log 0.2) = 0.25 * 1.193549."""
    logit, target = torch.logit(torch.tensor([0.8])), torch.tensor([0.3])
    assert soft_target_focal_loss(logit, target).item() == pytest.approx(0.2983872, rel=1e-5)
    weight = 0.25 * 0.3 + 0.75 * 0.7
    weighted = soft_target_focal_loss(logit, target, alpha=0.25)
    assert weighted.item() == pytest.approx(weight * 0.2983872, rel=1e-5)
    plain = soft_target_focal_loss(logit, target, gamma=0.0)
    assert plain.item() == pytest.approx(1.193549, rel=1e-5)


def test_the_focal_loss_of_soft_targets_is_smallest_at_the_target():
    target = torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0])
    logits = torch.logit(target.clamp(1e-6, 1 - 1e-6)).requires_grad_()
    (gradient,) = torch.autograd.grad(soft_target_focal_loss(logits, target).sum(), logits)
    torch.testing.assert_close(gradient, torch.zeros(5), rtol=0, atol=1e-6)


def test_without_alpha_both_classes_have_weight_1():
    logits, labels = torch.randn(20, 3), torch.randint(-1, 2, (20,))
    plain, halves = (focal_loss(logits, labels, softmax=True, alpha=alpha, gamma=2.0) for alpha in (None, 0.5))
    torch.testing.assert_close(plain, 2 * halves)


@pytest.mark.parametrize("alpha", [-1, 1.5])
def test_an_alpha_that_is_no_share_is_refused(alpha):
    with pytest.raises(ValueError, match=f"alpha is {alpha}; it must lie in 0..1, or be None"):
        soft_target_focal_loss(torch.zeros(1), torch.zeros(1), alpha=alpha)
    with pytest.raises(ValueError, match=f"alpha is {alpha}; it must lie in 0..1, or be None"):
        focal_loss(torch.zeros(1, 1), torch.zeros(1).long(), softmax=False, alpha=alpha, gamma=2.0)


def test_the_dice_of_soft_targets_equals_the_usual_one_for_0_and_1(ndim):
    probabilities, target = torch.randn(3, 2, *(4,) * ndim).softmax(1), torch.randint(0, 2, (3, *(4,) * ndim))
    maps = torch.stack([1 - target, target], 1).float()
    torch.testing.assert_close(soft_target_dice(probabilities, maps), soft_dice(probabilities, target))


def test_hard_negatives_come_from_the_hardest():
    scores = torch.arange(1000).float()
    for seed in range(5):
        rows = mine_hard_negatives(scores, 3, 20, torch.Generator().manual_seed(seed))
        assert len(rows) == len(set(rows.tolist())) == 3
        assert rows.min() >= 940


def test_fewer_negatives_than_asked_for_are_all_taken():
    assert sorted(mine_hard_negatives(torch.rand(2), 5, 20).tolist()) == [0, 1]


@pytest.mark.parametrize("form", ["paper", "mdt"])
def test_ignored_voxels_do_not_change_the_segmentation_loss(form):
    logits, target = torch.randn(2, 2, 6, 6), torch.randint(0, 2, (2, 6, 6))
    target[:, 3:] = -1
    changed = logits.clone()
    changed[:, :, 3:] += 5 * torch.randn(2, 2, 3, 6)
    assert torch.allclose(segmentation_loss(logits, target, form), segmentation_loss(changed, target, form))


def test_the_two_forms_of_the_segmentation_loss_are_as_printed():
    """Jaeger et al. 2018, eq. (1): CE minus the mean Dice of all classes; toolkit: half of CE + 1 - foreground Dice."""
    logits, target = torch.randn(2, 2, 6, 6), torch.randint(0, 2, (2, 6, 6))
    cross_entropy, dice = F.cross_entropy(logits, target), soft_dice(logits.softmax(1), target)
    assert torch.allclose(segmentation_loss(logits, target, "paper"), cross_entropy - dice.mean())
    assert torch.allclose(segmentation_loss(logits, target, "mdt"), 0.5 * (cross_entropy + 1 - dice[1]))
