"""Real DICOM images and their objects as Boxel reads them equal what pydicom, highdicom, scipy and plain lines read."""

import gzip
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from nibabel.affines import apply_affine

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.io import read_image

from .independent import assert_same_boxes, assert_same_grid, boxes_read, components, series, warnings_only

highdicom = pytest.importorskip("highdicom")
pydicom = pytest.importorskip("pydicom")

pytestmark = pytest.mark.data
SEGMENTATIONS = "dcmqi/segmentations"
# Case, folder of its series, and its segmentations.
VOLUMES = {
    "dcmqi_paramaps": ("dcmqi/paramaps", []),
    "dcmqi_segmentations_23x38x3_image": (f"{SEGMENTATIONS}/23x38x3/image", ["23x38x3/seg/label.seg"]),
    "dcmqi_segmentations_24x38x3_image": (
        f"{SEGMENTATIONS}/24x38x3/image",
        ["24x38x3/seg/label.seg", "sparse-labelmap-noppv.dcm", "sparse-labelmap-ppv5.dcm"],
    ),
    "dcmqi_segmentations_ct-3slice": (f"{SEGMENTATIONS}/ct-3slice", ["liver.dcm", "partial_overlaps.dcm"]),
    "torchio_t1_series": ("torchio_t1_series", []),
}


@pytest.fixture(scope="module")
def dataset(data):
    return open_dataset(data / "dicom", warnings_only, options=["negatives=true"])


def test_every_image_of_the_samples_is_a_case(dataset):
    """Not the multi-frame ones: these show the annotated series again, so that they are no images without objects."""
    assert {case.id for case in dataset.cases} == {"highdicom", *VOLUMES}


def segments(path, shape, affine):
    """The name of each segment and its mask on a grid, by highdicom."""
    file = highdicom.seg.segread(path)
    for number in file.segment_numbers:
        volume = file.get_volume(segment_numbers=[number], combine_segments=False)
        planes, rows, columns = np.nonzero(volume.array[..., 0])
        world = apply_affine(volume.affine, np.stack([planes, rows, columns], axis=1))
        indices = apply_affine(np.linalg.inv(affine), world)[:, ::-1]
        assert np.abs(indices - indices.round()).max(initial=0) < 0.01
        mask = np.zeros(shape, np.uint8)
        mask[tuple(indices.round().astype(int).T)] = 1
        yield file.get_segment_description(number).segmented_property_type.meaning, mask


@pytest.mark.parametrize("name", VOLUMES)
def test_series_have_the_voxels_and_affine_of_pydicom_and_the_segments_of_highdicom(data, dataset, name):
    folder, files = VOLUMES[name]
    voxels, affine = series(data / "dicom" / folder)
    case = dataset[name]
    loaded = read_case(case, dataset)
    np.testing.assert_array_equal(loaded.image.array[0], voxels)
    assert_same_grid(loaded.image.geometry, affine)
    expected, drawn = [], {}
    for file in files:
        for meaning, mask in segments(data / "dicom" / SEGMENTATIONS / file, voxels.shape, affine):
            if meaning != "Background":
                expected += [row for row, _ in components(mask, {1: meaning})]
                drawn[meaning] = mask | drawn.get(meaning, 0)
    assert bool(expected) == bool(files)
    assert_same_boxes(boxes_read(loaded, dataset.classes), sorted(expected))
    for meaning, mask in drawn.items():  # each alone, because a voxel of a label map belongs to one object
        alone = replace(case.annotate, classes={meaning: 0})
        np.testing.assert_array_equal(read_case(replace(case, annotate=alone), dataset).label_map > 0, mask)


@pytest.mark.parametrize("folder", ["23x38x3", "24x38x3"])
def test_multi_frame_images_have_the_voxels_and_affine_of_highdicom(data, folder):
    place = data / "dicom" / SEGMENTATIONS / folder / "multiframe"
    volume = highdicom.imread(place / "mf.dcm").get_volume()
    image = read_image(place)
    places = np.stack(np.indices(volume.spatial_shape), axis=-1).reshape(-1, 3)
    voxels = image.geometry.to_voxel(apply_affine(volume.affine, places)) - 0.5
    assert np.abs(voxels - voxels.round()).max() < 0.01
    assert image.array[0].size == volume.array.size
    np.testing.assert_array_equal(image.array[0][tuple(voxels.round().astype(int).T)], volume.array.ravel())


