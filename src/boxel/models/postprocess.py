"""From scores and boxes to detections: the steps that all detectors share."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from boxel.caps import leaves_out
from boxel.ops import clip, nms
from boxel.types import Detections


def best_boxes(
    scores: Float[Tensor, "n k"],
    decode_rows: Callable[[Int[Tensor, " m"], Int[Tensor, " m"]], Float[Tensor, "m 2 d"]],
    shape: Sequence[int],
    *,
    candidates: int | None,
    min_score: float,
    nms_threshold: float,
    max_detections: int,
    group_sizes: Sequence[int] | None = None,
    nms_per_group: bool = False,
) -> Detections[Tensor]:
    """The best `candidates` (row, class) pairs of one image, decoded, clipped to `shape`, suppressed per class.

    Args:
        candidates: None for ten per detection that is kept, at least 1000.
        decode_rows: gives the boxes of rows and classes.
        group_sizes: rows per group (pyramid level), if `candidates` counts per group.
        nms_per_group: boxes suppress those of their own group only.
    """
    candidates = max(1000, 10 * max_detections) if candidates is None else candidates
    parts, first = [], 0
    for part in scores.split(list(group_sizes)) if group_sizes else [scores]:
        parts.append(part.flatten().topk(min(candidates, part.numel())).indices + first)
        first += part.numel()
    index = torch.cat(parts)
    values = scores.flatten()[index]
    index, values = index[values >= min_score], values[values >= min_score]
    labels = index % scores.shape[1]
    boxes = clip(decode_rows(index // scores.shape[1], labels), shape)
    real = (boxes[:, 1] > boxes[:, 0]).all(-1)
    boxes, values, labels, index = boxes[real], values[real], labels[real], index[real]
    rivals = labels
    if group_sizes and nms_per_group:
        ends = torch.tensor(group_sizes, device=index.device).cumsum(0) * scores.shape[1]
        rivals = labels + scores.shape[1] * torch.bucketize(index, ends, right=True)
    # One more than is kept shows whether some are left out.
    keep = nms(boxes, values, nms_threshold, labels=rivals, max_detections=max_detections + 1)
    best = keep[:max_detections]
    return Detections(boxes[best], values[best], labels[best], capped=leaves_out(values[keep], max_detections))


def join(boxes: Sequence[Float[Tensor, "_ 2 d"]]) -> tuple[Float[Tensor, "n 2 d"], Int[Tensor, " n"]]:
    """The boxes of all images in one tensor, and the image of each."""
    counts = torch.tensor([len(rows) for rows in boxes], device=boxes[0].device)
    return torch.cat(list(boxes)), torch.arange(len(boxes), device=counts.device).repeat_interleave(counts)
