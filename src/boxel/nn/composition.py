"""Linear maps that follow each other without an activation, composed into one.

The U-FPN's way down to the segmentation is linear: lateral 1-wide convolutions, resizing, additions, a 3-wide
convolution, a 1-wide convolution. A 1-wide convolution commutes with linear resizing, whose weights sum to one, and a
wider one is a sum over its taps of shifted 1-wide ones. So what each tap takes from a voxel's features is computed at
the features' own resolution, in taps x outputs channels, and resized and summed last.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def compose(last: Any, wide: Any) -> tuple[Float[Tensor, "k c *w"], Float[Tensor, " k"]]:
    """Kernel and bias of the 1-wide convolution `last` after the convolution `wide`."""
    rows = last.weight.flatten(1)
    return torch.einsum("kc,cd...->kd...", rows, wide.weight), rows @ wide.bias + last.bias


def compose_rows(
    rows: Float[Tensor, "k c"], constant: Float[Tensor, " k"], first: Any
) -> tuple[Float[Tensor, "k d"], Float[Tensor, " k"]]:
    """The 1-wide map `rows`, `constant` after the 1-wide convolution `first`."""
    return rows @ first.weight.flatten(1), constant + rows @ first.bias


def tap_rows(kernel: Float[Tensor, "k c *w"]) -> Float[Tensor, "t c"]:
    """What every tap of a kernel takes from a voxel, as a 1-wide map; first axis first, outputs innermost."""
    return kernel.permute(*range(2, kernel.ndim), 0, 1).flatten(0, -2)


def resize_and_sum_taps(x: Float[Tensor, "b t *s"], shape: Sequence[int]) -> Float[Tensor, "b k *z"]:
    """Resizes the maps of `tap_rows` of a 3-wide kernel linearly to `shape` and adds them at their neighbours.

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
