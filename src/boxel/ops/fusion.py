"""Weighted box fusion, to compare with weighted box clustering."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from boxel.ops.arrays import numpy_too
from boxel.ops.boxes import as_float, iou
from boxel.ops.checks import check_boxes, check_threshold
from boxel.ops.clustering import Clusters, Members


@numpy_too
def weighted_box_fusion(
    boxes: Float[Tensor, "n 2 d"],
    scores: Float[Tensor, " n"],
    *,
    labels: Int[Tensor, " n"] | None = None,
    iou_threshold: float = 0.55,
    expected_views: float | int,
    min_score: float = 0.0,
) -> Clusters:
    """Weighted box fusion (Solovyev et al., Image and Vision Computing 2021).

    By descending score each box joins the cluster of its label whose *current mean* it overlaps most, if IoU
    > threshold, else it opens one. Corners are means weighted by score. The score is the members' mean x
    min(members, views) / views. Time grows with boxes x clusters.

    Args:
        boxes: `(n, 2, d)`.
        scores: `(n,)`; of equal scores the first row comes first.
        labels: `(n,)`; boxes of different labels do not fuse.
        iou_threshold: as published, 0.55.
        expected_views: number of models and views.
        min_score: clusters of a lower score are dropped.

    Returns:
        As `weighted_box_clustering`.

    Raises:
        ValueError: NaN, inverted boxes or mismatched lengths; names the row.
    """
    check_boxes(boxes, scores=scores, labels=labels)
    check_threshold(iou_threshold)
    numbers = torch.zeros(len(boxes), dtype=torch.long, device=boxes.device) if labels is None else labels
    boxes, scores = as_float(boxes), as_float(scores)
    means, sums, weights = torch.zeros_like(boxes), torch.zeros_like(boxes), torch.zeros_like(scores)
    opened = torch.zeros_like(numbers)  # the label of each cluster
    members: list[list[int]] = []
    for row in scores.argsort(descending=True, stable=True).tolist():
        overlap = iou(boxes[row][None], means[: len(members)])[0]
        overlap = overlap * (opened[: len(members)] == numbers[row])
        found = int(overlap.argmax()) if members else 0
        if not members or not overlap[found] > iou_threshold:
            found = len(members)
            opened[found] = numbers[row]
            members.append([])
        members[found].append(row)
        sums[found] += boxes[row] * scores[row]
        weights[found] += scores[row]
        means[found] = sums[found] / weights[found] if weights[found] > 0 else boxes[row]
    sizes = torch.tensor([len(rows) for rows in members], dtype=torch.long, device=boxes.device)
    fused = torch.stack([scores[rows].mean() for rows in members]) if members else scores
    fused = fused * sizes.clamp(max=int(expected_views)) / expected_views
    order = fused.argsort(descending=True, stable=True)
    order = order[fused[order] >= min_score]
    chosen = [members[i] for i in order.tolist()]
    rows = torch.tensor([row for some in chosen for row in some], dtype=torch.long, device=boxes.device)
    offsets = torch.cat([sizes.new_zeros(1), sizes[order].cumsum(0)])
    return Clusters(means[order], fused[order], numbers[rows[offsets[:-1]]], Members(rows, offsets))
