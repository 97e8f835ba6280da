"""DICOM as it comes: traps in series, segmentations, structure sets."""

import shutil

import numpy as np
import pytest

from boxel.datasets.cases import read_case
from boxel.datasets.formats import open_dataset
from boxel.datasets.quality.check import check, examine
from boxel.io import read_image, write_image

pydicom = pytest.importorskip("pydicom")

from .dicom_samples import (  # noqa: E402
    SHAPE,
    SPACING,
    ring,
    volume,
    write_lidc,
    write_segmentation,
    write_series,
    write_structures,
)


def test_order_spacing_and_values_come_from_the_slices(tmp_path, rng):
    array = volume(rng)
    write_series(tmp_path / "s", array)
    image = read_image(tmp_path / "s")
    np.testing.assert_array_equal(image.array[0], array)  # signed and unsigned slices alike
    np.testing.assert_allclose(image.geometry.spacing, SPACING)  # SliceThickness says 5
    np.testing.assert_allclose(image.geometry.origin, (-20, 30, -100))


def test_oblique_and_reversed_series_keep_their_place_in_the_world(tmp_path, rng):
    array = volume(rng)
    c, s = np.cos(0.3), np.sin(0.3)
    axes = ((c, s, 0.0), (0.0, 0.0, -1.0))
    write_series(tmp_path / "s", array[::-1], axes=axes, step=-np.cross(*axes) * SPACING[0])
    image = read_image(tmp_path / "s")
    np.testing.assert_array_equal(image.array[0], array)
    direction = np.asarray(image.geometry.direction)
    np.testing.assert_allclose(direction[:, 2], axes[0], atol=1e-6)
    np.testing.assert_allclose(direction[:, 1], axes[1], atol=1e-6)
    first = np.array([-20.0, 30.0, -100.0]) - 5 * np.cross(*axes) * SPACING[0]
    np.testing.assert_allclose(image.geometry.origin, first, atol=1e-4)


def test_other_transfer_syntaxes_are_not_taken_for_damage(tmp_path, rng):
    array = volume(rng)
    for number, file in enumerate(write_series(tmp_path / "s", array)):
        data = pydicom.dcmread(file)
        if number % 2:
            data.compress(pydicom.uid.RLELossless)
        else:
            data.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
        data.save_as(file)
    np.testing.assert_array_equal(read_image(tmp_path / "s").array[0], array)


def test_an_empty_series_uid_is_one_series(tmp_path, rng):
    write_series(tmp_path / "s", volume(rng), SeriesInstanceUID="")
    assert read_image(tmp_path / "s").array.shape == (1, *SHAPE)


def test_a_copied_slice_counts_once_and_a_second_version_is_an_error(tmp_path, rng):
    files = write_series(tmp_path / "s", volume(rng))
    shutil.copy(files[2], tmp_path / "s" / "copy.dcm")
    assert read_image(tmp_path / "s").array.shape == (1, *SHAPE)
    data = pydicom.dcmread(files[3])
    data.ImagePositionPatient = pydicom.dcmread(files[2]).ImagePositionPatient
    data.save_as(tmp_path / "s" / "copy.dcm")
    with pytest.raises(ValueError, match=r"both lie at -95 mm but differ"):
        read_image(tmp_path / "s")


def test_a_missing_slice_is_an_error_that_names_the_place(tmp_path, rng):
    write_series(tmp_path / "s", volume(rng))[3].unlink()
    with pytest.raises(ValueError, match=r"between the positions -95 and -90 mm, where slices lie 2\.5 mm apart"):
        read_image(tmp_path / "s")


TILT = 12  # degrees


def write_tilted(folder, value):
    """A series of a gantry tilted by 12 degrees: the table moves along z, the slices lean forward."""
    c, s = np.cos(np.radians(TILT)), np.sin(np.radians(TILT))
    axes, step = np.array([(1.0, 0, 0), (0, c, -s)]), np.array([0, 0, SPACING[0]])
    plane, row, column = np.indices(SHAPE)
    places = np.array([-20.0, 30.0, -100.0]) + plane[..., None] * step
    places = places + row[..., None] * SPACING[1] * axes[1] + column[..., None] * SPACING[2] * axes[0]
    return write_series(folder, np.rint(value(places)).astype(np.int16), axes=axes, step=step), places


