"""Compiled CPU kernels (numba), imported at first use only.

Each does what a plain function beside its caller does, with the same operations in the same order, so that
results agree; tests compare them.
"""

from boxel.ops.kernels.fusing import fuse, group, take_runs
from boxel.ops.kernels.greedy import ascending, curve_keys, first_bad_row, lead
from boxel.ops.kernels.matching import match_by_iou, nearest_cells
from boxel.ops.kernels.merging import join_slices
from boxel.ops.kernels.pooling import pool, spread

__all__ = [
    "ascending",
    "curve_keys",
    "first_bad_row",
    "fuse",
    "group",
    "join_slices",
    "lead",
    "match_by_iou",
    "nearest_cells",
    "pool",
    "spread",
    "take_runs",
]
