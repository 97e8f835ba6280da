"""Boxes of slices merged into boxes of the volume."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Real
from torch import Tensor

from boxel.ops.arrays import kernels, numpy_too, take
from boxel.ops.checks import check_boxes, check_threshold
from boxel.ops.clustering import Clusters, Members, group, segments
from boxel.ops.number_types import as_float
from boxel.ops.overlaps import iou
from boxel.ops.runs import LEAST, best_first, from_zero, plant
from boxel.ops.threads import share


@numpy_too
def merge_slices(
    boxes: Real[Tensor, "n 2 d"],
    scores: Real[Tensor, " n"],
    slices: Int[Tensor, " n"],
    *,
    labels: Int[Tensor, " n"] | None = None,
    iou_threshold: float,
    inclusive: bool = False,
) -> Clusters:
    """Join the boxes of adjacent slices into boxes with one axis more.

    How it works: the best remaining box gathers all boxes of its label with IoU above the threshold on the slices
    around its own, up to the first slice on either side without such a box. The result has its in-plane box and its
    score, and spans the gathered slices; boxes beyond the gap are left for later clusters.

    Args:
        boxes: `(n, 2, d)` voxels, in-plane.
        scores: `(n,)`; of equal scores the first row counts as better.
        slices: `(n,)` index of the slice of each box.
        labels: `(n,)`; boxes of different labels are not joined.
        iou_threshold: boxes belong together where IoU > threshold.
        inclusive: the toolkit's convention: in-plane extents are one voxel longer, and the span starts one slice
            earlier.

    Returns:
        Clusters with boxes `(k, 2, d + 1)`, the slice axis first, by descending score.

    Raises:
        ValueError: NaN, inverted boxes or mismatched lengths; names the row.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import merge_slices
        >>> boxes = np.array([[[0.0, 0.0], [10.0, 10.0]]] * 3)
        >>> clusters = merge_slices(boxes, np.array([0.5, 0.9, 0.7]), np.array([4, 5, 9]), iou_threshold=0.1)
        >>> clusters.boxes.tolist()  # slices 4 and 5, and slice 9
        [[[4.0, 0.0, 0.0], [6.0, 10.0, 10.0]], [[9.0, 0.0, 0.0], [10.0, 10.0, 10.0]]]

    Reference: Jaeger et al., Retina U-Net, arXiv 1811.08661, section 4.2.
    """
    boxes, slices = as_float(boxes), slices.long()
    check_boxes(boxes, scores=scores, slices=slices, labels=labels)
    check_threshold(iou_threshold)
    extents = torch.stack([boxes[:, 0], boxes[:, 1] + 1], 1) if inclusive else boxes
    join = _join_compiled if kernels(boxes) and len(boxes) else _join_plain
    order = best_first(scores)
    rows, begin, sizes = (part.long() for part in group(join(extents, order, slices, labels, iou_threshold), order))
    seeds, gathered = take(rows, begin), take(slices, rows).double()
    first, last = (segments(gathered, sizes, how) for how in ("min", "max"))
    span = torch.stack([first - int(inclusive), last + 1], 1)[:, :, None].to(boxes.dtype)
    members = Members(rows, torch.cat([begin, begin.new_tensor([len(rows)])]))
    chosen = torch.zeros_like(seeds) if labels is None else take(labels, seeds)
    return Clusters(torch.cat([span, take(boxes, seeds)], -1), take(scores, seeds), chosen, members)


def _join_compiled(boxes: Tensor, order: Tensor, slices: Tensor, labels: Tensor | None, iou_threshold: float) -> Tensor:
    compiled: Any = kernels(boxes)
    array, by_score = boxes.detach().contiguous().numpy(), order.numpy()
    runs = plant(compiled, array, _runs(labels, slices), by_score)
    begins = runs.begins[[0, -1]]
    if labels is not None:
        begins, by_score = compiled.split(from_zero(labels).numpy(), runs.place, by_score)
    groups = np.searchsorted(runs.begins, begins)
    leader = np.full(len(array), -1, np.int32)
    given = (*runs[:5], groups, slices.numpy(), by_score, array.dtype.type(iou_threshold), leader)
    share(lambda *part: compiled.join_slices(*given, *part), begins, LEAST)
    return torch.from_numpy(leader)


def _runs(labels: Tensor | None, slices: Tensor) -> np.ndarray:
    """A number for each label and slice, ordered by them."""
    number = from_zero(slices).numpy()
    if labels is None:
        return number
    return from_zero(torch.from_numpy(from_zero(labels).numpy() * (number.max() + 1) + number)).numpy()


def _join_plain(boxes: Tensor, order: Tensor, slices: Tensor, labels: Tensor | None, iou_threshold: float) -> Tensor:
    """The seed of the cluster of each box."""
    leader = torch.full_like(slices, -1)
    for seed in order.tolist():
        if leader[seed] >= 0:
            continue
        joins = (iou(boxes[seed][None], boxes)[0] > iou_threshold) & (leader < 0)
        if labels is not None:
            joins &= labels == labels[seed]
        joins[seed] = True
        low, high = _run_around(slices[joins], int(slices[seed]))
        leader[joins & (low <= slices) & (slices <= high)] = seed
    return leader


def _run_around(slices: Tensor, start: int) -> tuple[int, int]:
    """First and last of the consecutive slice indices around `start`."""
    present = set(slices.tolist())
    low = high = start
    while low - 1 in present:
        low -= 1
    while high + 1 in present:
        high += 1
    return low, high
