"""Segmentations of 3D Slicer: cropped, in layers, beside the image."""

import numpy as np
import pytest
import SimpleITK as sitk

from boxel.datasets.annotations import LabelMapFile
from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.io import read_geometry, read_image, read_label_map, write_image
from boxel.types import Geometry, Image

GRID = Geometry.plain((12, 32, 40), (2, 0.7, 0.7))


def write_segmentation(path, layers, lower, segments=()):
    """Write layers `(c, z, y, x)` whose first voxel is the voxel `lower` of GRID."""
    image = sitk.GetImageFromArray(np.moveaxis(layers, 0, -1), isVector=True)
    image.SetSpacing(GRID.spacing[::-1])
    image.SetOrigin(tuple(GRID.to_world(np.array([lower]) + 0.5)[0]))
    for index, (name, layer, value) in enumerate(segments):
        for key, text in (("Name", name), ("Layer", str(layer)), ("LabelValue", str(value))):
            image.SetMetaData(f"Segment{index}_{key}", text)
    sitk.WriteImage(image, str(path), True)


def test_a_cropped_segmentation_is_placed_into_the_grid_of_the_image(tmp_path):
    path = tmp_path / "Segmentation.seg.nrrd"
    cropped = np.zeros((1, 6, 10, 14), np.uint8)
    cropped[0, 1:5, 1:9, 1:13] = 1
    write_segmentation(path, cropped, (3, 9, 11))
    label_map, instances = LabelMapFile(path).read(GRID)
    assert label_map.shape == GRID.shape
    assert instances.boxes.tolist() == [[[4, 10, 12], [8, 18, 24]]]


def test_a_crop_may_reach_beyond_the_image_with_background_only(tmp_path):
    path = tmp_path / "x.seg.nrrd"
    cropped = np.zeros((1, 4, 6, 6), np.uint8)
    cropped[0, 2, 3, 4] = 7
    write_segmentation(path, cropped, (-1, -2, 36))
    with pytest.raises(ValueError, match="shape"):
        LabelMapFile(path).read(GRID)  # the object lies at column 40, beyond the image
    cropped = np.roll(cropped, -1, axis=3)
    write_segmentation(path, cropped, (-1, -2, 36))
    assert LabelMapFile(path).read(GRID)[1].boxes.tolist() == [[[1, 1, 39], [2, 2, 40]]]


def test_a_segmentation_of_another_voxel_size_is_refused(tmp_path):
    path = tmp_path / "x.seg.nrrd"
    write_segmentation(path, np.ones((1, 4, 6, 6), np.uint8), (1, 1, 1))
    with pytest.raises(ValueError, match="same voxel grid"):
        LabelMapFile(path).read(Geometry.plain((12, 32, 40), (2, 0.9, 0.9)))


def test_segments_in_several_layers_are_all_read(tmp_path):
    path = tmp_path / "x.seg.nrrd"
    layers = np.zeros((2, 4, 6, 6), np.uint8)
    layers[0, 1, 1, 1], layers[0, 2, 2, 2], layers[1, 3, 3, 3] = 1, 2, 1
    write_segmentation(path, layers, (0, 0, 0), [("a", 0, 1), ("b", 0, 2), ("c", 1, 1)])
    expected = layers[0].astype(int)
    expected[3, 3, 3] = 3
    np.testing.assert_array_equal(read_label_map(path).array, expected)
    write_segmentation(path, layers, (0, 0, 0))
    np.testing.assert_array_equal(read_label_map(path).array, expected)


def test_overlapping_segments_are_refused_by_name(tmp_path):
    path = tmp_path / "x.seg.nrrd"
    layers = np.zeros((2, 4, 6, 6), np.uint8)
    layers[:, 1, 1, 1:4] = 1
    write_segmentation(path, layers, (0, 0, 0), [("tumour", 0, 1), ("cyst", 1, 1)])
    with pytest.raises(ValueError, match="'tumour' and 'cyst' overlap in 3 voxels; separate them"):
        read_label_map(path)


def test_a_header_apart_from_its_voxels_is_read(rng, tmp_path):
    image = Image(rng.integers(0, 99, (1, 4, 5, 6)).astype(np.int16), Geometry.plain((4, 5, 6), (3, 1, 1)))
    write_image(tmp_path / "x.nrrd", image)
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "x.nrrd")), str(tmp_path / "y.nhdr"))
    np.testing.assert_array_equal(read_image(tmp_path / "y.nhdr").array, image.array)
    assert read_geometry(tmp_path / "y.nhdr") == image.geometry


def test_a_folder_per_case_with_a_segmentation_is_opened(tmp_path):
    cropped = np.zeros((1, 6, 10, 14), np.uint8)
    cropped[0, 1:5, 1:9, 1:13] = 1
    for case in ("P0", "P1"):
        write_image(tmp_path / case / "ct.nrrd", Image(np.zeros((1, *GRID.shape), np.int16), GRID))
        write_segmentation(tmp_path / case / "Segmentation.seg.nrrd", cropped, (3, 9, 11))
    dataset = open_dataset(tmp_path)
    boxes = [read_case(case, dataset).instances.boxes.tolist() for case in dataset.cases]
    assert boxes == [[[[4, 10, 12], [8, 18, 24]]]] * 2


def write_cases(root, names_of, layered=False):
    """A case per entry, whose segments are boxes side by side, numbered from 1 (or each 1 in a layer of its own)."""
    for case, names in names_of.items():
        layers = np.zeros((len(names) if layered else 1, 6, 10, 14), np.uint8)
        for index in range(len(names)):
            layers[index if layered else 0, 1:5, 1:9, 4 * index + 1 : 4 * index + 4] = 1 if layered else index + 1
        segments = [(name, index * layered, 1 if layered else index + 1) for index, name in enumerate(names)]
        write_image(root / case / "ct.nrrd", Image(np.zeros((1, *GRID.shape), np.int16), GRID))
        write_segmentation(root / case / "Segmentation.seg.nrrd", layers, (3, 9, 11), segments)


def objects(dataset):
    """The class and the first column of the objects of each case."""
    read = {case.id: read_case(case, dataset).instances for case in dataset.cases}
    return {
        case: [(dataset.classes[label], int(box[0, 2])) for label, box in zip(own.labels, own.boxes, strict=True)]
        for case, own in read.items()
    }


@pytest.mark.parametrize("layered", [False, True])
def test_named_segments_are_classes_though_files_number_them_differently(tmp_path, layered):
    write_cases(tmp_path, {"P0": ["tumour 1", "cyst", "tumour 2"], "P1": ["cyst", "tumour"]}, layered)
    problems = []
    dataset = open_dataset(tmp_path, problems.append)
    assert dataset.classes == ("cyst", "tumour")
    assert objects(dataset) == {
        "P0": [("tumour", 12), ("cyst", 16), ("tumour", 20)],
        "P1": [("cyst", 12), ("tumour", 16)],
    }
    assert [(problem.severity, "cyst, tumour" in problem.problem) for problem in problems] == [("note", True)]
    instances = open_dataset(tmp_path, options=["values=instances"])
    assert instances.classes == ("object",)
    assert len(objects(instances)["P0"]) == 3


@pytest.mark.parametrize("names", [["Segment_1", "Segment_2"], ["Segment_1", "tumour"]])
def test_segments_that_nobody_named_are_objects_of_one_class(tmp_path, names):
    write_cases(tmp_path, {"P0": names})
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("object",)
    assert objects(dataset) == {"P0": [("object", 12), ("object", 16)]}
