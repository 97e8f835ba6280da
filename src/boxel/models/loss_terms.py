"""The loss terms of classification and box regression, and the configurations that choose them.

References: mining and smooth L1 as in Jaeger et al., Retina U-Net, 2018 and its code; focal loss: Lin et al. 2017;
GIoU: Rezatofighi et al. 2019; DIoU and CIoU: Zheng et al. 2020.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from boxel.config import Choice
from boxel.nn.losses import (
    class_cross_entropy,
    class_scores,
    focal_loss,
    mine_hard_negatives,
    one_hot,
    soft_target_dice,
    soft_target_focal_loss,
)
from boxel.ops import area, decode, encode, paired_overlap
from boxel.ranges import ZeroToOne


class ClassLossConfig(Choice):
    """How anchors are classified."""


class FocalConfig(ClassLossConfig, name="focal"):
    """Focal loss: all anchors, with less weight on easy ones; divided by the number of positives.

    Attributes:
        alpha: weight of positives; that of negatives is 1 minus this.
        gamma: how much less easy anchors count; 0 counts all alike.
        quality: how much scores say how well a box fits: a positive learns 1 - quality x (1 - IoU of its box with its
            object). 0 is the usual loss, 1 the quality focal loss (Li et al. 2020). It needs independent classes.
        weight: of this loss beside the others.
    """

    alpha: ZeroToOne = 0.75
    gamma: NonNegativeFloat = 2.0
    quality: ZeroToOne = 0.0
    weight: NonNegativeFloat = 1.0


class MiningConfig(ClassLossConfig, name="mining"):
    """Cross-entropy on positives and equally many hard negatives; the mean of either counts half.

    Attributes:
        max_positives: per image; None: all.
        pool_factor: the negatives are drawn at random from the hardest, `pool_factor` times as many as are drawn.
        min_negatives: drawn from images without positives.
        weight: of this loss beside the others.
    """

    max_positives: PositiveInt | None = None
    pool_factor: PositiveInt = 20
    min_negatives: NonNegativeInt = 1
    weight: NonNegativeFloat = 1.0


class SampledConfig(ClassLossConfig, name="sampled"):
    """Cross-entropy on anchors drawn at random, mean over them; the others count for no loss term (Ren et al. 2015).

    Attributes:
        per_image: anchors drawn; as many negatives as are missing from it after the positives.
        positive_share: at most this share of them is positive.
        weight: of this loss beside the others.
    """

    per_image: PositiveInt = 256
    positive_share: ZeroToOne = 0.5
    weight: NonNegativeFloat = 1.0


class BoxLossConfig(Choice):
    """How positives are regressed."""


class SmoothL1Config(BoxLossConfig, name="smooth_l1"):
    """Smooth L1 between encoded offsets.

    Attributes:
        beta: differences below this count by their square, larger ones in a straight line.
        over: `positives`: mean over positives and coordinates; `sampled`: their sum, divided by the number of all
            anchors (or RoIs) that count, positive or negative, as in torchvision.
        weight: of this loss beside the others.
    """

    beta: NonNegativeFloat = 1.0
    over: Literal["positives", "sampled"] = "positives"
    weight: NonNegativeFloat = 1.0


class OverlapLossConfig(BoxLossConfig, name="overlap"):
    """1 - GIoU (or DIoU, CIoU, IoU) between decoded boxes.

    Attributes:
        kind: which overlap of the boxes is to grow.
        weight: of this loss beside the others.
    """

    kind: Literal["iou", "giou", "diou", "ciou"] = "giou"
    weight: NonNegativeFloat = 2.0


def mostly_ignored(boxes: Float[Tensor, "n 2 d"], ignored: Float[Tensor, "k 2 d"]) -> Bool[Tensor, " n"]:
    """Whether half of a box or more lies in one of the ignored regions."""
    mostly = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    for lower, upper in ignored:
        sides = torch.minimum(boxes[:, 1], upper) - torch.maximum(boxes[:, 0], lower)
        common = sides.clamp(min=0).prod(-1)
        mostly |= (common > 0) & (common >= 0.5 * area(boxes))
    return mostly


def draw(rows: Int[Tensor, " n"], most: int) -> Int[Tensor, " m"]:
    """At most so many of the rows, at random."""
    return rows[torch.randperm(len(rows), device=rows.device)[:most]]


def draw_sample(
    positive: Int[Tensor, " p"], negative: Int[Tensor, " n"], per_image: int, positive_share: float
) -> tuple[Int[Tensor, " q"], Int[Tensor, " m"]]:
    """Positive and negative rows of one image at random; at most `positive_share` of `per_image` are positive."""
    positive = draw(positive, int(per_image * positive_share))
    return positive, draw(negative, per_image - len(positive))


def only_sampled(config: ClassLossConfig, matches: Int[Tensor, "b n"]) -> Int[Tensor, "b n"]:
    """The object of each anchor (-1: background, -2: neither); -2 also for anchors that `SampledConfig` leaves out."""
    if not isinstance(config, SampledConfig):
        return matches
    sampled = torch.full_like(matches, -2)
    for own, row in zip(sampled, matches, strict=True):
        positive, negative = ((row >= 0).nonzero()[:, 0], (row == -1).nonzero()[:, 0])
        kept = torch.cat(draw_sample(positive, negative, config.per_image, config.positive_share))
        own[kept] = row[kept]
    return sampled


def class_loss(
    config: ClassLossConfig,
    logits: Float[Tensor, "b n o"],
    labels: Int[Tensor, "b n"],
    fit: Float[Tensor, " p"],
    *,
    softmax: bool,
) -> Float[Tensor, ""]:
    """Loss of anchors, whose label is a class, -1 for background, or -2 for neither.

    Args:
        fit: the IoU of the box of each anchor of a class with its object, in the order of the anchors.
    """
    if isinstance(config, FocalConfig):
        used = labels >= -1
        logits, labels = logits[used], labels[used]
        if config.quality:
            target = one_hot(labels, logits.shape[-1])
            target[labels >= 0] *= 1 - config.quality * (1 - fit[:, None])
            rows = soft_target_focal_loss(logits, target, alpha=config.alpha, gamma=config.gamma)
        else:
            rows = focal_loss(logits, labels, softmax=softmax, alpha=config.alpha, gamma=config.gamma)
        return config.weight * rows.sum() / (labels >= 0).sum().clamp(min=1)
    if isinstance(config, SampledConfig):
        used = labels >= -1
        rows = class_cross_entropy(logits[used], labels[used], softmax=softmax)
        return config.weight * rows.sum() / used.sum().clamp(min=1)
    if isinstance(config, MiningConfig):
        images = [_mined_loss(config, *pair, softmax=softmax) for pair in zip(logits, labels, strict=True)]
        return config.weight * torch.stack(images).mean()
    raise TypeError(f"no class loss for {config!r}")


def _mined_loss(config: MiningConfig, logits: Tensor, labels: Tensor, *, softmax: bool) -> Tensor:
    positives = (labels >= 0).nonzero()[:, 0]
    if config.max_positives is not None and len(positives) > config.max_positives:
        positives = positives[torch.randperm(len(positives), device=positives.device)[: config.max_positives]]
    negatives = (labels == -1).nonzero()[:, 0]
    hardness = class_scores(logits[negatives].detach(), softmax=softmax).amax(-1)
    num = max(config.min_negatives, len(positives))
    negatives = negatives[mine_hard_negatives(hardness, num, config.pool_factor)]
    halves = [
        class_cross_entropy(logits[rows], labels[rows], softmax=softmax).mean()
        for rows in (positives, negatives)
        if len(rows)
    ]
    return torch.stack(halves).sum() / 2 if halves else logits.sum() * 0.0


def coding_std(ndim: int, centre: float, size: float) -> Float[Tensor, "2 d"]:
    """The standard deviations that box targets are divided by, the same on every axis."""
    return torch.tensor([[centre] * ndim, [size] * ndim])


def box_loss(
    config: BoxLossConfig,
    deltas: Float[Tensor, "n 2 d"],
    references: Float[Tensor, "n 2 d"],
    targets: Float[Tensor, "n 2 d"],
    std: Float[Tensor, "2 d"],
    sampled: Tensor | int,
) -> Float[Tensor, ""]:
    """Loss of `deltas`, which should move the boxes `references` onto `targets`; zero if there are none.

    Args:
        sampled: how many boxes count, these and the negatives.
    """
    if not len(deltas):
        return deltas.sum() * 0.0
    if isinstance(config, SmoothL1Config):
        encoded, whole = encode(targets, references, std), config.over == "positives"
        loss = F.smooth_l1_loss(deltas, encoded, beta=config.beta, reduction="mean" if whole else "sum")
        return config.weight * (loss if whole else loss / sampled)
    if isinstance(config, OverlapLossConfig):
        overlap = paired_overlap(decode(deltas, references, std), targets, kind=config.kind)
        return config.weight * (1 - overlap).mean()
    raise TypeError(f"no box loss for {config!r}")


def map_loss(
    logits: Float[Tensor, "b o *s"],
    target: Float[Tensor, "b o *s"],
    *,
    form: Literal["focal_dice", "bce"],
    softmax: bool = False,
    valid: Bool[Tensor, "b 1 *s"] | None = None,
) -> Float[Tensor, ""]:
    """Loss of maps with a `target` between 0 and 1, mean over positions: focal loss plus 0.2 times the Dice loss.

    Args:
        form: `bce` is the cross-entropy alone.
        softmax: the channels exclude each other, the first is the background; else they are independent.
        valid: positions that count; default: all.

    Reference: L-SNet, section 2.5.
    """
    logits = logits.float()
    if softmax:
        probability = logits.softmax(1)
        terms = -(target * logits.log_softmax(1)).sum(1, keepdim=True)
        if form == "focal_dice":
            terms = terms * (1 - (target * probability).sum(1, keepdim=True)).square()
    else:
        probability = logits.sigmoid()
        terms = soft_target_focal_loss(logits, target, gamma=0.0 if form == "bce" else 2.0)
    weight = torch.ones_like(target[:, :1]) if valid is None else valid.float()
    mean = (terms * weight).sum() / (weight.sum() * terms.shape[1]).clamp(min=1)
    if form == "bce":
        return mean
    foreground = slice(1 if softmax else 0, None)
    dice = soft_target_dice((probability * weight)[:, foreground], (target * weight)[:, foreground])
    return mean + 0.2 * (1 - dice).mean()
