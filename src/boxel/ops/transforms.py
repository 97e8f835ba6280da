"""Boxes moved along with their image: mirrored, turned by quarters, or by any affine map.

Coordinates are continuous, and voxel `i` spans `i` to `i + 1`: mirroring takes `x` to `length - x`, without an offset
of one voxel. Only shapes are checked; NaN stays NaN.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Real
from torch import Tensor

from boxel.ops.arrays import numpy_too
from boxel.ops.checks import check_corners
from boxel.ops.number_types import as_float


@numpy_too
def mirror(boxes: Real[Tensor, "*n 2 d"], shape: Sequence[int], axes: Sequence[int]) -> Float[Tensor, "*n 2 d"]:
    """Return the boxes of an image that is mirrored along some axes, as by `numpy.flip`.

    Args:
        boxes: `(n, 2, d)` voxels.
        shape: voxels per axis of the image.
        axes: those that are mirrored, of 0 to d - 1; negative ones count from the end.

    Raises:
        ValueError: a shape of another rank than the boxes, or an axis that does not exist or is named twice.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import mirror
        >>> mirror(np.array([[[1.0, 2.0], [3.0, 7.0]]]), shape=(10, 20), axes=[1]).tolist()
        [[[1.0, 13.0], [3.0, 18.0]]]
    """
    chosen = _check(boxes, shape, axes)
    boxes = as_float(boxes)
    lower, upper = boxes.unbind(-2)
    turned = torch.tensor([axis in chosen for axis in range(len(shape))], device=boxes.device)
    lengths = boxes.new_tensor(list(shape))
    return torch.stack([torch.where(turned, lengths - upper, lower), torch.where(turned, lengths - lower, upper)], -2)


@numpy_too
def rotate_quarters(
    boxes: Real[Tensor, "*n 2 d"], shape: Sequence[int], quarters: int, axes: Sequence[int] = (-2, -1)
) -> Float[Tensor, "*n 2 d"]:
    """Return the boxes of an image that is turned by quarters in a plane, as by `numpy.rot90`.

    Args:
        boxes: `(n, 2, d)` voxels.
        shape: voxels per axis of the image before it is turned.
        quarters: turns by 90 degrees from the first axis of the plane towards the second; negative ones turn back.
        axes: the two axes of the plane.

    Raises:
        ValueError: a shape of another rank than the boxes, or axes that are not two different ones of it.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import rotate_quarters
        >>> box = np.array([[[0.0, 2.0], [1.0, 5.0]]])  # at the upper border of 10 rows and 20 columns
        >>> rotate_quarters(box, (10, 20), 1).tolist()  # at the left border of 20 rows and 10 columns
        [[[15.0, 0.0], [18.0, 1.0]]]
    """
    plane = _check(boxes, shape, axes)
    if not plane[1:] or plane[2:]:
        raise ValueError(f"axes is {tuple(axes)}; a plane has two axes")
    first, second = plane
    order, lengths = list(range(len(shape))), list(shape)
    boxes = as_float(boxes)
    # A quarter turn mirrors along the second axis and then swaps the two.
    order[first], order[second] = second, first
    for _ in range(quarters % 4):
        boxes = mirror(boxes, lengths, [second])[..., order]
        lengths[first], lengths[second] = lengths[second], lengths[first]
    return boxes


@numpy_too
def transform(boxes: Real[Tensor, "*n 2 d"], matrix: Real[Tensor, "_ _"]) -> Float[Tensor, "*n 2 d"]:
    """Return the smallest boxes around the corners of boxes that an affine map moves; differentiable.

    A map that does not keep axes, such as a rotation by 30 degrees, makes boxes larger than the objects in them need:
    with masks, transform these and take `boxes_from_masks`.

    Args:
        boxes: `(n, 2, d)` voxels. An inverted axis is put in order.
        matrix: `(d, d + 1)`, or `(d + 1, d + 1)` as in NIfTI files, in array order: a point p moves to
            `matrix[:d, :d] @ p + matrix[:d, d]`. Points are continuous: the centre of the first voxel is 0.5, not 0
            as in maps for the indices of voxels.

    Raises:
        ValueError: a matrix of another shape.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import transform
        >>> matrix = np.array([[1.0, -1.0, 0.0], [1.0, 1.0, 5.0]])  # a turn by 45 degrees that also scales, and a shift
        >>> transform(np.array([[[0.0, 0.0], [2.0, 2.0]]]), matrix).tolist()
        [[[-2.0, 5.0], [2.0, 9.0]]]
    """
    check_corners(boxes)
    d = boxes.shape[-1]
    if tuple(matrix.shape) not in ((d, d + 1), (d + 1, d + 1)):
        raise ValueError(f"matrix must have shape ({d}, {d + 1}) for boxes of {d} axes, got {tuple(matrix.shape)}")
    boxes = as_float(boxes)
    matrix = matrix.to(device=boxes.device, dtype=boxes.dtype)[:d]
    # Each coordinate of the result is smallest where each of its terms is: no need to list all corners.
    terms = boxes[..., None, :] * matrix[:, :d]
    return torch.stack([terms.amin(-3).sum(-1), terms.amax(-3).sum(-1)], -2) + matrix[:, d]


def _check(boxes: Tensor, shape: Sequence[int], axes: Sequence[int]) -> list[int]:
    """The axes, counted from 0."""
    check_corners(boxes)
    d = boxes.shape[-1]
    if len(shape) != d:
        raise ValueError(f"shape is {tuple(shape)}; the boxes have {d} axes")
    if not all(-d <= axis < d for axis in axes) or len({axis % d for axis in axes}) < len(axes):
        raise ValueError(f"axes is {tuple(axes)}; they must be different and lie in 0..{d - 1}")
    return [axis % d for axis in axes]
