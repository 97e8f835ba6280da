"""Original voxels, stored voxels and millimetres agree."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from boxel.io import resample
from boxel.preparation.preprocess import preprocess, stored_shape
from boxel.types import Geometry, Image, Normalisation, Task, rescale_boxes

ranks = st.integers(2, 3)
generators = st.builds(np.random.default_rng, st.integers(0, 2**32 - 1))


def grid(rng, ndim, low=4, high=24):
    """A random grid somewhere in the world, oblique."""
    rotation = np.linalg.qr(rng.normal(size=(ndim, ndim)))[0]
    return Geometry(
        tuple(rng.integers(low, high, ndim).tolist()), tuple(rng.uniform(0.4, 4, ndim).tolist()),
        tuple(rng.uniform(-100, 100, ndim).tolist()), tuple(map(tuple, rotation.tolist())),
    )  # fmt: skip


def boxes_in(rng, shape, count=5):
    corners = rng.uniform(0, shape, (count, 2, len(shape)))
    return np.sort(corners, axis=1).astype(np.float32)


@given(ranks, generators)
def test_boxes_survive_the_way_to_stored_voxels_and_back(ndim, rng):
    original = grid(rng, ndim, high=600)
    stored = stored_shape(original.shape, original.spacing, rng.uniform(0.4, 4, ndim))
    boxes = boxes_in(rng, original.shape)
    back = rescale_boxes(rescale_boxes(boxes, original.shape, stored), stored, original.shape)
    np.testing.assert_allclose(back, boxes, atol=1e-3)
    assert rescale_boxes(boxes[:0], original.shape, stored).shape == (0, 2, ndim)


@given(ranks, generators)
def test_a_stored_box_lies_where_the_original_lies_in_the_world(ndim, rng):
    original = grid(rng, ndim)
    target = tuple(rng.integers(3, 30, ndim).tolist())
    stored = resample(Image(np.zeros((1, *original.shape), np.float32), original), target).geometry
    boxes = boxes_in(rng, original.shape)
    moved = rescale_boxes(boxes, original.shape, target)
    mm, stored_mm = (g.to_world(b.reshape(-1, ndim)) for g, b in ((original, boxes), (stored, moved)))
    np.testing.assert_allclose(stored_mm, mm, atol=1e-3)


@settings(deadline=None)
@given(ranks, generators)
def test_a_bright_spot_stays_at_its_millimetres(ndim, rng):
    original = grid(rng, ndim, low=12)
    spot = np.array([rng.integers(4, n - 4) for n in original.shape])
    array = np.zeros((1, *original.shape), np.float32)
    array[(0, *spot)] = 1000.0
    spacing = tuple((np.array(original.spacing) * rng.uniform(0.3, 1.0, ndim)).tolist())
    task = Task(
        name="t", ndim=ndim, channels=("raw",), classes=(), spacing=spacing,
        normalisation=(Normalisation(kind="none"),), patch_size=(8,) * ndim, batch_size=1,
        strides=((2,) * ndim,), levels=(1,), anchors=(((4.0,) * ndim,),),
    )  # fmt: skip
    stored = preprocess(Image(array, original), task)
    positions = np.argwhere(stored.array[0] > 0) + 0.5
    weights = stored.array[0][stored.array[0] > 0]
    centroid = np.average(positions, axis=0, weights=weights)[None]
    result = original.to_voxel(stored.geometry.to_world(centroid))
    assert np.abs(result - (spot + 0.5)).max() < 0.5


@settings(deadline=None)
@given(ranks, generators)
def test_the_box_of_a_resampled_mask_is_the_scaled_box_within_a_voxel(ndim, rng):
    original = grid(rng, ndim, low=8)
    lower = np.array([rng.integers(0, n - 4) for n in original.shape])
    upper = np.minimum(lower + rng.integers(3, 12, ndim), original.shape)
    label_map = np.zeros(original.shape, np.int32)
    label_map[tuple(map(slice, lower, upper))] = 7
    target = tuple(np.maximum(np.round(np.array(original.shape) * rng.uniform(0.4, 2.5, ndim)), 1).astype(int).tolist())
    stored = resample(Image(label_map, original), target, label_map=True).array
    voxels = np.argwhere(stored == 7)
    result = np.stack([voxels.min(0), voxels.max(0) + 1])
    expected = rescale_boxes(np.stack([lower, upper])[None].astype(np.float32), original.shape, target)[0]
    assert np.abs(result - expected).max() <= 1
    assert set(np.unique(stored)) <= {0, 7}
