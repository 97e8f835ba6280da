"""Values as 16-bit levels: what a store may change, and what it must keep."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.formats.native_writer import write_case, write_dataset
from boxel.preparation.prepare import prepare
from boxel.preparation.preprocess import preprocess
from boxel.preparation.quantise import from_levels, to_levels
from boxel.types import Geometry, Image

FINITE = st.floats(-1e4, 1e4, width=32)


@given(arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=FINITE))
def test_values_come_back_within_half_a_step(values):
    levels = to_levels(values)
    step = np.ptp(values.astype(np.float64)) / 65535
    if levels is None:  # nearly all voxels alike, a few far away; or all alike but for less than a float32 can scale
        low, high = np.percentile(values.astype(np.float64), (0.5, 99.5))
        too_coarse = step > values.clip(low, high).std(dtype=np.float64) / 256 * 0.999
        assert too_coarse or step < np.finfo(np.float32).tiny
        return
    restored = from_levels(levels.array[None], ((levels.offset, levels.scale),))[0]
    rounding = 4 * np.finfo(np.float32).eps * max(1.0, np.abs(values).max())
    assert np.abs(restored - values).max() <= step / 2 + rounding


@pytest.mark.parametrize("value", [1e-45, 3.2e-42, 1e-35])
def test_values_whose_steps_are_no_normal_float32_have_no_levels(value):
    assert to_levels(np.array([[value, 0]], np.float32)) is None
    assert to_levels(np.full((1, 2), value, np.float32)) is not None  # one value needs no step


@given(arrays(np.int32, (3, 7), elements=st.integers(-30000, 30000)))
def test_whole_numbers_are_restored_exactly(values):
    levels = to_levels(values.astype(np.float32))
    restored = from_levels(levels.array[None], ((levels.offset, levels.scale),))[0]
    np.testing.assert_array_equal(restored, values)


def test_pictures_of_8_bits_take_8_bits():
    assert to_levels(np.arange(256, dtype=np.float32).reshape(16, 16)).array.dtype == np.uint8


def data_set(root, array):
    """A data set of three images with one object each."""
    geometry = Geometry.plain(array.shape[1:])
    label_map = np.zeros(geometry.shape, np.uint8)
    label_map[(slice(2, 6),) * label_map.ndim] = 1
    for case in ("a", "b", "c"):
        write_case(root, case, Image(array, geometry), label_map, {1: 0})
    channels = [f"m{k}" for k in range(len(array))]
    write_dataset(root, "levels", label_map.ndim, ("thing",), channels)
    return open_dataset(root)


@pytest.mark.parametrize("kind", ["whole numbers", "an image with some voxels of 1e9"])
def test_a_store_holds_what_levels_could_spoil_to_the_precision_of_a_float(tmp_path, ndim, kind):
    rng = np.random.default_rng(0)
    array = np.round(rng.normal(0, 300, (2, *(60 if ndim == 2 else 20,) * ndim))).astype(np.float32)
    if kind != "whole numbers":
        array[0] += 0.25
        array[0].reshape(-1)[: 2**ndim + 1] = 1e9  # of fewer, they would be moved to the end of the range
    dataset = data_set(tmp_path / "data", array)
    store = prepare(dataset, tmp_path / "work")
    assert bool(store.meta("a").scales) == (kind == "whole numbers")
    expected = preprocess(read_case(dataset["a"], dataset).image, store.task).array
    image, _ = store.read("a")
    np.testing.assert_allclose(image, expected, rtol=1e-6, atol=2e-6)
    beyond, _ = store.read("a", (-1,) * ndim, (1,) * ndim)
    assert beyond[(0,) * array.ndim] == image.min()


def test_channels_have_levels_of_their_own(tmp_path, ndim):
    rng = np.random.default_rng(0)
    array = np.stack([rng.normal(0, 1, (20,) * ndim), rng.integers(0, 200, (20,) * ndim)]).astype(np.float32)
    dataset = data_set(tmp_path / "data", array)
    store = prepare(dataset, tmp_path / "work")
    expected = preprocess(read_case(dataset["a"], dataset).image, store.task).array
    np.testing.assert_allclose(store.read("a")[0], expected, atol=1e-4)
