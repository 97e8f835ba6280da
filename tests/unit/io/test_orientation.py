"""Pictures are turned as their header (EXIF) says."""

import numpy as np
import pytest
from PIL import Image as Picture
from PIL import ImageOps

from boxel.io import read_geometry, read_image, read_layout


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_read_as_pillow_shows_them(tmp_path, suffix, orientation):
    array = np.random.default_rng(0).integers(0, 255, (8, 16, 3)).astype(np.uint8)
    exif = Picture.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    Picture.fromarray(array).save(path, exif=exif)
    with Picture.open(path) as picture:
        shown = np.array(ImageOps.exif_transpose(picture))
    image = read_image(path)
    np.testing.assert_array_equal(np.moveaxis(image.array, 0, -1), shown)
    assert read_layout(path) == (3, shown.shape[:2])
    assert image.geometry == read_geometry(path)
    assert bool(image.remarks) == (orientation != 1)
    assert read_image(path, upright=False).array.shape == (3, 8, 16)
