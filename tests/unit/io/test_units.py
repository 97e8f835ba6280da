"""Units of length in NRRD and MetaImage headers, which ITK ignores, and negative voxel sizes."""

import numpy as np
import pytest

from boxel.io import read_geometry, read_image, write_image
from boxel.types import Geometry, Image

SHAPE = (3, 4, 5)
DIRECTIONS = "space: left-posterior-superior\nspace directions: (7,0,0) (0,7,0) (0,0,20)\nspace origin: (10,20,30)\n"
CONVERTED = "its header states a unit of {} mm, and its voxel size was converted"
ASSUMED = "its header gives lengths in {}, and mm are assumed; write the voxel size in mm"


def write_nrrd(path, fields, encoding="utf-8"):
    head = f"NRRD0005\ntype: uchar\ndimension: 3\nsizes: 5 4 3\n{fields}encoding: raw\n\n"
    path.write_bytes(head.encode(encoding) + bytes(60))
    return path


@pytest.mark.parametrize(
    ("unit", "factor", "remark"),
    [
        ("mm", 1, ""),
        ("Millimeters", 1, ""),
        ("", 1, ""),
        ("???", 1, ""),
        ("microns", 1e-3, CONVERTED.format("0.001")),
        ("\u00b5m", 1e-3, CONVERTED.format("0.001")),
        ("cm", 10, CONVERTED.format("10")),
        ("m", 1e3, CONVERTED.format("1000")),
        ("inch", 1, ASSUMED.format("inch")),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_lengths_of_nrrd_are_converted_to_mm(tmp_path, unit, factor, remark, encoding):
    named = f'"{unit}" "{unit}" "{unit}"\n'
    path = write_nrrd(tmp_path / "a.nrrd", f"{DIRECTIONS}space units: {named}", encoding)
    image = read_image(path)
    np.testing.assert_allclose(image.geometry.spacing, np.array([20, 7, 7]) * factor)
    np.testing.assert_allclose(image.geometry.origin, np.array([10, 20, 30]) * factor)
    assert read_geometry(path) == image.geometry
    assert image.remarks == ((remark,) if remark else ())
    axes = read_image(write_nrrd(tmp_path / "b.nrrd", f"spacings: 7 7 20\nunits: {named}", encoding))
    np.testing.assert_allclose(axes.geometry.spacing, np.array([20, 7, 7]) * factor)
    assert axes.remarks == image.remarks


def test_units_that_differ_between_axes_are_not_used(tmp_path):
    image = read_image(write_nrrd(tmp_path / "a.nrrd", f'{DIRECTIONS}space units: "mm" "mm" "cm"\n'))
    assert image.geometry.spacing == (20, 7, 7)
    assert image.remarks == (ASSUMED.format("cm and mm"),)


def write_metaimage(path, compress, old, new):
    array = np.arange(60, dtype=np.uint8).reshape(1, *SHAPE)
    write_image(path, Image(array, Geometry.plain(SHAPE, (2.0, 0.5, 0.5))), compress=compress)
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    return read_image(path)


@pytest.mark.parametrize("compress", [True, False])
def test_lengths_of_metaimage_are_converted_to_mm(tmp_path, compress):
    image = write_metaimage(tmp_path / "a.mha", compress, b"ElementSpacing", b"DistanceUnits = um\nElementSpacing")
    np.testing.assert_allclose(image.geometry.spacing, (0.002, 0.0005, 0.0005))
    assert image.remarks == (CONVERTED.format("0.001"),)


def test_a_negative_voxel_size_is_reported(tmp_path):
    image = write_metaimage(tmp_path / "a.mha", False, b"ElementSpacing = 0.5", b"ElementSpacing = -0.5")
    assert image.geometry.spacing == (2.0, 0.5, 0.5)
    (remark,) = image.remarks
    assert "negative voxel size" in remark
    assert "; write positive sizes" in remark
