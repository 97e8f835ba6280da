"""Geometry of boxes `(n, 2, d)`: lower and upper corner, array-axis order, half-open, continuous.

These functions run inside losses and on any device, so they check shapes only: boxes that do not end in `(2, d)` and
sets of different rank are a ValueError. A box without extent has area 0 and IoU 0 with every box; an inverted one
counts as empty; NaN stays NaN in every result that depends on it.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from boxel.ops.arrays import numpy_too
from boxel.ops.checks import check_corners, check_pair

Overlap = Literal["iou", "giou", "diou", "ciou"]
"""The measures of `paired_overlap`."""

Std = Sequence[float] | Sequence[Sequence[float]] | Tensor

MAX_LOG_RATIO = math.log(1000 / 16)
"""Largest log size ratio that `decode` takes at its word (Detectron's): boxes grow at most 62.5-fold."""


def as_float(values: Tensor) -> Tensor:
    """At least float32: float16 ends at 65504, too little for volumes, and integers cannot hold ratios."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def product(factors: Iterator[Tensor]) -> Tensor:
    """The product in order, so that compiled kernels can reproduce it to the last bit."""
    result = next(factors)
    for factor in factors:
        result = result * factor
    return result


@numpy_too
def size(boxes: Float[Tensor, "*n 2 d"]) -> Float[Tensor, "*n d"]:
    """Return the extent per axis in voxels, never negative.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import size
        >>> size(np.array([[[2.0, 10.0, 10.0], [4.0, 30.0, 25.0]]])).tolist()
        [[2.0, 20.0, 15.0]]
    """
    check_corners(boxes)
    return (boxes[..., 1, :] - boxes[..., 0, :]).clamp(min=0)


@numpy_too
def centre(boxes: Float[Tensor, "*n 2 d"]) -> Float[Tensor, "*n d"]:
    """Return the midpoint of the two corners.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import centre
        >>> centre(np.array([[[2.0, 10.0], [4.0, 30.0]]])).tolist()
        [[3.0, 20.0]]
    """
    check_corners(boxes)
    return boxes.sum(-2) / 2


@numpy_too
def area(boxes: Float[Tensor, "*n 2 d"]) -> Float[Tensor, "*n"]:
    """Return the product of the extents: an area in 2D, a volume in 3D.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import area
        >>> area(np.array([[[0.0, 0.0, 0.0], [2.0, 3.0, 4.0]]])).tolist()
        [24.0]
    """
    return product(iter(size(boxes).unbind(-1)))


@numpy_too
def clip(boxes: Float[Tensor, "*n 2 d"], shape: Sequence[int]) -> Float[Tensor, "*n 2 d"]:
    """Clip boxes to an image of `shape`; a box outside the image ends up without extent.

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
    return boxes.clamp(min=0).minimum(boxes.new_tensor(list(shape)))


@numpy_too
def iou(a: Float[Tensor, "n 2 d"], b: Float[Tensor, "m 2 d"]) -> Float[Tensor, "n m"]:
    """Return the intersection over union of every pair, `(n, m)` in 0..1.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import iou
        >>> a = np.array([[[0.0, 0.0], [10.0, 10.0]]])
        >>> b = np.array([[[0.0, 5.0], [10.0, 15.0]], [[20.0, 20.0], [30.0, 30.0]]])
        >>> iou(a, b).round(3).tolist()
        [[0.333, 0.0]]
    """
    check_pair(a, b)
    a, b = as_float(a)[:, None], as_float(b)[None]
    return _ratio(*_intersection_and_union(a, b))


@numpy_too
def generalized_iou(a: Float[Tensor, "n 2 d"], b: Float[Tensor, "m 2 d"]) -> Float[Tensor, "n m"]:
    """Return the generalised IoU of every pair, `(n, m)` in -1..1: IoU minus the empty share of the hull of the two.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import generalized_iou
        >>> a, b = np.array([[[0.0, 0.0], [10.0, 10.0]]]), np.array([[[0.0, 30.0], [10.0, 40.0]]])
        >>> generalized_iou(a, b).tolist()  # half of the hull is empty
        [[-0.5]]

    Reference: Rezatofighi et al., Generalized Intersection over Union, CVPR 2019.
    """
    check_pair(a, b)
    a, b = as_float(a)[:, None], as_float(b)[None]
    return _generalized(a, b, *_intersection_and_union(a, b))


@numpy_too
def paired_overlap(
    a: Float[Tensor, "*n 2 d"], b: Float[Tensor, "*n 2 d"], kind: Overlap = "iou"
) -> Float[Tensor, "*n"]:
    """Return the overlap of each box with its counterpart, differentiable; 1 minus it is the loss of that name.

    Args:
        a: boxes, usually the predictions.
        b: boxes, usually the targets.
        kind: `iou`; `giou`, see `generalized_iou`; `diou`, IoU minus the squared distance of the centres over the
            squared diagonal of the hull; `ciou`, `diou` minus a penalty on aspect ratios, here the mean over all pairs
            of axes, which in the plane is the published one.

    Raises:
        ValueError: an unknown kind.

    Example:
        >>> import torch
        >>> from boxel.ops import paired_overlap
        >>> predicted = torch.tensor([[[0.0, 0.0], [10.0, 10.0]]], requires_grad=True)
        >>> loss = 1 - paired_overlap(predicted, torch.tensor([[[0.0, 2.0], [10.0, 12.0]]]), "giou")
        >>> loss.sum().backward()
        >>> loss.item(), predicted.grad[0, 0, 1].item() < 0  # moving the lower corner to the right lowers the loss
        (0.3333333134651184, True)

    Reference: Rezatofighi et al., CVPR 2019 (GIoU); Zheng et al., Distance-IoU Loss, AAAI 2020 (DIoU, CIoU).
    """
    check_pair(a, b)
    a, b = as_float(a), as_float(b)
    intersection, union = _intersection_and_union(a, b)
    if kind == "giou":
        return _generalized(a, b, intersection, union)
    overlap = _ratio(intersection, union)
    if kind == "iou":
        return overlap
    distance = (centre(a) - centre(b)).square().sum(-1) / _positive(size(_hull(a, b)).square().sum(-1))
    if kind == "diou":
        return overlap - distance
    if kind == "ciou":
        aspect = _aspect_penalty(size(a), size(b))
        with torch.no_grad():
            weight = aspect / _positive(1 - overlap + aspect)
        return overlap - distance - weight * aspect
    raise ValueError(f"kind is {kind!r}; it must be one of 'iou', 'giou', 'diou', 'ciou'")


@numpy_too
def paired_iou(a: Float[Tensor, "*n 2 d"], b: Float[Tensor, "*n 2 d"]) -> Float[Tensor, "*n"]:
    """Return the intersection over union of each box with its counterpart.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import paired_iou
        >>> a = np.array([[[0.0, 0.0], [10.0, 10.0]], [[5.0, 5.0], [9.0, 9.0]]])
        >>> paired_iou(a, a + 5).round(3).tolist()
        [0.143, 0.0]
    """
    return paired_overlap(a, b, "iou")


@numpy_too
def encode(
    boxes: Float[Tensor, "*n 2 d"],
    anchors: Float[Tensor, "*n 2 d"],
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
    anchor_size = size(anchors)
    shift = (centre(boxes) - centre(anchors)) / anchor_size
    return torch.stack([shift, (size(boxes) / anchor_size).log()], -2) / _std(std, boxes)


@numpy_too
def decode(
    deltas: Float[Tensor, "*n 2 d"],
    anchors: Float[Tensor, "*n 2 d"],
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
    shift, log_ratio = (as_float(deltas) * _std(std, anchors)).unbind(-2)
    anchor_size = size(anchors)
    middle = centre(anchors) + shift * anchor_size
    half = anchor_size * log_ratio.clamp(max=MAX_LOG_RATIO).exp() / 2
    return torch.stack([middle - half, middle + half], -2)


def _positive(x: Tensor) -> Tensor:
    return x.clamp(min=torch.finfo(x.dtype).tiny)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return part / _positive(whole)


def _intersection_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Computed axis by axis: the `(n, m, d)` intermediate of the usual formula would be d times the result."""
    overlaps = (
        (torch.minimum(a[..., 1, k], b[..., 1, k]) - torch.maximum(a[..., 0, k], b[..., 0, k])).clamp(min=0)
        for k in range(a.shape[-1])
    )
    intersection = product(overlaps)
    return intersection, area(a) + area(b) - intersection


def _hull(a: Tensor, b: Tensor) -> Tensor:
    return torch.stack([torch.minimum(a[..., 0, :], b[..., 0, :]), torch.maximum(a[..., 1, :], b[..., 1, :])], -2)


def _generalized(a: Tensor, b: Tensor, intersection: Tensor, union: Tensor) -> Tensor:
    extents = (
        (torch.maximum(a[..., 1, k], b[..., 1, k]) - torch.minimum(a[..., 0, k], b[..., 0, k])).clamp(min=0)
        for k in range(a.shape[-1])
    )
    hull = product(extents)
    return _ratio(intersection, union) - _ratio(hull - union, hull)


def _aspect_penalty(a: Tensor, b: Tensor) -> Tensor:
    first, second = torch.triu_indices(a.shape[-1], a.shape[-1], 1, device=a.device)
    difference = torch.atan2(b[..., first], b[..., second]) - torch.atan2(a[..., first], a[..., second])
    return (4 / math.pi**2) * difference.square().mean(-1)


def _std(std: Std, like: Tensor) -> Tensor:
    std = torch.as_tensor(std, dtype=like.dtype, device=like.device)
    return std[:, None] if std.ndim == 1 else std
