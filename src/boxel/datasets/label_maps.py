"""Label maps of objects: connected components of classes, or single masks drawn over each other."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from scipy.ndimage import find_objects

from boxel.types import Instances

__all__ = ["Connectivity", "Mask", "components", "overlay", "tight_boxes"]

Connectivity = Literal["face", "edge", "corner"]
NEIGHBOURS: dict[str, dict[int, Any]] = {
    "face": {2: 4, 3: 6},
    "edge": {2: 8, 3: 18},
    "corner": {2: 8, 3: 26},
}  # as cc3d counts them
MOST_SLICES = 1 << 16  # ids up to which a slice is made for each, whether it occurs or not


def components(
    label_map: np.ndarray, values: Mapping[int, int], connectivity: Connectivity = "corner", min_size: int = 1
) -> tuple[np.ndarray, Instances]:
    """Instances of a semantic `label_map (*s)`: per class, connected components of at least `min_size` voxels."""
    import cc3d

    wanted = np.zeros(label_map.shape, np.int32)  # 1 + class: values of one class are one object where they touch
    for value, label in values.items():
        if value:
            wanted[label_map == value] = 1 + label
    parts = cc3d.connected_components(wanted, connectivity=NEIGHBOURS[connectivity][label_map.ndim]).astype(np.int32)
    sizes = np.bincount(parts.ravel())
    keep = np.flatnonzero(sizes >= min_size)
    numbers = np.zeros(len(sizes), np.int32)
    numbers[keep[keep > 0]] = np.arange(1, (keep > 0).sum() + 1)
    parts = numbers[parts]
    ids, boxes = tight_boxes(parts)
    class_of = np.zeros(len(ids) + 1, np.int64)
    class_of[parts.ravel()] = wanted.ravel()
    labels = class_of[1:] - 1
    return parts, Instances(boxes, labels, ids, np.ones(len(ids), bool))


class Mask(NamedTuple):
    """The voxels of one object inside its tight box, whose lower corner is `lower`."""

    lower: tuple[int, ...]
    voxels: np.ndarray

    @classmethod
    def crop(cls, mask: np.ndarray) -> Self:
        """Crop a non-empty mask `(*s)` to its tight box."""
        axes = range(mask.ndim)
        lines = [np.flatnonzero(mask.any(axis=tuple(other for other in axes if other != axis))) for axis in axes]
        lower = tuple(int(line[0]) for line in lines)
        return cls(lower, mask[tuple(slice(int(line[0]), int(line[-1]) + 1) for line in lines)].copy())

    @property
    def region(self) -> tuple[slice, ...]:
        return tuple(slice(a, a + n) for a, n in zip(self.lower, self.voxels.shape, strict=True))


def overlay(masks: Iterable[tuple[int, Mask]], shape: tuple[int, ...]) -> tuple[np.ndarray, Instances]:
    """Draw objects `(label, mask)` into one label map, smaller ones over larger ones.

    A voxel belongs to one object. An object whose visible part no longer spans its box is kept as a box without mask.
    """
    masks = list(masks)
    label_map = np.zeros(shape, np.int32)
    boxes = np.zeros((len(masks), 2, len(shape)), np.float32)
    sizes = [-int(mask.voxels.sum()) for _, mask in masks]
    for index in np.argsort(sizes, kind="stable").tolist():
        mask = masks[index][1]
        boxes[index] = [[part.start for part in mask.region], [part.stop for part in mask.region]]
        label_map[mask.region][mask.voxels] = index + 1
    numbers, seen = tight_boxes(label_map)
    visible = np.zeros_like(boxes)
    visible[numbers - 1] = seen
    has_mask = (visible == boxes).all(axis=(1, 2))
    if not has_mask.all():
        label_map[np.isin(label_map, np.flatnonzero(~has_mask) + 1)] = 0
    labels = np.array([label for label, _ in masks], np.int64)
    return label_map, Instances(boxes, labels, np.arange(1, len(masks) + 1), has_mask)


def tight_boxes(label_map: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ids in a label map, ascending, and their half-open boxes `(n, 2, d)`."""
    if label_map.size and label_map.dtype.kind in "iu" and 0 <= label_map.min() <= label_map.max() <= MOST_SLICES:
        found = find_objects(label_map)
        ids = [number for number, own in enumerate(found, start=1) if own]
        ends = [[(axis.start, axis.stop) for axis in found[number - 1]] for number in ids]
        boxes = np.array(ends, np.float32).reshape(len(ids), label_map.ndim, 2).swapaxes(1, 2)
        return np.array(ids, np.int64), np.ascontiguousarray(boxes)
    foreground = np.nonzero(label_map)
    values = label_map[foreground]
    order = np.argsort(values, kind="stable")
    values = values[order]
    starts = np.flatnonzero(np.diff(values, prepend=0))  # faster than np.unique, which sorts again
    ordered = [positions[order] for positions in foreground]
    lower = np.stack([np.minimum.reduceat(positions, starts) for positions in ordered], axis=1)
    upper = np.stack([np.maximum.reduceat(positions, starts) for positions in ordered], axis=1) + 1
    return values[starts].astype(np.int64), np.stack([lower, upper], axis=1).astype(np.float32)
