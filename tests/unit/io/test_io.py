"""Images come back from files as they were, with their place in the world, and damaged files are refused."""

import resource
import shutil
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from boxel.io import (
    read_geometry,
    read_image,
    read_label_map,
    read_layout,
    split_suffix,
    write_image,
    write_label_map,
)
from boxel.types import Geometry, Image

WORLD = [".nii.gz", ".nii", ".mha", ".nrrd"]


def oblique(shape: tuple[int, ...]) -> Geometry:
    """A grid rotated by 15 degrees in its last two axes, anisotropic and off the origin."""
    d, c, s = len(shape), np.cos(np.pi / 12), np.sin(np.pi / 12)
    direction = np.eye(d)
    direction[-2:, -2:] = [[c, -s], [s, c]]
    return Geometry(shape, (2.5, 0.75, 0.5)[-d:], (10.0, -20.0, 30.0)[:d], tuple(map(tuple, direction.tolist())))


def assert_same(geometry: Geometry, expected: Geometry) -> None:
    assert geometry.shape == expected.shape
    for name in ("spacing", "origin", "direction"):
        np.testing.assert_allclose(getattr(geometry, name), getattr(expected, name), atol=1e-5)


@pytest.mark.parametrize("suffix", WORLD)
@pytest.mark.parametrize("num_channels", [1, 2, 3])
def test_medical_files_keep_voxels_and_world(ndim, num_channels, suffix, rng, tmp_path):
    # NIfTI has no oblique 2D images.
    shape = (5, 6, 7)[-ndim:]
    geometry = oblique(shape) if ndim == 3 or suffix in (".mha", ".nrrd") else Geometry.plain(shape, (0.75, 0.5))
    image = Image(rng.normal(size=(num_channels, *shape)).astype(np.float32), geometry)
    write_image(tmp_path / f"x{suffix}", image)
    found = read_image(tmp_path / f"x{suffix}")
    np.testing.assert_array_equal(found.array, image.array)
    assert found.array.dtype == image.array.dtype
    assert_same(found.geometry, geometry)


@pytest.mark.parametrize(
    ("suffix", "dtype", "shape"),
    [
        (".png", np.uint8, (1, 5, 7)),
        (".png", np.uint16, (1, 5, 7)),
        (".png", np.uint8, (3, 5, 7)),
        (".bmp", np.uint8, (3, 5, 7)),
        (".tif", np.float32, (1, 5, 7)),
        (".tif", np.int16, (2, 5, 7)),
        (".tiff", np.uint8, (1, 4, 5, 7)),
        (".tif", np.uint8, (3, 4, 5, 7)),
    ],
)
def test_pictures_keep_their_values(suffix, dtype, shape, rng, tmp_path):
    array = rng.integers(0, 200, shape).astype(dtype)
    write_image(tmp_path / f"x{suffix}", Image(array, Geometry.plain(shape[1:])))
    found = read_image(tmp_path / f"x{suffix}")
    np.testing.assert_array_equal(found.array, array)
    assert found.geometry == Geometry.plain(shape[1:])


def test_the_world_is_that_of_nibabel(rng, tmp_path):
    affine = np.diag([-0.5, 0.75, 2.5, 1.0])
    affine[:3, 3] = [10, -20, 30]
    array = rng.normal(size=(7, 6, 5)).astype(np.float32)  # x, y, z
    nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / "x.nii.gz")
    image = read_image(tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(image.array[0], array.T)
    index = np.array([1, 2, 3])  # z, y, x
    ras = (affine @ [*index[::-1], 1])[:3]
    world = image.geometry.to_world(index[None] + 0.5)[0]
    np.testing.assert_allclose(world, ras * [-1, -1, 1], atol=1e-5)  # LPS


def test_transparency_is_dropped_and_colours_are_channels(rng, tmp_path):
    colours = rng.integers(0, 255, (5, 7, 4), dtype=np.uint8)
    Picture.fromarray(colours).save(tmp_path / "rgba.png")
    Picture.fromarray(colours[..., :2]).save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png").array, np.moveaxis(colours[..., :3], -1, 0))
    np.testing.assert_array_equal(read_image(tmp_path / "la.png").array, colours[None, ..., 0])


def test_pages_of_a_tiff_are_planes(rng, tmp_path):
    array = rng.integers(0, 255, (9, 5, 7), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", array)
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif").array, array[None])


def test_label_maps_keep_their_numbers(ndim, rng, tmp_path):
    geometry = Geometry.plain((5, 6, 7)[-ndim:], (3.0, 2.0, 1.0)[-ndim:])
    for largest in (1, 300, 70_000):
        label_map = rng.integers(0, largest + 1, geometry.shape)
        write_label_map(tmp_path / "x.nii.gz", label_map, geometry)
        found = read_label_map(tmp_path / "x.nii.gz")
        np.testing.assert_array_equal(found.array, label_map)
        assert found.array.dtype == np.int32


def test_a_palette_picture_is_a_label_map_of_its_entries_but_an_image_of_its_colours(tmp_path):
    numbers = np.array([[0, 1, 2]], np.uint8)
    picture = Picture.fromarray(numbers)
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    picture.save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "x.png").array, numbers)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png").array[0], [[0, 255, 0]])