def test_reports_have_the_regions_of_highdicom(data, dataset):
    folder = data / "dicom" / "highdicom"
    plane = pydicom.dcmread(folder / "ct_image.dcm")
    loaded = read_case(dataset["highdicom"], dataset)
    voxels = plane.pixel_array * float(plane.RescaleSlope) + float(plane.RescaleIntercept)
    np.testing.assert_array_equal(loaded.image.array[0], voxels[None])
    np.testing.assert_allclose(loaded.image.geometry.origin, [float(x) for x in plane.ImagePositionPatient])
    spacing = [float(x) for x in (plane.SliceThickness, *plane.PixelSpacing)]
    np.testing.assert_allclose(loaded.image.geometry.spacing, spacing)
    bone = highdicom.seg.segread(folder / "seg_image_ct_binary_single_frame.dcm").get_volume(combine_segments=False)
    expected = [row for row, _ in components(bone.array[..., 0], {1: "Bone"})]
    for name in ("sr_document", "sr_document_with_multiple_groups"):
        report = highdicom.sr.srread(folder / f"{name}.dcm")
        for group in report.content.get_planar_roi_measurement_groups():
            points = group.roi.value[:, ::-1]  # column, row
            lower, upper = points.min(axis=0), points.max(axis=0)
            if group.roi.graphic_type.name == "CIRCLE":  # centre, and a point on it
                radius = np.linalg.norm(points[1] - points[0])
                lower, upper = points[0] - radius, points[0] + radius
            expected.append((group.finding_type.meaning, (0, *lower.tolist()), (1, *upper.tolist())))
    assert_same_boxes(boxes_read(loaded, dataset.classes), sorted(expected))


def test_a_radiograph_has_the_pixels_of_pydicom_as_shown(data):
    plane = pydicom.dcmread(data / "dicom" / "highdicom" / "dx_image.dcm")
    dataset = open_dataset(data / "dicom", warnings_only, options=["negatives=true", "modalities=DX"])
    (case,) = dataset.cases
    image = read_case(case, dataset).image
    assert plane.PhotometricInterpretation == "MONOCHROME1"  # 0 is white
    np.testing.assert_array_equal(image.array[0], 2**plane.BitsStored - 1 - plane.pixel_array.astype(int))
    np.testing.assert_allclose(image.geometry.spacing, [float(x) for x in plane.PixelSpacing])


def nrrd(path):
    """Voxels in array order, and the affine from indices x, y, z to LPS mm, of a gzip NRRD."""
    head, _, content = path.read_bytes().partition(b"\n\n")
    fields = defaultdict(str, (line.split(": ", 1) for line in head.decode().splitlines() if ": " in line))
    assert (fields["space"], fields["encoding"], fields["endian"]) == ("left-posterior-superior", "gzip", "little")
    sizes = [int(size) for size in fields["sizes"].split()]
    affine = np.eye(4)
    vectors = [*fields["space directions"].split(), fields["space origin"]]
    affine[:3] = np.transpose([[float(x) for x in vector.strip("()").split(",")] for vector in vectors])
    kind = {"short": "<i2", "float": "<f4"}[fields["type"]]
    return np.frombuffer(gzip.decompress(content), kind).reshape(sizes[::-1]), affine


def test_nrrd_has_the_voxels_and_affine_of_its_header(data):
    files = sorted((data / "dicom").rglob("*.nrrd"))
    assert len(files) == 17
    for path in files:
        voxels, affine = nrrd(path)
        image = read_image(path)
        np.testing.assert_array_equal(image.array[0], voxels)
        assert_same_grid(image.geometry, affine)


def test_a_segmentation_is_the_label_map_that_dcmqi_made_it_from(data, dataset):
    case = dataset["dcmqi_segmentations_ct-3slice"]
    expected, _ = nrrd(data / "dicom" / SEGMENTATIONS / "liver_seg.nrrd")
    liver = replace(case, annotate=replace(case.annotate, classes={"Liver": 0}))
    np.testing.assert_array_equal(read_case(liver, dataset).label_map > 0, expected > 0)
