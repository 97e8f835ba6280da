"""RoIAlign of any rank, from one feature map or a pyramid."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Real
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from boxel.ops.arrays import kernels, numpy_too
from boxel.ops.checks import check_corners, check_index
from boxel.ops.number_types import as_float


@numpy_too
def roi_align(
    features: Float[Tensor, "b c *s"],
    boxes: Real[Tensor, "n 2 d"],
    images: Int[Tensor, " n"],
    *,
    output_size: Sequence[int],
    stride: Sequence[float],
    sampling_ratio: int | Sequence[int] = 2,
    aligned: bool = True,
) -> Float[Tensor, "n c *o"]:
    """Return the features inside each box, averaged over a grid of bins.

    How it works: a bin is the mean of evenly spaced samples, interpolated linearly between the centres of cells,
    `(i + 0.5) * stride`; beyond the outermost centres the border cells continue. Gradient flows to the features, not to
    the boxes. Positions and sums are at least float32; the result has the type of the features and is channels-last in
    memory.

    Args:
        features: one map per image.
        boxes: voxels of the image; a box without extent has the features of its point in every bin, one with NaN has
            NaN.
        images: which image each box lies in.
        output_size: bins per axis.
        stride: voxels per cell and axis.
        sampling_ratio: samples per bin and axis, for all axes or for each; 1 takes the centre of the bin.
        aligned: if not, the centres of cells lie at `i * stride`, half a cell lower, and a box spans at least one cell
            per axis, as in torchvision's detectors.

    Raises:
        ValueError: arguments of another rank than the boxes, sizes that are not positive, or an image that does not
            exist.

    Example:
        >>> import torch
        >>> from boxel.ops import roi_align
        >>> ramp = torch.arange(8.0).expand(1, 1, 8, 8)  # the value of a cell is its column
        >>> box, image = torch.tensor([[[4.0, 4.0], [12.0, 12.0]]]), torch.tensor([0])
        >>> roi_align(ramp, box, image, output_size=(1, 2), stride=(2, 2)).tolist()  # around columns 2.5 and 4.5
        [[[[2.5, 4.5]]]]

    Reference: He et al., Mask R-CNN, ICCV 2017, section 3; the "aligned" form of Detectron2.
    """
    return pyramid_roi_align(
        [features],
        boxes,
        images,
        torch.zeros_like(images),
        output_size=output_size,
        strides=[stride],
        sampling_ratio=sampling_ratio,
        aligned=aligned,
    )


@numpy_too
def pyramid_roi_align(
    pyramid: Sequence[Tensor],
    boxes: Real[Tensor, "n 2 d"],
    images: Int[Tensor, " n"],
    levels: Int[Tensor, " n"],
    *,
    output_size: Sequence[int],
    strides: Sequence[Sequence[float]],
    sampling_ratio: int | Sequence[int] = 2,
    aligned: bool = True,
) -> Float[Tensor, "n c *o"]:
    """Apply `roi_align` to each box on the level of the pyramid that `levels` names.

    Args:
        pyramid: maps `(b, c, *s)`, one per level.
        boxes: voxels of the image.
        images: which image each box lies in.
        levels: which level each box is pooled from, see `assign_levels`.
        output_size: bins per axis.
        strides: voxels per cell and axis, a row per level.
        sampling_ratio: samples per bin and axis.
        aligned: see `roi_align`.

    Raises:
        ValueError: as `roi_align`, or a level that does not exist.

    Example:
        >>> import torch
        >>> from boxel.ops import assign_levels, pyramid_roi_align
        >>> pyramid, strides = [torch.zeros(1, 4, 16, 16), torch.ones(1, 4, 8, 8)], [(2, 2), (4, 4)]
        >>> boxes = torch.tensor([[[0.0, 0.0], [8.0, 8.0]], [[0.0, 0.0], [30.0, 30.0]]])
        >>> levels = assign_levels(boxes, strides)
        >>> images = torch.tensor([0, 0])
        >>> pooled = pyramid_roi_align(pyramid, boxes, images, levels, output_size=(7, 7), strides=strides)
        >>> tuple(pooled.shape), pooled.mean((1, 2, 3)).tolist()
        ((2, 4, 7, 7), [0.0, 1.0])
    """
    check_corners(boxes)
    boxes, images, levels = as_float(boxes), images.long(), levels.long()
    ratios = _per_axis(sampling_ratio, boxes.shape[-1])
    _check(pyramid, boxes.shape[-1], strides, output_size=output_size, sampling_ratio=ratios)
    dtype, device = torch.promote_types(pyramid[0].dtype, torch.float32), boxes.device
    eager = not torch.compiler.is_compiling()
    if eager and device.type == "cpu":
        check_index(images=(images, len(pyramid[0])), levels=(levels, len(pyramid)))
    # All maps as one table of cells, so that the boxes of all levels are pooled together.
    tables = [level.to(dtype).movedim(1, -1).flatten(0, -2) for level in pyramid]
    first = torch.tensor([sum(map(len, tables[:k])) for k in range(len(tables))], device=device)
    shapes = torch.tensor([level.shape[2:] for level in pyramid], device=device)[levels]
    rows = first[levels] + images * shapes.prod(-1)
    corners = boxes.detach().to(dtype) / torch.tensor(strides, dtype=dtype, device=device)[levels, None]
    if not aligned:  # the box moves up instead of the cells down
        lower, upper = corners.unbind(1)
        corners = torch.stack([lower, torch.maximum(upper, lower + 1)], 1) + 0.5
    near, share = _taps(corners, shapes, output_size, ratios)
    table = torch.cat(tables) if tables[1:] else tables[0]
    compiled = kernels(table, boxes) if eager else None
    parts = (table, rows, near, share, shapes)
    pooled = _Pooling.apply(compiled, *parts) if compiled else _pool(*parts)
    return pooled.to(pyramid[0].dtype).unflatten(1, tuple(output_size)).movedim(-1, 1)


def _taps(
    corners: Float[Tensor, "n 2 d"], shapes: Int[Tensor, "n d"], output_size: Sequence[int], ratios: Sequence[int]
) -> tuple[list[Tensor], list[Tensor]]:
    """The cells `(n, bins, taps)` along each axis whose sum is a bin, and their weights; corners in cells."""
    near, share = [], []
    for corner, size, bins, ratio in zip(corners.unbind(-1), shapes.unbind(-1), output_size, ratios, strict=True):
        fraction = (torch.arange(bins * ratio, dtype=corner.dtype, device=corner.device) + 0.5) / (bins * ratio)
        place = torch.lerp(corner[:, :1], corner[:, 1:], fraction) - 0.5
        place = torch.minimum(place.clamp(min=0), size[:, None] - 1)
        below = place.nan_to_num().long()
        part = place - below
        both = torch.stack([below, torch.minimum(below + 1, size[:, None] - 1)], -1)
        near.append(both.unflatten(1, (bins, ratio)).flatten(2))
        share.append(torch.stack([1 - part, part], -1).unflatten(1, (bins, ratio)).flatten(2) / ratio)
    return near, share


def _pool(
    table: Float[Tensor, "cells c"], rows: Int[Tensor, " n"], near: list[Tensor], share: list[Tensor], shapes: Tensor
) -> Float[Tensor, "n bins c"]:
    """Each bin as the weighted sum of its cells; `_taps` gives their parts along the axes."""
    cells = torch.zeros_like(rows)[:, None, None]
    weights = torch.ones_like(cells, dtype=table.dtype)
    for own, part, size in zip(near, share, shapes.unbind(-1), strict=True):
        cells = cells[:, :, None, :, None] * size[:, None, None, None, None] + own[:, None, :, None, :]
        weights = weights[:, :, None, :, None] * part[:, None, :, None, :]
        cells, weights = (x.flatten(3).flatten(1, 2) for x in (cells, weights))
    cells = cells + rows[:, None, None]
    pooled = F.embedding_bag(cells.flatten(0, 1), table, per_sample_weights=weights.flatten(0, 1), mode="sum")
    return pooled.unflatten(0, cells.shape[:2])


class _Pooling(torch.autograd.Function):
    """`_pool` on the CPU, by the compiled kernels."""

    @staticmethod
    def forward(
        ctx: Any,
        compiled: ModuleType,
        table: Tensor,
        rows: Tensor,
        near: list[Tensor],
        share: list[Tensor],
        shapes: Tensor,
    ) -> Tensor:
        bins, taps = (np.array([part.shape[axis] for part in near]) for axis in (1, 2))
        lists = [torch.cat([part.flatten(1) for part in parts], 1) for parts in (near, share)]
        ctx.compiled, ctx.table = compiled, table.shape
        ctx.settings = [x.contiguous().numpy() for x in (rows, *lists, shapes)] + [taps, bins]
        pooled = table.new_empty((len(rows), bins.prod(), table.shape[1]))
        compiled.pool(table.contiguous().numpy(), *ctx.settings, pooled.numpy())
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        table = gradient.new_zeros(ctx.table)
        ctx.compiled.spread(table.numpy(), *ctx.settings, gradient.numpy())
        return None, table, None, None, None, None


def _per_axis(value: int | Sequence[int], ndim: int) -> list[int]:
    return [value] * ndim if isinstance(value, int) else list(value)


def _check(pyramid: Sequence[Tensor], ndim: int, strides: Sequence[Sequence[float]], **settings: Sequence[int]) -> None:
    if len(strides) != len(pyramid):
        raise ValueError(f"strides must have a row for each of the {len(pyramid)} maps, got {len(strides)}")
    for name, values in (*settings.items(), *((f"strides[{k}]", row) for k, row in enumerate(strides))):
        if len(values) != ndim or min(values) <= 0:
            raise ValueError(f"{name} must have one positive number for each of the boxes' {ndim} axes, got {values}")
    for k, level in enumerate(pyramid):
        if not level.is_floating_point():
            raise ValueError(f"map {k} holds {level.dtype}, which cannot be interpolated; convert it to float")
        if level.ndim != ndim + 2:
            raise ValueError(
                f"map {k} must have shape (b, c, *s) with {ndim} axes s, as the boxes, got {tuple(level.shape)}"
            )
