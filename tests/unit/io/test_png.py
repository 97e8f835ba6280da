"""Plain PNG files are decoded in another way than the rest, with the same result; damaged ones never are."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image as Picture
from PIL import PngImagePlugin

from boxel.io import pictures, png, read_grid, read_image

VALUES = np.random.default_rng(0).integers(0, 256, (9, 7), dtype=np.uint8)
PLAIN = {
    "grey": Picture.fromarray(VALUES),
    "grey of 16 bits": Picture.fromarray(VALUES.astype(np.uint16) * 251),
    "colours": Picture.fromarray(np.stack([VALUES, VALUES[::-1], 255 - VALUES], -1)),
    "transparent colours": Picture.fromarray(np.stack([VALUES, VALUES[::-1], 255 - VALUES, VALUES], -1)),
    "transparent grey": Picture.merge("LA", [Picture.fromarray(VALUES), Picture.fromarray(255 - VALUES)]),
}
TURNED = Picture.Exif()
TURNED[pictures.ORIENTATION] = 6
TEXT = PngImagePlugin.PngInfo()
TEXT.add_text("Raw profile type exif", "anything")
OTHERS = {
    "palette": (Picture.fromarray(VALUES).convert("P"), {}),
    "one bit": (Picture.fromarray(VALUES > 99), {}),
    "turned": (PLAIN["grey"], {"exif": TURNED}),
    "with a text": (PLAIN["grey"], {"pnginfo": TEXT}),
    "a transparent value": (PLAIN["grey"], {"transparency": 3}),
}


def stored(picture, **options):
    content = BytesIO()
    picture.save(content, "png", **options)
    return content.getvalue()


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_files_have_the_values_that_pillow_reads(tmp_path, kind):
    path = tmp_path / "a.png"
    path.write_bytes(stored(PLAIN[kind], dpi=(72, 72)))
    expected = pictures.read(path, colours=False)[0]
    found = png.read(path)
    assert found is not None
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    image = read_image(path)
    assert read_grid(path) == (len(image.array), image.geometry)


@pytest.mark.parametrize("kind", OTHERS)
def test_others_are_left_to_pillow(tmp_path, kind):
    path = tmp_path / "a.png"
    picture, options = OTHERS[kind]
    path.write_bytes(stored(picture, **options))
    assert png.read(path) is None
    assert read_grid(path) is None


def test_no_damage_goes_unseen():
    """Whatever byte is changed or missing, the file is not plain."""
    content = stored(PLAIN["grey"], dpi=(72, 72))
    for at in range(len(content)):
        assert png.read_shape(content[:at] + bytes([content[at] ^ 5]) + content[at + 1 :]) is None, at
        assert png.read_shape(content[:at]) is None, at
