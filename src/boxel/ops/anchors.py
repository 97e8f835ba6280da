"""Anchors: boxes of fixed sizes at every cell of a feature map, relative to which a dense head predicts."""

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from boxel.ops.arrays import numpy_too
from boxel.ops.checks import check_extents, check_positive, check_sizes


@numpy_too
def anchor_grid(
    shape: Sequence[int],
    stride: Sequence[float],
    sizes: Sequence[Sequence[float]] | Tensor,
    *,
    centred: bool = True,
    device: torch.device | str | None = None,
) -> Float[Tensor, "cells_times_a 2 d"]:
    """Return the anchors of one level, cells in C order (axis 0 slowest), the sizes of a cell adjacent.

    A head output `(b, a * o, *shape)`, reshaped to `(b, a, o, *shape)` and moved to `(b, *shape, a, o)`, has the same
    order.

    Args:
        shape: cells per axis.
        stride: voxels per cell, per axis.
        sizes: `(a, d)` voxels, of any number type.
        centred: place anchor centres at the middle of the cells, `(i + 0.5) * stride`; otherwise at their lower
            corner, `i * stride`, as in the MedicalDetectionToolkit.
        device: where the anchors are created.

    Returns:
        `(cells * a, 2, d)` voxels, float32.

    Raises:
        ValueError: sizes or strides that are not positive or not of the rank of `shape`.

    Example:
        >>> from boxel.ops import anchor_grid
        >>> anchor_grid((1, 2), stride=(8, 8), sizes=[(4, 6)]).tolist()
        [[[2.0, 1.0], [6.0, 7.0]], [[2.0, 9.0], [6.0, 15.0]]]

    Reference: Ren et al., Faster R-CNN, NeurIPS 2015, section 3.1.1.
    """
    check_sizes("shape", shape)
    check_sizes("stride", stride, len(shape))
    whole = torch.as_tensor(sizes, dtype=torch.float32, device=device)
    if whole.shape[1:] != (len(shape),):
        raise ValueError(f"sizes must have shape (a, {len(shape)}), got {tuple(whole.shape)}")
    if not torch.compiler.is_compiling():
        check_extents("sizes", whole)
    half = whole / 2
    offset = 0.5 if centred else 0.0
    axes = [
        (torch.arange(n, device=device, dtype=torch.float32) + offset) * s for n, s in zip(shape, stride, strict=True)
    ]
    centres = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 1, len(axes))
    return torch.stack([centres - half, centres + half], -2).flatten(0, 1)


def octave_sizes(
    scale: float,
    *,
    ratios: Sequence[float] = (0.5, 1.0, 2.0),
    octaves: int = 3,
    through_plane: float | None = None,
) -> tuple[tuple[float, ...], ...]:
    """Return the anchor sizes of RetinaNet: every aspect ratio in every fraction of an octave.

    Args:
        scale: voxels; the in-plane area is `scale ** 2` for every ratio.
        ratios: width over height.
        octaves: sizes per octave, `scale * 2 ** (k / octaves)`.
        through_plane: voxels along a further, first axis; it grows with the octaves, not with the ratios.

    Returns:
        Voxels, ratio outer, octave inner: (height, width), or (depth, height, width) with `through_plane`.

    Raises:
        ValueError: a number that is not positive.

    Example:
        >>> from boxel.ops import octave_sizes
        >>> octave_sizes(8, ratios=(1.0, 4.0), octaves=1, through_plane=2)
        ((2.0, 8.0, 8.0), (2.0, 4.0, 16.0))

    Reference: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, section 4.
    """
    check_positive(scale=scale, octaves=octaves, through_plane=1.0 if through_plane is None else through_plane)
    check_sizes("ratios", ratios)
    sizes = []
    for ratio, k in itertools.product(ratios, range(octaves)):
        growth = 2 ** (k / octaves)
        plane = (scale * growth / math.sqrt(ratio), scale * growth * math.sqrt(ratio))
        sizes.append(plane if through_plane is None else (through_plane * growth, *plane))
    return tuple(sizes)
