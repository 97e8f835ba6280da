"""Regions of images: sampled at a fixed size, pasted back; differentiable in the images and in the boxes.

The grids are aligned with the axes, so that one small matrix per axis interpolates: any rank, and no list of positions.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Float, Int, Real
from torch import Tensor

from boxel.ops.arrays import numpy_too
from boxel.ops.checks import check_boxes, check_index, check_rows, check_sizes
from boxel.ops.mask_grids import centres, contract
from boxel.ops.number_types import as_float

EPS = 1e-7
"""Added to the width of a cell before `paste_regions` divides by it."""


@numpy_too
def sample_regions(
    images: Float[Tensor, "b c *s"],
    boxes: Real[Tensor, "n 2 d"],
    index: Int[Tensor, " n"],
    output_size: Sequence[int],
) -> Float[Tensor, "n c *o"]:
    """Return the content of each box resampled to `output_size`, with gradients to the images and to the boxes.

    How it works: the value of an image's voxel holds at its centre, `i + 0.5`; the result is interpolated linearly at
    the centres of its cells, `lower + (j + 0.5) / output_size * extent`. The image continues with zeros beyond its
    border. One point is read per cell, so a region that is reduced in size is not smoothed. At the centre of a voxel
    the gradient to the box is that towards the next voxel.

    The arithmetic is at least float32, also under autocast; the result has the type of the images. Memory: of several
    images, one copy per box. A NaN in an image spreads to all of its regions.

    Args:
        images: one per batch entry, all of the same size.
        boxes: `(n, 2, d)` voxels; an inverted axis is mirrored, a box with NaN has NaN.
        index: which image each box lies in.
        output_size: cells per axis.

    Raises:
        ValueError: arguments of another rank than the boxes, sizes that are not positive, images of integers, or an
            index that does not exist.

    Example:
        >>> import torch
        >>> from boxel.ops import sample_regions
        >>> ramp = torch.arange(8.0).expand(1, 1, 8, 8)  # the value of a voxel is its column
        >>> box = torch.tensor([[[0.0, 2.0], [8.0, 6.0]]], requires_grad=True)
        >>> region = sample_regions(ramp, box, torch.tensor([0]), (1, 2))
        >>> region.tolist()  # at the coordinates 3 and 5, where columns 2 and 3, 4 and 5 meet
        [[[[2.5, 4.5]]]]
        >>> region.sum().backward()
        >>> box.grad.tolist()  # a corner that moves by one voxel moves the two cells by one in all
        [[[0.0, 1.0], [0.0, 1.0]]]

    Reference: Jaderberg et al., Spatial Transformer Networks, NeurIPS 2015, without rotation; the recalibration of
        L-SNet, eq. (2) and (3), on coordinates that start at the centre of the image.
    """
    _check(images, boxes, "images")
    check_sizes("output_size", output_size, boxes.shape[-1])
    if len(index) != len(boxes):
        raise ValueError(f"index must have one number for each of the {len(boxes)} boxes, got {len(index)}")
    if boxes.device.type == "cpu" and not torch.compiler.is_compiling():
        check_index(index=(index, len(images)))
    dtype = torch.promote_types(images.dtype, torch.float32)
    corners = boxes.to(dtype)
    matrices = []
    for axis, (voxels, cells) in enumerate(zip(images.shape[2:], output_size, strict=True)):
        lower, upper = corners[:, :, axis, None].unbind(1)
        points = lower + centres(0, cells, corners) * ((upper - lower) / cells)
        matrices.append(_linear(points - 0.5, voxels))
    # One image is broadcast to its boxes without a copy.
    return _multiply(images if len(images) == 1 else images[index.long()], matrices)


@numpy_too
def paste_regions(
    regions: Float[Tensor, "n c *r"], boxes: Real[Tensor, "n 2 d"], shape: Sequence[int]
) -> Float[Tensor, "n c *s"]:
    """Return each region at its box in an image of `shape`, zero outside the box: the inverse of `sample_regions`.

    How it works: a voxel whose centre lies in the box takes the region's value there, interpolated linearly between the
    centres of cells and constant in the outer half cells. Gradient flows to the regions and to the boxes, but not
    through which voxels are in the box.

    The arithmetic is at least float32, also under autocast; the result has the type of the regions.

    Args:
        regions: maps over the boxes, for example the probabilities of each class.
        boxes: `(n, 2, d)` voxels of the image; a box without extent pastes nothing.
        shape: voxels per axis of the image.

    Raises:
        ValueError: NaN or inverted boxes, with the row; arguments of another rank than the boxes, sizes that are not
            positive, or regions of integers.

    Example:
        >>> import torch
        >>> from boxel.ops import paste_regions
        >>> box = torch.tensor([[[0.0, 1.0], [1.0, 5.0]]])
        >>> paste_regions(torch.tensor([[[[0.0, 1.0]]]]), box, (2, 6)).tolist()
        [[[[0.0, 0.0, 0.25, 0.75, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]]]

    Reference: L-SNet, eq. (4), whose translation must be `-b / (s + eps)` to invert eq. (2).
    """
    boxes = as_float(boxes)
    check_boxes(boxes)
    _check(regions, boxes, "regions")
    check_sizes("shape", shape, boxes.shape[-1])
    if len(regions) != len(boxes):
        raise ValueError(f"regions must have one map for each of the {len(boxes)} boxes, got {len(regions)}")
    corners = boxes.to(torch.promote_types(regions.dtype, torch.float32))
    matrices = []
    for axis, (cells, voxels) in enumerate(zip(regions.shape[2:], shape, strict=True)):
        lower, upper = corners[:, :, axis, None].unbind(1)
        points = centres(0, voxels, corners)
        place = (points - lower) / ((upper - lower) / cells + EPS) - 0.5
        inside = (points >= lower) & (points < upper)
        matrices.append(_linear(place.clamp(0, cells - 1), cells) * inside[:, :, None])
    return _multiply(regions, matrices)


@numpy_too
def scale_gradient(x: Real[Tensor, "*s"], factor: float) -> Real[Tensor, "*s"]:
    """Return `x` unchanged, and multiply the gradient that flows back through it by `factor`.

    With the factor 0 the result is detached: nothing before it has a gradient from here, not even a zero one.

    Example:
        >>> import torch
        >>> from boxel.ops import scale_gradient
        >>> x = torch.tensor(3.0, requires_grad=True)
        >>> scale_gradient(x, 0.1).square().backward()  # 2 * 3 * 0.1
        >>> round(x.grad.item(), 6)
        0.6
    """
    return _ScaledGradient.apply(x, factor) if factor else x.detach()


class _ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


def _linear(place: Float[Tensor, "n t"], cells: int) -> Float[Tensor, "n t g"]:
    """Weights of the two cells around each place, in cells from the centre of the first; NaN gives NaN."""
    below = place.detach().floor()
    part = (place - below)[:, :, None]
    offset = below[:, :, None] - torch.arange(cells, device=place.device)
    return (offset == 0) * (1 - part) + (offset == -1) * part


def _multiply(values: Float[Tensor, "#n c *s"], matrices: Sequence[Float[Tensor, "n _ _"]]) -> Float[Tensor, "n c *t"]:
    device = values.device.type
    # Autocast would round the weights to half precision; some devices have none.
    full = torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()
    with full:
        result = contract(values.to(matrices[0].dtype).movedim(1, -1), matrices)
    return result.to(values.dtype)


def _check(values: Tensor, boxes: Tensor, name: str) -> None:
    check_rows(boxes)
    if values.ndim != boxes.shape[-1] + 2:
        raise ValueError(
            f"{name} must have two axes more than the boxes' {boxes.shape[-1]}, got shape {tuple(values.shape)}"
        )
    if not values.is_floating_point():
        raise ValueError(f"{name} hold {values.dtype}, which cannot be interpolated; convert them to float")
