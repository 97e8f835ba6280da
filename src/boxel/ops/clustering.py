"""Many boxes of one object, from many views, merged into one."""

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Real
from torch import Tensor

from boxel.ops.arrays import kernels, numpy_too, take
from boxel.ops.checks import check_boxes, check_not_negative, check_positive
from boxel.ops.leaders import find_leaders
from boxel.ops.number_types import as_float
from boxel.ops.runs import LEAST_SUMMED, best_first, from_zero
from boxel.ops.threads import share


class Members(NamedTuple):
    """Which rows form each cluster, ragged: those of cluster `i` are `rows[offsets[i]:offsets[i + 1]]`."""

    rows: Int[Tensor, " contributing"]
    offsets: Int[Tensor, " clusters_plus_1"]

    def of(self, cluster: int) -> Int[Tensor, " members"] | Int[np.ndarray, " members"]:
        """The rows of one cluster, best score first."""
        return self.rows[self.offsets[cluster] : self.offsets[cluster + 1]]


class Clusters(NamedTuple):
    """Clusters by descending score; labels are 0 if the boxes had none."""

    boxes: Float[Tensor, "k 2 d"]
    scores: Float[Tensor, " k"]
    labels: Int[Tensor, " k"]
    members: Members


@numpy_too
def weighted_box_clustering(
    boxes: Real[Tensor, "n 2 d"],
    scores: Real[Tensor, " n"],
    *,
    labels: Int[Tensor, " n"] | None = None,
    iou_threshold: float,
    expected_views: float | int,
    view_ids: Int[Tensor, " n"] | None = None,
    weights: Real[Tensor, " n"] | None = None,
    tiles_covering: Real[Tensor, " n"] | None = None,
    min_score: float = 0.0,
    one_vote_per_view: bool = True,
    inclusive: bool = False,
) -> Clusters:
    """Merge the boxes that many views predict for one object, and lower the score for views that missed it.

    How it works: the best remaining box gathers all boxes of its label with IoU above the threshold. Member i has
    the weight w_i = f a p: its IoU with the best box, its area, and its factor in `weights`. The score of the cluster
    is sum(s w) / (sum(w) + missing x mean(w)), where missing = `expected_views` x mean(`tiles_covering`) minus the
    number of distinct views in the cluster, at least 0. Its corners are the members' means, weighted by s w.

    Args:
        boxes: `(n, 2, d)` voxels.
        scores: `(n,)`, not negative; of equal scores the first row counts as better.
        labels: `(n,)`; boxes of different labels do not cluster.
        iou_threshold: a box joins where IoU > threshold.
        expected_views: number of forward passes per voxel that could have predicted a box, tiles aside (n_ens).
        view_ids: `(n,)` which forward pass (view and tile) predicted a box; None: each box is a view of its own.
        weights: `(n,)` patch-centre factors p, see `patch_centre_weight`; None: 1.
        tiles_covering: `(n,)` mean number of tiles that cover a box (n_ov), see `mean_coverage`; None: 1.
        min_score: clusters with a lower score are dropped.
        one_vote_per_view: only the best box of each view contributes to a cluster. False: all boxes contribute, as in
            equation (2) and in the toolkit, although they count as one view.
        inclusive: extents and overlaps are one voxel longer, as in the toolkit, where corners are pixel indices.
            The results then equal the published ones, but boxes one voxel apart overlap.

    Returns:
        Clusters by descending score. A box without extent is a cluster of its own.

    Raises:
        ValueError: NaN, inverted boxes, negative scores or factors, or mismatched lengths; names the row.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import weighted_box_clustering
        >>> boxes = np.array([[[0.0, 0.0], [10.0, 10.0]], [[0.0, 0.0], [10.0, 10.0]]])
        >>> clusters = weighted_box_clustering(
        ...     boxes, np.array([0.9, 0.7]), view_ids=np.array([0, 1]), iou_threshold=0.4, expected_views=4)
        >>> clusters.boxes.tolist(), clusters.scores.round(3).tolist()  # two of four views missed it: 0.8 x 2 / 4
        ([[[0.0, 0.0], [10.0, 10.0]]], [0.4])

    Reference: Jaeger et al., Retina U-Net, arXiv 1811.08661, section 3.2, equation (2); areas and the patch-centre
    factor as in the MedicalDetectionToolkit.
    """
    boxes, scores = as_float(boxes), as_float(scores)
    check_boxes(boxes, scores=scores, labels=labels, view_ids=view_ids, weights=weights, tiles_covering=tiles_covering)
    check_not_negative(scores=scores, weights=weights, tiles_covering=tiles_covering)
    check_positive(expected_views=expected_views)
    extents = torch.stack([boxes[:, 0], boxes[:, 1] + 1], 1) if inclusive else boxes
    rule = _Rule(view_ids, weights, tiles_covering, float(expected_views), one_vote_per_view, True, float(inclusive))
    fused, fused_scores, groups = _cluster(boxes, extents, scores, labels, iou_threshold, rule)
    return collect(fused, fused_scores, labels, groups, min_score)


