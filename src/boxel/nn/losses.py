"""Loss functions, rank-generic: classification with mining or focusing, segmentation with soft Dice."""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F


def class_scores(logits: Float[Tensor, "*n o"], *, softmax: bool) -> Float[Tensor, "*n k"]:
    """Foreground scores; softmax logits carry the background as their first channel."""
    return logits.float().softmax(-1)[..., 1:] if softmax else logits.float().sigmoid()


def class_cross_entropy(
    logits: Float[Tensor, "n o"], labels: Int[Tensor, " n"], *, softmax: bool
) -> Float[Tensor, " n"]:
    """Cross-entropy per row; label -1 is background; sigmoid logits sum over the classes."""
    logits = logits.float()
    if softmax:
        return F.cross_entropy(logits, labels + 1, reduction="none")
    return F.binary_cross_entropy_with_logits(logits, one_hot(labels, logits.shape[-1]), reduction="none").sum(-1)


def one_hot(labels: Int[Tensor, " n"], num_classes: int) -> Float[Tensor, "n k"]:
    """Rows of zeros and ones; a negative label gives a row of zeros."""
    return (labels[:, None] == torch.arange(num_classes, device=labels.device)).float()


def focal_loss(
    logits: Float[Tensor, "n o"], labels: Int[Tensor, " n"], *, softmax: bool, alpha: float | None, gamma: float
) -> Float[Tensor, " n"]:
    """Focal loss per row; `alpha` weighs foreground, `1 - alpha` background (label -1); None: both have weight 1.

    Raises:
        ValueError: an alpha outside 0..1.

    Reference: Lin et al. 2017, eq. (5).
    """
    logits = logits.float()
    if softmax:
        log_p = F.log_softmax(logits, -1).gather(-1, (labels + 1)[:, None]).squeeze(-1)
        return -_class_weight((labels >= 0).float(), alpha) * (1 - log_p.exp()) ** gamma * log_p
    target = one_hot(labels, logits.shape[-1])
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    p = logits.sigmoid()
    error = p + target - 2 * p * target  # 1 - p where the target is 1, p where it is 0
    return (_class_weight(target, alpha) * error**gamma * cross_entropy).sum(-1)


def soft_target_focal_loss(
    logits: Float[Tensor, "*n"], target: Float[Tensor, "*n"], *, alpha: float | None = None, gamma: float = 2.0
) -> Float[Tensor, "*n"]:
    """Focal loss of each sigmoid logit for targets between 0 and 1: `|target - p| ** gamma` times the cross-entropy.

    For targets of 0 and 1 it equals `focal_loss`; it is zero where `p` is the target.

    Args:
        alpha: weight of foreground; background has `1 - alpha`, a target between them is weighted in proportion. None:
            both have weight 1.
        gamma: focus on large errors; 0 gives the cross-entropy.

    Raises:
        ValueError: an alpha outside 0..1.

    Example:
        >>> import torch
        >>> from boxel.nn.losses import soft_target_focal_loss
        >>> logits, target = torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.75])  # p is 0.5: errors 0.5 and 0.25
        >>> soft_target_focal_loss(logits, target)  # times log(2)
        tensor([0.1733, 0.0433])

    Reference: Lin et al. 2017, eq. (5); the form for soft targets is the quality focal loss of Li et al. 2020, eq. (2).
    """
    logits, target = logits.float(), target.float()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return _class_weight(target, alpha) * (target - logits.sigmoid()).abs() ** gamma * cross_entropy


def _class_weight(foreground: Tensor, alpha: float | None) -> Tensor | float:
    if alpha is None:
        return 1.0
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}; it must lie in 0..1, or be None for no weights")
    return alpha * foreground + (1 - alpha) * (1 - foreground)


def mine_hard_negatives(
    scores: Float[Tensor, " n"], num: int, pool_factor: int, generator: torch.Generator | None = None
) -> Int[Tensor, " m"]:
    """Stochastic hard example mining: `num` rows drawn from the `pool_factor * num` highest scores.

    Reference: Jaeger et al., Retina U-Net code; the pool is 20 times the draw for one-stage heads.
    """
    num = min(num, len(scores))
    pool = scores.topk(min(pool_factor * num, len(scores))).indices
    order = torch.randperm(len(pool), generator=generator, device=generator.device if generator else None)
    return pool[order[:num].to(pool.device)]


def soft_dice(
    probabilities: Float[Tensor, "b k *s"],
    target: Int[Tensor, "b *s"],
    *,
    smooth: float = 1e-6,
    valid: Bool[Tensor, "b *s"] | None = None,
) -> Float[Tensor, " k"]:
    """Dice per class over all pixels of the batch, as one pseudo-volume.

    Args:
        valid: pixels that count; default: all.

    Reference: Jaeger et al. 2018, eq. (1) and the text below it.
    """
    expected = one_hot(target.flatten(), probabilities.shape[1]).T  # (k, b * s)
    predicted = probabilities.transpose(0, 1).flatten(1)
    if valid is not None:
        expected, predicted = expected * valid.flatten(), predicted * valid.flatten()
    return _dice(expected, predicted, smooth)


def soft_target_dice(
    probabilities: Float[Tensor, "b k *s"], target: Float[Tensor, "b k *s"], *, smooth: float = 1e-6
) -> Float[Tensor, " k"]:
    """`soft_dice` for targets between 0 and 1, one map per class; equal for targets of 0 and 1.

    Its largest value is 1 only for targets of 0 and 1: where a target lies between, Dice favours one of the ends.

    Example:
        >>> import torch
        >>> from boxel.nn.losses import soft_target_dice
        >>> soft_target_dice(torch.tensor([[[0.5, 0.0]]]), torch.tensor([[[1.0, 0.5]]]))  # 2 * 0.5 / (0.5 + 1.5)
        tensor([0.5000])
    """
    expected, predicted = (x.float().transpose(0, 1).flatten(1) for x in (target, probabilities))
    return _dice(expected, predicted, smooth)


def _dice(expected: Float[Tensor, "k n"], predicted: Float[Tensor, "k n"], smooth: float) -> Float[Tensor, " k"]:
    return (2 * (expected * predicted).sum(1) + smooth) / (expected.sum(1) + predicted.sum(1) + smooth)


def segmentation_loss(
    logits: Float[Tensor, "b k *s"], target: Int[Tensor, "b *s"], form: Literal["paper", "mdt"]
) -> Float[Tensor, ""]:
    """Cross-entropy with batch soft Dice; target -1 is ignored.

    `paper`: eq. (1) of Jaeger et al. 2018, all classes. `mdt`: half of CE + 1 - foreground Dice, as their code has it.
    """
    valid = target >= 0
    if not valid.any():
        return logits.sum() * 0.0
    logits = logits.float()
    cross_entropy = F.cross_entropy(logits, target, ignore_index=-1)
    dice = soft_dice(logits.softmax(1), target, valid=valid)
    if form == "mdt":
        return 0.5 * (cross_entropy + 1 - dice[1:].mean())
    return cross_entropy - dice.mean()