def test_whole_numbers_stored_as_floats_are_a_label_map(tmp_path):
    write_image(tmp_path / "x.mha", Image(np.array([[[0.0, 2.0]]]), Geometry.plain((1, 2))))
    assert read_label_map(tmp_path / "x.mha").array.tolist() == [[0, 2]]


@pytest.mark.parametrize(
    ("values", "suffix", "message"),
    [
        (np.array([[[0.0, 0.5]]]), ".mha", "whole numbers"),
        (np.array([[[0.0, np.nan]]]), ".mha", "NaN or infinite"),
        (np.array([[[0, -1]]], np.int16), ".mha", "from -1 to 0"),
        (np.zeros((3, 2, 2), np.uint8), ".png", "3 channels"),
    ],
)
def test_a_file_that_is_no_label_map_is_refused(values, suffix, message, tmp_path):
    path = tmp_path / f"x{suffix}"
    write_image(path, Image(values, Geometry.plain(values.shape[1:])))
    with pytest.raises(ValueError, match=message) as error:
        read_label_map(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("suffix", [*WORLD, ".png", ".tif"])
def test_a_file_cut_short_is_refused(suffix, rng, tmp_path):
    path, shape = tmp_path / f"x{suffix}", (40, 50)
    write_image(path, Image(rng.integers(0, 255, (1, *shape), dtype=np.uint8), Geometry.plain(shape)))
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(ValueError, match="copy or export it again") as error:
        read_image(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("suffix", [*WORLD, ".png", ".tif", ".jpg"])
@pytest.mark.parametrize(("content", "message"), [(b"", "empty"), (b"nothing of the kind" * 99, "cannot be read")])
def test_an_empty_or_foreign_file_is_refused(suffix, content, message, tmp_path):
    (tmp_path / f"x{suffix}").write_bytes(content)
    with pytest.raises(ValueError, match=rf"x{suffix}.*{message}"):
        read_image(tmp_path / f"x{suffix}")


def test_compressed_nifti_of_several_gzip_members_is_read(rng, tmp_path):
    import gzip

    image = Image(rng.normal(size=(1, 4, 5, 6)), Geometry.plain((4, 5, 6)))
    write_image(tmp_path / "x.nii", image)
    content = (tmp_path / "x.nii").read_bytes()
    (tmp_path / "y.nii.gz").write_bytes(gzip.compress(content[:500]) + gzip.compress(content[500:]))
    np.testing.assert_array_equal(read_image(tmp_path / "y.nii.gz").array, image.array)


def test_two_nifti_files_of_one_name_are_refused_since_a_data_set_can_use_only_one(rng, tmp_path):
    image = Image(rng.normal(size=(1, 4, 5, 6)), Geometry.plain((4, 5, 6)))
    write_image(tmp_path / "x.nii", image)
    write_image(tmp_path / "x.nii.gz", image)
    with pytest.raises(ValueError, match=r"x\.nii lies beside it"):
        read_image(tmp_path / "x.nii.gz")


def test_a_missing_an_unknown_and_a_forbidden_file_are_refused(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        read_image(tmp_path / "x.nii.gz")
    with pytest.raises(ValueError, match=r"\.nii\.gz .*\.png"):
        read_image(tmp_path / "x.docx")
    with pytest.raises(ValueError, match="no DICOM series"):
        read_image(tmp_path)

    def forbidden(self, mode="r"):  # tests may run as root, who may read everything
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(ValueError, match="no permission"):
        read_image(tmp_path / "x.nii.gz")


@pytest.mark.parametrize("suffix", [*WORLD, ".png", ".tif"])
def test_when_the_disk_is_full_nothing_is_left(suffix, rng, tmp_path, capfd):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    image = Image(rng.integers(0, 255, (1, 200, 200), dtype=np.uint8), Geometry.plain((200, 200)))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
        with pytest.raises(ValueError, match=rf"x{suffix}: cannot be written .*free space"):
            write_image(tmp_path / f"x{suffix}", image)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "image", "message"),
    [
        (
            "x.png",
            Image(np.zeros((1, 2, 2), np.uint8), Geometry.plain((2, 2), (2, 2))),
            "cannot store spacing",
        ),
        ("x.png", Image(np.zeros((1, 2, 2), np.float64), Geometry.plain((2, 2))), "number type"),
        ("x.png", Image(np.zeros((1, 2, 2, 2), np.uint8), Geometry.plain((2, 2, 2))), "axes"),
        ("x.jpg", Image(np.zeros((1, 2, 2), np.uint8), Geometry.plain((2, 2))), "use .nii.gz"),
    ],
)
def test_a_format_that_would_lose_something_is_refused(name, image, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_image(tmp_path / name, image)


@pytest.mark.parametrize(
    ("name", "parts"),
    [("a.b_0000.nii.gz", ("a.b_0000", ".nii.gz")), ("A.TIF", ("A", ".tif")), ("a.json", ("a.json", ""))],
)
def test_suffixes_are_recognised(name, parts):
    assert split_suffix(Path(name)) == parts


@pytest.mark.data
def test_slices_of_a_dicom_series_are_in_order_of_position_whatever_their_names(data, tmp_path):
    files = sorted((data / "ct" / "ct_dicom_512" / "dicom").iterdir())
    for number, file in enumerate(reversed(files)):
        shutil.copy(file, tmp_path / f"{(number * 7) % len(files):03d}.dcm")
    image, again = read_image(files[0].parent), read_image(tmp_path)
    assert image.array.shape == (1, 20, 512, 512)  # as its README says
    np.testing.assert_allclose(image.geometry.spacing, (2, 0.9765625, 0.9765625))
    np.testing.assert_array_equal(again.array, image.array)
    for gone in sorted(tmp_path.iterdir())[::6]:
        gone.unlink()
    with pytest.raises(ValueError, match="mm apart"):
        read_image(tmp_path)


@pytest.mark.parametrize("suffix", [*WORLD, ".tif"])
def test_nan_and_infinity_are_not_hidden(suffix, tmp_path):
    array = np.array([[[0.0, np.nan, np.inf, -np.inf]]], np.float32)
    write_image(tmp_path / f"x{suffix}", Image(array, Geometry.plain((1, 4))))
    np.testing.assert_array_equal(read_image(tmp_path / f"x{suffix}").array, array)


@pytest.mark.parametrize("skip", [100, -1])
def test_compressed_voxels_behind_a_header_of_their_own_are_read(skip, tmp_path):
    voxels = np.arange(120, dtype="<i2").reshape(4, 5, 6)
    packed = zlib.compress(voxels.tobytes())
    (tmp_path / "x.zraw").write_bytes(b"h" * 100 + packed)
    (tmp_path / "x.mhd").write_text(
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = True\n"
        f"CompressedDataSize = {len(packed)}\nDimSize = 6 5 4\nElementSpacing = 1 1 2\nHeaderSize = {skip}\n"
        "ElementType = MET_SHORT\nElementDataFile = x.zraw\n"
    )
    np.testing.assert_array_equal(read_image(tmp_path / "x.mhd").array[0], voxels)


def test_a_negative_spacing_reverses_the_axis_instead(tmp_path):
    (tmp_path / "x.mha").write_bytes(
        b"ObjectType = Image\nNDims = 3\nBinaryData = True\nDimSize = 6 5 4\nElementSpacing = 1 1 -2\n"
        b"ElementType = MET_UCHAR\nElementDataFile = LOCAL\n" + bytes(120)
    )
    geometry = read_geometry(tmp_path / "x.mha")
    assert geometry.spacing == (2, 1, 1)
    np.testing.assert_array_equal(geometry.to_world(np.array([[3.5, 0.5, 0.5]])), [[0, 0, -6]])


@pytest.mark.parametrize("suffix", WORLD)
def test_suffixes_may_be_capital(tmp_path, suffix):
    image = Image(np.arange(120, dtype=np.int16).reshape(1, 4, 5, 6), oblique((4, 5, 6)))
    write_image(tmp_path / f"a{suffix}", image)
    shutil.copy(tmp_path / f"a{suffix}", tmp_path / f"B{suffix.upper()}")
    read = read_image(tmp_path / f"B{suffix.upper()}")
    np.testing.assert_array_equal(read.array, image.array)
    assert_same(read.geometry, image.geometry)
    assert read_layout(tmp_path / f"B{suffix.upper()}") == (1, (4, 5, 6))
