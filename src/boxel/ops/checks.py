"""Checks of arguments, with messages that name the row."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from boxel.config import did_you_mean
from boxel.ops.arrays import kernels
from boxel.ops.threads import share


def check_boxes(boxes: Tensor, name: str = "boxes", /, **columns: Tensor | None) -> None:
    """Boxes are `(n, 2, d)`, finite and not inverted; each column has one finite number per box.

    Raises:
        ValueError: names the argument, the first bad row, its values and the rule.
    """
    check_rows(boxes, name)
    row = _first_bad_row(boxes)
    if row >= 0:
        raise ValueError(
            f"{name}[{row}] is {boxes[row].tolist()}: corners must be finite, the lower not above the upper"
        )
    for key, column in columns.items():
        if column is None:
            continue
        if tuple(column.shape) != (len(boxes),):
            raise ValueError(f"{key} must have shape ({len(boxes)},), one number per box, got {tuple(column.shape)}")
        if column.is_floating_point() and not _all_finite(column):
            row = int((~column.isfinite()).nonzero()[0])
            raise ValueError(f"{key}[{row}] is {column[row].item()}: it must be finite")


def check_rows(boxes: Tensor, name: str = "boxes") -> None:
    """Boxes are `(n, 2, d)`. Only the shape is checked."""
    if boxes.shape[1:2] != (2,) or not boxes.shape[2:] or boxes.shape[3:]:
        raise ValueError(f"{name} must have shape (n, 2, d), lower and upper corner, got {tuple(boxes.shape)}")


def check_corners(boxes: Tensor) -> None:
    """Boxes end in `(2, d)`. Only the shape is checked: values would have to leave the device."""
    if boxes.shape[-2:-1] != (2,):
        raise ValueError(f"boxes must end in (2, d), lower and upper corner, got {tuple(boxes.shape)}")


def check_pair(a: Tensor, b: Tensor) -> None:
    """Two sets of boxes end in `(2, d)` with the same d: broadcasting would hide a surplus axis."""
    if a.shape[-2:] != b.shape[-2:] or a.shape[-2:-1] != (2,):
        raise ValueError(f"boxes must end in (2, d), with the same d, got {tuple(a.shape)} and {tuple(b.shape)}")


def check_threshold(iou_threshold: float) -> None:
    """An IoU threshold lies in 0..1."""
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold is {iou_threshold}; it must lie in 0..1")


def check_not_negative(**columns: Tensor | None) -> None:
    """Each column is 0 or more in every row."""
    for name, column in columns.items():
        if column is not None and len(column) and _plain(column).min() < 0:
            row = int((column < 0).nonzero()[0])
            raise ValueError(f"{name}[{row}] is {column[row].item()}: it must not be negative")


def check_positive(**numbers: float) -> None:
    """Each number is positive and finite."""
    for name, number in numbers.items():
        if not 0 < number < math.inf:
            raise ValueError(f"{name} is {number}; it must be positive")


def check_choice(name: str, given: str, known: Sequence[str]) -> None:
    """The value is one of those that are known."""
    if given not in known:
        raise ValueError(f"{name} is {given!r}{did_you_mean(given, known)}")


def check_points(name: str, points: Tensor, ndim: int) -> None:
    """Points are `(n, d)` and finite."""
    if points.shape[1:] != (ndim,):
        raise ValueError(f"{name} must have shape (n, {ndim}), got {tuple(points.shape)}")
    if not points.isfinite().all():
        row = int((~points.isfinite().all(1)).nonzero()[0])
        raise ValueError(f"{name}[{row}] is {points[row].tolist()}: it must be finite")


def check_index(**columns: tuple[Tensor, int]) -> None:
    """Each column, given with the number of things that it chooses from, has only indices that exist."""
    for name, (index, count) in columns.items():
        if ((index < 0) | (index >= count)).any():
            raise ValueError(f"{name} must lie in 0..{count - 1}, got {index.min()}..{index.max()}")


def check_sizes(name: str, sizes: Sequence[float], ndim: int | None = None) -> None:
    """Voxels per axis: positive, finite, one for each axis."""
    if len(sizes) != (len(sizes) if ndim is None else ndim) or not all(0 < voxels < math.inf for voxels in sizes):
        axes = "each axis" if ndim is None else f"each of the {ndim} axes"
        raise ValueError(f"{name} is {tuple(sizes)}; it must have a positive number for {axes}")


def check_extents(name: str, extents: Tensor) -> None:
    """Extents are `(n, d)`, positive and finite."""
    if not extents.shape[1:] or extents.shape[2:]:
        raise ValueError(f"{name} must have shape (n, d), got {tuple(extents.shape)}")
    good = ((extents > 0) & extents.isfinite()).all(1)
    if not good.all():
        row = int((~good).nonzero()[0])
        raise ValueError(f"{name}[{row}] is {extents[row].tolist()}: every extent must be positive and finite")


def _all_finite(column: Tensor) -> bool:
    values = _plain(column)
    return bool((np.isfinite(values) if isinstance(values, np.ndarray) else values.isfinite()).all())


def _plain(column: Tensor) -> Tensor | np.ndarray:
    """Numpy on the CPU, where torch would wake its threads for very little work."""
    known = column.device.type == "cpu" and column.dtype in (torch.float32, torch.float64)
    return column.detach().numpy() if known else column


def _first_bad_row(boxes: Tensor) -> int:
    compiled = kernels(boxes)
    if compiled and boxes.dtype in (torch.float32, torch.float64):
        array = boxes.detach().contiguous().numpy()
        rows = share(lambda *part: compiled.first_bad_row(array, *part), len(array), 50_000)
        return next((row for row in rows if row >= 0), -1)
    bad = ~((boxes[:, 0] <= boxes[:, 1]) & boxes.isfinite().all(1)).all(1)
    return int(bad.nonzero()[0]) if bad.any() else -1
