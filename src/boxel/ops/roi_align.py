"""RoIAlign of any rank, from one feature map or a pyramid, and which level of a pyramid a box is pooled from."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

# Cells that a box should span on its level: one per bin of the usual head's 7 x 7.
ROI_CELLS = 7.0


def roi_align(
    features: Float[Tensor, "b c *s"],
    boxes: Float[Tensor, "n 2 d"],
    images: Int[Tensor, " n"],
    *,
    output_size: Sequence[int],
    stride: Sequence[float],
    sampling_ratio: int | Sequence[int] = 2,
) -> Float[Tensor, "n c *o"]:
    """The features inside each box, averaged over a grid of bins.

    A bin is the mean of evenly spread samples, interpolated linearly between the centres of cells,
    `(i + 0.5) * stride`; beyond the outermost centres the border cells continue. Gradient flows to the features, not
    to the boxes. Positions and sums are at least float32; the result has the type of the features and lies
    channels-last in memory.

    Args:
        features: one map of each image.
        boxes: voxels of the image; one without extent has the features of its point in every bin.
        images: which image each box lies in.
        output_size: bins per axis.
        stride: voxels per cell and axis.
        sampling_ratio: samples per bin and axis, for all axes or for each; 1 takes the centre of the bin.

    Reference: He et al., Mask R-CNN, ICCV 2017; Detectron2's "aligned" form.
    """
    return pyramid_roi_align(
        [features],
        boxes,
        images,
        torch.zeros_like(images),
        output_size=output_size,
        strides=[stride],
        sampling_ratio=sampling_ratio,
    )


def pyramid_roi_align(
    pyramid: Sequence[Tensor],
    boxes: Float[Tensor, "n 2 d"],
    images: Int[Tensor, " n"],
    levels: Int[Tensor, " n"],
    *,
    output_size: Sequence[int],
    strides: Sequence[Sequence[float]],
    sampling_ratio: int | Sequence[int] = 2,
) -> Float[Tensor, "n c *o"]:
    """`roi_align`, each box on the map of the pyramid that `levels` names.

    Args:
        pyramid: maps `(b, c, *s)`.
        levels: indices into the pyramid.
        strides: voxels per cell and axis, a row per map.
    """
    ratios = _per_axis(sampling_ratio, boxes.shape[-1])
    _check(pyramid, boxes.shape[-1], strides, output_size=output_size, sampling_ratio=ratios)
    dtype, device = torch.promote_types(pyramid[0].dtype, torch.float32), boxes.device
    tables = [level.to(dtype).movedim(1, -1).flatten(0, -2) for level in pyramid]
    first = torch.tensor([sum(map(len, tables[:k])) for k in range(len(tables))], device=device)[levels]
    shapes = torch.tensor([level.shape[2:] for level in pyramid], device=device)[levels]
    corners = boxes.detach().to(dtype) / torch.tensor(strides, dtype=dtype, device=device)[levels, None]
    cells, weights = _taps(corners, images, shapes, output_size, ratios)
    # A bin is a weighted sum of cells: rows of a table, whose gradient torch knows, on every device.
    table, cells = torch.cat(tables), first[:, None, None] + cells
    pooled = F.embedding_bag(cells.flatten(0, 1), table, per_sample_weights=weights.flatten(0, 1), mode="sum")
    return pooled.to(pyramid[0].dtype).unflatten(0, (len(boxes), *output_size)).movedim(-1, 1)


def _taps(
    corners: Float[Tensor, "n 2 d"],
    images: Int[Tensor, " n"],
    shapes: Int[Tensor, "n d"],
    output_size: Sequence[int],
    ratios: Sequence[int],
) -> tuple[Int[Tensor, "n bins taps"], Float[Tensor, "n bins taps"]]:
    """The cells of `(b, *s)` that each bin sums, counted in C order, and their weights; corners in cells."""
    cells = images.long()[:, None, None]
    weights = torch.ones_like(cells, dtype=corners.dtype)
    axes = zip(corners.unbind(-1), shapes.unbind(-1), output_size, ratios, strict=True)
    for corner, size, bins, ratio in axes:
        fraction = (torch.arange(bins * ratio, dtype=corner.dtype, device=corner.device) + 0.5) / (bins * ratio)
        place = torch.lerp(corner[:, :1], corner[:, 1:], fraction) - 0.5
        place = torch.minimum(place.clamp(min=0), size[:, None] - 1)
        below = place.nan_to_num().long()
        above = torch.minimum(below + 1, size[:, None] - 1)
        near = torch.stack([below, above], -1).unflatten(1, (bins, ratio)).flatten(2)
        share = torch.stack([1 - place + below, place - below], -1).unflatten(1, (bins, ratio)).flatten(2) / ratio
        cells = cells[:, :, None, :, None] * size[:, None, None, None, None] + near[:, None, :, None, :]
        cells = cells.flatten(3).flatten(1, 2)
        weights = (weights[:, :, None, :, None] * share[:, None, :, None, :]).flatten(3).flatten(1, 2)
    return cells, weights


def assign_levels(
    boxes: Float[Tensor, "n 2 d"], strides: Sequence[Sequence[float]], *, cells: float = ROI_CELLS
) -> Int[Tensor, " n"]:
    """The level on which each box spans closest to `cells` cells, by the geometric mean over all axes.

    The size in voxels decides, whatever the patch; a box without extent goes to the first level. FPN's rule (Lin et
    al., CVPR 2017, equation 1) puts photographs' objects where they span 14 to 28 cells; the smaller objects of
    medical images would then all be pooled from the finest level, so that the default is one cell per bin.

    Args:
        boxes: voxels.
        strides: voxels per cell and axis, a row per level, finest first.
    """
    extent = (boxes[:, 1] - boxes[:, 0]).clamp(min=torch.finfo(boxes.dtype).tiny)
    spanned = (extent[:, None] / boxes.new_tensor(strides)).log().mean(-1)
    return (spanned - math.log(cells)).abs().argmin(1)


def assign_levels_mdt(boxes: Float[Tensor, "n 2 d"], patch_size: Sequence[int], num_levels: int) -> Int[Tensor, " n"]:
    """The level by the MedicalDetectionToolkit's rule, for comparison: `round(4 + log2(sqrt(h * w)))`.

    h and w are the extents along the last two axes as parts of the patch, so the level of an object changes with the
    patch, and not with its depth.
    """
    part = ((boxes[:, 1] - boxes[:, 0]) / boxes.new_tensor(patch_size))[:, -2:]
    return (4 + part.prod(-1).log2() / 2).round().clamp(0, num_levels - 1).long()


def _per_axis(value: int | Sequence[int], ndim: int) -> list[int]:
    return [value] * ndim if isinstance(value, int) else list(value)


def _check(pyramid: Sequence[Tensor], ndim: int, strides: Sequence[Sequence[float]], **settings: Sequence[int]) -> None:
    if len(strides) != len(pyramid):
        raise ValueError(f"strides must have a row for each of the {len(pyramid)} maps, got {len(strides)}")
    for name, values in (*settings.items(), *((f"strides[{k}]", row) for k, row in enumerate(strides))):
        if len(values) != ndim or min(values) <= 0:
            raise ValueError(f"{name} must have one positive number for each of the boxes' {ndim} axes, got {values}")
    for k, level in enumerate(pyramid):
        if level.ndim != ndim + 2:
            raise ValueError(
                f"map {k} must have shape (b, c, *s) with {ndim} axes s, as the boxes, got {tuple(level.shape)}"
            )
