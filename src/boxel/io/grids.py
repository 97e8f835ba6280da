"""Compare voxel grids, and turn a label map onto a grid whose axes are swapped or reversed."""

from dataclasses import replace

import numpy as np

from boxel.types import Geometry, Image

__all__ = ["reorient", "same_grid"]


def same_grid(mine: Geometry, other: Geometry, *, world: bool = True) -> str:
    """Describe the first difference between two grids; empty if there is none.

    The text contains `{}` in place of the name of the other file.

    Args:
        world: compare spacing, origin and direction too.
    """
    if mine.shape != other.shape:
        swapped = ", with its axes swapped" if sorted(mine.shape) == sorted(other.shape) else ""
        return f"shape {mine.shape} but {{}} has {other.shape}{swapped}"
    if world:
        for name, absolute, relative in (("spacing", 0, 1e-3), ("origin", 1e-2, 1e-5), ("direction", 1e-3, 0)):
            if not np.allclose(getattr(mine, name), getattr(other, name), atol=absolute, rtol=relative):
                turned = ", so that it is turned or mirrored" if name == "direction" else ""
                return f"{name} {getattr(mine, name)} but {{}} has {getattr(other, name)}{turned}"
    return ""


def reorient(label_map: Image, target: Geometry) -> Image:
    """Permute and flip the axes of a label map `(*s)` so that they point along those of `target`.

    Voxels keep their place in the world. A label map with axes oblique to those of `target` is returned unchanged.
    """
    geometry = label_map.geometry
    turn = np.asarray(target.direction).T @ np.asarray(geometry.direction)  # (target axis, own axis)
    signs = np.rint(turn)
    if turn.shape[0] != turn.shape[1] or np.abs(turn - signs).max() > 1e-3 or (np.abs(signs).sum(axis=0) != 1).any():
        return label_map
    order = np.abs(signs).argmax(axis=1)
    flips = np.array([signs[axis, own] < 0 for axis, own in enumerate(order)])
    if (order == np.arange(len(order))).all() and not flips.any():
        return label_map
    array = label_map.array.transpose(order)
    corner = np.zeros(len(order))
    corner[order[flips]] = (np.asarray(geometry.shape) - 1)[order[flips]]
    direction = np.asarray(geometry.direction)[:, order] * np.where(flips, -1, 1)
    moved = Geometry(
        array.shape,
        tuple(np.asarray(geometry.spacing)[order].tolist()),
        tuple(geometry.to_world(corner[None] + 0.5)[0].tolist()),
        tuple(map(tuple, direction.tolist())),
    )
    return replace(
        label_map, array=np.ascontiguousarray(np.flip(array, tuple(np.flatnonzero(flips).tolist()))), geometry=moved
    )
