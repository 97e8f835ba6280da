"""Pictures: the pixels are those of pillow and tifffile, in the depth of the file."""

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as Picture

from boxel.io import read_geometry, read_image, read_label_map, read_layout, write_image
from boxel.types import Geometry, Image


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_deflate", "tiff_adobe_deflate", "jpeg"])
@pytest.mark.parametrize("colours", [False, True])
def test_compressed_tiff_has_the_pixels_of_pillow(compression, colours, tmp_path):
    rows = np.add.outer(np.arange(64), np.arange(48)).astype(np.uint8)
    picture = Picture.fromarray(np.stack([rows, rows // 2, 255 - rows], -1) if colours else rows)
    picture.save(tmp_path / "x.tif", compression=compression)
    expected = np.atleast_3d(np.asarray(Picture.open(tmp_path / "x.tif").convert("RGB" if colours else "L")))
    difference = np.moveaxis(read_image(tmp_path / "x.tif").array, 0, -1).astype(int) - expected
    assert np.abs(difference).max() <= (3 if compression == "jpeg" else 0)  # decoders of JPEG round differently


@pytest.mark.parametrize("compression", [None, "lzw"])
def test_a_scale_on_which_zero_is_white_is_turned_in_images_but_not_in_label_maps(compression, rng, tmp_path):
    stored = rng.integers(0, 256, (20, 30)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", stored, photometric="miniswhite", compression=compression)
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif").array[0], np.asarray(Picture.open(tmp_path / "x.tif")))
    np.testing.assert_array_equal(read_label_map(tmp_path / "x.tif").array, stored)


def test_two_levels_on_which_zero_is_white_are_turned_as_by_pillow(rng, tmp_path):
    stored = rng.random((16, 24)) < 0.3
    tifffile.imwrite(tmp_path / "x.tif", stored, photometric="miniswhite", bitspersample=1)
    expected = np.asarray(Picture.open(tmp_path / "x.tif"))
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif").array[0].astype(bool), expected)
    np.testing.assert_array_equal(read_label_map(tmp_path / "x.tif").array.astype(bool), expected)


@pytest.mark.parametrize(("imagej", "turned"), [(False, True), (True, False)])
def test_a_mask_of_two_values_on_which_zero_is_white_is_turned_unless_imagej_wrote_it(rng, tmp_path, imagej, turned):
    """In a binary picture of ImageJ the objects are 255 and black on white."""
    stored = np.where(rng.random((16, 24)) < 0.3, 255, 0).astype(np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", stored, photometric="miniswhite", imagej=imagej)
    with tifffile.TiffFile(tmp_path / "x.tif", mode="r+") as file:
        file.pages[0].tags["PhotometricInterpretation"].overwrite(0)
    np.testing.assert_array_equal(read_label_map(tmp_path / "x.tif").array, 255 - stored if turned else stored)


def test_sixteen_bits_turn_too(rng, tmp_path):
    stored = rng.integers(0, 65536, (20, 30)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", stored, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif").array[0], 65535 - stored)


def test_the_palette_of_a_tiff_is_looked_up_as_by_pillow(rng, tmp_path):
    picture = Picture.fromarray(rng.integers(0, 256, (20, 30, 3)).astype(np.uint8)).quantize(16)
    picture.save(tmp_path / "x.tif")
    expected = np.asarray(Picture.open(tmp_path / "x.tif").convert("RGB"))
    np.testing.assert_array_equal(np.moveaxis(read_image(tmp_path / "x.tif").array, 0, -1), expected)
    np.testing.assert_array_equal(read_label_map(tmp_path / "x.tif").array, np.asarray(picture))


@pytest.mark.parametrize("read", [read_image, read_label_map])
def test_complex_numbers_are_refused(tmp_path, read):
    tifffile.imwrite(tmp_path / "x.tif", np.ones((16, 16), np.complex64))
    with pytest.raises(ValueError, match=r"x\.tif: its pixels are complex numbers; save their magnitude"):
        read(tmp_path / "x.tif")


def test_a_label_map_in_a_jpeg_tiff_is_refused(tmp_path):
    Picture.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "x.tif", compression="jpeg")
    with pytest.raises(ValueError, match=r"x\.tif: JPEG changes label values"):
        read_label_map(tmp_path / "x.tif")


def test_colours_of_another_kind_are_refused(tmp_path):
    Picture.fromarray(np.zeros((16, 16, 4), np.uint8), "CMYK").save(tmp_path / "x.tif")
    with pytest.raises(ValueError, match="colours are SEPARATED; save it as grey or RGB"):
        read_image(tmp_path / "x.tif")


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colours_of_sixteen_bits_keep_them(channels, rng, tmp_path):
    pixels = rng.integers(0, 65536, (20, 30, channels)).astype(np.uint16)
    (tmp_path / "x.png").write_bytes(imagecodecs.png_encode(pixels))
    expected = np.moveaxis(pixels[..., : 1 if channels == 2 else 3], -1, 0)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png").array, expected)
    assert read_layout(tmp_path / "x.png") == (len(expected), (20, 30))


def test_colours_of_sixteen_bits_are_written(rng, tmp_path):
    pixels = rng.integers(0, 65536, (3, 20, 30)).astype(np.uint16)
    write_image(tmp_path / "x.png", Image(pixels, Geometry.plain((20, 30))))
    np.testing.assert_array_equal(imagecodecs.png_decode((tmp_path / "x.png").read_bytes()), pixels.transpose(1, 2, 0))


@pytest.mark.parametrize("sidecar", ["case.json", "case_0001.json"])
def test_the_spacing_beside_a_tiff_counts(sidecar, ndim, tmp_path):
    tifffile.imwrite(tmp_path / "case_0001.tif", np.zeros((12, 32, 40)[-ndim:], np.uint8), photometric="minisblack")
    (tmp_path / sidecar).write_text(f'{{"spacing": {[2, 0.7, 0.5][-ndim:]}}}', encoding="utf-8-sig")
    image = read_image(tmp_path / "case_0001.tif")
    assert image.geometry.spacing == (2, 0.7, 0.5)[-ndim:] == read_geometry(tmp_path / "case_0001.tif").spacing
    (tmp_path / sidecar).write_text('{"spacing": [1, 2, 3, 4]}')
    with pytest.raises(ValueError, match=rf"{sidecar} gives the spacing .* write {ndim} positive numbers"):
        read_image(tmp_path / "case_0001.tif")
    (tmp_path / sidecar).write_text('{"Manufacturer": "any"}')
    assert read_geometry(tmp_path / "case_0001.tif").spacing == (1,) * ndim
