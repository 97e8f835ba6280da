"""The grids of pyramid levels, from the strides of a backbone; one level may lie above its last stage."""

from collections.abc import Sequence

import numpy as np


def level_strides(strides: Sequence[Sequence[int]], levels: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Voxels per cell and axis of each of `levels`, given the strides of each stage relative to the one before.

    The level above the last stage has every second of its cells.
    """
    if not all(1 <= level <= len(strides) + 1 for level in levels):
        raise ValueError(
            f"levels must lie in 1 to {len(strides)}, the number of strides, or end one above, got {tuple(levels)}"
        )
    totals = np.cumprod([*strides, [2] * len(strides[0])], axis=0).tolist()
    return tuple(tuple(totals[level - 1]) for level in levels)
