"""Overlaps of boxes `(n, 2, d)`, of all pairs or row by row.

As in `boxes`, only shapes are checked, any number type is taken, and NaN stays NaN. A box without extent has the IoU 0
with every box; an inverted one counts as empty.
"""

import math
from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Float, Real
from torch import Tensor

from boxel.ops.arrays import numpy_too
from boxel.ops.boxes import area, centre, product, size
from boxel.ops.checks import check_pair
from boxel.ops.number_types import as_floats

Overlap = Literal["iou", "giou", "diou", "ciou"]
"""The measures of `paired_overlap`."""


@numpy_too
def iou(a: Real[Tensor, "n 2 d"], b: Real[Tensor, "m 2 d"]) -> Float[Tensor, "n m"]:
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
    return _ratio(*_intersection_and_union(*_all_pairs(a, b)))


@numpy_too
def generalized_iou(a: Real[Tensor, "n 2 d"], b: Real[Tensor, "m 2 d"]) -> Float[Tensor, "n m"]:
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
    a, b = _all_pairs(a, b)
    return _generalized(a, b, *_intersection_and_union(a, b))


@numpy_too
def distance_iou(a: Real[Tensor, "n 2 d"], b: Real[Tensor, "m 2 d"]) -> Float[Tensor, "n m"]:
    """Return the distance IoU of every pair, `(n, m)` in -1..1: IoU minus how far apart the centres are.

    The distance counts as its square over the squared diagonal of the hull of the two.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import distance_iou
        >>> a, b = np.array([[[0.0, 0.0], [6.0, 8.0]]]), np.array([[[6.0, 8.0], [12.0, 16.0]]])
        >>> distance_iou(a, b).tolist()  # they touch; the centres are half of the diagonal apart
        [[-0.25]]

    Reference: Zheng et al., Distance-IoU Loss, AAAI 2020.
    """
    check_pair(a, b)
    return _overlap(*_all_pairs(a, b), "diou")


@numpy_too
def complete_iou(a: Real[Tensor, "n 2 d"], b: Real[Tensor, "m 2 d"]) -> Float[Tensor, "n m"]:
    """Return the complete IoU of every pair: `distance_iou` minus a penalty on different aspect ratios.

    The penalty is the mean over all pairs of axes, which in the plane is the published one. Two empty boxes at
    one place have 0.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import complete_iou
        >>> a, b = np.array([[[0.0, 0.0], [4.0, 4.0]]]), np.array([[[1.0, 0.0], [3.0, 4.0]]])
        >>> complete_iou(a, b).round(4).tolist()  # IoU 0.5; v = 4 / pi^2 x 0.3217^2 = 0.0420; 0.5 - v^2 / (0.5 + v)
        [[0.4968]]

    Reference: Zheng et al., Distance-IoU Loss, AAAI 2020.
    """
    check_pair(a, b)
    return _overlap(*_all_pairs(a, b), "ciou")


@numpy_too
def intersection_over_foreground(a: Real[Tensor, "n 2 d"], b: Real[Tensor, "m 2 d"]) -> Float[Tensor, "n m"]:
    """Return which share of each box of `a` lies in each box of `b`, `(n, m)` in 0..1.

    For example, detections that mostly lie in a region to be ignored. A box of `a` without extent has 0.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import intersection_over_foreground
        >>> lesion, organ = np.array([[[0.0, 0.0], [4.0, 4.0]]]), np.array([[[0.0, 1.0], [50.0, 50.0]]])
        >>> intersection_over_foreground(lesion, organ).tolist()  # its IoU is 0.005
        [[0.75]]
    """
    check_pair(a, b)
    a, b = _all_pairs(a, b)
    return _ratio(_intersection(a, b), area(a))


@numpy_too
def paired_overlap(a: Real[Tensor, "*n 2 d"], b: Real[Tensor, "*n 2 d"], kind: Overlap = "iou") -> Float[Tensor, "*n"]:
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
    a, b = as_floats(a, b)
    return _overlap(a, b, kind)


@numpy_too
def paired_iou(a: Real[Tensor, "*n 2 d"], b: Real[Tensor, "*n 2 d"]) -> Float[Tensor, "*n"]:
    """Return the intersection over union of each box with its counterpart.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import paired_iou
        >>> a = np.array([[[0.0, 0.0], [10.0, 10.0]], [[5.0, 5.0], [9.0, 9.0]]])
        >>> paired_iou(a, a + 5).round(3).tolist()
        [0.143, 0.0]
    """
    return paired_overlap(a, b, "iou")


def _all_pairs(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets in the type that is computed in, with axes that broadcast to `(n, m, 2, d)`."""
    a, b = as_floats(a, b)
    return a[:, None], b[None]


def _overlap(a: Tensor, b: Tensor, kind: str) -> Tensor:
    """The measure of boxes that broadcast."""
    intersection, union = _intersection_and_union(a, b)
    if kind == "giou":
        return _generalized(a, b, intersection, union)
    overlap = _ratio(intersection, union)
    if kind == "iou":
        return overlap
    apart = (x - y for x, y in zip(centre(a).unbind(-1), centre(b).unbind(-1), strict=True))
    distance = _squares(apart) / _positive(_squares(_hull(a, b)))
    if kind == "diou":
        return overlap - distance
    if kind == "ciou":
        aspect = _aspect_penalty(size(a), size(b))
        with torch.no_grad():
            weight = aspect / _positive(1 - overlap + aspect)
        return overlap - distance - weight * aspect
    raise ValueError(f"kind is {kind!r}; it must be one of 'iou', 'giou', 'diou', 'ciou'")


def _positive(x: Tensor) -> Tensor:
    return x.clamp(min=torch.finfo(x.dtype).tiny)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return part / _positive(whole)


def _intersection(a: Tensor, b: Tensor) -> Tensor:
    """Computed axis by axis: the `(n, m, d)` intermediate of the usual formula would be d times the result."""
    return product(
        (torch.minimum(a[..., 1, k], b[..., 1, k]) - torch.maximum(a[..., 0, k], b[..., 0, k])).clamp(min=0)
        for k in range(a.shape[-1])
    )


def _intersection_and_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    intersection = _intersection(a, b)
    return intersection, area(a) + area(b) - intersection


def _hull(a: Tensor, b: Tensor) -> Iterator[Tensor]:
    """The extents, axis by axis, of the smallest box around both."""
    for k in range(a.shape[-1]):
        yield (torch.maximum(a[..., 1, k], b[..., 1, k]) - torch.minimum(a[..., 0, k], b[..., 0, k])).clamp(min=0)


def _squares(lengths: Iterator[Tensor]) -> Tensor:
    """The sum of squares, in order."""
    total = next(lengths).square()
    for length in lengths:
        total = total + length.square()
    return total


def _generalized(a: Tensor, b: Tensor, intersection: Tensor, union: Tensor) -> Tensor:
    hull = product(_hull(a, b))
    return _ratio(intersection, union) - _ratio(hull - union, hull)


def _aspect_penalty(a: Tensor, b: Tensor) -> Tensor:
    first, second = torch.triu_indices(a.shape[-1], a.shape[-1], 1, device=a.device)
    difference = torch.atan2(b[..., first], b[..., second]) - torch.atan2(a[..., first], a[..., second])
    return (4 / math.pi**2) * difference.square().mean(-1)
