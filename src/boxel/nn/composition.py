"""Linear maps that follow each other without an activation, composed into one.

The U-FPN's way down to the segmentation is linear: lateral 1x1 convolutions (1x1x1 in 3D), resizing, additions, a 3x3
convolution, a 1x1 convolution. A 1x1 convolution commutes with linear resizing, whose weights sum to one, and a wider
one is a sum over its taps of shifted 1x1 ones. So what each tap takes from a voxel's features is computed at
the features' own resolution, in taps x outputs channels, and resized and summed last.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def compose(last: Any, wide: Any) -> tuple[Float[Tensor, "k c *w"], Float[Tensor, " k"]]:
    """Kernel and bias of the 1x1 convolution `last` after the convolution `wide`."""
    rows = last.weight.flatten(1)
    return torch.einsum("kc,cd...->kd...", rows, wide.weight), rows @ wide.bias + last.bias


def compose_rows(
    rows: Float[Tensor, "k c"], constant: Float[Tensor, " k"], first: Any
) -> tuple[Float[Tensor, "k d"], Float[Tensor, " k"]]:
    """The 1x1 map `rows`, `constant` after the 1x1 convolution `first`."""
    return rows @ first.weight.flatten(1), constant + rows @ first.bias


def tap_rows(kernel: Float[Tensor, "k c *w"]) -> Float[Tensor, "t c"]:
    """What every tap of a kernel takes from a voxel, as a 1x1 map; first axis first, outputs innermost."""
    return kernel.permute(*range(2, kernel.ndim), 0, 1).flatten(0, -2)


def resize_and_sum_taps(x: Float[Tensor, "b t *s"], shape: Sequence[int]) -> Float[Tensor, "b k *z"]:
    """Resizes the maps of `tap_rows` of a 3x3 kernel linearly to `shape` and adds them at their neighbours.

    Zero beyond the border, as padding is. Each axis is one product with a small matrix that does both and leaves a
    third of the channels; the first axis, which grows least where voxels are not cubes, comes first.
    """
    x = x.movedim(1, -1)  # as convolutions have it in memory
    for axis, size in enumerate(shape, start=1):
        x = x.unflatten(-1, (3, -1)).movedim((axis, -2), (0, 1))
        matrix, rest = _resize_and_shift(len(x), size).to(x), x.shape[2:]
        x = (matrix @ x.flatten(0, 1).flatten(1)).unflatten(1, rest).movedim(0, axis)
    return x.movedim(-1, 1)


def _resize_and_shift(cells: int, size: int) -> Float[Tensor, "z st"]:
    """Weights of each (cell, tap) in each of the `size` cells of the finer grid."""
    weights = torch.eye(cells, dtype=torch.float64)[None]
    if cells != size:
        weights = F.interpolate(weights, size=size, mode="linear", align_corners=False)
    return F.pad(weights[0], (1, 1)).unfold(-1, size, 1).flatten(0, 1).T
