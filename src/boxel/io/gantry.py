"""Resample slices that are shifted sideways, as by a tilted gantry, onto one regular grid."""

from collections.abc import Sequence

import numpy as np

__all__ = ["straighten"]


def straighten(planes: Sequence[np.ndarray], offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Stack parallel planes that do not lie exactly over each other.

    Each plane keeps its place in the world. Only the grid changes, so every plane is resampled within itself by linear
    interpolation. Voxels outside a plane get the lowest value of all planes.

    Args:
        planes: `(rows, columns)` each, of one shape and number type.
        offsets: `(n, 2)`, position of the first voxel of each plane, in rows and columns.

    Returns:
        The stack `(n, rows + r, columns + c)`, and the `(2,)` offset of its first voxel.
    """
    offsets = np.round(offsets, 3)  # thousandths of a voxel are rounding errors of the positions
    lower, upper = np.floor(offsets.min(axis=0)), np.ceil(offsets.max(axis=0))
    fill = min(plane.min() for plane in planes)
    dtype = planes[0].dtype
    shape = tuple(np.array(planes[0].shape) + (upper - lower).astype(int))
    stack = np.empty((len(planes), *shape), dtype)
    for row, plane, offset in zip(stack, planes, offsets - lower, strict=True):
        start = np.floor(offset).astype(int)
        canvas = np.full(shape, fill, np.float64)
        canvas[tuple(slice(a, a + n) for a, n in zip(start, plane.shape, strict=True))] = plane
        for axis, part in enumerate(offset - start):
            if part:
                behind = np.roll(canvas, 1, axis)
                behind[(slice(None),) * axis + (0,)] = fill
                canvas += part * (behind - canvas)
        row[...] = np.rint(canvas) if dtype.kind in "iu" else canvas
    return stack, lower
