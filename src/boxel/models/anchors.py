"""The anchors of a feature pyramid for inputs of any size."""

from collections.abc import Sequence

import torch
from torch import Tensor

from boxel.models.grid import PyramidGrid
from boxel.ops import anchor_grid

KEPT = 16  # sizes of inputs whose anchors are kept


class LevelAnchors:
    """The anchors of all levels, see `boxel.ops.anchor_grid`; those of an input's size are made once.

    Args:
        centred: anchors lie on the centres of cells; else on their lower corners.
    """

    def __init__(self, grid: PyramidGrid, *, centred: bool = True) -> None:
        self.sizes, self.centred = grid.anchors, centred
        self.strides = [[float(cells) for cells in stride] for stride in grid.level_strides]  # numbers, as it compiles
        self._kept: dict[tuple[object, ...], tuple[Tensor, list[int]]] = {}

    def __call__(self, cells: Sequence[tuple[int, ...]], device: torch.device) -> tuple[Tensor, list[int]]:
        """Anchors `(n, 2, d)` of levels of so many `cells`, level by level, and how many each level has."""
        key = (*cells, device)
        if key not in self._kept:
            levels = [
                anchor_grid(shape, stride, torch.tensor(sizes), centred=self.centred).to(device)
                for shape, stride, sizes in zip(cells, self.strides, self.sizes, strict=True)
            ]
            if len(self._kept) > KEPT:
                self._kept.clear()
            self._kept[key] = torch.cat(levels), [len(level) for level in levels]
        return self._kept[key]
