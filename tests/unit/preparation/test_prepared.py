"""The regions of a prepared image are those of the whole, whether its voxels are in memory or read in parts."""

import tracemalloc

import numpy as np
import pytest

from boxel import slabs
from boxel.preparation.prepared import Prepared
from boxel.preparation.preprocess import preprocess
from boxel.slabs import Slabs
from boxel.types import Image, Normalisation
from tests.unit.preparation.test_preprocess import CT, image_of, task_for

RULES = {
    "ct": CT, "z_score": Normalisation(), "none": Normalisation(kind="none"),
    "fixed": Normalisation(kind="fixed", mean=3.7, std=1.3),
}  # fmt: skip


def in_parts(image):
    array = image.array
    return Image(Slabs(array.shape, array.dtype, lambda first, last: array[:, first:last]), image.geometry)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("spacing", [1.0, 0.7, 1.6])
@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("opened", [lambda image: image, in_parts], ids=["in memory", "in parts"])
def test_every_region_is_that_of_the_whole(ndim, rng, dtype, spacing, kind, opened, monkeypatch):
    monkeypatch.setattr(slabs, "SLAB", 300)
    image = image_of(rng.normal(60, 20, (2, 21, 30, 17)[: ndim + 1]).astype(dtype))
    task = task_for(ndim, RULES[kind], Normalisation(), spacing=spacing)
    whole, prepared = preprocess(image, task).array, Prepared(opened(image), task)
    assert prepared.shape == whole.shape
    assert prepared.fill == whole.min()
    for first, last in ((0, 4), (2, 9), (6, 8), (0, whole.shape[1])):
        region = (slice(None), slice(first, last)) + (slice(1, 8),) * (ndim - 1)
        assert np.array_equal(prepared[region], whole[region])


@pytest.mark.parametrize("spacing", [1.0, 1.6])
def test_the_memory_does_not_grow_with_the_planes_of_an_image(ndim, spacing, monkeypatch):
    monkeypatch.setattr(slabs, "SLAB", 2**12)

    def taken(planes):
        """Bytes beside an image of so many planes, when all its regions are read in their order."""
        image = image_of(np.zeros((1, planes, *{2: (256,), 3: (16, 16)}[ndim]), np.int16))
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        prepared = Prepared(image, task_for(ndim, Normalisation(), spacing=spacing))
        for first in range(0, prepared.shape[1], 8):
            prepared[slice(None), slice(first, first + 16)]
        return tracemalloc.get_traced_memory()[1] - before

    tracemalloc.start()
    taken(32)  # what is loaded once
    few, many = taken(128), taken(1024)
    tracemalloc.stop()
    assert many - few < 2 * 256 * (1024 - 128) / 10  # a tenth of the further voxels
