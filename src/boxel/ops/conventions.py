"""Between Boxel's boxes and those of other tools: the only place that knows other conventions.

Other tools write rows of `2 d` numbers; they differ in the order of axes, in the position of the corners and in offsets
of a voxel. Images are read with the axes (plane, row, column), so the x of another tool is the last axis.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Real
from torch import Tensor

from boxel.config import did_you_mean
from boxel.ops.arrays import numpy_too
from boxel.ops.checks import check_rows
from boxel.ops.number_types import as_float

Axes = Callable[[int], list[int]]


def _array(d: int) -> list[int]:
    return list(range(d))


def _reversed(d: int) -> list[int]:
    return list(range(d))[::-1]


def _plane_first(d: int) -> list[int]:
    """Row, column, then the through-plane axis."""
    return [*range(d)[-2:], *range(d)[:-2]]


def _x_before_y(d: int) -> list[int]:
    return [*range(d)[:-2], *range(d)[:-3:-1]]


@dataclass(frozen=True)
class _Convention:
    """How a row is written.

    Attributes:
        axes: Boxel's axis for each axis of the row, given the rank.
        layout: `corners`, lower then upper; `pairs`, lower and upper per axis; `plane_then_pairs`, corners of the
            first two axes, then pairs; `lower_size` and `centre_size`, all of the first, then all of the second.
        lower, upper: what the convention adds to Boxel's corners.
        relative: in fractions of the image's shape.
    """

    axes: Axes
    layout: Literal["corners", "pairs", "plane_then_pairs", "lower_size", "centre_size"]
    lower: float = 0.0
    upper: float = 0.0
    relative: bool = False


CONVENTIONS: dict[str, _Convention] = {
    # x, y, width, height of COCO's JSON.
    "coco": _Convention(_reversed, "lower_size"),
    # xmin, ymin, xmax, ymax of the Pascal VOC kit: pixels count from 1, the last one belongs to the box.
    "voc": _Convention(_reversed, "corners", lower=1.0),
    # Centre and size in fractions of the image; MedYOLO puts z before them.
    "yolo": _Convention(_x_before_y, "centre_size", relative=True),
    # Array axes; the first voxel minus one and the last plus one.
    "nndetection": _Convention(_array, "plane_then_pairs", lower=-1.0),
    # y1, x1, y2, x2, z1, z2 of the MedicalDetectionToolkit: the first voxel minus one and the last plus one.
    "mdt": _Convention(_plane_first, "plane_then_pairs", lower=-1.0),
    # MONAI's box modes, in the order x, y, z.
    "xyzxyz": _Convention(_reversed, "corners"),
    "xxyyzz": _Convention(_reversed, "pairs"),
    "xyxyzz": _Convention(_reversed, "plane_then_pairs"),
    "xyzwhd": _Convention(_reversed, "lower_size"),
    "cccwhd": _Convention(_reversed, "centre_size"),
}
"""The conventions `convert` knows, besides `boxel`."""


@numpy_too
def convert(
    boxes: Real[Tensor, "..."], source: str, target: str, *, shape: Sequence[int] | None = None
) -> Float[Tensor, "..."]:
    """Convert boxes from one convention to another. Values are not checked: broken boxes stay broken.

    Args:
        boxes: `(n, 2, d)` if `source` is `boxel`, else `(n, 2 d)`.
        source: `boxel` or a key of `CONVENTIONS`; MONAI's modes serve any rank.
        target: `boxel` or a key of `CONVENTIONS`.
        shape: of the image in array order, for `yolo`.

    Returns:
        `(n, 2, d)` if `target` is `boxel`, else `(n, 2 d)`.

    Raises:
        ValueError: an unknown convention, a wrong shape of `boxes`, or a missing `shape`.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import convert
        >>> box = np.array([[[10.0, 20.0], [14.0, 30.0]]])  # rows 10 to 13, columns 20 to 29
        >>> convert(box, "boxel", "coco").tolist()  # x, y, width, height
        [[20.0, 10.0, 10.0, 4.0]]
        >>> convert(convert(box, "boxel", "coco"), "coco", "boxel").tolist()
        [[[10.0, 20.0], [14.0, 30.0]]]
    """
    boxes = as_float(boxes)
    if source != "boxel":
        boxes = _read(boxes, _find(source), source, shape)
    else:
        check_rows(boxes)
    return boxes if target == "boxel" else _write(boxes, _find(target), target, shape)


def _find(name: str) -> _Convention:
    if name not in CONVENTIONS:
        raise ValueError(f"unknown box convention {name!r}{did_you_mean(name, ['boxel', *CONVENTIONS])}")
    return CONVENTIONS[name]


def _read(rows: Tensor, convention: _Convention, name: str, shape: Sequence[int] | None) -> Tensor:
    if not any(rows.shape[1:]) or rows.shape[2:] or rows.shape[1] % 2:
        raise ValueError(f"boxes in the convention {name!r} must have shape (n, 2 d), got {tuple(rows.shape)}")
    axes = convention.axes(rows.shape[1] // 2)
    order = _columns(convention.layout, len(axes))
    first, second = rows[:, order.argsort()].reshape(-1, 2, len(axes))[:, :, _inverse(axes)].unbind(1)
    if convention.layout == "centre_size":
        first = first - second / 2
    if convention.layout.endswith("size"):
        second = first + second
    scale = _scale(convention, name, shape, rows)
    return torch.stack([first * scale - convention.lower, second * scale - convention.upper], 1)


def _write(boxes: Tensor, convention: _Convention, name: str, shape: Sequence[int] | None) -> Tensor:
    scale = _scale(convention, name, shape, boxes)
    first, second = (boxes[:, 0] + convention.lower) / scale, (boxes[:, 1] + convention.upper) / scale
    if convention.layout.endswith("size"):
        second = second - first
    if convention.layout == "centre_size":
        first = first + second / 2
    axes = convention.axes(boxes.shape[2])
    return torch.cat([first[:, axes], second[:, axes]], 1)[:, _columns(convention.layout, len(axes))]


def _columns(layout: str, d: int) -> Tensor:
    """For each position in a row, its column in (all firsts, all seconds)."""
    pairs = torch.arange(2 * d).reshape(2, d)
    plane = {"pairs": 0, "plane_then_pairs": 2}.get(layout, d)
    return torch.cat([pairs[:, :plane].flatten(), pairs[:, plane:].T.flatten()])


def _inverse(axes: list[int]) -> list[int]:
    return sorted(range(len(axes)), key=axes.__getitem__)


def _scale(convention: _Convention, name: str, shape: Sequence[int] | None, like: Tensor) -> Tensor:
    if not convention.relative:
        return like.new_ones(())
    if shape is None:
        raise ValueError(f"the convention {name!r} counts in fractions of the image: give its shape=")
    return like.new_tensor(list(shape))
