"""A case that can be read is valid, whichever files it comes from."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import regionprops

from boxel.datasets.cases import Case, Dataset, read_case
from boxel.datasets.formats import open_dataset
from boxel.io import read_image, write_image, write_label_map
from boxel.types import Geometry, Image


def test_a_case_has_its_image_its_boxes_and_its_label_map(native, ndim):
    dataset = open_dataset(native)
    case = read_case(dataset["b"], dataset)
    assert case.image.array.dtype == np.float32
    assert case.image.geometry.spacing == (1.5, 1.0, 0.5)[-ndim:]
    assert case.instances.ids.tolist() == [1, 2]
    assert case.instances.labels.tolist() == [1, 0]
    assert case.instances.has_mask.all()
    assert case.instances.boxes.tolist() == [[[2] * ndim, [6] * ndim], [[7] * ndim, [11] * ndim]]
    np.testing.assert_array_equal(np.unique(case.label_map), [0, 1, 2])


@given(data=st.data())
def test_boxes_of_masks_are_those_of_skimage(ndim, data, tmp_path):
    shape = data.draw(st.tuples(*[st.integers(1, 6)] * ndim))
    label_map = data.draw(arrays(np.uint16, shape, elements=st.sampled_from([0, 0, 0, 1, 2, 7, 40_000])))
    geometry = Geometry.plain(shape)
    write_image(tmp_path / "image.mha", Image(np.zeros((1, *shape), np.float32), geometry))
    write_label_map(tmp_path / "labels.mha", label_map, geometry)
    expected = regionprops(label_map)
    labels = {region.label: region.label % 2 for region in expected}
    case = Case("a", (tmp_path / "image.mha",), tmp_path / "labels.mha", labels)
    instances = read_case(case, Dataset(tmp_path, "x", ndim, ("p", "q"), ("CT",), (case,))).instances
    assert instances.boxes.shape == (len(expected), 2, ndim)
    assert instances.boxes.dtype == np.float32
    assert instances.boxes.reshape(-1, 2 * ndim).tolist() == [list(region.bbox) for region in expected]
    assert dict(zip(instances.ids.tolist(), instances.labels.tolist(), strict=True)) == labels


@pytest.mark.parametrize("with_label_map", [True, False])
def test_a_negative_case_is_a_case(native, ndim, with_label_map):
    if not with_label_map:
        (native / "labelsTr" / "c.nii.gz").unlink()
    dataset = open_dataset(native)
    case = read_case(dataset["c"], dataset)
    assert case.instances.boxes.shape == (0, 2, ndim)
    assert (case.label_map is not None) == with_label_map


def test_boxes_without_masks_join_those_of_masks(native, ndim):
    box = {"id": 9, "label": 1, "lower": [0.5] * ndim, "upper": [3] * ndim}
    (native / "labelsTr" / "a.json").write_text(json.dumps({"instances": {"1": 0, "2": 1}, "boxes": [box]}))
    dataset = open_dataset(native)
    instances = read_case(dataset["a"], dataset).instances
    assert instances.ids.tolist() == [1, 2, 9]
    assert instances.has_mask.tolist() == [True, True, False]
    assert instances.boxes[2].tolist() == [[0.5] * ndim, [3] * ndim]


def test_geometry_may_differ_by_rounding_but_not_by_more(native):
    path = native / "imagesTr" / "a_0000.nii.gz"
    image, dataset = read_image(path), open_dataset(native)
    for factor, fits in ((1.0005, True), (1.01, False)):
        spacing = tuple(factor * s for s in image.geometry.spacing)
        geometry = Geometry(image.geometry.shape, spacing, image.geometry.origin, image.geometry.direction)
        write_image(path, Image(image.array, geometry))
        if fits:
            assert len(read_case(dataset["a"], dataset).instances) == 2
        else:
            with pytest.raises(ValueError, match=r"a\.nii\.gz: spacing .*same voxel grid"):
                read_case(dataset["a"], dataset)


def test_a_label_map_without_a_world_fits_by_its_shape(native):
    label_map = native / "labelsTr" / "a.nii.gz"
    array = read_image(label_map).array
    label_map.unlink()
    write_image(native / "labelsTr" / "a.tif", Image(array, Geometry.plain(array.shape[1:])))
    dataset = open_dataset(native)
    assert len(read_case(dataset["a"], dataset).instances) == 2
