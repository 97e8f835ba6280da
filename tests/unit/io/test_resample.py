"""Resampling changes the grid, not the world."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxel.io import resample
from boxel.types import Geometry, Image


def anisotropic(shape: tuple[int, ...]) -> Geometry:
    """A grid off the origin with another spacing and orientation of every axis."""
    d = len(shape)
    direction = np.eye(d) * [1, -1, -1][:d]
    return Geometry(shape, (2.5, 0.75, 0.5)[-d:], (10.0, -20.0, 30.0)[:d], tuple(map(tuple, direction.tolist())))


@given(data=st.data())
def test_resampling_keeps_the_outer_faces(ndim, data):
    shapes = st.tuples(*[st.integers(1, 9)] * ndim)
    old, new = data.draw(shapes), data.draw(shapes)
    before = anisotropic(old)
    after = resample(Image(np.zeros((1, *old), np.float32), before), new)
    assert after.array.shape == (1, *new)
    corners = np.array([np.zeros(ndim), np.ones(ndim)])
    np.testing.assert_allclose(after.geometry.to_world(corners * new), before.to_world(corners * old), atol=1e-9)


@pytest.mark.parametrize("order", [1, 3])
def test_resampling_reproduces_a_ramp(ndim, order):
    old, new = (20, 24, 16)[-ndim:], (30, 11, 16)[-ndim:]
    centres = np.stack(np.meshgrid(*[np.arange(n) + 0.5 for n in old], indexing="ij"))
    image = resample(Image(centres.astype(np.float32), anisotropic(old)), new, order=order)
    expected = np.stack(
        np.meshgrid(*[(np.arange(n) + 0.5) * o / n for n, o in zip(new, old, strict=True)], indexing="ij")
    )
    inside = (slice(None), *[slice(3, -3)] * ndim)
    np.testing.assert_allclose(image.array[inside], expected[inside], atol=0.02)


def test_enlarging_a_label_map_repeats_its_voxels(ndim, rng):
    label_map = rng.integers(0, 5, (3, 4, 5)[-ndim:]).astype(np.int32)
    found = resample(
        Image(label_map, Geometry.plain(label_map.shape)), [3 * n for n in label_map.shape], label_map=True
    )
    for axis in range(ndim):
        label_map = label_map.repeat(3, axis)
    np.testing.assert_array_equal(found.array, label_map)
    assert found.array.dtype == np.int32
