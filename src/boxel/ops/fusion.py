"""Weighted box fusion, to compare with weighted box clustering."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Real
from torch import Tensor

from boxel.ops.arrays import kernels, numpy_too
from boxel.ops.checks import (
    check_boxes,
    check_index,
    check_not_negative,
    check_positive,
    check_sizes,
    check_threshold,
)
from boxel.ops.clustering import Clusters, collect, group
from boxel.ops.number_types import as_float
from boxel.ops.overlaps import iou
from boxel.ops.runs import LEAST, best_first, from_zero, plant
from boxel.ops.threads import share

IOU_STEPS = 1 << 16
"""Overlaps with a mean count in these steps: what just touches a mean must not join by its rounding errors. A power of
two, so that nothing else is rounded."""


@numpy_too
def weighted_box_fusion(
    boxes: Real[Tensor, "n 2 d"],
    scores: Real[Tensor, " n"],
    *,
    labels: Int[Tensor, " n"] | None = None,
    iou_threshold: float = 0.55,
    expected_views: float | int,
    view_ids: Int[Tensor, " n"] | None = None,
    view_weights: Sequence[float] | None = None,
    min_score: float = 0.0,
) -> Clusters:
    """Merge boxes into running means: weighted box fusion.

    How it works: by descending score each box joins the cluster of its label whose *current mean* it overlaps most, if
    IoU > threshold; otherwise it opens a new cluster. IoUs that differ by rounding errors are equal, and the first of
    equals wins. Corners are means weighted by score. The score is the members' mean x min(members, views) / views.
    With `view_weights` the weight of its view multiplies each score beforehand, and the last division is by the sum of
    the weights; scores can then exceed 1 where views of large weight have more than their share of the members.

    Result and errors are those of `weighted_box_clustering`.

    Args:
        boxes: `(n, 2, d)` voxels.
        scores: `(n,)`, not negative; of equal scores the first row comes first.
        labels: `(n,)`; boxes of different labels do not fuse.
        iou_threshold: 0.55 as published.
        expected_views: number of models and views.
        view_ids: `(n,)` which model or view predicted a box, from 0; for `view_weights`.
        view_weights: one per model or view, such as their metrics; only their ratios matter. None: all the same.
        min_score: clusters with a lower score are dropped.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import weighted_box_fusion
        >>> boxes = np.array([[[0.0, 0.0], [10.0, 10.0]], [[0.0, 0.0], [10.0, 13.0]]])
        >>> clusters = weighted_box_fusion(boxes, np.array([0.8, 0.4]), expected_views=2)
        >>> clusters.boxes.round(3).tolist(), clusters.scores.round(3).tolist()  # (0.8 x 10 + 0.4 x 13) / 1.2
        ([[[0.0, 0.0], [10.0, 11.0]]], [0.6])
        >>> clusters = weighted_box_fusion(
        ...     boxes, np.array([0.8, 0.4]), expected_views=2, view_ids=np.array([0, 1]), view_weights=[1, 3])
        >>> clusters.boxes.round(3).tolist(), clusters.scores.round(3).tolist()  # (0.8 x 10 + 3 x 0.4 x 13) / 2
        ([[[0.0, 0.0], [10.0, 11.8]]], [0.5])

    Reference: Solovyev et al., Weighted boxes fusion, Image and Vision Computing 2021.
    """
    boxes, scores = as_float(boxes), as_float(scores)
    check_boxes(boxes, scores=scores, labels=labels, view_ids=view_ids)
    check_not_negative(scores=scores)
    check_threshold(iou_threshold)
    check_positive(expected_views=expected_views)
    total = expected_views
    if view_weights is not None:
        factors = _view_weights(view_ids, view_weights, scores, expected_views)
        scores, total = scores * factors, sum(view_weights)
    order = best_first(scores)
    fuse = _fuse_compiled if kernels(boxes) and len(boxes) else _fuse_plain
    leader, means, weights = fuse(boxes, scores.to(boxes.dtype), order, labels, iou_threshold)
    groups = group(leader, order)
    fused = weights / groups.sizes * groups.sizes.clamp(max=expected_views) / total
    return collect(means, fused.to(scores.dtype), labels, groups, min_score)


def _view_weights(
    view_ids: Tensor | None, view_weights: Sequence[float], scores: Tensor, expected_views: float
) -> Tensor:
    """The weight of each box."""
    check_sizes("view_weights", view_weights)
    if view_ids is None or len(view_weights) != expected_views:
        raise ValueError(
            f"view_weights has {len(view_weights)} numbers; it needs one for each of {expected_views} expected_views, "
            "and view_ids to say whose box each is"
        )
    check_index(view_ids=(view_ids, len(view_weights)))
    return scores.new_tensor(list(view_weights))[view_ids.long()]


def _fuse_plain(
    boxes: Tensor, scores: Tensor, order: Tensor, labels: Tensor | None, iou_threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The first row of the cluster of each box; mean and sum of scores of the clusters, in their order."""
    leader = torch.full_like(order, -1, dtype=torch.long)
    means, weights = torch.zeros_like(boxes), torch.zeros_like(scores)
    heads: list[int] = []
    for row in order.tolist():
        overlap = (iou(boxes[row][None], means[heads])[0] * IOU_STEPS).round() / IOU_STEPS
        if labels is not None:
            overlap = overlap * (labels[heads] == labels[row])
        cluster = int(overlap.argmax()) if heads else 0
        if not heads or not overlap[cluster] > iou_threshold:
            cluster = len(heads)
            heads.append(row)
            means[row] = boxes[row]
        head = leader[row] = heads[cluster]
        weights[head] += scores[row]
        if weights[head] > 0:
            means[head] += (boxes[row] - means[head]) * (scores[row] / weights[head])
    return leader, means[heads], weights[heads]


def _fuse_compiled(
    boxes: Tensor, scores: Tensor, order: Tensor, labels: Tensor | None, iou_threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    compiled: Any = kernels(boxes)
    array = boxes.detach().contiguous().numpy()
    numbers = np.zeros(0, np.int64) if labels is None else from_zero(labels).numpy()
    runs = plant(compiled, array, numbers, order.numpy())
    leader, weights = np.empty(len(array), np.int32), np.empty(len(array), array.dtype)
    rule = (array.dtype.type(iou_threshold), array.dtype.type(IOU_STEPS))
    given = (*runs, scores.detach().contiguous().numpy(), *rule, leader, weights)
    share(lambda *part: compiled.follow_means(*given, *part), runs.begins, LEAST)
    slots, means = runs.slot[compiled.leaders_of(leader, order.numpy(), len(leader))], runs.forest[0]
    del runs, given  # to save memory
    return torch.from_numpy(leader), torch.from_numpy(means[slots]), torch.from_numpy(weights[slots])
