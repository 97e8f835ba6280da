"""The greedy rule behind NMS and clustering: every box follows the best box that overlaps it."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from boxel.ops.arrays import kernels
from boxel.ops.checks import check_threshold
from boxel.ops.overlaps import iou
from boxel.ops.runs import LEAST, from_zero, plant
from boxel.ops.threads import share

_BLOCK = 1024


def find_leaders(
    boxes: Float[Tensor, "n 2 d"],
    order: Int[Tensor, " n"],
    labels: Int[Tensor, " n"] | None,
    iou_threshold: float,
    most: int | None = None,
) -> tuple[Int[Tensor, " n"], Int[Tensor, " leaders"]]:
    """By descending score, a box without a leader leads itself and the others without one that it overlaps.

    Args:
        boxes: `(n, 2, d)`, checked.
        order: rows by descending score.
        labels: `(n,)`; boxes follow only boxes of their label. None: all have the same label.
        iou_threshold: a box follows where IoU > threshold.
        most: stop after this many leaders.

    Returns:
        The row of each box's leader, and the leaders by descending score. Boxes that follow leaders beyond `most` have
        arbitrary values.
    """
    check_threshold(iou_threshold)
    most = len(order) if most is None else most
    if not len(order):
        return order.long(), order.long()
    compiled = kernels(boxes)
    if not compiled:
        return _lead_plain(boxes, order.long(), labels, iou_threshold, most)
    array, by_score = boxes.detach().contiguous().numpy(), order.numpy()
    numbers = np.zeros(0, np.int64) if labels is None else from_zero(labels).numpy()
    runs = plant(compiled, array, numbers, by_score)
    leader, threshold = np.empty(len(array), np.int32), array.dtype.type(iou_threshold)
    share(lambda *part: compiled.lead(*runs, threshold, most, leader, *part), runs.begins, LEAST)
    return torch.from_numpy(leader), torch.from_numpy(compiled.leaders_of(leader, by_score, most))


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
    return leader, leaders[:most]


def _overlaps(better: Tensor, worse: Tensor, boxes: Tensor, labels: Tensor | None, iou_threshold: float) -> Tensor:
    """`(better, worse)` bool: which of the better boxes could lead which of the worse."""
    overlap = iou(boxes[better], boxes[worse]) > iou_threshold
    return overlap if labels is None else overlap & (labels[better][:, None] == labels[worse])


def _greedy(suppresses: Tensor) -> Tensor:
    """`(n,)` bool, kept by the greedy rule; rows by descending score, `suppresses` strictly upper triangular.

    A box is kept unless a kept one suppresses it. Repeating this rule from "all are kept" settles one more level of
    every chain of suppressions each time, so it ends in the greedy answer after a few products.
    """
    keep = suppresses.new_ones(len(suppresses))
    while True:
        updated = ~(suppresses & keep[:, None]).any(0)
        if torch.equal(updated, keep):
            return keep
        keep = updated
