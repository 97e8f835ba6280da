"""Inputs of `benchmarks/ops.py`, and plain numpy versions of the published algorithms."""

import numpy as np
import torch

from boxel.ops import anchor_grid, octave_sizes

WBC = {"iou_threshold": 0.1, "expected_views": 20}


def crowd(count: int, clusters: int, ndim: int) -> dict[str, np.ndarray]:
    """`count` noisy boxes from 20 views around `clusters` objects of 6 to 18 voxels, evenly spread."""
    rng = np.random.default_rng(0)
    side = 18 * clusters ** (1 / ndim)
    of = rng.integers(0, clusters, count)
    centre = rng.uniform(0, side, (clusters, ndim))[of] + rng.normal(0, 1, (count, ndim))
    extent = rng.uniform(6, 18, (clusters, ndim))[of] * np.exp(rng.normal(0, 0.1, (count, ndim)))
    boxes = np.stack([centre - extent / 2, centre + extent / 2], 1).astype(np.float32)
    return {
        "boxes": boxes,
        "scores": rng.random(count, dtype=np.float32),
        "view_ids": rng.integers(0, 20, count),
        "weights": rng.uniform(0.4, 1, count).astype(np.float32),
        "tiles_covering": rng.uniform(1, 3, count).astype(np.float32),
    }


