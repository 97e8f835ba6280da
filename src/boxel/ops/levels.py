"""Which level of a pyramid of features a box is pooled from."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Int, Real
from torch import Tensor

from boxel.ops.arrays import numpy_too
from boxel.ops.boxes import size
from boxel.ops.checks import check_corners
from boxel.ops.number_types import as_float

# Cells that a box should span on its level: one per bin of the usual head's 7 x 7.
ROI_CELLS = 7.0


@numpy_too
def assign_levels(
    boxes: Real[Tensor, "n 2 d"], strides: Sequence[Sequence[float]], *, cells: float = ROI_CELLS
) -> Int[Tensor, " n"]:
    """Return the level on which each box spans closest to `cells` cells, by the geometric mean over all axes.

    The size in voxels decides, independent of the patch; a box without extent or with NaN goes to the first level.
    The rule of FPN puts the objects of photographs where they span 14 to 28 cells; the smaller objects of medical
    images would then all be pooled from the finest level, so the default is one cell per bin.

    Args:
        boxes: `(n, 2, d)` voxels.
        strides: voxels per cell and axis, a row per level, finest first.
        cells: cells that a box should span.

    Example:
        >>> import torch
        >>> from boxel.ops import assign_levels
        >>> boxes = torch.tensor([[[0.0, 0.0], [20.0, 30.0]], [[0.0, 0.0], [120.0, 120.0]]])
        >>> assign_levels(boxes, [(4, 4), (8, 8), (16, 16)]).tolist()
        [0, 2]

    Reference: compare Lin et al., Feature Pyramid Networks, CVPR 2017, equation 1.
    """
    check_corners(boxes)
    boxes = as_float(boxes)
    extent = size(boxes).clamp(min=torch.finfo(boxes.dtype).tiny)
    spanned = (extent[:, None] / torch.as_tensor(strides, dtype=boxes.dtype, device=boxes.device)).log().mean(-1)
    return (spanned - math.log(cells)).abs().argmin(1)


@numpy_too
def assign_levels_fpn(boxes: Real[Tensor, "n 2 d"], levels: Sequence[int]) -> Int[Tensor, " n"]:
    """Return the level by the rule of FPN, for photographs: `floor(4 + log2(size / 224))`, or the nearest there is.

    The size is the geometric mean of the extents along all axes, in 2D the square root of the area.

    Args:
        boxes: `(n, 2, d)` voxels; one without extent or with NaN goes to the first level.
        levels: numbers of the levels, finest first; level 4 has the boxes of 224 to 448 voxels.

    Returns:
        `(n,)` places in `levels`.

    Example:
        >>> import torch
        >>> from boxel.ops import assign_levels_fpn
        >>> boxes = torch.tensor([[[0.0, 0.0], [112.0, 112.0]], [[0.0, 0.0], [224.0, 224.0]]])
        >>> assign_levels_fpn(boxes, [2, 3, 4, 5]).tolist()
        [1, 2]

    Reference: Lin et al., Feature Pyramid Networks, CVPR 2017, equation 1.
    """
    check_corners(boxes)
    boxes = as_float(boxes)
    extent = size(boxes).clamp(min=torch.finfo(boxes.dtype).tiny)
    # torchvision's tolerance: 224 voxels are those of level 4, however the logarithm is rounded.
    level = (4 + (extent / 224).log2().mean(-1) + 1e-6).floor().nan_to_num()
    return torch.bucketize(level, boxes.new_tensor(list(levels)), right=True).sub(1).clamp(min=0)


@numpy_too
def assign_levels_mdt(boxes: Real[Tensor, "n 2 d"], patch_size: Sequence[int], num_levels: int) -> Int[Tensor, " n"]:
    """Return the level by the MedicalDetectionToolkit's rule, for comparison: `round(4 + log2(sqrt(h * w)))`.

    h and w are the extents along the last two axes as fractions of the patch, so the level of an object changes with
    the patch, and not with its depth.

    Args:
        boxes: `(n, 2, d)` voxels.
        patch_size: voxels per axis.
        num_levels: number of levels of the pyramid.

    Example:
        >>> import torch
        >>> from boxel.ops import assign_levels_mdt
        >>> boxes = torch.tensor([[[0.0, 0.0], [16.0, 16.0]], [[0.0, 0.0], [128.0, 128.0]]])
        >>> assign_levels_mdt(boxes, (256, 256), num_levels=4).tolist()
        [0, 3]
    """
    check_corners(boxes)
    boxes = as_float(boxes)
    part = (size(boxes) / boxes.new_tensor(list(patch_size)))[:, -2:]
    return (4 + part.prod(-1).log2() / 2).nan_to_num().round().clamp(0, num_levels - 1).long()
