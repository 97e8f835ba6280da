"""Anchor sizes per level: fitted to the objects of a data set, or those of a paper."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

Sizes = tuple[tuple[float, ...], ...]

# Cells of a level that an object assigned to it should span.
OBJECT_CELLS = 4.0
# Anchors are fitted to objects as if they had this many voxels per axis at least, unless a share of them is smaller.
LEAST_VOXELS, SMALL_SHARE = 2.0, 0.25
# They are fitted to the objects between these percentiles of size: few outliers would take an anchor of their own.
FITTED = (1.0, 99.0)


def cells_spanned(sizes: np.ndarray, strides: np.ndarray) -> np.ndarray:
    """Cells `(levels, n)` that objects `(n, d)` span at strides `(levels, d)`, as the geometric mean over axes."""
    return np.asarray(np.exp(np.log(sizes[None] / strides[:, None]).mean(-1)))


def level_for(cells: np.ndarray) -> np.ndarray:
    """The level, counted from 1, on which `cells (levels, ...)` is closest to four."""
    return np.asarray(np.abs(np.log(cells / OBJECT_CELLS)).argmin(axis=0) + 1)


def fit_levels(
    sizes: np.ndarray, level_strides: Sequence[Sequence[int]], num_anchors: int
) -> tuple[tuple[Sizes, ...], float]:
    """Anchor sizes per level, and the mean IoU of the objects with their best anchor at the same position.

    Each object belongs to the level on which it spans closest to four cells. The anchors of a level are fitted to its
    objects, without outliers and specks (see `robust_sizes`). A level with fewer distinct sizes than anchors uses those
    of the nearest level, scaled by the strides.
    Without objects, anchors span four cells.

    Args:
        sizes: extents `(n, d)` of the objects, voxels.
        level_strides: voxels per cell and axis, finest level first.
    """
    import torch

    from boxel.ops import fit_anchors

    strides = np.asarray(level_strides, float)
    every, sizes = sizes, robust_sizes(sizes)
    level_of = level_for(cells_spanned(sizes, strides)) - 1
    fitted: dict[int, np.ndarray] = {}
    for level in range(len(strides)):
        own = sizes[level_of == level]
        if len(np.unique(own, axis=0)) >= num_anchors:
            fitted[level] = fit_anchors(torch.from_numpy(own), num_anchors).numpy()
    if not fitted:
        spread = 2.0 ** ((np.arange(num_anchors) - (num_anchors - 1) / 2) / num_anchors)
        centre = np.exp(np.median(np.log(sizes / strides[level_of]), axis=0)) if len(sizes) else OBJECT_CELLS
        fitted = {level: stride * centre * spread[:, None] for level, stride in enumerate(strides)}
    anchors = []
    for level, stride in enumerate(strides):
        nearest = min(fitted, key=lambda other: abs(other - level))
        anchors.append(np.maximum(fitted[nearest] * (stride / strides[nearest]), 1.0).round(2))
    return tuple(tuple(map(tuple, level.tolist())) for level in anchors), mean_best_iou(every, anchors)


def robust_sizes(sizes: np.ndarray) -> np.ndarray:
    """The sizes `(m, d)` that anchors are fitted to, of objects of sizes `(n, d)`.

    Left out are the smallest and the largest hundredth. Along axes where less than a quarter of the objects are smaller
    than two voxels, those have two voxels: a speck is rather an error of the annotation.
    """
    if not len(sizes):
        return sizes
    volumes = sizes.prod(1)
    least = np.percentile(volumes, FITTED[0], method="lower")
    most = np.percentile(volumes, FITTED[1], method="higher")
    kept = sizes[(volumes >= least) & (volumes <= most)]
    specks_are_few = (sizes < LEAST_VOXELS).mean(0) < SMALL_SHARE
    return np.where(specks_are_few, np.maximum(kept, LEAST_VOXELS), kept)


def mean_best_iou(sizes: np.ndarray, anchors: Sequence[Sequence[Sequence[float]]] | Sequence[np.ndarray]) -> float:
    """The mean IoU of the objects with their best anchor of any level at the same position; 0 without objects."""
    import torch

    from boxel.ops import best_iou

    if not len(sizes):
        return 0.0
    every = np.concatenate([np.asarray(level) for level in anchors])
    return float(best_iou(torch.from_numpy(sizes), torch.from_numpy(every)).mean())


def torchvision_anchors(ndim: int, scales: Sequence[float]) -> Sizes:
    """The anchors of torchvision's Faster R-CNN at one position: height / width of 0.5, 1 and 2, each in all scales.

    Corners are rounded to whole voxels from the centre, so every extent is even. Leading axes have the scale itself.
    """
    from boxel.ops import octave_sizes

    exact = (octave_sizes(s, ratios=[1 / r], octaves=1, through_plane=s) for r in (0.5, 1.0, 2.0) for s in scales)
    return tuple(tuple(2.0 * round(extent / 2) for extent in size[-ndim:]) for (size,) in exact)


def retina_unet_anchors(ndim: int, levels: Sequence[int], preset: Literal["mdt", "paper"]) -> tuple[Sizes, ...]:
    """The fixed anchors of Retina U-Net: per level three ratios by three octave scales.

    In-plane base scale 8 on P2, along leading axes 2, both doubling per level; the octaves of both go
    together. height = scale / sqrt(ratio), width = scale * sqrt(ratio), ratios 0.5, 1, 2.

    Args:
        preset: "mdt" are the sizes of the published code (MedicalDetectionToolkit), "paper" those stated in the paper,
            which are half as large.

    Reference: Jaeger et al., Retina U-Net, 2018, section 4.1.
    """
    from boxel.ops import octave_sizes

    base = {"mdt": 2.0, "paper": 1.0}[preset]
    scales = [base * 2.0**level for level in levels]
    return tuple(tuple(size[-ndim:] for size in octave_sizes(scale, through_plane=scale / 4)) for scale in scales)
