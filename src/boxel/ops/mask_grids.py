"""Instance masks as grids of probabilities over their boxes: resampled to other boxes, pasted into images, cropped.

Cell j of g along an axis covers the j-th g-th part of the box; its value holds at its centre. NaN, inverted boxes and
wrong shapes are a ValueError that names the row; a mask over a box without extent covers nothing.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Integer, Real, Shaped
from torch import Tensor

from boxel.ops.arrays import numpy_too
from boxel.ops.checks import check_boxes
from boxel.ops.number_types import as_float, as_floats


@numpy_too
def resample_masks(
    masks: Shaped[Tensor, "n *g"],
    boxes: Real[Tensor, "n 2 d"],
    targets: Real[Tensor, "n 2 d"],
    grid: Sequence[int],
) -> Float[Tensor, "n *t"]:
    """Resample each mask to another box: interpolated linearly at the centres of cells, 0 outside its own box.

    Args:
        masks: probabilities over `boxes`; also integers and bool, which are probabilities of 0 and 1.
        boxes: `(n, 2, d)` voxels.
        targets: the boxes of the result.
        grid: cells per axis of the result.

    Raises:
        ValueError: NaN or inverted boxes; names the row.

    Example:
        >>> import torch
        >>> from boxel.ops import resample_masks
        >>> left_half = torch.tensor([[[1.0, 0.0]]])  # one row of two cells over a box of 4 x 8 voxels
        >>> box, shifted = torch.tensor([[[[0.0, 0], [4, 8]]], [[[0.0, -4], [4, 4]]]])
        >>> resample_masks(left_half, box, shifted, (1, 2)).tolist()  # its right half is the old left half
        [[[0.0, 1.0]]]
    """
    boxes, targets = as_floats(boxes, targets)
    check_boxes(boxes)
    check_boxes(targets, "targets")
    kept, masks = masks.dtype, as_float(masks)
    weights = []
    for axis, (cells, wanted) in enumerate(zip(masks.shape[1:], grid, strict=True)):
        lower, upper = targets[:, :, axis, None].unbind(1)
        points = torch.lerp(lower, upper, centres(0, wanted, boxes) / wanted)
        weights.append(_interpolation(points, boxes[:, :, axis], cells).to(masks.dtype))
    return contract(masks, weights).to(kept if kept.is_floating_point else masks.dtype)


@numpy_too
def paste_mask(
    mask: Shaped[Tensor, "*g"], box: Real[Tensor, "2 d"], shape: Sequence[int], threshold: float = 0.5
) -> tuple[tuple[slice, ...], Bool[Tensor, "*r"]]:
    """Paste a mask into an image of `shape`: the part of the image under the box, and which of its voxels are inside.

    A voxel is inside if its centre is in the box and the probability there, interpolated linearly, is at least
    `threshold`. The part is empty if the box lies outside the image.

    Args:
        mask: probabilities on a grid over the box; also integers and bool.
        box: `(2, d)` voxels of the image.
        shape: voxels per axis of the image.
        threshold: least probability.

    Returns:
        One slice per axis, and a bool array of their extent: `image[slices][inside]` are the voxels of the object.

    Raises:
        ValueError: NaN or an inverted box.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import paste_mask
        >>> image = np.zeros((5, 6), int)
        >>> part, inside = paste_mask(np.array([[1.0, 0.0]]), np.array([[1.0, 1.0], [3.0, 5.0]]), image.shape)
        >>> image[part][inside] = 7
        >>> image[1].tolist()  # the left half of columns 1 to 4
        [0, 7, 7, 0, 0, 0]
    """
    mask, box = as_float(mask), as_float(box)
    check_boxes(box[None], "box[None]")
    region, weights = [], []
    for axis, (cells, size) in enumerate(zip(mask.shape, shape, strict=True)):
        first, last = (int((corner - 0.5).ceil().clamp(0, size)) for corner in box[:, axis])
        region.append(slice(first, last))
        points = centres(first, last, box)[None]
        weights.append(_interpolation(points, box[None, :, axis], cells).to(mask.dtype))
    return tuple(region), contract(mask[None], weights)[0] >= threshold


@numpy_too
def crop_masks(
    label_map: Integer[Tensor, "b *s"],
    boxes: Real[Tensor, "n 2 d"],
    images: Integer[Tensor, " n"],
    ids: Integer[Tensor, " n"],
    grid: Sequence[int],
) -> Float[Tensor, "n *t"]:
    """Return the share of each cell of a grid over the box that the object covers, 0 to 1; exact for boxes of any size.

    Works on one box of one image at a time. There is no object beyond the image; a box without extent has only zeros.

    Args:
        label_map: integer images, whose voxels have the value of their object.
        boxes: `(n, 2, d)` voxels.
        images: which image each box lies in.
        ids: the value of each box's object.
        grid: cells per axis.

    Raises:
        ValueError: NaN or inverted boxes; names the row.

    Example:
        >>> import torch
        >>> from boxel.ops import crop_masks
        >>> label_map = torch.tensor([[[0, 3, 3, 0], [0, 3, 0, 0]]])  # one image
        >>> box, first, ids = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]]), torch.tensor([0]), torch.tensor([3])
        >>> crop_masks(label_map, box, first, ids, (1, 2)).tolist()
        [[[1.0, 0.5]]]
    """
    boxes = as_float(boxes)
    check_boxes(boxes, images=images, ids=ids)
    masks = boxes.new_zeros((len(boxes), *grid))
    first = boxes[:, 0].floor().long().clamp(min=0).tolist()
    last = boxes[:, 1].ceil().long().clamp(min=0).tolist()
    for row, (image, value) in enumerate(zip(images.tolist(), ids.tolist(), strict=True)):
        region = [slice(*ends) for ends in zip(first[row], last[row], strict=True)]
        inside = label_map[(image, *region)].long() == value
        weights = [
            _coverage(boxes[row, :, axis], start, length, cells)
            for axis, (start, length, cells) in enumerate(zip(first[row], inside.shape, grid, strict=True))
        ]
        masks[row] = contract(inside.to(boxes.dtype)[None], weights)[0]
    return masks.clamp(max=1)


def centres(first: int, last: int, like: Tensor) -> Float[Tensor, " r"]:
    """The centres of the cells from `first` to before `last`."""
    return torch.arange(first, last, dtype=like.dtype, device=like.device) + 0.5


def _interpolation(points: Float[Tensor, "n t"], ends: Float[Tensor, "n 2"], cells: int) -> Float[Tensor, "n t g"]:
    """Weights of the `g` cells between two ends at some points; 0 beyond the ends, constant in the outer half cells."""
    lower, upper = ends[:, :1], ends[:, 1:]
    place = ((points - lower) / (upper - lower) * cells - 0.5).clamp(0, cells - 1)
    weights = (1 - (place[:, :, None] - torch.arange(cells, device=points.device)).abs()).clamp(min=0)
    return torch.where(((points >= lower) & (points < upper))[:, :, None], weights, 0)


def _coverage(ends: Float[Tensor, " 2"], start: int, length: int, cells: int) -> Float[Tensor, "1 g r"]:
    """The share of each of the `g` cells between two ends that lies in each voxel from `start` on."""
    edges = torch.lerp(ends[0], ends[1], torch.arange(cells + 1, dtype=ends.dtype, device=ends.device) / cells)
    voxels = torch.arange(start, start + length, device=ends.device)
    overlap = torch.minimum(edges[1:, None], voxels + 1) - torch.maximum(edges[:-1, None], voxels)
    return overlap.clamp(min=0)[None] / ((ends[1] - ends[0]) / cells).clamp(min=torch.finfo(ends.dtype).tiny)


def contract(values: Float[Tensor, "#n *g"], weights: Sequence[Float[Tensor, "n _ _"]]) -> Float[Tensor, "n *t"]:
    """Multiply each of the first axes by its matrix `(n, t, g)`; values of one row serve all rows of the matrices."""
    for matrix in weights:  # each turn moves the next axis to the end
        values = torch.einsum("n...g,ntg->n...t", values.movedim(1, -1), matrix)
    return values
