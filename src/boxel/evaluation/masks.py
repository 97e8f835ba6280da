"""How the masks of detections and objects overlap.

A set of instance masks on one voxel grid is either a label map (`LabelMap`: no two overlap) or a probability grid per
instance, spread over its box (`ProbabilityGrids`: what mask heads put out; they may overlap).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LabelMap:
    """Instances in one array.

    Attributes:
        array: `(*s)` integers, 0 = background.
        ids: `(n,)` the value of each instance, in its order.
    """

    array: np.ndarray
    ids: np.ndarray


@dataclass(frozen=True)
class ProbabilityGrids:
    """A grid of probabilities for each instance, spread over its box, as in `Detections.masks`.

    Attributes:
        boxes: `(n, 2, d)` in voxels.
        grids: `(n, *g)` float probabilities; see `boxel.ops.paste_mask`.
        threshold: a voxel belongs to the instance from it upwards.
    """

    boxes: np.ndarray
    grids: np.ndarray
    threshold: float = 0.5


@dataclass(frozen=True)
class MaskOverlap:
    """Voxel counts of one case.

    Attributes:
        inter: `(n, m)` voxels that detection and object share.
        detection_voxels: `(n,)`.
        object_voxels: `(m,)`.
        object_ids: `(m,)` id of each object.
    """

    inter: np.ndarray
    detection_voxels: np.ndarray
    object_voxels: np.ndarray
    object_ids: np.ndarray

    def of(self, indices: np.ndarray, ids: np.ndarray, dice: bool = False) -> np.ndarray:
        """`(p,)` IoU (or Dice) of detection `indices[i]` and the object with id `ids[i]`; 0 where one has no mask."""
        order = np.argsort(self.object_ids)
        column = np.searchsorted(self.object_ids[order], ids).clip(max=max(len(order) - 1, 0))
        if not len(order) or not len(self.detection_voxels):
            return np.zeros(len(ids))
        known = (self.object_ids[order][column] == ids) & (indices < len(self.detection_voxels))
        row, column = np.where(known, indices, 0), order[column]
        inter = np.where(known, self.inter[row, column], 0)
        total = self.detection_voxels[row] + self.object_voxels[column]
        below = total / 2 if dice else total - inter
        return np.divide(inter, below, out=np.zeros(len(ids)), where=below > 0)


def join_overlaps(parts: Sequence[MaskOverlap]) -> MaskOverlap:
    """The overlaps of detections that lie in several label maps, one after the other, with the same objects."""
    return MaskOverlap(
        np.concatenate([part.inter for part in parts]),
        np.concatenate([part.detection_voxels for part in parts]),
        parts[0].object_voxels,
        parts[0].object_ids,
    )


def overlap_masks(detections: LabelMap | ProbabilityGrids, objects: LabelMap) -> MaskOverlap:
    """Count the voxels of every detection, every object and what they share.

    Args:
        detections: masks in the order of the case's detections.
        objects: masks with the ids of the case's instances.

    Raises:
        ValueError: label maps of different shapes.
    """
    shape, ids = objects.array.shape, np.asarray(objects.ids)
    slots = _slots(objects)
    object_voxels = np.bincount(slots.ravel(), minlength=len(ids) + 1)[1:]
    if isinstance(detections, LabelMap):
        if detections.array.shape != shape:
            raise ValueError(
                f"the label map of the detections has shape {detections.array.shape}, that of the objects {shape}; "
                "both must lie on the voxel grid of the image: resample one"
            )
        rows = _slots(detections)
        size = len(detections.ids) + 1
        both = np.bincount((rows * (len(ids) + 1) + slots).ravel(), minlength=size * (len(ids) + 1))
        counts = both.reshape(size, -1)[1:]
    else:
        from boxel.ops import paste_mask

        parts = []
        for box, grid in zip(detections.boxes, detections.grids, strict=True):
            region, inside = paste_mask(np.asarray(grid), np.asarray(box), shape, detections.threshold)  # type: ignore[arg-type]
            parts.append(np.bincount(slots[region][np.asarray(inside)], minlength=len(ids) + 1))
        counts = np.array(parts).reshape(-1, len(ids) + 1)
    return MaskOverlap(counts[:, 1:], counts.sum(axis=1), object_voxels, ids)


def _slots(labels: LabelMap) -> np.ndarray:
    """The label map with the position of each instance, from 1; other values are background."""
    ids = np.asarray(labels.ids)
    table = np.zeros(int(max(ids.max(initial=0), labels.array.max(initial=0))) + 1, np.int64)
    table[ids] = np.arange(1, len(ids) + 1)
    return table[labels.array]
