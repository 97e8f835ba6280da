"""Images that are read a few planes at a time."""

import numpy as np
import pytest

from boxel import slabs
from boxel.slabs import Slabs, slabs_of


@pytest.mark.parametrize("block", [1, 3])
@pytest.mark.parametrize("limit", [1, 2**22])
def test_any_region_is_that_of_the_array_and_planes_in_order_are_read_once(ndim, rng, block, limit, monkeypatch):
    monkeypatch.setattr(slabs, "SLAB", limit)
    array, reads = rng.normal(size=(2,) + (17,) * ndim), []

    def read(first, last):
        reads.append((first, last))
        return array[:, first:last]

    lazily = Slabs(array.shape, array.dtype, read, block)
    for first, last in ((0, 4), (2, 6), (2, 3), (6, 12), (10, 17)):
        region = (slice(None), slice(first, last)) + (slice(3, 9),) * (ndim - 1)
        assert np.array_equal(lazily[region], array[region])
    assert sum(last - first for first, last in reads) == 17
    assert all(first % block == 0 for first, _ in reads)
    for region in ((slice(1), slice(1, 3)), (slice(None), slice(16, 17)), (slice(None), slice(5, 5))):
        assert np.array_equal(lazily[region], array[region])
    assert np.array_equal(np.concatenate(list(slabs_of(lazily)), axis=1), array)
