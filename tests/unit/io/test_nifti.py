"""NIfTI and ANALYZE files: grid and voxels are those of nibabel."""

import gzip

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine

from boxel.io import read_geometry, read_image, read_label_map, same_grid

SHAPE = (7, 6, 5)  # x, y, z


def world_by_nibabel(affine, points):
    """LPS positions of voxel centres given in array order."""
    return apply_affine(affine, points[:, ::-1]) * (-1, -1, 1)


def assert_agrees(path, tolerance=1e-3):
    reference, image = nib.load(path), read_image(path)
    points = np.array([[0, 0, 0], [4, 5, 6], [1, 3, 2]], float)
    np.testing.assert_allclose(
        image.geometry.to_world(points + 0.5), world_by_nibabel(reference.affine, points), atol=tolerance
    )
    assert min(image.geometry.spacing) > 0
    assert read_geometry(path) == image.geometry
    np.testing.assert_allclose(image.array[0], np.asarray(reference.dataobj).T, rtol=1e-6)
    return image


def rotation(angles):
    a, b, c = angles
    about_x = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    about_y = [[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]]
    about_z = [[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]]
    return np.array(about_x) @ about_y @ about_z


angle = st.floats(-3.1, 3.1)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image, nib.Nifti1Pair])
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    angles=st.tuples(angle, angle, angle),
    flips=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    order=st.permutations(range(3)),
    spacing=st.tuples(*[st.floats(0.1, 9)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    form=st.sampled_from(["sform", "qform", "both"]),
)
def test_the_grid_is_that_of_nibabel(kind, angles, flips, order, spacing, origin, form, tmp_path):
    affine = np.eye(4)
    affine[:3, :3] = (rotation(angles) * flips)[:, order] * spacing
    affine[:3, 3] = origin
    image = kind(np.random.default_rng(0).normal(size=SHAPE).astype(np.float32), affine)
    image.set_sform(affine, code=1 if form != "qform" else 0)
    image.set_qform(affine, code=1 if form != "sform" else 0)
    path = tmp_path / ("x.hdr" if kind is nib.Nifti1Pair else "x.nii")
    nib.save(image, path)
    assert_agrees(path, tolerance=0.01)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(angles=st.tuples(angle, angle, angle), shear=st.tuples(*[st.floats(-0.02, 0.02)] * 3))
def test_a_slightly_sheared_grid_gets_right_angles_and_says_how_far_voxels_move(angles, shear, tmp_path):
    skewed = np.eye(3)
    skewed[[0, 0, 1], [1, 2, 2]] = shear
    affine = np.eye(4)
    affine[:3, :3] = rotation(angles) @ skewed * (0.7, 0.7, 2)
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.uint8), affine), tmp_path / "x.nii")
    image = read_image(tmp_path / "x.nii")
    direction = np.asarray(image.geometry.direction)
    np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-4)
    corners = np.stack(np.meshgrid([0, 4], [0, 5], [0, 6], indexing="ij"), -1).reshape(-1, 3).astype(float)
    moved = np.abs(image.geometry.to_world(corners + 0.5) - world_by_nibabel(affine, corners)).max()
    assert moved < 0.7 / 2
    assert bool(image.remarks) or moved <= 0.05 * 0.7


def test_a_strongly_sheared_grid_is_refused_and_the_suggested_fix_works(tmp_path):
    affine = np.array([[-0.7, 0, 0.6, 100], [0, -0.7, 0, 90], [0, 0, 2, -50], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(np.ones((40, 32, 12), np.uint8), affine), tmp_path / "x.nii")
    with pytest.raises(ValueError, match=r"sheared by 16\.7 degrees.*nibabel\.processing\.resample_to_output"):
        read_image(tmp_path / "x.nii")
    from nibabel.processing import resample_to_output

    nib.save(resample_to_output(nib.load(tmp_path / "x.nii"), order=0), tmp_path / "y.nii")
    assert_agrees(tmp_path / "y.nii")


def test_a_negative_voxel_size_in_the_header_does_not_mirror_the_image(tmp_path):
    affine = np.array([[-0.7, 0, 0, 100], [0, -0.7, 0, 90], [0, 0, 2, -50], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(np.arange(210, dtype=np.int16).reshape(SHAPE), affine), tmp_path / "x.nii")
    content = bytearray((tmp_path / "x.nii").read_bytes())
    content[88:92] = np.float32(-2).tobytes()  # pixdim[3]
    (tmp_path / "x.nii").write_bytes(content)
    geometry = read_geometry(tmp_path / "x.nii")
    np.testing.assert_allclose(geometry.spacing, (2, 0.7, 0.7), rtol=1e-6)
    assert geometry.to_world(np.array([[6.5, 0.5, 0.5]]))[0, 2] == pytest.approx(-38)


def test_the_sform_decides_if_the_qform_says_something_else(tmp_path):
    affine, other = np.diag([0.7, 0.7, 2, 1.0]), np.diag([0.7, 0.7, 2, 1.0])
    other[:3, 3] = 10, -20, 5
    image = nib.Nifti1Image(np.ones(SHAPE, np.int16), affine)
    image.set_qform(other, code=1)
    nib.save(image, tmp_path / "x.nii.gz")
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.uint8), nib.load(tmp_path / "x.nii.gz").affine), tmp_path / "y.nii.gz")
    image = assert_agrees(tmp_path / "x.nii.gz")
    assert any("sform and qform differ" in remark for remark in image.remarks)
    assert same_grid(image.geometry, read_geometry(tmp_path / "y.nii.gz")) == ""


