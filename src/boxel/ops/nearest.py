"""The cells of a grid of anchors that are nearest to given points."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from boxel.ops.arrays import kernels
from boxel.ops.boxes import centre
from boxel.ops.threads import share

LEAST = 50_000
"""Anchors that a thread is worth."""


def nearest_cells(
    anchors: Float[Tensor, "n 2 d"], per_cell: int, points: Float[Tensor, "p d"], count: int
) -> Int[Tensor, "p count"]:
    """The `count` nearest cells of each point, nearest first, ties by cell; a cell has `per_cell` adjacent anchors."""
    count = min(count, len(anchors) // per_cell)
    compiled = kernels(anchors, points)
    if compiled:
        array, centres = (tensor.detach().float().contiguous().numpy() for tensor in (anchors, points))
        given = (array, per_cell, centres, count)
        parts = share(lambda *part: compiled.nearest_cells(*given, *part), len(anchors) // per_cell, LEAST // per_cell)
        rows, distance = (np.concatenate(some, 1) for some in zip(*parts, strict=True))
        nearest = distance.argsort(1, kind="stable")[:, :count]
        return torch.from_numpy(np.take_along_axis(rows, nearest, 1))
    cells = centre(anchors[::per_cell])
    return torch.cat([_nearest_plain(cells, some, count) for some in points.split(16)])


def _nearest_plain(cells: Tensor, points: Tensor, count: int) -> Tensor:
    """One key holds distance and row: the bits of a positive float32 are ordered like an integer's."""
    squares = (cells - points[:, None]).float().square().unbind(-1)
    bits = sum(squares[1:], squares[0]).view(torch.int32).long()
    key = (bits << 32) | torch.arange(len(cells), device=cells.device)
    return key.topk(count, largest=False, sorted=True).values & 0xFFFFFFFF
