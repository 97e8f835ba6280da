"""Which voxels a detection covers, for the formats that paint."""

import math

import numpy as np

from boxel.export.prediction import Prediction
from boxel.inputs.memory import size_in_words
from boxel.io.claims import check_memory
from boxel.types import Detections


def voxels_of(detections: Detections, row: int, shape: tuple[int, ...]) -> tuple[tuple[slice, ...], np.ndarray]:
    """The voxels of one detection in an image of `shape`: slices, and a bool array `(*region)` in them.

    The voxels are those of the mask, unless there is none or it is empty. Otherwise the box is filled with the voxels
    whose centres it contains: at least one if the box meets the image, none if it lies outside.
    """
    box = np.asarray(detections.boxes[row], np.float64)
    if detections.masks is not None:
        from boxel.ops import paste_mask

        region, mask = paste_mask(np.asarray(detections.masks[row], np.float64), box, shape)  # type: ignore[arg-type]
        if mask.any():
            return region, np.asarray(mask)
    return filled_box(box, shape)


def filled_box(box: np.ndarray, shape: tuple[int, ...]) -> tuple[tuple[slice, ...], np.ndarray]:
    """The voxels whose centres lie in a box `(2, d)`; see `voxels_of`."""
    region = region_of(box, shape)
    return region, np.ones([s.stop - s.start for s in region], bool)


def region_of(box: np.ndarray, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """The slices with the voxels of `filled_box`."""
    lower, upper = np.ceil(box - 0.5).astype(int)
    thin = upper <= lower
    middle = np.floor(box.mean(axis=0)).astype(int)
    lower, upper = np.where(thin, middle, lower), np.where(thin, middle + 1, upper)
    lower, upper = np.clip(lower, 0, shape), np.clip(upper, 0, shape)
    return tuple(slice(int(a), int(b)) for a, b in zip(lower, upper, strict=True))


def blank(prediction: Prediction, dtype: type) -> np.ndarray:
    """Zeros on the grid of the image.

    Raises:
        ValueError: the grid is too large for the memory.
    """
    shape = prediction.geometry.shape
    size = math.prod(shape) * np.dtype(dtype).itemsize
    check_memory(
        f"case {prediction.case!r}: a label map of {' x '.join(map(str, shape))} voxels, as its prediction says, takes "
        f"{size_in_words(size)}",
        size,
        "correct the shape there, or choose a format of boxes such as csv",
    )
    return np.zeros(shape, dtype)


def paint(prediction: Prediction) -> tuple[list[np.ndarray], list[int]]:
    """Label maps in which the detections are numbered from 1 by falling score, and the map that each is in.

    Detections in one map do not overlap, so that each is whole; there are as many maps as this takes, at least one.
    """
    shape = prediction.geometry.shape
    maps, where = [blank(prediction, np.uint16)], []
    for number, (row, *_) in enumerate(prediction.ranking, start=1):
        region, mask = voxels_of(prediction.detections, row, shape)
        free = next((i for i, label_map in enumerate(maps) if not label_map[region][mask].any()), len(maps))
        if free == len(maps):
            maps.append(np.zeros(shape, np.uint16))
        maps[free][region][mask] = number
        where.append(free)
    return maps, where
