"""The greedy rule behind NMS and clustering: every box follows the best box that overlaps it."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from boxel.ops.arrays import kernels
from boxel.ops.boxes import as_float, iou
from boxel.ops.checks import check_threshold

_BLOCK = 1024


def best_first(scores: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Rows by descending score, equal ones in their order."""
    compiled = kernels(scores)
    if not compiled or scores.dtype is not torch.float32:
        return scores.argsort(descending=True, stable=True).int()
    bits = (scores.detach().contiguous().numpy() + 0.0).view(np.int32).astype(np.int64)  # + 0 makes one zero of the two
    # A float32's bits are ordered like an integer's, but backwards below zero.
    keys = np.where(bits >= 0, (1 << 31) - 1 - bits, (1 << 32) + bits).view(np.uint64)
    return torch.from_numpy(compiled.ascending(keys))


def find_leaders(
    boxes: Float[Tensor, "n 2 d"],
    scores: Float[Tensor, " n"],
    labels: Int[Tensor, " n"] | None,
    iou_threshold: float,
    most: int | None = None,
) -> tuple[Int[Tensor, " n"], Int[Tensor, " leaders"]]:
    """By descending score, a box without a leader leads itself and the others without one that it overlaps.

    Args:
        boxes: `(n, 2, d)`, checked.
        scores: `(n,)`; of equal scores the first row is better.
        labels: `(n,)`; boxes follow only boxes of their label. None: all alike.
        iou_threshold: follow where IoU > threshold.
        most: stop after so many leaders.

    Returns:
        The row of each box's leader (-1 where stopped before), and the leaders by descending score.
    """
    check_threshold(iou_threshold)
    order = best_first(scores)
    most = len(order) if most is None else most
    if not len(order):
        return order.long(), order.long()
    compiled = kernels(boxes)
    if not compiled:
        return _lead_plain(boxes, order.long(), labels, iou_threshold, most)
    array = as_float(boxes).detach().contiguous().numpy()
    number = from_zero(labels).numpy() if labels is not None else np.zeros(0, np.int64)
    place = compiled.ascending(compiled.curve_keys(array, number, 30 // array.shape[-1]))
    threshold = array.dtype.type(iou_threshold)
    leader, leaders, count = compiled.lead(array, number, place, order.numpy(), threshold, most)
    return torch.from_numpy(leader), torch.from_numpy(leaders[:count])


def from_zero(numbers: Tensor) -> Tensor:
    """The same classes of equal numbers, from 0 and less than a million (or than the number of rows)."""
    array = numbers.cpu().numpy().astype(np.int64)
    array -= array.min() if len(array) else 0
    if array.max(initial=0) >= 1 << 20:
        array = np.unique(array, return_inverse=True)[1]
    return torch.from_numpy(array).to(numbers.device)


def _lead_plain(
    boxes: Tensor, order: Tensor, labels: Tensor | None, iou_threshold: float, most: int
) -> tuple[Tensor, Tensor]:
    leader, leaders = torch.full_like(order, -1), order[:0]
    for block in order.split(_BLOCK):
        if len(leaders) >= most:
            break
        if len(leaders):
            follows = _overlaps(leaders, block, boxes, labels, iou_threshold)
            leader[block] = torch.where(follows.any(0), leaders[follows.byte().argmax(0)], -1)
        block = block[leader[block] < 0]
        if not len(block):
            continue
        overlaps = _overlaps(block, block, boxes, labels, iou_threshold)
        leads = _greedy(overlaps.triu(1))
        overlaps = (overlaps & leads[:, None]).fill_diagonal_(False) | leads.diag()
        leader[block] = block[overlaps.byte().argmax(0)]
        leaders = torch.cat([leaders, block[leads]])
    dropped = torch.ones_like(order, dtype=torch.bool).index_fill(0, leaders[:most], False)
    return torch.where((leader >= 0) & dropped[leader], -1, leader), leaders[:most]


def _overlaps(better: Tensor, worse: Tensor, boxes: Tensor, labels: Tensor | None, iou_threshold: float) -> Tensor:
    """`(better, worse)` bool: which of the better boxes could lead which of the worse."""
    overlap = iou(boxes[better], boxes[worse]) > iou_threshold
    return overlap if labels is None else overlap & (labels[better][:, None] == labels[worse])


def _greedy(suppresses: Tensor) -> Tensor:
    """`(n,)` bool, kept by the greedy rule; rows by descending score, `suppresses` strictly upper triangular.

    A box is kept unless a kept one suppresses it. Repeating this rule from "all are kept" settles one more
    level of every chain of suppressions each time, so it ends in the greedy answer after a few products.
    """
    keep = suppresses.new_ones(len(suppresses))
    while True:
        updated = ~(suppresses & keep[:, None]).any(0)
        if torch.equal(updated, keep):
            return keep
        keep = updated
