"""Boxes from label maps and from masks."""

import torch
from jaxtyping import Bool, Float, Integer, Shaped
from torch import Tensor

from boxel.ops.arrays import numpy_too


@numpy_too
def boxes_from_label_map(
    label_map: Integer[Tensor, "*s"], ids: Integer[Tensor, " n"]
) -> tuple[Float[Tensor, "n 2 d"], Bool[Tensor, " n"]]:
    """Return the tight half-open box of each object of a label map.

    Args:
        label_map: integer image, 0 = background; values not in `ids` are ignored.
        ids: the values of the objects, all different, none 0.

    Returns:
        Boxes in the order of `ids`, and which objects are present; the box of an absent one is all 0.

    Raises:
        ValueError: numbers that are not integers, or ids that are 0 or not all different.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import boxes_from_label_map
        >>> label_map = np.array([[0, 0, 5, 5], [0, 0, 5, 0]])
        >>> boxes, present = boxes_from_label_map(label_map, np.array([5, 8]))
        >>> boxes[present].tolist(), present.tolist()
        ([[[0.0, 2.0], [2.0, 4.0]]], [True, False])
    """
    ndim = label_map.ndim
    for name, numbers in (("label_map", label_map), ("ids", ids)):
        if numbers.is_floating_point():
            raise ValueError(f"{name} holds {numbers.dtype}; the numbers of objects are integers")
    ids = ids.long()
    if not ids.all() or len(ids.unique()) < len(ids):
        raise ValueError(f"ids are {ids.tolist()}; they must be different from 0 and from each other")
    order = ids.argsort()
    if label_map.dtype in (
        torch.uint16,
        torch.uint32,
        torch.uint64,
    ):  # torch stores these types but supports few operations on them
        label_map = label_map.to(torch.int32 if label_map.dtype is torch.uint16 else torch.int64)
    voxels = label_map.nonzero()
    values = label_map[voxels.unbind(1)].long()
    slot = torch.searchsorted(ids[order], values).clamp(max=max(len(ids) - 1, 0))
    known = ids[order][slot] == values if len(ids) else torch.zeros_like(values, dtype=torch.bool)
    voxels, rows = voxels[known], order[slot[known]] if len(ids) else slot[known]
    rows = rows[:, None].expand(-1, ndim)
    largest = max(label_map.shape, default=0)
    lower = voxels.new_full((len(ids), ndim), largest).scatter_reduce(0, rows, voxels, "amin")
    upper = voxels.new_zeros((len(ids), ndim)).scatter_reduce(0, rows, voxels + 1, "amax")
    present = (upper > 0).any(1)
    return torch.stack([lower, upper], 1).float() * present[:, None, None], present


@numpy_too
def boxes_from_masks(masks: Shaped[Tensor, "n *s"]) -> tuple[Float[Tensor, "n 2 d"], Bool[Tensor, " n"]]:
    """Return the tight half-open box of each mask; masks may overlap, as they cannot in a label map.

    Args:
        masks: `(n, *s)` bool or integers, one mask per object; voxels that are not 0 belong to it.

    Returns:
        Boxes in the order of the masks, and which masks are not empty; the box of an empty one is all 0.

    Raises:
        ValueError: masks of floating type, whose threshold only the caller knows, or without axes of an image.

    Example:
        >>> import numpy as np
        >>> from boxel.ops import boxes_from_masks
        >>> masks = np.array([[[0, 0, 1, 1], [0, 0, 1, 0]], [[0, 0, 0, 0], [0, 0, 1, 0]]], bool)
        >>> boxes_from_masks(masks)[0].tolist()
        [[[0.0, 2.0], [2.0, 4.0]], [[1.0, 2.0], [2.0, 3.0]]]
    """
    if masks.is_floating_point():
        raise ValueError(f"masks hold {masks.dtype}; say what belongs to them, such as masks >= 0.5")
    if not masks.shape[1:]:
        raise ValueError(f"masks must have shape (n, *s), got {tuple(masks.shape)}")
    inside = masks if masks.dtype is torch.bool else masks != 0
    present = inside.flatten(1).any(1)
    boxes = torch.zeros((len(masks), 2, masks.ndim - 1), device=masks.device)
    for axis, length in enumerate(masks.shape[1:]):
        # Any voxel of the plane at each position along this axis.
        covered = inside.movedim(axis + 1, 1).flatten(2).any(2)
        position = torch.arange(length, device=masks.device)
        if length:
            boxes[:, 0, axis] = torch.where(covered, position, length).amin(1).float()
            boxes[:, 1, axis] = torch.where(covered, position + 1, 0).amax(1).float()
    return boxes * present[:, None, None], present
