"""Features of boxes, bin by bin, and their gradient; cells are listed for one bin at a time only."""

# mypy: disable-error-code="assignment, no-untyped-def"

import numpy as np

from boxel.ops.kernels.jit import jit


@jit
def _merge(near, share, taps, bins):
    """Join the taps of one box on the same cell of an axis: the first gets the sum, the others 0."""
    begin = 0
    for axis in range(len(bins)):
        for first in range(begin, begin + bins[axis] * taps[axis], taps[axis]):
            for k in range(first + 1, first + taps[axis]):
                for j in range(first, k):
                    if near[j] == near[k]:
                        share[j] += share[k]
                        share[k] = 0
                        break
        begin += bins[axis] * taps[axis]


@jit
def _cells(place, row, near, share, shape, taps, bins, cells, weights):
    """The rows of the bin at position `place` in C order, and their weights; returns their number."""
    cells[0], weights[0], count = row, 1, 1
    begin, step = len(near), 1
    for axis in range(len(bins) - 1, -1, -1):
        begin -= bins[axis] * taps[axis]
        first, grown = begin + place % bins[axis] * taps[axis], count
        for k in range(first + 1, first + taps[axis]):
            if share[k] != 0:
                for j in range(count):
                    cells[grown], weights[grown] = cells[j] + near[k] * step, weights[j] * share[k]
                    grown += 1
        for j in range(count):  # the first tap is never without weight
            cells[j] += near[first] * step
            weights[j] *= share[first]
        count = grown
        place //= bins[axis]
        step *= shape[axis]
    return count


@jit
def pool(table, rows, near, share, shapes, taps, bins, pooled):
    """Fill `pooled (n, bins, c)`: each bin is a weighted sum of rows of `table (cells, c)`.

    Args:
        rows: `(n,)` where the cells of each box's map begin in the table.
        near, share: `(n, k)` cells along the axes, and their weights: axis by axis, bin by bin, `taps` each. On
            return, equal cells of a bin are joined.
        shapes: `(n, d)` of the boxes' maps.
        taps, bins: `(d,)`.
    """
    cells, weights = np.empty(taps.prod(), np.int64), np.empty(taps.prod(), share.dtype)
    for i in range(len(rows)):
        _merge(near[i], share[i], taps, bins)
        for place in range(pooled.shape[1]):
            total = pooled[i, place]
            total[:] = 0
            for k in range(_cells(place, rows[i], near[i], share[i], shapes[i], taps, bins, cells, weights)):
                cell, weight = table[cells[k]], weights[k]
                for c in range(len(total)):
                    total[c] += weight * cell[c]


@jit
def spread(table, rows, near, share, shapes, taps, bins, pooled):
    """The transpose of `pool`, to be called after it: adds the bins of `pooled` to `table` with the same weights."""
    cells, weights = np.empty(taps.prod(), np.int64), np.empty(taps.prod(), share.dtype)
    total = np.empty(table.shape[1], table.dtype)
    for i in range(len(rows)):
        for place in range(pooled.shape[1]):
            total[:] = pooled[i, place]  # its channels may not be contiguous
            for k in range(_cells(place, rows[i], near[i], share[i], shapes[i], taps, bins, cells, weights)):
                cell, weight = table[cells[k]], weights[k]
                for c in range(len(total)):
                    cell[c] += weight * total[c]