def iou_with(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    shared = np.clip(np.minimum(boxes[:, 1], box[1]) - np.maximum(boxes[:, 0], box[0]), 0, None).prod(1)
    return shared / ((boxes[:, 1] - boxes[:, 0]).prod(1) + (box[1] - box[0]).prod() - shared)


def numpy_nms(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float) -> list[int]:
    left, kept = np.argsort(-scores, kind="stable"), []
    while len(left):
        kept.append(int(left[0]))
        left = left[1:][iou_with(boxes[left[1:]], boxes[left[0]]) <= iou_threshold]
    return kept


def numpy_weighted_nms(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float) -> list[np.ndarray]:
    left, result = np.argsort(-scores, kind="stable"), []
    while len(left):
        overlap = iou_with(boxes[left], boxes[left[0]])
        joins = overlap > iou_threshold
        result.append(np.average(boxes[left[joins]], axis=0, weights=(overlap * scores[left])[joins]))
        left = left[~joins]
    return result


def numpy_clustering(
    boxes: np.ndarray,
    scores: np.ndarray,
    view_ids: np.ndarray,
    weights: np.ndarray,
    tiles_covering: np.ndarray,
) -> list[float]:
    left, result = np.argsort(-scores, kind="stable"), []
    while len(left):
        overlap = iou_with(boxes[left], boxes[left[0]])
        joins = overlap > WBC["iou_threshold"]
        rows, overlap, left = left[joins], overlap[joins], left[~joins]
        _, first = np.unique(view_ids[rows], return_index=True)
        rows, overlap = rows[first], overlap[first]
        weight = overlap * (boxes[rows, 1] - boxes[rows, 0]).prod(1) * weights[rows]
        missing = max(0, WBC["expected_views"] * tiles_covering[rows].mean() - len(rows))
        result.append(float((scores[rows] * weight).sum() / (weight.sum() + missing * weight.mean())))
    return result


def chest_ct() -> tuple[list[torch.Tensor], torch.Tensor]:
    """The 673,920 anchors of a 64 x 128 x 128 patch, and 10 objects."""
    levels = []
    for k in (1, 2, 4, 8):
        sizes = octave_sizes(8.0 * k, through_plane=2.0 * k)
        levels.append(anchor_grid((64 // k, 32 // k, 32 // k), (k, 4 * k, 4 * k), sizes))
    rng = np.random.default_rng(0)
    lower = rng.uniform(0, 1, (10, 3)) * (50, 100, 100)
    boxes = np.stack([lower, lower + rng.uniform(1, 2, (10, 3)) * (6, 12, 12)], 1)
    return levels, torch.from_numpy(boxes).float()


def numpy_iou_matrix(anchors: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    return np.stack([iou_with(anchors, box) for box in boxes], 1)


def numpy_match_iou(anchors: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    iou = numpy_iou_matrix(anchors, boxes)
    best = iou.max(1)
    matched = np.where(best >= 0.5, iou.argmax(1), np.where(best < 0.1, -1, -2))
    matched[iou.argmax(0)] = np.arange(len(boxes))
    return matched


def numpy_match_atss(levels: list[np.ndarray], boxes: np.ndarray, per_cell: int = 9, cells: int = 4) -> np.ndarray:
    iou, first, rows = numpy_iou_matrix(np.concatenate(levels), boxes), 0, []
    for anchors in levels:
        distance = np.square(anchors.mean(1)[:, None] - boxes.mean(1)).sum(-1)
        rows.append(first + np.argpartition(distance, cells * per_cell, axis=0)[: cells * per_cell])
        first += len(anchors)
    candidates = np.take_along_axis(iou, np.concatenate(rows), 0)
    positive = candidates >= candidates.mean(0) + candidates.std(0, ddof=1)
    kept = np.zeros_like(iou)
    np.put_along_axis(kept, np.concatenate(rows), np.where(positive, candidates, 0), 0)
    return np.where(kept.max(1) > 0, kept.argmax(1), -1)


def stack(count: int, num_slices: int = 300) -> dict[str, np.ndarray]:
    """Objects with a box on each of 20 adjacent slices; slices get larger with the number of boxes."""
    rng, objects = np.random.default_rng(0), count // 20
    of, place = np.divmod(rng.permutation(20 * objects), 20)
    side = 18 * (count / num_slices) ** 0.5
    centre = rng.uniform(0, side, (objects, 2))[of] + rng.normal(0, 1, (len(of), 2))
    extent = rng.uniform(6, 18, (objects, 2))[of] * np.exp(rng.normal(0, 0.1, (len(of), 2)))
    boxes = np.stack([centre - extent / 2, centre + extent / 2], 1).astype(np.float32)
    slices = rng.integers(0, num_slices - 20, objects)[of] + place
    return {"boxes": boxes, "scores": rng.random(len(of), dtype=np.float32), "slices": slices}


def numpy_merge_slices(boxes: np.ndarray, scores: np.ndarray, slices: np.ndarray) -> int:
    left, result = np.argsort(-scores, kind="stable"), 0
    while len(left):
        joins = iou_with(boxes[left], boxes[left[0]]) > 0.1
        present, first = np.unique(slices[left[joins]]), slices[left[0]]
        run = np.split(present, np.flatnonzero(np.diff(present) > 1) + 1)
        run = next(part for part in run if first in part)
        left = left[~(joins & (run[0] <= slices[left]) & (slices[left] <= run[-1]))]
        result += 1
    return result


def numpy_soft_nms(boxes: np.ndarray, scores: np.ndarray, min_score: float) -> list[int]:
    scores, left, kept = scores.astype(np.float64), np.arange(len(scores)), []
    while len(left):
        best = int(left[scores[left].argmax()])
        if scores[best] < min_score:
            break
        kept.append(best)
        left = left[left != best]
        scores[left] *= np.exp(-(iou_with(boxes[left], boxes[best]) ** 2) / 0.5)
        left = left[scores[left] >= min_score]
    return kept


def numpy_fusion(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float) -> int:
    means, sums, weights, result = np.zeros_like(boxes), np.zeros_like(boxes), np.zeros_like(scores), 0
    for row in np.argsort(-scores, kind="stable"):
        overlap = iou_with(means[:result], boxes[row])
        cluster = int(overlap.argmax()) if result else 0
        if not result or overlap[cluster] <= iou_threshold:
            cluster, result = result, result + 1
        sums[cluster] += boxes[row] * scores[row]
        weights[cluster] += scores[row]
        means[cluster] = sums[cluster] / weights[cluster]
    return result
