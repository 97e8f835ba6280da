"""Linear maps that follow each other without an activation, composed and applied as one.

The U-FPN's way down to the segmentation is linear: lateral 1-wide convolutions, resizing, additions, a 3-wide
convolution, a 1-wide convolution. A 1-wide convolution commutes with linear resizing, whose weights sum to one, and a
wider one is a sum over its taps of shifted 1-wide ones. So what each tap takes from a voxel's features is computed at
the features' own resolution, in as many channels as there are taps times outputs, and resized and summed last.
"""

import math
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
    """What every tap of a kernel takes from a voxel, as a 1-wide map; last axis first, outputs innermost."""
    axes = range(kernel.ndim - 1, 1, -1)
    return kernel.permute(*axes, 0, 1).flatten(0, -2)


def resize_and_sum_taps(x: Float[Tensor, "b t *s"], shape: Sequence[int]) -> Float[Tensor, "b k *z"]:
    """Resizes the maps of `tap_rows` of a 3-wide kernel linearly to `shape` and adds them at their neighbours.

    Zero beyond the border, as padding is. Each axis is one product with a small matrix that does both, so that a third
    of the channels is left before the next axis grows.
    """
    x = x.movedim(1, -1)  # as convolutions have it in memory
    for axis in range(len(shape), 0, -1):
        x = x.unflatten(-1, (3, -1)).movedim(-2, axis + 1)  # an axis' taps next to its cells
        before, cells, after = x.shape[:axis], x.shape[axis], x.shape[axis + 2 :]
        matrix = _resize_and_shift(cells, shape[axis - 1]).to(x)
        x = matrix @ x.reshape(math.prod(before), 3 * cells, math.prod(after))
        x = x.reshape(*before, shape[axis - 1], *after)
    return x.movedim(-1, 1)


def _resize_and_shift(cells: int, size: int) -> Float[Tensor, "z st"]:
    """Weights of each (cell, tap) in each of the `size` cells of the finer grid."""
    weights = torch.eye(cells, dtype=torch.float64)[None]
    if cells != size:
        weights = F.interpolate(weights, size=size, mode="linear", align_corners=False)
    return F.pad(weights[0], (1, 1)).unfold(-1, size, 1).flatten(0, 1).T
