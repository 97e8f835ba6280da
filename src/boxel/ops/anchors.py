"""Anchors: the boxes of fixed sizes at every cell of a feature map from which a dense head measures."""

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from boxel.ops.checks import check_extents, check_positive, check_sizes


def anchor_grid(
    shape: Sequence[int],
    stride: Sequence[float],
    sizes: Sequence[Sequence[float]] | Tensor,
    *,
    centred: bool = True,
    device: torch.device | str | None = None,
) -> Float[Tensor, "cells_times_a 2 d"]:
    """Anchors of one level, cells in C order (axis 0 slowest), the sizes of a cell adjacent.

    A head output `(b, a * o, *shape)`, reshaped to `(b, a, o, *shape)` and moved to `(b, *shape, a, o)`, has
    their order.

    Args:
        shape: cells per axis.
        stride: voxels per cell, per axis.
        sizes: `(a, d)` voxels.
        centred: anchor centres at the middle of the cells, `(i + 0.5) * stride`; otherwise at their lower
            corner, `i * stride`, as in the MedicalDetectionToolkit.
        device: where the anchors are made.

    Raises:
        ValueError: sizes or strides that are not positive or not of the rank of `shape`.
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
    """Anchor sizes of RetinaNet (Lin et al., ICCV 2017): every aspect ratio in every fraction of an octave.

    Args:
        scale: voxels; the in-plane area is `scale ** 2` whatever the ratio.
        ratios: width over height.
        octaves: sizes per octave, `scale * 2 ** (k / octaves)`.
        through_plane: voxels along a further, first axis; grows with the octaves, not with the ratios.

    Returns:
        Ratio outer, octave inner: (height, width), or (depth, height, width) with `through_plane`.

    Raises:
        ValueError: a number that is not positive.
    """
    check_positive(scale=scale, octaves=octaves, through_plane=1.0 if through_plane is None else through_plane)
    check_sizes("ratios", ratios)
    sizes = []
    for ratio, k in itertools.product(ratios, range(octaves)):
        growth = 2 ** (k / octaves)
        plane = (scale * growth / math.sqrt(ratio), scale * growth * math.sqrt(ratio))
        sizes.append(plane if through_plane is None else (through_plane * growth, *plane))
    return tuple(sizes)
