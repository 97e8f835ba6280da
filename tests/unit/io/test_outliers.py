"""Voxels far beyond all others are moved to the end of their range, and nothing else is changed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxel.io import read_label_map, write_image
from boxel.io.channels import open_channels
from boxel.io.outliers import without_outliers
from boxel.types import Geometry, Image


def noise(ndim, edge=24, seed=0):
    return np.random.default_rng(seed).normal(100, 20, (1,) + (edge,) * ndim).astype(np.float32)


@pytest.mark.parametrize("value", [1e38, -1e38, 1e20, 1e6, -1e5])
def test_one_extreme_voxel_moves_to_the_end_of_the_range_of_the_others(ndim, value):
    array = noise(ndim)
    place = (0, 3, 5, 7)[: ndim + 1]
    array[place] = value
    expected = array.copy()
    rest = np.delete(array.ravel(), np.ravel_multi_index(place, array.shape))
    expected[place] = rest.max() if value > 0 else rest.min()
    result, (remark,) = without_outliers(array, "a.nii")
    np.testing.assert_array_equal(result, expected)
    assert array[place] == np.float32(value), "the input is not changed"
    assert f"{np.float32(value):g} at {place[1:]}" in remark
    assert remark.startswith("1 voxel far beyond the range ")
    assert without_outliers(result, "a.nii")[0] is result


def test_many_extreme_voxels_are_outliers_only_beyond_what_sensors_measure(ndim):
    array = noise(ndim, edge={2: 200, 3: 40}[ndim])
    many = array.size // 1500
    bright = array.copy()
    bright.ravel()[:many] = 1e4  # a spot a hundred times as far as the noise reaches
    assert without_outliers(bright, "a")[0] is bright
    bright.ravel()[:many] = 1e30
    result, (remark,) = without_outliers(bright, "a")
    assert result.max() == array.ravel()[many:].max()
    assert remark.startswith(f"{many} voxels far beyond")


@given(
    seed=st.integers(0, 2**32),
    kind=st.sampled_from(["normal", "exponential", "lognormal", "sparse", "spot", "binary", "metal"]),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
def test_ordinary_images_are_returned_as_they_are(ndim, seed, kind, scale):
    rng = np.random.default_rng(seed)
    array = rng.normal(size=(1,) + (32,) * ndim)
    if kind in ("exponential", "lognormal"):
        array = getattr(rng, kind)(size=array.shape)
    if kind == "sparse":
        array = np.where(rng.random(array.shape) < 0.03, 1000 * rng.random(array.shape), 0)
    if kind == "binary":
        array = array > 3
    if kind in ("spot", "metal"):  # the smallest object that can be detected, bright; a clip of metal in soft tissue
        array[(0,) + (slice(4, 7),) * ndim] = {"spot": 5000, "metal": 100}[kind]
    array = (array * scale).astype(np.float32)
    result, remarks = without_outliers(array, "a")
    assert result is array
    assert remarks == ()


def test_channels_are_judged_one_by_one(ndim):
    array = np.concatenate([noise(ndim), noise(ndim, seed=1)])
    array[(1,) * (ndim + 1)] = 1e30
    result, (remark,) = without_outliers(array, "a")
    np.testing.assert_array_equal(result[0], array[0])
    assert remark.startswith("channel 1: 1 voxel")


@pytest.mark.parametrize(
    ("share", "value", "message"),
    [
        (0.0001, np.nan, "NaN or infinite values in 1 voxel; replace"),
        (0.0001, -np.inf, "NaN or infinite values in 1 voxel; replace"),
        (0.3, -3.4e38, r"a\.nii: has [\d,]+ voxels too large to compute with, -3\.4e\+38 at \(0, 0.*; replace"),
    ],
)
def test_what_cannot_be_computed_with_is_refused(ndim, share, value, message):
    array = noise(ndim)
    array.ravel()[: max(1, int(share * array.size))] = value
    with pytest.raises(ValueError, match=message):
        without_outliers(array, "a.nii")


def test_files_are_read_without_their_outliers_and_say_so(tmp_path, ndim):
    arrays = [noise(ndim), noise(ndim, seed=1)]
    arrays[1][(0,) + (2,) * ndim] = 1e38
    files = [tmp_path / f"a_000{number}.nii.gz" for number in range(2)]
    for file, array in zip(files, arrays, strict=True):
        write_image(file, Image(array, Geometry.plain(array.shape[1:])))
    image = open_channels(files)
    assert image.array.max() < 1000
    assert [remark[:27] for remark in image.remarks] == ["a_0001.nii.gz: 1 voxel far "]
    arrays[1][(0,) + (2,) * ndim] = np.nan
    write_image(files[1], Image(arrays[1], Geometry.plain(arrays[1].shape[1:])))
    with pytest.raises(ValueError, match=r"a_0001\.nii\.gz: NaN or infinite values in 1 voxel"):
        open_channels(files)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_label_map_with_a_value_that_is_not_finite_is_refused(tmp_path, ndim, value):
    array = np.zeros((1,) + (8,) * ndim, np.float32)
    array[(0,) * (ndim + 1)] = value
    write_image(tmp_path / "a.nii.gz", Image(array, Geometry.plain(array.shape[1:])))
    with pytest.raises(ValueError, match=r"a\.nii\.gz: this label map has values that are NaN or infinite; set them"):
        read_label_map(tmp_path / "a.nii.gz")