def test_without_a_transform_the_voxel_size_counts_as_in_nibabel(tmp_path):
    image = nib.Nifti1Image(np.ones(SHAPE, np.int16), None)
    image.header.set_zooms((0.5, 0.6, 3))
    nib.save(image, tmp_path / "x.nii")
    assert_agrees(tmp_path / "x.nii")


@pytest.mark.parametrize("suffix", [".NII.GZ", ".Nii.Gz", ".NII"])
def test_the_suffix_may_have_capitals(suffix, rng, tmp_path):
    nib.save(nib.Nifti1Image(rng.normal(size=SHAPE), np.eye(4)), tmp_path / "x.nii")
    content = (tmp_path / "x.nii").read_bytes()
    (tmp_path / "x.nii").unlink()
    path = tmp_path / f"x{suffix}"
    path.write_bytes(gzip.compress(content) if suffix.lower().endswith(".gz") else content)
    expected = nib.Nifti1Image.from_bytes(content).get_fdata()
    np.testing.assert_array_equal(read_image(path).array[0], expected.T)


def test_analyze_files_are_read_as_by_nibabel(rng, tmp_path):
    image = nib.AnalyzeImage(rng.integers(0, 99, SHAPE).astype(np.int16), None)
    image.header.set_zooms((0.5, 0.6, 3))
    nib.save(image, tmp_path / "x.hdr")
    assert_agrees(tmp_path / "x.hdr")
    (tmp_path / "x.img").unlink()
    with pytest.raises(ValueError, match=r"x\.img, are missing"):
        read_image(tmp_path / "x.hdr")


def test_a_fourth_axis_is_that_of_the_channels(rng, tmp_path):
    voxels = rng.normal(size=(*SHAPE, 2)).astype(np.float32)
    nib.save(nib.Nifti1Image(voxels, np.diag([0.7, 0.7, 2, 1])), tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(read_image(tmp_path / "x.nii.gz").array, voxels.transpose(3, 2, 1, 0))
    with pytest.raises(ValueError, match="2 channels"):
        read_label_map(tmp_path / "x.nii.gz")


def test_colours_of_nifti_become_channels(rng, tmp_path):
    colours = rng.integers(0, 255, (*SHAPE, 3)).astype(np.uint8)
    packed = colours.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    nib.save(nib.Nifti1Image(packed, np.eye(4)), tmp_path / "x.nii")
    np.testing.assert_array_equal(read_image(tmp_path / "x.nii").array, colours.transpose(3, 2, 1, 0))


def test_voxel_sizes_in_other_units_are_converted_to_millimetres(tmp_path):
    image = nib.Nifti1Image(np.ones(SHAPE, np.uint8), np.diag([250, 250, 1000, 1]))
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "x.nii")
    np.testing.assert_allclose(read_geometry(tmp_path / "x.nii").spacing, (1, 0.25, 0.25))
    assert "converted" in read_image(tmp_path / "x.nii").remarks[0]


def test_label_maps_of_whole_numbers_may_be_stored_as_floats(tmp_path):
    values = np.zeros(SHAPE, np.float64)
    values[2, 3, 4] = 3
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(read_label_map(tmp_path / "x.nii.gz").array, values.T.astype(int))


@pytest.mark.parametrize(("shift", "same"), [(0.02, True), (0.1, False)])
def test_grids_may_lie_apart_by_a_small_part_of_a_voxel(shift, same, tmp_path):
    affine = np.diag([0.7, 0.7, 2, 1.0])
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.uint8), affine), tmp_path / "x.nii")
    affine[0, 3] = shift
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.uint8), affine), tmp_path / "y.nii")
    assert (same_grid(read_geometry(tmp_path / "x.nii"), read_geometry(tmp_path / "y.nii")) == "") is same
