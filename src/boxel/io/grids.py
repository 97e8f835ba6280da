"""Compare voxel grids, give them right angles, and turn a label map onto a grid with swapped or reversed axes."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from boxel.types import Geometry, Image

__all__ = ["UNIT", "UNKNOWN_SPACING", "place", "reorient", "right_angled", "same_grid"]

UNKNOWN_SPACING = "its header has no voxel size ({}), and 1 mm is assumed; write the voxel size into the header"
UNIT = "its header states a unit of {:g} mm, and its voxel size was converted"

ROUNDING = 1e-3  # differences of unit vectors that come from the precision of headers
OFFSET = 0.05  # share of a voxel by which two grids may lie apart


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
        steps = min(*mine.spacing, *other.spacing) if len(mine.spacing) else 1.0
        for name, absolute, relative in (
            ("spacing", 0, 1e-3),
            ("origin", OFFSET * steps, 0),
            ("direction", ROUNDING, 0),
        ):
            if not np.allclose(getattr(mine, name), getattr(other, name), atol=absolute, rtol=relative):
                turned = ", so that it is turned or mirrored" if name == "direction" else ""
                return f"{name} {getattr(mine, name)} but {{}} has {getattr(other, name)}{turned}"
    return ""


def right_angled(path: Path, geometry: Geometry) -> tuple[Geometry, tuple[str, ...]]:
    """The nearest grid with right angles about the same centre, and a remark if a corner moves noticeably.

    Args:
        path: the file to name.
        geometry: its columns of `direction` are unit vectors, perhaps not at right angles (shear), and its spacing may
            be negative, which reverses the axis.

    Raises:
        ValueError: a corner would move by more than a voxel.
    """
    spacing, direction = np.asarray(geometry.spacing), np.asarray(geometry.direction)
    if (spacing < 0).any():
        direction = direction * np.sign(spacing) + 0.0  # without -0
        geometry = replace(
            geometry, spacing=tuple(np.abs(spacing).tolist()), direction=tuple(map(tuple, direction.tolist()))
        )
    skew = direction.T @ direction - np.eye(len(direction))
    if np.abs(skew).max() < 1e-5:
        return geometry, ()
    left, _, right = np.linalg.svd(direction)
    square = left @ right
    half = (np.asarray(geometry.shape) - 1) / 2 * np.asarray(geometry.spacing)
    moved = float((np.abs(square - direction) @ half).max())  # at most, in the worst corner
    angle = float(np.degrees(np.arcsin(min(1.0, np.abs(skew).max()))))
    if moved > max(geometry.spacing):
        raise ValueError(
            f"{path}: its voxel grid is sheared by {angle:.3g} degrees (sform); resample it, for example with "
            "nibabel.processing.resample_to_output(image, order=1), and its label map in the same way with order=0"
        )
    centre = np.asarray(geometry.origin) + direction @ half
    geometry = replace(
        geometry, origin=tuple((centre - square @ half).tolist()), direction=tuple(map(tuple, square.tolist()))
    )
    remark = f"its voxel grid is sheared by {angle:.2g} degrees: voxels move by up to {moved:.2g} mm"
    return geometry, (remark,) if moved > OFFSET * min(geometry.spacing) else ()


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


def place(label_map: Image, target: Geometry) -> Image:
    """Put a label map `(*s)` of a part of the grid `target` onto the whole grid; background surrounds it.

    A label map on another grid, or with objects beyond `target`, is returned unchanged.
    """
    mine = label_map.geometry
    if len(mine.shape) != len(target.shape):
        return label_map
    shift = (target.to_voxel(np.asarray(mine.origin)[None]) - 0.5)[0]
    lower = np.rint(shift).astype(int)
    moved = replace(mine, shape=target.shape, origin=target.origin)
    if np.abs(shift - lower).max() > OFFSET or same_grid(moved, target):
        return label_map
    array = np.zeros(target.shape, label_map.array.dtype)
    start, stop = np.maximum(lower, 0), np.minimum(lower + mine.shape, target.shape)
    if (start < stop).all():
        inner = label_map.array[tuple(slice(a, b) for a, b in zip(start - lower, stop - lower, strict=True))]
        array[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = inner
    lost = np.count_nonzero(label_map.array) - np.count_nonzero(array)
    return label_map if lost else replace(label_map, array=array, geometry=target)