@numpy_too
def weighted_nms(
    boxes: Real[Tensor, "n 2 d"],
    scores: Real[Tensor, " n"],
    *,
    labels: Int[Tensor, " n"] | None = None,
    iou_threshold: float,
    min_score: float = 0.0,
) -> Clusters:
    """NMS that averages the corners of the boxes it drops, weighted by score x IoU with the best box.

    The best score is kept. Arguments, result and errors are those of `weighted_box_clustering`.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import weighted_nms
        >>> boxes = np.array([[[0.0, 0.0], [10.0, 10.0]], [[0.0, 0.0], [10.0, 20.0]]])
        >>> clusters = weighted_nms(boxes, np.array([0.8, 0.4]), iou_threshold=0.3)
        >>> clusters.boxes.tolist(), clusters.scores.tolist()  # (0.8 x 10 + 0.4 x 0.5 x 20) / (0.8 + 0.2)
        ([[[0.0, 0.0], [10.0, 12.0]]], [0.8])

    Reference: Zhou et al., CAD: Scale Invariant Framework for Real-Time Object Detection, ICCV Workshops 2017; used
    within one model by nnDetection.
    """
    boxes, scores = as_float(boxes), as_float(scores)
    check_boxes(boxes, scores=scores, labels=labels)
    check_not_negative(scores=scores)
    fused, _, groups = _cluster(boxes, boxes, scores, labels, iou_threshold, _Rule())
    return collect(fused, take(scores, take(groups.rows, groups.begin)), labels, groups, min_score)


class Groups(NamedTuple):
    """The rows of each cluster, `rows[begin : begin + size]`; clusters and rows are by descending score."""

    rows: Int[Tensor, " n"]
    begin: Int[Tensor, " k"]
    sizes: Int[Tensor, " k"]


def group(leader: Tensor, order: Tensor) -> Groups:
    """Group the followers of each leader; `order` has the rows by descending score."""
    compiled = kernels(leader)
    if compiled and len(order):
        return Groups(*map(torch.from_numpy, compiled.group(leader.numpy(), order.numpy())))
    order = order.long()
    leads = leader[order] == order
    number = torch.empty_like(order)
    number[order[leads]] = torch.arange(int(leads.sum()), device=order.device)
    cluster, by_cluster = number[leader[order]].sort(stable=True)
    sizes = torch.bincount(cluster, minlength=int(leads.sum()))
    return Groups(order[by_cluster], sizes.cumsum(0) - sizes, sizes)


class _Rule(NamedTuple):
    """How much each member of a cluster contributes; names as in `weighted_box_clustering`.

    Attributes:
        by_area: a member has the weight IoU x area instead of IoU.
        extra: voxels by which extents are longer than the corners say.
    """

    view_ids: Tensor | None = None
    weights: Tensor | None = None
    tiles_covering: Tensor | None = None
    expected_views: float = 1.0
    one_vote: bool = False
    by_area: bool = False
    extra: float = 0.0


def _cluster(
    boxes: Tensor, extents: Tensor, scores: Tensor, labels: Tensor | None, iou_threshold: float, rule: _Rule
) -> tuple[Tensor, Tensor, Groups]:
    """Boxes and scores of the clusters and the rows that contribute, in the order of their best rows."""
    order = best_first(scores)
    groups = group(find_leaders(extents, order, labels, iou_threshold)[0], order)
    del order  # to save memory from here on
    fuse = _fuse_compiled if kernels(boxes) and len(boxes) else _fuse_plain
    return fuse(boxes, scores, groups, rule)


def _fuse_plain(boxes: Tensor, scores: Tensor, groups: Groups, rule: _Rule) -> tuple[Tensor, Tensor, Groups]:
    best, num_views = groups.rows[groups.begin], groups.sizes
    if rule.view_ids is not None:
        groups, num_views = _views(groups, from_zero(rule.view_ids), rule.one_vote)
    rows, _, sizes = groups
    weight, area = _overlap_and_area(boxes, rows, best.repeat_interleave(sizes), rule.extra)
    if rule.by_area:
        weight = weight * area
    if rule.weights is not None:
        weight = weight * rule.weights[rows]
    total = segments(weight, sizes)
    # A box without extent has no weight: all members have the same weight.
    weight = torch.where((total > 0).repeat_interleave(sizes), weight, 1.0)
    total = torch.where(total > 0, total, sizes)
    vote = weight * scores[rows]
    votes = segments(vote, sizes)
    covering = rule.tiles_covering
    coverage = 1.0 if covering is None else segments(covering[rows].double(), sizes) / sizes
    missing = (rule.expected_views * coverage - num_views).clamp(min=0)
    fused_scores = votes / (total + missing * total / sizes)
    vote = torch.where((votes > 0).repeat_interleave(sizes), vote, weight)
    return _mean_boxes(boxes, groups, vote), fused_scores.to(scores.dtype), groups


