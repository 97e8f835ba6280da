"""The spacing that images are resampled to, and the cases that may decide it."""

import math
from collections.abc import Sequence

import numpy as np

from boxel.datasets.quality.plausible import far_from_median
from boxel.preparation.fingerprint import CaseRecord, Fingerprint
from boxel.preparation.patch_and_strides import by
from boxel.preparation.preprocess import SpacingUnit
from boxel.wording import counted

# An axis this much coarser than the finest counts as coarse.
ANISOTROPY = 3.0
# A patch shows this many times the extent of large objects (99th percentile): images are made coarser for that, while
# the median object keeps so many voxels per axis, and small ones (10th percentile) of each class so many.
SURROUNDINGS = 2.0
MEDIAN_OBJECT, SMALL_OBJECT = 24.0, 12.0
FACTORS = (1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 16.0)


def atypical(fingerprint: Fingerprint, unit: SpacingUnit) -> list[CaseRecord]:
    """The cases whose voxel size is far from that of the others, so that it may be wrong: they decide no plan."""
    if unit == "voxel":
        return []
    far = far_from_median(np.array([case.spacing for case in fingerprint.cases]))
    return [case for case, is_far in zip(fingerprint.cases, far.tolist(), strict=True) if is_far]


def typical(fingerprint: Fingerprint, unit: SpacingUnit) -> Fingerprint:
    """The fingerprint without its atypical cases."""
    left_out = {case.id for case in atypical(fingerprint, unit)}
    if not left_out:
        return fingerprint
    return fingerprint.model_copy(update={"cases": tuple(c for c in fingerprint.cases if c.id not in left_out)})


def target_spacing(
    fingerprint: Fingerprint,
    given: tuple[float, ...] | None,
    unit: SpacingUnit,
    why: dict[str, str],
    *,
    ndim: int,
    room: int | None = None,
) -> tuple[float, ...]:
    """The spacing that images are resampled to: the `given` one, or the median, or one that large objects call for.

    Args:
        why: receives the reason.
        ndim: axes of the model, the last ones of the images.
        room: most voxels of a patch; None keeps the median spacing.
    """
    if given:
        why["spacing"] = f"Set to {by(given)} {'mm' if unit == 'mm' else 'voxels of each image'}."
        return given
    if unit == "voxel":
        why["spacing"] = "1 voxel: every image keeps its grid."
        return (1.0,) * fingerprint.ndim
    spacings = np.array([case.spacing for case in fingerprint.cases])
    target = np.median(spacings, axis=0)
    median = f"the median of {counted(len(spacings), 'training case')}"
    why["spacing"] = f"{by(target)} mm, {median}."
    coarse = int(target.argmax())
    finest = np.delete(target, coarse).min() if len(target) > 1 else target[0]
    if target[coarse] >= ANISOTROPY * finest:
        # As in nnU-Net: planes added along a coarse axis cost little, planes dropped lose small objects.
        target[coarse] = max(np.percentile(spacings[:, coarse], 10), finest)
        why["spacing"] = (
            f"{by(target)} mm, {median}, except that axis {coarse}, at least "
            f"{ANISOTROPY:g} times as coarse as the finest, uses its 10th percentile to keep planes."
        )
    spacing = tuple(target.round(6).tolist())
    coarse_enough = _coarser(spacing, fingerprint, ndim, room) if room else spacing
    if coarse_enough != spacing:
        why["spacing"] = (
            f"{by(coarse_enough)} mm, coarser than the images ({by(spacing)} mm, {median}): "
            f"{room:,} voxels are to show {SURROUNDINGS:g} times the extent of large objects, and "
            f"small ones keep {SMALL_OBJECT:g} voxels per axis; plan.large_patches=1 or plan.spacing keep more detail."
        )
    return coarse_enough


def _coarser(spacing: Sequence[float], fingerprint: Fingerprint, ndim: int, room: int) -> tuple[float, ...]:
    """The spacing, with its finest axes made coarser until a patch of `room` voxels shows large objects well."""
    extents: list[list[np.ndarray]] = [[] for _ in fingerprint.classes]
    for case in fingerprint.cases:
        for label, size in zip(case.labels, case.sizes, strict=True):
            extents[label].append(np.multiply(size, case.spacing)[-ndim:])
    by_class = [np.array(own) for own in extents if own]
    if not by_class:
        return tuple(spacing)
    every, images = np.concatenate(by_class), [np.multiply(case.shape, case.spacing) for case in fingerprint.cases]
    shown = np.minimum(SURROUNDINGS * np.percentile(every, 99, axis=0), np.median(images, axis=0)[-ndim:])

    def voxels(mm: np.ndarray, percentile: float, grid: np.ndarray) -> float:
        return float(np.percentile(np.exp(np.log(np.maximum(mm, 1e-6) / grid[-ndim:]).mean(1)), percentile))

    chosen = np.array(spacing)
    for factor in FACTORS:
        grid = np.array(spacing)
        grid[-ndim:] = np.maximum(grid[-ndim:], factor * grid[-ndim:].min())
        shows_all = math.prod(shown / chosen[-ndim:]) <= room
        if shows_all or voxels(every, 50, grid) < MEDIAN_OBJECT:
            break
        if any(voxels(own, 10, grid) < SMALL_OBJECT for own in by_class):
            break
        chosen = grid
    return tuple(chosen.round(6).tolist())


def in_mm(fingerprint: Fingerprint, spacing: tuple[float, ...], unit: SpacingUnit) -> tuple[float, ...]:
    """The target spacing in mm, of the median image where it is in voxels."""
    if unit == "mm":
        return spacing
    median = np.median([case.spacing for case in fingerprint.cases], axis=0)
    return tuple((median * spacing).tolist())
