"""Outlines of the same nodules by several radiologists (LIDC-IDRI), grouped by nodule and fused."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from boxel.datasets.label_maps import Mask
from boxel.datasets.polygons import fill_polygon
from boxel.types import Geometry

__all__ = ["Outline", "Reading", "fuse", "group_readings", "mask_of"]


@dataclass(frozen=True)
class Outline:
    """One contour: `z` in mm, pixels `(x, y)`, and whether it encloses the nodule or cuts a hole into it."""

    z: float
    pixels: tuple[tuple[float, float], ...]
    inclusion: bool = True


@dataclass(frozen=True)
class Reading:
    """One radiologist's outlines and rating of one nodule; `malignancy` is 1 to 5."""

    rater: int
    outlines: tuple[Outline, ...]
    malignancy: float


def mask_of(reading: Reading, geometry: Geometry) -> Mask | None:
    """The voxels of the nodule; None if it has none.

    The radiologists marked the first pixels outside the nodule (Armato et al., 2011): the outline itself does not
    belong to the nodule, and that of an exclusion does not belong to the hole.

    Raises:
        ValueError: an outline lies outside the image.
    """
    planes: dict[int, np.ndarray] = {}
    # Included areas first: exclusions are cut out of them.
    for outline in sorted(reading.outlines, key=lambda outline: not outline.inclusion):
        x, y, _ = geometry.origin
        with np.errstate(over="ignore"):
            position = float(geometry.to_voxel(np.array([[x, y, outline.z]]))[0, 0] - 0.5)
        plane = round(position) if np.isfinite(position) else -1
        pixels = np.trunc(np.array(outline.pixels, float)[:, ::-1])
        inside = (pixels >= 0).all() and (pixels < geometry.shape[1:]).all()
        if not 0 <= plane < geometry.shape[0] or not inside:
            raise ValueError(f"an outline at {outline.z:g} mm lies outside the image; open the annotated series")
        area = fill_polygon(pixels + 0.5, geometry.shape[1:])
        area[tuple(pixels.T.astype(int))] = False
        known = planes.get(plane, np.zeros_like(area))
        planes[plane] = known | area if outline.inclusion else known & ~area
    first, last = min(planes), max(planes)
    empty = np.zeros(geometry.shape[1:], bool)
    mask = np.stack([planes.get(plane, empty) for plane in range(first, last + 1)])
    if not mask.any():
        return None
    cropped = Mask.crop(mask)
    return Mask((cropped.lower[0] + first, *cropped.lower[1:]), cropped.voxels)


def group_readings(masks: Sequence[Mask]) -> list[list[int]]:
    """Indices of the masks that overlap, directly or through others: each group is one nodule."""
    groups: list[list[int]] = []
    for index, mask in enumerate(masks):
        touched = [group for group in groups if any(_overlap(mask, masks[other]) for other in group)]
        merged = sorted([index, *(member for group in touched for member in group)])
        groups = [group for group in groups if group not in touched] + [merged]
    return sorted(groups)


def _overlap(a: Mask, b: Mask) -> bool:
    return all(map(_meet, a.region, b.region)) and bool(joined([a, b]).all(axis=0).any())


def _meet(a: slice, b: slice) -> bool:
    return bool(a.start < b.stop and b.start < a.stop)


def joined(masks: Sequence[Mask]) -> np.ndarray:
    """The masks `(n, *s)` in the smallest box that contains all of them."""
    lower = np.min([mask.lower for mask in masks], axis=0)
    upper = np.max([[part.stop for part in mask.region] for mask in masks], axis=0)
    result = np.zeros((len(masks), *(upper - lower)), bool)
    for row, mask in zip(result, masks, strict=True):
        start = np.array(mask.lower) - lower
        row[tuple(slice(a, a + n) for a, n in zip(start, mask.voxels.shape, strict=True))] = mask.voxels
    return result


def fuse(
    readings: Sequence[Reading],
    masks: Sequence[Mask],
    num_raters: int,
    malignancy: Literal["present", "all"],
) -> tuple[Mask | None, float, int]:
    """Fuse the readings of one nodule: its mask, its malignancy, and how many radiologists marked it.

    A voxel belongs to the nodule if at least half of all `num_raters` radiologists marked it. The mask is None if no
    voxel does.

    Args:
        malignancy: the mean over the radiologists who marked the nodule, or over all of them, with 0 for those who did
            not (as in the Medical Detection Toolkit).
    """
    raters = sorted({reading.rater for reading in readings})
    everyone = max(num_raters, len(raters))
    layers = joined(masks)
    votes = np.zeros(layers.shape[1:], np.uint8)
    scores = []
    for rater in raters:
        own = [index for index, reading in enumerate(readings) if reading.rater == rater]
        votes += layers[own].any(axis=0)
        scores.append(np.mean([readings[index].malignancy for index in own]))
    mean = float(np.sum(scores)) / (len(raters) if malignancy == "present" else everyone)
    majority = votes * 2 >= everyone
    if not majority.any():
        return None, mean, len(raters)
    cropped, corner = Mask.crop(majority), np.min([mask.lower for mask in masks], axis=0)
    return Mask(tuple((corner + cropped.lower).tolist()), cropped.voxels), mean, len(raters)
