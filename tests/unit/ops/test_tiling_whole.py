"""Which tiles can be expected to vote for a box."""

import numpy as np

from boxel.ops.tiling import tile_starts, whole_coverage


def test_only_tiles_that_contain_a_box_whole_are_counted(ndim):
    starts = tile_starts((20,) * ndim, (12,) * ndim, 4)  # tiles from 0 and from 8 on each axis
    assert starts == ((0, 8),) * ndim
    boxes = [[[1] * ndim, [4] * ndim], [[8] * ndim, [12] * ndim], [[7] * ndim, [9] * ndim], [[2] * ndim, [19] * ndim]]
    counts = whole_coverage(np.array(boxes, np.float32), starts, (12,) * ndim)
    assert counts.tolist() == [1, 2**ndim, 1, 1]
