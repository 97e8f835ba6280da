"""Preprocessing: from the values of a file to what a model sees."""

import numpy as np
import pytest

from boxel.preparation.preprocess import preprocess, stored_shape
from boxel.types import Geometry, Image, Normalisation, Task


def task_for(ndim, *rules, spacing=1.0):
    return Task(
        name="t", ndim=ndim, channels=tuple(f"m{k}" for k in range(len(rules))), classes=("a",),
        spacing=(spacing,) * ndim, normalisation=rules, patch_size=(16,) * ndim, batch_size=2,
        strides=((2,) * ndim,), levels=(1,), anchors=(((8.0,) * ndim,),),
    )  # fmt: skip


def image_of(array, spacing=1.0):
    array = np.asarray(array)
    return Image(array, Geometry.plain(array.shape[1:], (spacing,) * (array.ndim - 1)))


CT = Normalisation(kind="ct", lower=-100.0, upper=300.0, mean=50.0, std=25.0)


def test_ct_is_clipped_then_shifted_and_scaled_by_the_data_sets_numbers(ndim):
    array = np.full((1,) + (4,) * ndim, 75, np.int16)
    array[(0,) * (ndim + 1)] = -1024
    array[(0,) + (1,) * ndim] = 3000
    result = preprocess(image_of(array), task_for(ndim, CT)).array
    assert result.dtype == np.float32
    assert result[(0,) * (ndim + 1)] == -6.0  # (-100 - 50) / 25
    assert result[(0,) + (1,) * ndim] == 10.0  # (300 - 50) / 25
    assert result[(0,) + (2,) * ndim] == 1.0


def test_fixed_channels_are_shifted_and_scaled_by_the_given_numbers_and_not_clipped(ndim):
    """ImageNet's numbers for red; (0 - 123.675) / 58.395 and (3000 - 123.675) / 58.395."""
    array = np.full((1,) + (4,) * ndim, 3000, np.int16)
    array[(0,) * (ndim + 1)] = 0
    rule = Normalisation(kind="fixed", mean=123.675, std=58.395)
    result = preprocess(image_of(array), task_for(ndim, rule)).array
    assert result[(0,) * (ndim + 1)] == pytest.approx(-2.117904, rel=1e-6)
    assert result[(0,) + (1,) * ndim] == pytest.approx(49.25636, rel=1e-6)


def test_metal_is_clipped_before_it_is_interpolated():
    array = np.zeros((1, 8, 8), np.float32)
    array[0, 3, 3] = 30000
    result = preprocess(image_of(array), task_for(2, CT, spacing=2.0)).array
    assert result.max() == pytest.approx((300 / 4 - 50) / 25)  # a quarter of the clipped voxel


def test_each_channel_of_each_image_gets_mean_zero_and_deviation_one(ndim):
    rng = np.random.default_rng(0)
    array = rng.normal(0, 1, (2,) + (12,) * ndim).astype(np.float32)
    array[0] = array[0] * 1e5 + 1e6
    result = preprocess(image_of(array), task_for(ndim, Normalisation(), Normalisation())).array
    axes = tuple(range(1, ndim + 1))
    np.testing.assert_allclose(result.mean(axes), 0, atol=1e-5)
    np.testing.assert_allclose(result.std(axes), 1, rtol=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_a_constant_image_becomes_zeros(ndim, value):
    array = np.full((1,) + (7,) * ndim, value, np.float32)
    for spacing in (1.0, 0.7):
        assert not preprocess(image_of(array), task_for(ndim, Normalisation(), spacing=spacing)).array.any()


def test_without_normalisation_values_stay_and_the_input_is_never_changed(ndim):
    array = np.random.default_rng(0).normal(size=(2,) + (6,) * ndim).astype(np.float32)
    before = array.copy()
    result = preprocess(image_of(array), task_for(ndim, Normalisation(kind="none"), Normalisation())).array
    np.testing.assert_array_equal(result[0], before[0])
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize(
    ("shape", "spacing", "target", "expected"),
    [
        ((10, 20), (2.0, 1.0), (1.0, 1.0), (20, 20)),
        ((5,), (1.0,), (30.0,), (1,)),
        ((7,), (1.0,), (2.0,), (4,)),
    ],
)
def test_the_stored_shape_keeps_the_extent_in_mm_and_at_least_a_voxel(shape, spacing, target, expected):
    assert stored_shape(shape, spacing, target) == expected


def test_the_stored_image_covers_the_same_box_of_the_world(ndim):
    image = image_of(np.zeros((1,) + (9,) * ndim, np.float32), spacing=3.0)
    result = preprocess(image, task_for(ndim, Normalisation(), spacing=2.0))
    faces = np.array([[0.0] * ndim, [9.0] * ndim])
    stored_faces = np.array([[0] * ndim, result.geometry.shape])
    np.testing.assert_allclose(result.geometry.to_world(stored_faces), image.geometry.to_world(faces), atol=1e-9)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 8, 8)), "2 channels, the task has 1"),
        (np.zeros((1, 8, 8, 8)), "3 axes .* planned for 2"),
        (np.full((1, 8, 8), np.nan), "NaN or infinite"),
    ],
)
def test_an_image_that_does_not_fit_the_task_is_refused(array, message):
    with pytest.raises(ValueError, match=message):
        preprocess(image_of(array), task_for(2, Normalisation()))


@pytest.mark.parametrize("spacing", [0.5, 1.0, 3.0])
def test_a_spacing_in_voxels_gives_the_same_grid_regardless_of_mm(ndim, spacing):
    task = task_for(ndim, CT, spacing=1.6).model_copy(update={"spacing_unit": "voxel"})
    image = image_of(np.zeros((1,) + (16,) * ndim), spacing)
    assert preprocess(image, task).array.shape[1:] == (10,) * ndim
    assert preprocess(image, task_for(ndim, CT, spacing=1.6)).array.shape[1:] == (round(16 * spacing / 1.6),) * ndim
