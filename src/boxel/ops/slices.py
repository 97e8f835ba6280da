"""Boxes of slices into boxes of the volume."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from boxel.ops.arrays import numpy_too
from boxel.ops.checks import check_boxes
from boxel.ops.clustering import Clusters, Members


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
    if labels is None:
        labels = torch.zeros(len(boxes), dtype=torch.long, device=boxes.device)
    slices = slices.long()
    extra = float(inclusive)
    order = scores.argsort(descending=True, stable=True)
    area = (boxes[:, 1] - boxes[:, 0] + extra).prod(1)
    free = torch.ones_like(slices, dtype=torch.bool)
    seeds, spans, members = [], [], []
    for seed in order.tolist():
        if not free[seed]:
            continue
        rows = order[(free & (labels == labels[seed]))[order]]
        extent = torch.minimum(boxes[rows, 1], boxes[seed, 1]) - torch.maximum(boxes[rows, 0], boxes[seed, 0]) + extra
        intersection = extent.clamp(min=0).prod(1)
        joins = intersection > iou_threshold * (area[rows] + area[seed] - intersection)
        rows = rows[joins | (rows == seed)]
        low, high = _run_around(slices[rows], int(slices[seed]))
        rows = rows[(low <= slices[rows]) & (slices[rows] <= high)]
        free[rows] = False
        seeds.append(seed)
        spans.append([low - extra, high + 1])
        members.append(rows)
    seed_rows = torch.tensor(seeds, dtype=torch.long, device=boxes.device)
    span = boxes.new_tensor(spans).reshape(-1, 2, 1)
    offsets = torch.tensor([0, *map(len, members)], device=boxes.device).cumsum(0)
    return Clusters(
        torch.cat([span, boxes[seed_rows]], -1),
        scores[seed_rows],
        labels[seed_rows],
        Members(torch.cat([seed_rows[:0], *members]), offsets),
    )


def _run_around(slices: Tensor, start: int) -> tuple[int, int]:
    """First and last of the consecutive slice indices around `start`."""
    present = set(slices.tolist())
    low = high = start
    while low - 1 in present:
        low -= 1
    while high + 1 in present:
        high += 1
    return low, high