def test_a_tilted_gantry_is_straightened_and_every_voxel_stays_in_its_place(tmp_path):
    def value(points):  # linear in the world, so that linear interpolation is exact
        return points @ np.array([20.0, -15.0, 3.0]) + 1500

    _, places = write_tilted(tmp_path / "s", value)
    image = read_image(tmp_path / "s")
    grid = image.geometry
    sideways = 5 * SPACING[0] * np.sin(np.radians(TILT)) / SPACING[1]  # of the last slice, in rows
    assert grid.shape == (SHAPE[0], SHAPE[1] + np.ceil(sideways), SHAPE[2])
    np.testing.assert_allclose(grid.spacing, (SPACING[0] * np.cos(np.radians(TILT)), *SPACING[1:]), rtol=1e-6)
    direction = np.asarray(grid.direction)
    np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-6)
    voxels = np.stack(np.indices(grid.shape), axis=-1).reshape(-1, 3)
    expected = value(grid.to_world(voxels + 0.5)).reshape(grid.shape)
    inside = np.zeros(grid.shape, bool)
    corners = np.floor(grid.to_voxel(places[:, 0, 0]) - 0.5 + 1e-3).astype(int)
    for plane, (_, row, _) in enumerate(corners):
        inside[plane, row + 1 : row + SHAPE[1]] = True
    assert inside.mean() > 0.85
    np.testing.assert_allclose(image.array[0][inside], expected[inside], atol=1.01)  # rounded twice
    assert (image.array[0, 0, : -int(np.ceil(sideways))] > image.array.min()).any()


def test_objects_of_a_tilted_series_keep_their_place_and_check_says_so(tmp_path):
    centre = np.array([-8.0, 40.0, -95.0])

    def ball(points):
        return 1000.0 * (np.linalg.norm(points - centre, axis=-1) < 4.5)

    files, places = write_tilted(tmp_path / "ct", ball)
    mask = ball(places) > 0
    order = [files.index(file) for file in sorted(files)]
    write_segmentation(tmp_path / "seg.dcm", sorted(files), {"lesion": mask[order]})
    dataset = open_dataset(tmp_path)
    found = read_case(dataset.cases[0], dataset)
    (box,) = found.instances.boxes
    world = found.image.geometry.to_world(box.mean(axis=0, keepdims=True))[0]
    np.testing.assert_allclose(world, centre, atol=1.3)  # half a plane
    bright = found.image.array[0] > 500
    overlap = (bright & (found.label_map > 0)).sum() / (bright | (found.label_map > 0)).sum()
    assert overlap > 0.85  # the image is interpolated, the mask moved to the nearest voxels
    (warning,) = [finding for finding in check(tmp_path) if "gantry" in finding.problem]
    assert warning.severity == "warning"
    assert "tilt of 12.0 degrees" in warning.problem


def test_outlines_that_count_voxels_refuse_a_tilted_series(tmp_path):
    write_tilted(tmp_path / "LIDC-IDRI-0001" / "ct", lambda points: points[..., 0])
    write_lidc(tmp_path / "LIDC-IDRI-0001" / "a.xml", [[("1", 4, {2: ring(5, 5, 8)})]] * 4)
    (error,) = [finding for finding in check(tmp_path) if finding.severity == "error"]
    assert "gantry tilt of 12.0 degrees" in error.problem


def test_slices_beside_each_other_are_no_volume(tmp_path, rng):
    write_series(tmp_path / "s", volume(rng), step=(0, 500, 2.5))
    with pytest.raises(ValueError, match="do not lie over each other"):
        read_image(tmp_path / "s")


def test_a_localizer_and_lost_positions_are_errors(tmp_path, rng):
    files = write_series(tmp_path / "s", volume(rng))
    data = pydicom.dcmread(files[0])
    data.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    data.save_as(files[0])
    with pytest.raises(ValueError, match="oriented differently"):
        read_image(tmp_path / "s")
    del data.ImagePositionPatient
    data.save_as(files[0])
    with pytest.raises(ValueError, match="no position"):
        read_image(tmp_path / "s")


def masks():
    liver, lesion = np.zeros((2, *SHAPE), bool)
    liver[1:5, 4:20, 5:30] = True
    lesion[2:4, 6:10, 8:14] = True  # inside the liver
    lesion[2:4, 25:28, 33:38] = True
    return {"liver": liver, "lesion": lesion}


