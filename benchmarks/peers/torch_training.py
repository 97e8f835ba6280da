"""A training loop for detectors that come without one, within a CPU budget; it is used by two drivers."""

import copy
from collections.abc import Callable, Iterator

import numpy as np
import torch
from exchange import Boxes, Case, Clock

WARMUP = 0.05  # of the budget
VALIDATIONS = 2


def train(
    model: torch.nn.Module,
    losses: Iterator[torch.Tensor],
    optimizer: torch.optim.Optimizer,
    clock: Clock,
    predict: Callable[[np.ndarray], Boxes],
    val: list[Case],
    *,
    drops: tuple[float, ...],
) -> float:
    """Train until the budget is spent and load the weights with the best AP@0.50 on the validation images; that AP.

    Args:
        losses: the loss of one batch after the other, of the model as it is then.
        drops: shares of the budget after which the learning rate is a tenth.
    """
    highest = [group["lr"] for group in optimizer.param_groups]
    best, weights, took, validations = -1.0, model.state_dict(), 0.0, 0
    model.train()
    for loss in losses:
        share = clock.share()
        factor = min(1.0, share / WARMUP + 0.01) * 0.1 ** sum(share >= drop for drop in drops)
        for group, lr in zip(optimizer.param_groups, highest, strict=True):
            group["lr"] = lr * factor
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)  # without it, random weights may diverge
        optimizer.step()
        ends = clock.spent() + took >= clock.budget * (0.95 if not validations else 1)
        if not ends and clock.share() < (validations + 2) / (VALIDATIONS + 1):
            continue
        begin = clock.spent()
        model.eval()
        value = average_precision({case.id: predict(case.image()) for case in val}, val)
        model.train()
        validations, took = validations + 1, clock.spent() - begin
        if value >= best:
            best, weights = value, copy.deepcopy(model.state_dict())
        if ends or clock.spent() >= clock.budget:
            break
    model.load_state_dict(weights)
    model.eval()
    return best


def average_precision(found: dict[str, Boxes], cases: list[Case], iou: float = 0.5) -> float:
    """AP at 101 recalls, the mean over the classes that occur; greedy matching by score."""
    values = []
    for label in np.unique(np.concatenate([case.labels for case in cases])):
        scores, hits, objects = [], [], 0
        for case in cases:
            one, truth = found[case.id], case.boxes[case.labels == label]
            objects += len(truth)
            order = np.flatnonzero(one.labels == label)
            order = order[np.argsort(-one.scores[order], kind="stable")]
            free = np.ones(len(truth), bool)
            for box, score in zip(one.boxes[order], one.scores[order], strict=True):
                overlaps = np.where(free, overlaps_of(box, truth), 0)
                hit = len(truth) > 0 and overlaps.max() >= iou
                if hit:
                    free[overlaps.argmax()] = False
                scores.append(score)
                hits.append(hit)
        right = np.cumsum(np.array(hits, bool)[np.argsort(-np.array(scores), kind="stable")])
        precision = np.maximum.accumulate((right / np.arange(1, len(right) + 1))[::-1])[::-1]
        at = np.searchsorted(right / objects, np.linspace(0, 1, 101))
        values.append(np.append(precision, 0)[at].mean())
    return float(np.mean(values))


def overlaps_of(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU `(n,)` of a box `(2, d)` with boxes `(n, 2, d)`."""
    shared = np.clip(np.minimum(box[1], others[:, 1]) - np.maximum(box[0], others[:, 0]), 0, None).prod(-1)
    return shared / ((box[1] - box[0]).prod() + (others[:, 1] - others[:, 0]).prod(-1) - shared)
