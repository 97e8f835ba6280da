"""The numbers that a data set dictates to a model: strides, detecting levels and anchors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from boxel.strides import level_strides
from boxel.types import Task

Sizes = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class PyramidGrid:
    """The grids of a feature pyramid and the anchors on them.

    Attributes:
        strides: of the encoder's stages C1, C2, ...: per axis, relative to the stage before.
        levels: the pyramid levels that detect, finest first; level `k` has the resolution of stage Ck. The last may be
            one above the last stage, with every second of its cells, for a neck that adds it (`FPNConfig.extra`).
        anchors: per detecting level, the anchor sizes at every position: voxels per axis.
        patch_size: voxels per axis of a training image; only `model.roi.level_rule=patch` reads it.

    Raises:
        ValueError: numbers that do not fit together.
    """

    strides: tuple[tuple[int, ...], ...]
    levels: tuple[int, ...]
    anchors: tuple[Sizes, ...]
    patch_size: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not self.levels:
            raise ValueError(f"levels must lie in 1 to {len(self.strides)}, at least one, got ()")
        level_strides(self.strides, self.levels)  # refuses levels that do not exist
        if len(self.anchors) != len(self.levels):
            raise ValueError(f"anchors are given for {len(self.anchors)} levels, but {len(self.levels)} detect")
        if len(set(map(len, self.anchors))) != 1:
            raise ValueError(f"every level needs the same number of anchors, got {list(map(len, self.anchors))}")
        axes = {len(numbers) for numbers in (*self.strides, *(size for sizes in self.anchors for size in sizes))}
        if len(axes) != 1:
            raise ValueError(f"strides and anchors must have one number per axis, got rows of {sorted(axes)}")

    @classmethod
    def default(
        cls,
        ndim: int,
        *,
        strides: Sequence[Sequence[int]] | None = None,
        levels: Sequence[int] | None = None,
        anchors: Sequence[Sequence[Sequence[float]]] | None = None,
    ) -> "PyramidGrid":
        """A grid for images with `ndim` axes, whose parts may be given.

        Args:
            strides: default: five stages of stride 2.
            levels: default: all from 2 on, or the only one.
            anchors: default: three sizes per level that span 4, 5 and 6.3 cells, in proportion to the strides.

        Example:
            >>> from boxel.models import PyramidGrid
            >>> PyramidGrid.default(3, strides=[(1, 2, 2), (1, 2, 2), (2, 2, 2)], levels=[3]).anchors[0][0]
            (8.0, 32.0, 32.0)
        """
        stages = tuple(map(tuple, strides or [(2,) * ndim] * 5))
        chosen = tuple(levels or range(min(2, len(stages)), len(stages) + 1))
        if anchors is None:
            cells = [4 * 2 ** (third / 3) for third in range(3)]
            grids = level_strides(stages, chosen)
            anchors = [[[cell * extent for extent in grid] for cell in cells] for grid in grids]
        return cls(stages, chosen, tuple(tuple(tuple(map(float, size)) for size in sizes) for sizes in anchors))

    @property
    def level_strides(self) -> tuple[tuple[int, ...], ...]:
        """Voxels per cell of each detecting level, per axis."""
        return level_strides(self.strides, self.levels)


@dataclass(frozen=True)
class Numbers:
    """What a data set dictates to the heads of a model; see `PyramidModel`."""

    ndim: int
    num_classes: int
    grid: PyramidGrid
    max_detections: int
    masks: bool

    def detections_in(self, shape: Sequence[int]) -> int:
        """The detections kept in an input of `shape`: `max_detections` per patch, more in one larger than a patch."""
        patch = math.prod(self.grid.patch_size or shape)
        return math.ceil(self.max_detections * max(1.0, math.prod(shape) / patch))


def numbers_of(task: Task) -> dict[str, Any]:
    """The arguments of a model's constructor that a task determines."""
    return {
        "ndim": task.ndim,
        "in_channels": task.input_channels,
        "num_classes": len(task.classes),
        "grid": PyramidGrid(task.strides, task.levels, task.anchors, task.patch_size),
        "max_detections": task.max_detections,
        "masks": task.masks,
    }