def test_segmentations_are_objects_of_their_series_and_may_overlap(tmp_path, rng):
    array = volume(rng)
    files = write_series(tmp_path / "p1" / "ct", array)
    write_series(
        tmp_path / "p2", array, uid="1.2.826.3", FrameOfReferenceUID="1.2.826.8", StudyInstanceUID="1"
    )  # not annotated
    (tmp_path / "seg").mkdir()
    write_segmentation(tmp_path / "seg" / "seg.dcm", sorted(files), masks_in_file_order(files))
    dataset = open_dataset(tmp_path)
    assert (dataset.format, dataset.classes) == ("dicom", ("Lesion", "Liver"))
    assert [(case.id, case.group) for case in dataset.cases] == [("p1_ct", "LIDC-IDRI-0001")]
    found = read_case(dataset.cases[0], dataset)
    np.testing.assert_array_equal(found.image.array[0], array)
    boxes = dict(zip(map(tuple, found.instances.boxes.reshape(-1, 6).tolist()), found.instances.labels, strict=True))
    assert boxes == {(1, 4, 5, 5, 20, 30): 1, (2, 6, 8, 4, 10, 14): 0, (2, 25, 33, 4, 28, 38): 0}
    assert found.instances.has_mask.all()
    whole = open_dataset(tmp_path, options=["split=false", "negatives=true"])
    assert [len(read_case(case, whole).instances) for case in whole.cases] == [2, 0]


def masks_in_file_order(files):
    order = [files.index(file) for file in sorted(files)]
    return {name: mask[order] for name, mask in masks().items()}


def test_a_segmentation_of_another_grid_is_an_error(tmp_path, rng):
    files = write_series(tmp_path / "ct", volume(rng))
    write_segmentation(tmp_path / "seg.dcm", sorted(files), masks_in_file_order(files))
    for file in files:  # the image is replaced by a moved one
        data = pydicom.dcmread(file)
        data.ImagePositionPatient = [float(x) + 5 for x in data.ImagePositionPatient]
        data.save_as(file)
    (error,) = [finding for finding in check(tmp_path) if finding.severity == "error"]
    assert "not on the image's grid" in error.problem


def test_frames_with_empty_planes_between_them_are_placed_by_their_positions(tmp_path, rng):
    """Sparse segmentations without `SpacingBetweenSlices` exist; two planes do not tell the spacing of the image."""
    files = write_series(tmp_path / "ct", volume(rng))
    mask = np.zeros(SHAPE, bool)
    mask[[1, 4], 3:9, 3:9] = True
    write_segmentation(tmp_path / "seg.dcm", sorted(files), {"lesion": mask[[files.index(f) for f in sorted(files)]]})
    data = pydicom.dcmread(tmp_path / "seg.dcm")
    for group in [*data.SharedFunctionalGroupsSequence, *data.PerFrameFunctionalGroupsSequence]:
        for measures in group.get("PixelMeasuresSequence", ()):
            measures.pop("SpacingBetweenSlices", None)
    data.save_as(tmp_path / "seg.dcm")
    dataset = open_dataset(tmp_path)
    loaded = read_case(dataset.cases[0], dataset)
    np.testing.assert_array_equal(loaded.label_map > 0, mask)


def test_structure_sets_are_filled_and_have_holes(tmp_path, rng):
    write_series(tmp_path / "ct", volume(rng))
    outer = [(4.5, 5.5), (14.5, 5.5), (14.5, 15.5), (4.5, 15.5)]  # between pixel centres
    hole = [(7.5, 8.5), (9.5, 8.5), (9.5, 10.5), (7.5, 10.5)]
    write_structures(tmp_path / "rs.dcm", {"GTV": [(2, outer), (2, hole), (3, outer)]})
    dataset = open_dataset(tmp_path)
    found = read_case(dataset.cases[0], dataset)
    assert dataset.classes == ("GTV",)
    assert found.instances.boxes.tolist() == [[[2, 6, 5], [4, 16, 15]]]
    assert [(found.label_map[plane] > 0).sum() for plane in (1, 2, 3)] == [0, 100 - 4, 100]


@pytest.mark.data
def test_nifti_and_dicom_give_the_same_volume(data, tmp_path):
    image = read_image(data / "ct" / "ct_dicom_512" / "dicom")
    write_image(tmp_path / "x.nii.gz", image)
    again = read_image(tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(again.array, image.array)
    corners = np.array([[0, 0, 0], image.geometry.shape])
    np.testing.assert_allclose(again.geometry.to_world(corners), image.geometry.to_world(corners), atol=1e-3)


@pytest.mark.data
def test_the_dicom_samples_open_as_they_are(data):
    found = examine(data / "dicom")
    assert not [finding for finding in found.findings if finding.severity == "error"]
    dataset = found.dataset
    case = next(case for case in dataset.cases if case.id.endswith("ct-3slice"))
    liver = pydicom.dcmread(data / "dicom" / "dcmqi" / "segmentations" / "liver.dcm").pixel_array
    alone = open_dataset(data / "dicom", options=["split=false", "classes=Liver"])
    loaded = read_case(alone[case.id], alone)
    assert loaded.instances.labels.tolist()[0] == 0
    assert (loaded.label_map == 1).sum() == liver.sum()
