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
