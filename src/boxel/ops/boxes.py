"""Geometry of boxes `(n, 2, d)`: lower and upper corner, array-axis order, half-open, continuous.

These functions run inside losses and on any device, so they check shapes only: boxes that do not end in `(2, d)` and
sets of different rank are a ValueError. A box without extent has area 0; an inverted one counts as empty; NaN stays
NaN in every result that depends on it. Boxes may have any number type; `number_types` says what type comes back.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int, Real
from torch import Tensor

from boxel.ops.arrays import numpy_too
from boxel.ops.checks import check_boxes, check_corners, check_pair
from boxel.ops.number_types import as_float, as_floats

Std = Sequence[float] | Sequence[Sequence[float]] | Tensor

MAX_LOG_RATIO = math.log(1000 / 16)
"""Largest log size ratio that `decode` takes at its word (Detectron's): boxes grow at most 62.5-fold."""


def product(factors: Iterator[Tensor]) -> Tensor:
    """The product in order, so that compiled kernels can reproduce it to the last bit."""
    result = next(factors)
    for factor in factors:
        result = result * factor
    return result


@numpy_too
def size(boxes: Real[Tensor, "*n 2 d"]) -> Float[Tensor, "*n d"]:
    """Return the extent per axis in voxels, never negative.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import size
        >>> size(np.array([[[2.0, 10.0, 10.0], [4.0, 30.0, 25.0]]])).tolist()
        [[2.0, 20.0, 15.0]]
    """
    check_corners(boxes)
    boxes = as_float(boxes)
    return (boxes[..., 1, :] - boxes[..., 0, :]).clamp(min=0)


@numpy_too
def centre(boxes: Real[Tensor, "*n 2 d"]) -> Float[Tensor, "*n d"]:
    """Return the midpoint of the two corners.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import centre
        >>> centre(np.array([[[2.0, 10.0], [4.0, 30.0]]])).tolist()
        [[3.0, 20.0]]
    """
    check_corners(boxes)
    return as_float(boxes).sum(-2) / 2


@numpy_too
def area(boxes: Real[Tensor, "*n 2 d"]) -> Float[Tensor, "*n"]:
    """Return the product of the extents: an area in 2D, a volume in 3D.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import area
        >>> area(np.array([[[0.0, 0.0, 0.0], [2.0, 3.0, 4.0]]])).tolist()
        [24.0]
    """
    return product(iter(size(boxes).unbind(-1)))


@numpy_too
def clip(boxes: Real[Tensor, "*n 2 d"], shape: Sequence[int]) -> Real[Tensor, "*n 2 d"]:
    """Clip boxes to an image of `shape`; a box outside the image ends up without extent. The number type stays.

    Raises:
        ValueError: `shape` has another number of axes than the boxes.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import clip
        >>> clip(np.array([[[-3.0, 5.0], [4.0, 70.0]]]), (64, 64)).tolist()
        [[[0.0, 5.0], [4.0, 64.0]]]
    """
    check_corners(boxes)
    if len(shape) != boxes.shape[-1]:
        raise ValueError(f"shape is {tuple(shape)}; the boxes have {boxes.shape[-1]} axes")
    corners = as_float(boxes)  # the shape may be more than the type of the boxes holds
    return corners.clamp(min=0).minimum(corners.new_tensor(list(shape))).to(boxes.dtype)


@numpy_too
def remove_small_boxes(boxes: Real[Tensor, "n 2 d"], min_size: float | Sequence[float]) -> Int[Tensor, " kept"]:
    """Return the rows of the boxes that are at least `min_size` long on every axis, in their order.

    Args:
        boxes: `(n, 2, d)` voxels.
        min_size: voxels, for all axes or for each.

    Raises:
        ValueError: NaN or inverted boxes, with the row, or sizes for another number of axes.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import remove_small_boxes
        >>> boxes = np.array([[[0.0, 0.0], [3.0, 9.0]], [[0.0, 0.0], [2.0, 9.0]]])
        >>> boxes[remove_small_boxes(boxes, 3)].tolist()
        [[[0.0, 0.0], [3.0, 9.0]]]
    """
    boxes = as_float(boxes)
    check_boxes(boxes)
    least = torch.as_tensor(min_size, dtype=boxes.dtype, device=boxes.device)
    if least.shape not in ((), boxes.shape[2:]):
        raise ValueError(f"min_size is {least.tolist()}; the boxes have {boxes.shape[2]} axes")
    return (size(boxes) >= least).all(1).nonzero()[:, 0]


@numpy_too
def encode(
    boxes: Real[Tensor, "*n 2 d"],
    anchors: Real[Tensor, "*n 2 d"],
    std: Std = (0.1, 0.2),
) -> Float[Tensor, "*n 2 d"]:
    """Encode boxes relative to anchors: the shift of the centre in anchor sizes and the log ratio of sizes, over `std`.

    Args:
        boxes: `(n, 2, d)` with positive extents; the log ratio of a box without extent is -inf.
        anchors: `(n, 2, d)` with positive extents; the result is not finite for an anchor without extent.
        std: one for all shifts and one for all log ratios, or `(2, d)`.

    Example:
        >>> import torch
        >>> from boxel.ops import encode
        >>> anchors = torch.tensor([[[0.0, 0.0], [10.0, 10.0]]])
        >>> encode(anchors + 2, anchors).tolist()  # shifted by 0.2 anchor sizes, over 0.1
        [[[2.0, 2.0], [0.0, 0.0]]]

    Reference: Ren et al., Faster R-CNN, NeurIPS 2015, section 3.1.2.
    """
    check_pair(boxes, anchors)
    boxes, anchors = as_floats(boxes, anchors)
    anchor_size = size(anchors)
    shift = (centre(boxes) - centre(anchors)) / anchor_size
    return torch.stack([shift, (size(boxes) / anchor_size).log()], -2) / _std(std, boxes)


@numpy_too
def decode(
    deltas: Real[Tensor, "*n 2 d"],
    anchors: Real[Tensor, "*n 2 d"],
    std: Std = (0.1, 0.2),
) -> Float[Tensor, "*n 2 d"]:
    """Decode what `encode` encoded; log ratios are limited to `MAX_LOG_RATIO`, so that no delta overflows.

    An anchor without extent gives a box without extent, at its centre.

    Args:
        deltas: `(n, 2, d)` shifts and log ratios, over `std`.
        anchors: `(n, 2, d)` voxels.
        std: as for `encode`.

    Example:
        >>> import torch
        >>> from boxel.ops import decode
        >>> anchors = torch.tensor([[[0.0, 0.0], [10.0, 10.0]]])
        >>> decode(torch.tensor([[[2.0, 2.0], [0.0, 0.0]]]), anchors).tolist()
        [[[2.0, 2.0], [12.0, 12.0]]]

    Reference: Ren et al., Faster R-CNN, NeurIPS 2015, section 3.1.2.
    """
    check_pair(deltas, anchors)
    deltas, anchors = as_floats(deltas, anchors)
    shift, log_ratio = (deltas * _std(std, anchors)).unbind(-2)
    anchor_size = size(anchors)
    middle = centre(anchors) + shift * anchor_size
    half = anchor_size * log_ratio.clamp(max=MAX_LOG_RATIO).exp() / 2
    return torch.stack([middle - half, middle + half], -2)


def _std(std: Std, like: Tensor) -> Tensor:
    std = torch.as_tensor(std, dtype=like.dtype, device=like.device)
    return std[:, None] if std.ndim == 1 else std