def _fuse_compiled(boxes: Tensor, scores: Tensor, groups: Groups, rule: _Rule) -> tuple[Tensor, Tensor, Groups]:
    """Compute the same as `_fuse_plain`, in one pass per cluster."""
    compiled: Any = kernels(boxes)
    rows, begin, sizes = (part.numpy() for part in groups)
    offsets = np.append(begin, np.int32(len(rows)))
    views = np.zeros(0, np.int64) if rule.view_ids is None else from_zero(rule.view_ids).numpy()
    columns = [
        np.zeros(0) if column is None else column.detach().numpy().astype(np.float64)
        for column in (rule.weights, rule.tiles_covering)
    ]
    array, rated = (values.detach().contiguous().numpy() for values in (boxes, scores))
    fused, fused_scores = np.empty((len(sizes), *array.shape[1:]), array.dtype), np.empty(len(sizes), rated.dtype)
    given = (array, rated, rows, offsets, sizes, views, int(views.max(initial=-1)) + 1, *columns)
    how = (rule.expected_views, rule.one_vote, rule.by_area, rule.extra)
    share(lambda *part: compiled.fuse(*given, *how, fused, fused_scores, *part), offsets, LEAST_SUMMED)
    return torch.from_numpy(fused), torch.from_numpy(fused_scores), groups


def _views(groups: Groups, view_ids: Tensor, one_vote: bool) -> tuple[Groups, Tensor]:
    """The rows, only the best of each view if `one_vote`, and the number of distinct views per cluster."""
    rows, _, sizes = groups
    cluster = torch.arange(len(sizes), device=sizes.device).repeat_interleave(sizes)
    view = view_ids[rows]
    key, place = (cluster * (len(rows) + (1 << 20)) + view).sort(stable=True)
    first = torch.ones_like(key, dtype=torch.bool)
    first[place[1:][key[1:] == key[:-1]]] = False
    distinct = torch.bincount(cluster[first], minlength=len(sizes))
    return Groups(rows[first], distinct.cumsum(0) - distinct, distinct) if one_vote else groups, distinct


def _overlap_and_area(boxes: Tensor, rows: Tensor, best: Tensor, extra: float = 0.0) -> tuple[Tensor, Tensor]:
    """IoU of rows with their best, and the rows' areas; float64, axis by axis to keep intermediates small."""
    intersection = area = best_area = torch.ones(len(rows), dtype=torch.float64, device=boxes.device)
    for k in range(boxes.shape[-1]):
        low, high = boxes[:, 0, k].double(), boxes[:, 1, k].double()
        extent = torch.minimum(high[rows], high[best]) - torch.maximum(low[rows], low[best]) + extra
        intersection = intersection * extent.clamp(min=0)
        extent = high - low + extra
        area, best_area = area * extent[rows], best_area * extent[best]
    union = area + best_area - intersection
    return intersection / union.clamp(min=torch.finfo(torch.float64).tiny), area


def _mean_boxes(boxes: Tensor, groups: Groups, vote: Tensor) -> Tensor:
    """`(k, 2, d)` means of the members' corners."""
    rows, _, sizes = groups
    total = segments(vote, sizes)
    fused = boxes.new_empty((len(sizes), *boxes.shape[1:]))
    for corner in range(2):
        for k in range(boxes.shape[-1]):
            fused[:, corner, k] = segments(boxes[rows, corner, k] * vote, sizes) / total
    return fused


def segments(values: Tensor, sizes: Tensor, how: Literal["sum", "min", "max"] = "sum") -> Tensor:
    """Sum, minimum or maximum of each of the consecutive runs of the given sizes."""
    return torch.segment_reduce(values, how, lengths=sizes) if len(sizes) else values


def collect(boxes: Tensor, scores: Tensor, labels: Tensor | None, groups: Groups, min_score: float) -> Clusters:
    """Sort clusters by score and drop the low ones. Overwrites the arrays of the clusters."""
    rows, begin, sizes = groups
    order, count = best_first(scores), int((scores >= min_score).sum())
    compiled = kernels(boxes) if len(scores) else None
    if compiled:
        columns = (boxes, scores, begin, sizes)
        compiled.reorder(order.numpy(), *(column.numpy() for column in columns))
        # A view of a part would keep the whole array alive.
        boxes, scores, begin, sizes = (column[:count].clone() if count < len(column) else column for column in columns)
    else:
        order = order[:count].long()
        boxes, scores, begin, sizes = boxes[order], scores[order], begin[order], sizes[order]
    chosen = sizes.new_zeros(count, dtype=torch.long) if labels is None else take(labels, take(rows, begin))
    offsets = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    if compiled:
        rows = torch.from_numpy(compiled.take_runs(rows.numpy(), begin.numpy(), offsets.numpy()))
    else:
        step = torch.arange(int(sizes.sum()), device=sizes.device) - offsets[:-1].repeat_interleave(sizes)
        rows = rows[begin.repeat_interleave(sizes) + step]
    return Clusters(boxes, scores, chosen, Members(rows, offsets))
