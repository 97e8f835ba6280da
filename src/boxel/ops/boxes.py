"""Geometry of boxes `(n, 2, d)`: lower and upper corner, array-axis order, half-open, continuous.

These functions run inside losses and on any device, so they look at shapes only: one that does not end in `(2, d)`, or
sets of different rank, are a ValueError. A box without extent has area 0 and IoU 0 with everything; an inverted one
counts as empty; NaN stays NaN in whatever depends on it.
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
    """Half precision cannot hold volumes (float16 ends at 65504); integers cannot hold ratios."""
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def product(factors: Iterator[Tensor]) -> Tensor:
    """In order, so that compiled kernels can repeat it to the last bit."""
    result = next(factors)
    for factor in factors:
        result = result * factor
    return result


@numpy_too
def size(boxes: Float[Tensor, "*n 2 d"]) -> Float[Tensor, "*n d"]:
    """Extent per axis, never negative."""
    check_corners(boxes)
    return (boxes[..., 1, :] - boxes[..., 0, :]).clamp(min=0)


@numpy_too
def centre(boxes: Float[Tensor, "*n 2 d"]) -> Float[Tensor, "*n d"]:
    """Midpoint of the corners, whichever is lower."""
    check_corners(boxes)
    return boxes.sum(-2) / 2


@numpy_too
def area(boxes: Float[Tensor, "*n 2 d"]) -> Float[Tensor, "*n"]:
    """Product of the extents (an area, a volume)."""
    return product(iter(size(boxes).unbind(-1)))


@numpy_too
def clip(boxes: Float[Tensor, "*n 2 d"], shape: Sequence[int]) -> Float[Tensor, "*n 2 d"]:
    """Cut boxes at the borders of an image of `shape`; one that lies outside ends up without extent."""
    check_corners(boxes)
    if len(shape) != boxes.shape[-1]:
        raise ValueError(f"shape is {tuple(shape)}; the boxes have {boxes.shape[-1]} axes")
    return boxes.clamp(min=0).minimum(boxes.new_tensor(list(shape)))


@numpy_too
def iou(a: Float[Tensor, "n 2 d"], b: Float[Tensor, "m 2 d"]) -> Float[Tensor, "n m"]:
    """Intersection over union of every pair."""
    check_pair(a, b)
    a, b = as_float(a)[:, None], as_float(b)[None]
    return _ratio(*_intersection_and_union(a, b))


@numpy_too
def generalized_iou(a: Float[Tensor, "n 2 d"], b: Float[Tensor, "m 2 d"]) -> Float[Tensor, "n m"]:
    """IoU of every pair minus the void share of their hull, in -1..1 (Rezatofighi et al., CVPR 2019)."""
    check_pair(a, b)
    a, b = as_float(a)[:, None], as_float(b)[None]
    return _generalized(a, b, *_intersection_and_union(a, b))


@numpy_too
def paired_overlap(
    a: Float[Tensor, "*n 2 d"], b: Float[Tensor, "*n 2 d"], kind: Overlap = "iou"
) -> Float[Tensor, "*n"]:
    """Overlap of each box with its counterpart, differentiable; 1 minus it is the loss of that name.

    Args:
        a: boxes, usually the predictions.
        b: boxes, usually the targets.
        kind: `iou`; `giou` (Rezatofighi et al., CVPR 2019); `diou`, minus the squared distance of the centres
            over the squared diagonal of the hull, and `ciou`, further minus a penalty on aspect ratios (Zheng
            et al., AAAI 2020), here the mean over all pairs of axes, which in the plane is the published one.
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


def paired_iou(a: Float[Tensor, "*n 2 d"], b: Float[Tensor, "*n 2 d"]) -> Float[Tensor, "*n"]:
    """Intersection over union of each box with its counterpart."""
    return paired_overlap(a, b, "iou")


@numpy_too
def encode(
    boxes: Float[Tensor, "*n 2 d"],
    anchors: Float[Tensor, "*n 2 d"],
    std: Std = (0.1, 0.2),
) -> Float[Tensor, "*n 2 d"]:
    """Boxes relative to anchors: shift of the centre in anchor sizes, log ratio of sizes, each over `std`.

    Args:
        boxes: `(n, 2, d)` with positive extents; log ratios of one without are -inf.
        anchors: `(n, 2, d)` with positive extents; relative to one without nothing is finite.
        std: of (shift, log ratio), or `(2, d)` one per axis.
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
    """The inverse of `encode`; log ratios are cut at `MAX_LOG_RATIO`, so no delta overflows.

    From an anchor without extent comes a box without extent, at its centre.
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
    """Axis by axis: the `(n, m, d)` intermediate of the usual formula would be d times the result."""
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
