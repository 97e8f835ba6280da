"""Tiles over a large image, and how much context each box had in its tile."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Real
from torch import Tensor

from boxel.ops.arrays import numpy_too
from boxel.ops.boxes import centre
from boxel.ops.checks import check_boxes, check_sizes
from boxel.ops.number_types import as_float


def tile_starts(
    shape: Sequence[int], patch_size: Sequence[int], min_overlap: int | Sequence[int]
) -> tuple[tuple[int, ...], ...]:
    """Return where tiles begin along each axis: the fewest that overlap enough, evenly spread, flush with both borders.

    An axis no longer than the patch has a single tile at 0, which may extend beyond the image.

    Args:
        shape: voxels per axis of the image.
        patch_size: voxels per axis of a tile.
        min_overlap: least overlap of neighbouring tiles in voxels, for all axes or for each.

    Raises:
        ValueError: an overlap that is not smaller than the patch, or arguments that are not positive or of one rank.

    Example:
        >>> from boxel.ops import tile_starts
        >>> tile_starts((100, 30), (64, 64), 16)
        ((0, 36), (0,))
    """
    check_sizes("shape", shape)
    check_sizes("patch_size", patch_size, len(shape))
    overlaps = [min_overlap] * len(shape) if isinstance(min_overlap, int) else list(min_overlap)
    starts = []
    for axis, (length, patch, overlap) in enumerate(zip(shape, patch_size, overlaps, strict=True)):
        if not 0 <= overlap < patch:
            raise ValueError(
                f"min_overlap is {overlap} on axis {axis}; it must be less than the patch's {patch} voxels"
            )
        steps = math.ceil(max(0, length - patch) / (patch - overlap))
        starts.append(
            tuple(math.floor(i * (length - patch) / steps + 0.5) for i in range(steps + 1)) if steps else (0,)
        )
    return tuple(starts)


def tiles(shape: Sequence[int], patch_size: Sequence[int], min_overlap: int | Sequence[int]) -> list[tuple[int, ...]]:
    """Return the lower corners of the tiles in C order; see `tile_starts`.

    Example:
        >>> from boxel.ops import tiles
        >>> tiles((100, 30), (64, 64), 16)
        [(0, 0), (36, 0)]
    """
    return list(itertools.product(*tile_starts(shape, patch_size, min_overlap)))


@numpy_too
def patch_centre_weight(
    boxes: Real[Tensor, "n 2 d"],
    patch_lower: Sequence[float] | Real[Tensor, "*n d"],
    patch_size: Sequence[int],
) -> Float[Tensor, " n"]:
    """Return how central each box lay in its patch: 1 in the middle, 0.46 in a corner.

    This is the factor p of weighted box clustering: the mean over axes of a normal density scaled to 1, with a standard
    deviation of 0.4 patches.

    Args:
        boxes: `(n, 2, d)` voxels.
        patch_lower: lower corner of the patch, for all boxes or for each.
        patch_size: voxels per axis.

    Raises:
        ValueError: NaN or inverted boxes, or a patch size that is not positive; names the row.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import patch_centre_weight
        >>> boxes = np.array([[[30.0, 30.0], [34.0, 34.0]], [[0.0, 0.0], [1.0, 1.0]]])
        >>> patch_centre_weight(boxes, (0, 0), (64, 64)).round(2).tolist()
        [1.0, 0.47]

    Reference: Jaeger et al., Retina U-Net, arXiv 1811.08661, section 3.2; the formula is the toolkit's.
    """
    boxes = as_float(boxes)
    check_boxes(boxes)
    check_sizes("patch_size", patch_size, boxes.shape[2])
    shape = boxes.new_tensor(list(patch_size))
    lower = torch.as_tensor(patch_lower, dtype=boxes.dtype, device=boxes.device)
    offset = (centre(boxes) - lower - shape / 2) / (0.4 * shape)
    return (-0.5 * offset.square()).exp().mean(-1)


@numpy_too
def mean_coverage(
    boxes: Real[Tensor, "n 2 d"], starts: Sequence[Sequence[int]], patch_size: Sequence[int]
) -> Float[Tensor, " n"]:
    """Return the mean number of tiles that cover a point of each box (n_ov of weighted box clustering).

    Exact for continuous boxes: tiles form a grid, so it is the product over axes of one-dimensional means.
    Only the part within the tiled area counts; a box without extent has the count at its position.

    Args:
        boxes: `(n, 2, d)` in the coordinates of the tiles.
        starts: per axis, as returned by `tile_starts`.
        patch_size: voxels per axis.

    Raises:
        ValueError: NaN or inverted boxes, or starts and sizes of another rank; names the row.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import mean_coverage, tile_starts
        >>> starts = tile_starts((96, 64), (64, 64), 16)  # rows 0 to 63 and 32 to 95
        >>> boxes = np.array([[[40.0, 0.0], [50.0, 10.0]], [[24.0, 0.0], [40.0, 10.0]]])
        >>> mean_coverage(boxes, starts, (64, 64)).tolist()
        [2.0, 1.5]
    """
    boxes = as_float(boxes)
    _check_grid(boxes, starts, patch_size)
    coverage = boxes.new_ones(len(boxes))
    for axis, (begins, patch) in enumerate(zip(starts, patch_size, strict=True)):
        begin = boxes.new_tensor(list(begins))
        low, high = boxes[:, :, axis].clamp(min=begin[0], max=begin[-1] + patch).unbind(1)
        covered = torch.minimum(high[:, None], begin + patch) - torch.maximum(low[:, None], begin)
        flat = high <= low
        position = low.clamp(max=begin[-1] + patch - 0.5)[:, None]  # the upper border belongs to the last tile
        count = ((begin <= position) & (position < begin + patch)).sum(1)
        coverage = coverage * torch.where(flat, count, covered.clamp(min=0).sum(1) / (high - low).clamp(min=1e-6))
    return coverage


@numpy_too
def whole_coverage(
    boxes: Real[Tensor, "n 2 d"], starts: Sequence[Sequence[int]], patch_size: Sequence[int]
) -> Float[Tensor, " n"]:
    """Return the number of tiles that contain each whole box, at least 1: those that can be expected to predict it.

    A tile that cuts an object predicts the part it sees; `mean_coverage` expects a vote for the whole from it as well.

    Arguments and errors are those of `mean_coverage`.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import whole_coverage
        >>> boxes = np.array([[[40.0], [50.0]], [[24.0], [40.0]]])
        >>> whole_coverage(boxes, [(0, 32)], (64,)).tolist()  # tiles from 0 to 64 and from 32 to 96
        [2.0, 1.0]
    """
    boxes = as_float(boxes)
    _check_grid(boxes, starts, patch_size)
    coverage = boxes.new_ones(len(boxes))
    for axis, (begin, patch) in enumerate(zip(starts, patch_size, strict=True)):
        first = boxes.new_tensor(list(begin))
        low, high = boxes[:, 0, axis, None], boxes[:, 1, axis, None]
        coverage = coverage * ((first <= low) & (high <= first + patch)).sum(1)
    return coverage.clamp(min=1)


def _check_grid(boxes: Tensor, starts: Sequence[Sequence[int]], patch_size: Sequence[int]) -> None:
    check_boxes(boxes)
    check_sizes("patch_size", patch_size, boxes.shape[2])
    if len(starts) != boxes.shape[2] or not all(map(len, starts)):
        raise ValueError(f"starts is {tuple(starts)}; it must say for each of {boxes.shape[2]} axes where tiles begin")


def fold_slices(image: np.ndarray, lead: int) -> np.ndarray:
    """`(c, *slices, *s)` to `(c * slices, *s)`: neighbouring slices become channels, all channels kept."""
    return image.reshape(-1, *image.shape[1 + lead :])
