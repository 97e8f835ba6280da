"""Boxes from label maps."""

import torch
from jaxtyping import Bool, Float, Integer
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
