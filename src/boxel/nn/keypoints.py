"""Key points of objects on a grid of cells: target heat maps, and boxes as distances from a position to its faces.

Cell `j` of a grid with stride `s` has its centre at `(j + 0.5) * s` image voxels. A stride is one number, or one per
axis.

Reference: L-SNet, section II-B and eq. (1).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from boxel.ops.boxes import centre
from boxel.ops.number_types import as_float

PerAxis = float | Sequence[float]


def heat_map(
    boxes: Float[Tensor, "n 2 d"], shape: Sequence[int], stride: PerAxis, *, delta: PerAxis, beta: PerAxis
) -> Float[Tensor, "*cells"]:
    """Return the target heat map: the sum over objects of `exp(-r^2 / (2 delta))`, at most 1.

    `r` is the distance from the centre of the object in cells, shortened by `beta` along each axis.

    Args:
        shape: cells per axis.
        stride: image voxels per cell.
        delta: width of the bumps in squared cells; one number, or one per axis.
        beta: half the width of their plateau in cells; one number, or one per axis.

    Reference: L-SNet, eq. (1).

    Example:
        >>> import torch
        >>> from boxel.nn.keypoints import heat_map
        >>> box = torch.tensor([[[0.0], [4.0]]])
        >>> heat_map(box, (8,), 4, delta=20, beta=2)[[0, 2, 5]]
        tensor([1.0000, 1.0000, 0.7985])
    """
    centres = centre(as_float(boxes)) / _per_axis(stride, boxes) - 0.5
    widths, plateaus = _per_axis(delta, boxes), _per_axis(beta, boxes)
    bumps = []
    for axis, cells in enumerate(shape):
        offsets = (torch.arange(cells, device=boxes.device) - centres[:, axis, None]).abs() - plateaus[axis]
        bumps.append(torch.exp(-offsets.clamp(min=0).square() / (2 * widths[axis])))
    # The exponential of a sum is a product over the axes, and the sum over objects a product of matrices.
    *leading, last = bumps
    rows = torch.ones_like(last[:, :1])
    for bump in leading:
        rows = (rows[:, :, None] * bump[:, None]).flatten(1)
    with torch.autocast(boxes.device.type, enabled=False):
        return (rows.T @ last).reshape(*shape).clamp(max=1)


def nearest_object(boxes: Float[Tensor, "n 2 d"], shape: Sequence[int], stride: PerAxis) -> Int[Tensor, "*cells"]:
    """Return the row of the object whose centre is nearest to each cell in image voxels; -1 if there is no object.

    Of objects equally near, the first is returned.
    """
    places = positions(shape, stride, boxes)
    nearest = torch.full(tuple(shape), -1, device=boxes.device)
    least = torch.full(tuple(shape), torch.inf, dtype=places.dtype, device=boxes.device)
    for row, middle in enumerate(centre(as_float(boxes))):  # one object at a time: volumes have many cells
        squares = (places - middle).square().sum(-1)
        nearest = torch.where(squares < least, row, nearest)
        least = torch.minimum(squares, least)
    return nearest


def distances(
    boxes: Float[Tensor, "n 2 d"], nearest: Int[Tensor, "*cells"], stride: PerAxis
) -> Float[Tensor, "*cells 2 d"]:
    """Return the distances from each cell to the lower and upper faces of its object, in image voxels.

    They are signed: beyond a face of its box, a cell has one negative entry along that axis. `boxes_at` inverts them.

    Args:
        nearest: the row of each cell's object, as `nearest_object` returns them; cells of -1 get zeros.
    """
    places = positions(nearest.shape, stride, boxes)
    if not len(boxes):
        return places.new_zeros(*nearest.shape, *boxes.shape[1:])
    lower, upper = as_float(boxes)[nearest.clamp(min=0)].unbind(-2)
    return torch.stack([places - lower, upper - places], -2) * (nearest >= 0)[..., None, None]


def boxes_at(places: Float[Tensor, "*n d"], distances: Float[Tensor, "*n 2 d"]) -> Float[Tensor, "*n 2 d"]:
    """Return the boxes at these distances from positions in image voxels."""
    return torch.stack([places - distances[..., 0, :], places + distances[..., 1, :]], -2)


def positions(shape: Sequence[int], stride: PerAxis, like: Tensor) -> Float[Tensor, "*cells d"]:
    """Return the centre of each cell in image voxels, at least in float32, on the device of `like (..., d)`."""
    axes = [torch.arange(cells, device=like.device) for cells in shape]
    return (torch.stack(torch.meshgrid(*axes, indexing="ij"), -1) + 0.5) * _per_axis(stride, like)


def _per_axis(values: PerAxis, like: Tensor) -> Tensor:
    return torch.as_tensor(values, dtype=as_float(like).dtype, device=like.device).expand(like.shape[-1])
