"""Non-maximum suppression: of boxes that overlap, the best."""

import math
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from boxel.ops.arrays import numpy_too
from boxel.ops.boxes import iou
from boxel.ops.checks import check_boxes, check_threshold
from boxel.ops.leaders import find_leaders


@numpy_too
def nms(
    boxes: Float[Tensor, "n 2 d"],
    scores: Float[Tensor, " n"],
    iou_threshold: float,
    *,
    labels: Int[Tensor, " n"] | None = None,
    max_detections: int | None = None,
) -> Int[Tensor, " kept"]:
    """Keep a box unless a better kept one (of its label, if labels are given) overlaps it too much.

    Args:
        boxes: `(n, 2, d)`.
        scores: `(n,)`; of equal scores the first row counts as better.
        iou_threshold: a box is dropped where IoU > threshold; 0 drops what overlaps, touching boxes stay.
        labels: `(n,)`; boxes of different labels do not compete.
        max_detections: stop after so many, over all labels.

    Returns:
        Kept rows by descending score. A box without extent is kept and drops none.

    Raises:
        ValueError: NaN, inverted boxes or mismatched lengths; names the row.
    """
    check_boxes(boxes, scores=scores, labels=labels)
    if max_detections is not None and max_detections < 0:
        raise ValueError(f"max_detections is {max_detections}; it must be 0 or more, or None for all")
    return find_leaders(boxes, scores, labels, iou_threshold, max_detections)[1]


@numpy_too
def soft_nms(
    boxes: Float[Tensor, "n 2 d"],
    scores: Float[Tensor, " n"],
    *,
    labels: Int[Tensor, " n"] | None = None,
    decay: Literal["gaussian", "linear"] = "gaussian",
    sigma: float = 0.5,
    iou_threshold: float = 0.3,
    min_score: float = 1e-3,
) -> tuple[Int[Tensor, " kept"], Float[Tensor, " kept"]]:
    """Lower the scores of overlapping boxes instead of dropping them (Bodla et al., ICCV 2017).

    Time grows with boxes x kept boxes.

    Args:
        boxes: `(n, 2, d)`.
        scores: `(n,)`; of equal scores the first row counts as better.
        labels: `(n,)`; boxes of different labels do not compete.
        decay: each better box multiplies a score by exp(-IoU^2 / sigma), or by 1 - IoU where IoU >
            iou_threshold.
        sigma: of the Gaussian decay.
        iou_threshold: of the linear decay.
        min_score: boxes whose score falls below are dropped.

    Returns:
        Kept rows by descending new score, and the new scores.

    Raises:
        ValueError: NaN, inverted boxes or mismatched lengths; names the row.
    """
    check_boxes(boxes, scores=scores, labels=labels)
    check_threshold(iou_threshold)
    current, done = scores.clone(), scores.clone()
    kept = []
    for _ in range(len(scores)):
        best = int(current.argmax())
        if not current[best] >= min_score:
            break
        kept.append(best)
        done[best] = current[best]
        overlap = iou(boxes[best : best + 1], boxes)[0]
        if labels is not None:
            overlap = overlap * (labels[best] == labels)
        factor = (-overlap.square() / sigma).exp() if decay == "gaussian" else 1 - overlap * (overlap > iou_threshold)
        current = current * factor
        current[kept] = -math.inf
    rows = torch.tensor(kept, dtype=torch.long, device=boxes.device)
    return rows, done[rows]
