"""Boxes of slices into boxes of the volume."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from boxel.ops.arrays import kernels, numpy_too
from boxel.ops.boxes import as_float, product
from boxel.ops.checks import check_boxes, check_threshold
from boxel.ops.clustering import Clusters, Members
from boxel.ops.leaders import best_first


@numpy_too
def merge_slices(
    boxes: Float[Tensor, "n 2 d"],
    scores: Float[Tensor, " n"],
    slices: Int[Tensor, " n"],
    *,
    labels: Int[Tensor, " n"] | None = None,
    iou_threshold: float,
    inclusive: bool = False,
) -> Clusters:
    """Join the boxes of adjacent slices into boxes with one axis more.

    The rule of Jaeger et al. (arXiv 1811.08661, section 3.3): the best remaining box gathers all boxes of its
    label with IoU above the threshold on the slices around its own, up to the first slice on either side
    without such a box. The result has its in-plane box and its score, and spans the gathered slices; boxes
    beyond the gap stay for later.

    Args:
        boxes: `(n, 2, d)` in-plane.
        scores: `(n,)`; of equal scores the first row counts as better.
        slices: `(n,)` index of the slice of each box.
        labels: `(n,)`; boxes of different labels are not joined.
        iou_threshold: boxes belong together where IoU > threshold.
        inclusive: the toolkit's convention: in-plane extents one voxel longer, and the span reaches one slice
            further on the lower side.

    Returns:
        Clusters with boxes `(k, 2, d + 1)`, the slice axis first, by descending score.

    Raises:
        ValueError: NaN, inverted boxes or mismatched lengths; names the row.
    """
    check_boxes(boxes, scores=scores, slices=slices, labels=labels)
    check_threshold(iou_threshold)
    boxes, slices = as_float(boxes), slices.long()
    if labels is None:
        labels = torch.zeros(len(boxes), dtype=torch.long, device=boxes.device)
    join = _join_compiled if kernels(boxes) else _join_plain
    rows, offsets, seeds, first, last = join(boxes, best_first(scores).long(), slices, labels, iou_threshold, inclusive)
    span = torch.stack([first - int(inclusive), last + 1], 1)[:, :, None].to(boxes.dtype)
    return Clusters(torch.cat([span, boxes[seeds]], -1), scores[seeds], labels[seeds], Members(rows, offsets))


def _join_compiled(
    boxes: Tensor, order: Tensor, slices: Tensor, labels: Tensor, iou_threshold: float, inclusive: bool
) -> list[Tensor]:
    array = boxes.detach().contiguous().numpy()
    place = np.lexsort((slices.numpy(), labels.numpy()))
    limits = array.dtype.type(iou_threshold), array.dtype.type(inclusive)
    compiled: Any = kernels(boxes)
    found = compiled.join_slices(array, labels.numpy(), slices.numpy(), place, order.numpy(), *limits)
    return [torch.from_numpy(part) for part in found]


def _join_plain(
    boxes: Tensor, order: Tensor, slices: Tensor, labels: Tensor, iou_threshold: float, inclusive: bool
) -> list[Tensor]:
    """Rows, offsets, seeds, first and last slices of the clusters."""
    extra = float(inclusive)
    area = _product(boxes[:, 1] - boxes[:, 0] + extra)
    free = torch.ones_like(slices, dtype=torch.bool)
    seeds, spans, members = [], [], []
    for seed in order.tolist():
        if not free[seed]:
            continue
        rows = order[(free & (labels == labels[seed]))[order]]
        extent = torch.minimum(boxes[rows, 1], boxes[seed, 1]) - torch.maximum(boxes[rows, 0], boxes[seed, 0]) + extra
        intersection = _product(extent.clamp(min=0))
        joins = intersection > iou_threshold * (area[rows] + area[seed] - intersection)
        rows = rows[joins | (rows == seed)]
        low, high = _run_around(slices[rows], int(slices[seed]))
        rows = rows[(low <= slices[rows]) & (slices[rows] <= high)]
        free[rows] = False
        seeds.append(seed)
        spans.append((low, high))
        members.append(rows)
    first, last = slices.new_tensor(spans).reshape(-1, 2).unbind(1)
    offsets = slices.new_tensor([0, *map(len, members)]).cumsum(0)
    return [torch.cat([order[:0], *members]), offsets, slices.new_tensor(seeds), first, last]


def _product(extent: Tensor) -> Tensor:
    return product(iter(extent.unbind(-1)))


def _run_around(slices: Tensor, start: int) -> tuple[int, int]:
    """First and last of the consecutive slice indices around `start`."""
    present = set(slices.tolist())
    low = high = start
    while low - 1 in present:
        low -= 1
    while high + 1 in present:
        high += 1
    return low, high
