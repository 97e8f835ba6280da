"""Non-maximum suppression: the best of the boxes that overlap."""

import math
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Real
from torch import Tensor

from boxel.ops.arrays import kernels, numpy_too, take
from boxel.ops.checks import check_boxes, check_choice, check_not_negative, check_positive, check_threshold
from boxel.ops.leaders import find_leaders
from boxel.ops.number_types import as_float
from boxel.ops.overlaps import iou
from boxel.ops.runs import LEAST, best_first, from_zero, plant
from boxel.ops.threads import share


@numpy_too
def nms(
    boxes: Real[Tensor, "n 2 d"],
    scores: Real[Tensor, " n"],
    iou_threshold: float,
    *,
    labels: Int[Tensor, " n"] | None = None,
    max_detections: int | None = None,
) -> Int[Tensor, " kept"]:
    """Keep a box unless a better kept one (of its label, if labels are given) overlaps it too much.

    Args:
        boxes: `(n, 2, d)` voxels.
        scores: `(n,)`; of equal scores the first row counts as better.
        iou_threshold: a box is dropped where IoU > threshold; 0 drops boxes that overlap and keeps boxes that touch.
        labels: `(n,)`; boxes of different labels do not compete.
        max_detections: stop after this many boxes, over all labels.

    Returns:
        Kept rows by descending score. A box without extent is kept and drops none.

    Raises:
        ValueError: NaN, inverted boxes or mismatched lengths; names the row.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import nms
        >>> boxes = np.array([[[0.0, 0.0], [10.0, 10.0]], [[0.0, 1.0], [10.0, 11.0]], [[30.0, 0.0], [40.0, 10.0]]])
        >>> nms(boxes, np.array([0.6, 0.9, 0.3]), 0.5).tolist()
        [1, 2]
    """
    boxes, scores = as_float(boxes), as_float(scores)
    check_boxes(boxes, scores=scores, labels=labels)
    if max_detections is not None and max_detections < 0:
        raise ValueError(f"max_detections is {max_detections}; it must be 0 or more, or None for all")
    return find_leaders(boxes, best_first(scores), labels, iou_threshold, max_detections)[1]


@numpy_too
def soft_nms(
    boxes: Real[Tensor, "n 2 d"],
    scores: Real[Tensor, " n"],
    *,
    labels: Int[Tensor, " n"] | None = None,
    decay: Literal["gaussian", "linear"] = "gaussian",
    sigma: float = 0.5,
    iou_threshold: float = 0.3,
    min_score: float = 1e-3,
) -> tuple[Int[Tensor, " kept"], Float[Tensor, " kept"]]:
    """Lower the scores of overlapping boxes instead of dropping them.

    Args:
        boxes: `(n, 2, d)` voxels.
        scores: `(n,)`, not negative; of equal scores the first row counts as better.
        labels: `(n,)`; boxes of different labels do not compete.
        decay: each better box multiplies a score by exp(-IoU^2 / sigma) (`gaussian`), or by 1 - IoU where IoU >
            iou_threshold (`linear`).
        sigma: of the Gaussian decay.
        iou_threshold: of the linear decay.
        min_score: boxes whose score falls below it are dropped.

    Returns:
        Kept rows by descending new score, and the new scores. A box without extent lowers none.

    Raises:
        ValueError: NaN, inverted boxes, negative scores or mismatched lengths; names the row.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import soft_nms
        >>> boxes = np.array([[[0.0, 0.0], [10.0, 10.0]], [[0.0, 0.0], [10.0, 20.0]]])
        >>> rows, scores = soft_nms(boxes, np.array([0.8, 0.4]), decay="linear")
        >>> rows.tolist(), scores.tolist()  # IoU 0.5
        ([0, 1], [0.8, 0.2])

    Reference: Bodla et al., Soft-NMS, ICCV 2017.
    """
    boxes, given = as_float(boxes), as_float(scores)
    check_boxes(boxes, scores=given, labels=labels)
    check_not_negative(scores=given)
    check_threshold(iou_threshold)
    check_positive(sigma=sigma)
    check_choice("decay", decay, ["gaussian", "linear"])
    lower = _lower_compiled if kernels(boxes) and len(boxes) else _lower_plain
    rows, lowered = lower(boxes, given, labels, _Rule(decay == "gaussian", sigma, iou_threshold, min_score))
    lowered = take(lowered, rows).to(scores.dtype if scores.is_floating_point() else given.dtype)
    order = best_first(lowered).long()
    return take(rows, order), take(lowered, order)


class _Rule(NamedTuple):
    """How scores are lowered, and which are too low to keep."""

    gaussian: bool
    sigma: float
    iou_threshold: float
    min_score: float


def _lower_plain(boxes: Tensor, scores: Tensor, labels: Tensor | None, rule: _Rule) -> tuple[Tensor, Tensor]:
    """The rows that are kept, in their order, and all scores in double precision."""
    current = lowered = scores.double()
    kept = torch.zeros_like(scores, dtype=torch.bool)
    for _ in range(len(scores)):
        best = int(current.argmax())
        if not current[best] >= rule.min_score:
            break
        kept[best] = True
        overlap = iou(boxes[best : best + 1], boxes)[0].double()
        if labels is not None:
            overlap = overlap * (labels[best] == labels)
        factor = (
            (-overlap.square() / rule.sigma).exp() if rule.gaussian else 1 - overlap * (overlap > rule.iou_threshold)
        )
        lowered = torch.where(kept, lowered, lowered * factor)
        current = lowered.masked_fill(kept, -math.inf)
    return kept.nonzero()[:, 0], lowered


def _lower_compiled(boxes: Tensor, scores: Tensor, labels: Tensor | None, rule: _Rule) -> tuple[Tensor, Tensor]:
    compiled: Any = kernels(boxes)
    numbers = np.zeros(0, np.int64) if labels is None else from_zero(labels).numpy()
    array, lowered = boxes.detach().contiguous().numpy(), scores.detach().numpy().astype(np.float64)
    kept = np.zeros(len(array), np.bool_)
    runs = plant(compiled, array, numbers, best_first(scores).numpy())
    given = (*runs, lowered, kept, *rule)
    share(lambda *part: compiled.soften(*given, *part), runs.begins, LEAST)
    return torch.from_numpy(np.flatnonzero(kept)), torch.from_numpy(lowered)
