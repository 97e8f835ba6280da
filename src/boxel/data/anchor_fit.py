"""Anchor sizes that fit the objects of a data set."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

Sizes = tuple[tuple[float, ...], ...]

# Cells of a level that an object assigned to it should span.
OBJECT_CELLS = 4.0


def size_iou(sizes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """IoU `(n, k)` of boxes of extents `(n, d)` and `(k, d)` that share their centre."""
    overlap = np.minimum(sizes[:, None], anchors[None]).prod(-1)
    union = sizes.prod(-1)[:, None] + anchors.prod(-1)[None] - overlap
    return np.asarray(overlap / union)


def cells_spanned(sizes: np.ndarray, strides: np.ndarray) -> np.ndarray:
    """Cells `(levels, n)` that objects `(n, d)` span at strides `(levels, d)`; geometric mean of the axes."""
    return np.asarray(np.exp(np.log(sizes[None] / strides[:, None]).mean(-1)))


def level_for(cells: np.ndarray) -> np.ndarray:
    """The level, counted from 1, on which `cells (levels, ...)` is closest to four."""
    return np.asarray(np.abs(np.log(cells / OBJECT_CELLS)).argmin(axis=0) + 1)


def fit_anchors(
    sizes: np.ndarray, level_strides: Sequence[Sequence[int]], num_anchors: int
) -> tuple[tuple[Sizes, ...], float]:
    """Anchor sizes per level and the mean best IoU of the objects with them, position aside.

    Each object goes to the level on which it spans closest to four cells. A level's anchors are found by
    k-medians of the logarithmic extents under IoU. A level with fewer distinct sizes than anchors takes those
    of the nearest level, scaled by the strides; without any object, anchors span four cells.

    Args:
        sizes: extents `(n, d)` of the objects, voxels.
        level_strides: voxels per cell and axis, finest level first.
    """
    strides = np.asarray(level_strides, float)
    level_of = level_for(cells_spanned(sizes, strides)) - 1
    fitted: dict[int, np.ndarray] = {}
    for level in range(len(strides)):
        own = sizes[level_of == level]
        if len(np.unique(own, axis=0)) >= num_anchors:
            fitted[level] = _k_medians(own, num_anchors)
    if not fitted:
        spread = 2.0 ** ((np.arange(num_anchors) - (num_anchors - 1) / 2) / num_anchors)
        centre = np.exp(np.median(np.log(sizes / strides[level_of]), axis=0)) if len(sizes) else OBJECT_CELLS
        fitted = {level: stride * centre * spread[:, None] for level, stride in enumerate(strides)}
    anchors = []
    for level, stride in enumerate(strides):
        nearest = min(fitted, key=lambda other: abs(other - level))
        anchors.append(np.maximum(fitted[nearest] * (stride / strides[nearest]), 1.0).round(2))
    return tuple(tuple(map(tuple, level.tolist())) for level in anchors), mean_best_iou(sizes, anchors)


def mean_best_iou(sizes: np.ndarray, anchors: Sequence[Sequence[Sequence[float]]] | Sequence[np.ndarray]) -> float:
    """How well the best anchor of any level covers an object, on average; 0 without objects."""
    if not len(sizes):
        return 0.0
    return float(size_iou(sizes, np.concatenate([np.asarray(level) for level in anchors])).max(axis=1).mean())


def _k_medians(sizes: np.ndarray, count: int) -> np.ndarray:
    """`count` sizes, smallest first, that maximise the mean best IoU; starts from quantiles of the volume."""
    order = np.argsort(sizes.prod(-1), kind="stable")
    anchors = np.stack([np.median(part, axis=0) for part in np.array_split(sizes[order], count)])
    best, best_iou = anchors, 0.0
    for _ in range(50):
        iou = size_iou(sizes, anchors)
        mean = iou.max(axis=1).mean()
        if mean <= best_iou + 1e-6:
            break
        best, best_iou = anchors, mean
        nearest = iou.argmax(axis=1)
        anchors = np.stack(
            [np.median(sizes[nearest == k], axis=0) if (nearest == k).any() else anchors[k] for k in range(count)]
        )
    return np.asarray(best[np.argsort(best.prod(-1))])


def retina_unet_anchors(ndim: int, levels: Sequence[int], preset: Literal["mdt", "paper"]) -> tuple[Sizes, ...]:
    """The fixed anchors of Retina U-Net: per level three ratios by three octave scales.

    In-plane base scale 8 on P2, along leading axes 2, both doubling per level; the octaves of both go
    together. height = scale / sqrt(ratio), width = scale * sqrt(ratio), ratios 0.5, 1, 2.

    Args:
        preset: "mdt" is what the published code (MedicalDetectionToolkit) does; "paper" states half of each
            scale.

    Reference: Jaeger et al., Retina U-Net, 2018, section 4.1.
    """
    base = {"mdt": 2.0, "paper": 1.0}[preset]

    def sizes(level: int) -> Sizes:
        scales = [base * 2.0 ** (level + octave / 3) for octave in range(3)]
        shapes = [(scale / ratio**0.5, scale * ratio**0.5) for ratio in (0.5, 1.0, 2.0) for scale in scales]
        depths = [scale / 4 for scale in scales] * 3
        return tuple((depth,) * (ndim - 2) + plane for depth, plane in zip(depths, shapes, strict=True))

    return tuple(map(sizes, levels))
