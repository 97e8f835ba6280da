"""Compiled CPU kernels (numba), imported at first use only.

Each does the same as a plain function beside its caller, with the same operations in the same order, so that the
results agree; tests compare them. Kernels whose arguments end in `first, last` handle one part of the work and do not
touch the others, so that `boxel.ops.threads` can share it.
"""

from boxel.ops.kernels.forest import follow_means, join_slices, layout, lead, plant, soften
from boxel.ops.kernels.fusing import fuse, group, leaders_of, reorder, take_runs
from boxel.ops.kernels.matching import match_by_iou, nearest_cells
from boxel.ops.kernels.order import ascending, curve_keys, first_bad_row, split
from boxel.ops.kernels.pooling import pool, spread

__all__ = [
    "ascending",
    "curve_keys",
    "first_bad_row",
    "follow_means",
    "fuse",
    "group",
    "join_slices",
    "layout",
    "lead",
    "leaders_of",
    "match_by_iou",
    "nearest_cells",
    "plant",
    "pool",
    "reorder",
    "soften",
    "split",
    "spread",
    "take_runs",
]
