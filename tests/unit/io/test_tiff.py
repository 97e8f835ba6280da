"""A large TIFF is read in parts, which are those of the whole."""

import numpy as np
import pytest
import tifffile

from boxel.io import open_image, read_image, read_layout, tiff
from boxel.slabs import Slabs

SHAPE = (70, 50)  # no multiple of a tile or strip
TILES, STRIPS = {"tile": (16, 32)}, {"rowsperstrip": 9}
KINDS = {
    "tiles": {**TILES},
    "compressed tiles": {**TILES, "compression": "zlib"},
    "compressed strips": {**STRIPS, "compression": "lzw", "predictor": True},
    "contiguous": {},
    "big endian": {"byteorder": ">"},
    "white is zero": {**STRIPS, "photometric": "miniswhite"},
    "several strips": {**STRIPS},
}


def same(path, least=0):
    """Whether any rows or pages are those of the whole image."""
    whole, opened = read_image(path), open_image(path, least=least)
    assert isinstance(opened.array, Slabs)
    assert (opened.array.shape, opened.array.dtype) == (whole.array.shape, whole.array.dtype)
    assert (opened.geometry, opened.remarks) == (whole.geometry, whole.remarks)
    planes = whole.array.shape[1]
    for first, last in ((0, 1), (planes // 3, planes // 2 + 1), (planes - 1, planes), (0, planes)):
        region = (slice(None), slice(first, last))
        assert np.array_equal(tiff.read_planes(path, first, last), whole.array[region])
        assert np.array_equal(opened.array[region], whole.array[region])
    assert read_layout(path) == (len(whole.array), whole.array.shape[1:])
    return True


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch):
    monkeypatch.setenv("BOXEL_READ_DIRECTLY", "1")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_grey_image_are_those_of_the_whole(kind, dtype, rng, tmp_path):
    if kind == "white is zero" and dtype == np.float32:
        pytest.skip("no such scale")
    options = {"photometric": "minisblack", "byteorder": "<", **KINDS[kind]}
    byteorder = options.pop("byteorder")
    if dtype == np.float32 and "predictor" in options:
        options["predictor"] = 3
    with tifffile.TiffWriter(tmp_path / "a.tif", byteorder=byteorder) as file:
        file.write(rng.integers(0, 200, SHAPE).astype(dtype), **options)
    assert same(tmp_path / "a.tif")


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("samples", [3, 4])
def test_parts_of_a_colour_image_are_those_of_the_whole(planar, samples, rng, tmp_path):
    shape = (*SHAPE, samples) if planar == "contig" else (samples, *SHAPE)
    options = {"photometric": "rgb", "planarconfig": planar, "compression": "zlib", **TILES}
    extra = ["unassalpha"] if samples == 4 else None
    tifffile.imwrite(tmp_path / "a.tif", rng.integers(0, 255, shape).astype(np.uint8), extrasamples=extra, **options)
    assert same(tmp_path / "a.tif")


def test_parts_of_a_jpeg_image_are_those_of_the_whole(rng, tmp_path):
    pixels = np.repeat(np.repeat(rng.integers(0, 255, (8, 8, 3)), 16, 0), 16, 1).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", compression="jpeg", tile=(32, 32))
    assert same(tmp_path / "a.tif")


def test_parts_of_a_palette_image_are_those_of_the_whole(rng, tmp_path):
    colours = rng.integers(0, 2**16, (3, 256)).astype(np.uint16)
    options = {"photometric": "palette", "colormap": colours, **STRIPS}
    tifffile.imwrite(tmp_path / "a.tif", rng.integers(0, 255, SHAPE).astype(np.uint8), **options)
    assert same(tmp_path / "a.tif")


@pytest.mark.parametrize("axes", ["ZYX", "CYX"])
@pytest.mark.parametrize("form", ["plain", "ome", "imagej", "compressed"])
def test_parts_of_pages_are_those_of_the_whole(axes, form, rng, tmp_path):
    options = {"ome": {"ome": True}, "imagej": {"imagej": True}, "compressed": {"compression": "zlib"}}.get(form, {})
    pixels = rng.integers(0, 255, (5, *SHAPE)).astype(np.uint8)
    path = tmp_path / ("a.ome.tif" if form == "ome" else "a.tif")
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata={"axes": axes}, **options)
    assert same(path)


def test_parts_of_a_pyramid_are_those_of_its_largest_image(rng, tmp_path):
    pixels = rng.integers(0, 255, (128, 96)).astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(pixels, subifds=1, photometric="minisblack", **TILES)
        file.write(pixels[::2, ::2], subfiletype=1, photometric="minisblack", **TILES)
    assert same(tmp_path / "a.tif")


def test_what_cannot_be_read_in_parts_is_read_as_a_whole(rng, tmp_path, monkeypatch):
    """A single compressed strip, and an image that is not large."""
    pixels = rng.integers(0, 255, SHAPE).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", compression="zlib", rowsperstrip=SHAPE[0])
    monkeypatch.setattr(tiff, "AT_ONCE", pixels.nbytes - 1)
    assert np.array_equal(open_image(tmp_path / "a.tif", least=0).array, pixels[None])
    tifffile.imwrite(tmp_path / "b.tif", pixels, photometric="minisblack", **TILES)
    assert isinstance(open_image(tmp_path / "b.tif").array, np.ndarray)


def test_damage_is_named_when_the_part_is_asked_for(rng, tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, rng.integers(0, 255, SHAPE).astype(np.uint8), compression="zlib", **TILES)
    opened = open_image(path, least=0)
    content = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[-1]
    path.write_bytes(content[:offset] + b"\0" * 40 + content[offset + 40 :])
    with pytest.raises(ValueError, match=r"a\.tif: cannot be read as an image"):
        opened.array[slice(None), slice(64, 70)]
    path.write_bytes(content[: offset - 100])
    with pytest.raises(ValueError, match=r"a\.tif"):
        opened.array[slice(None), slice(0, 70)]


COLOURS = {"photometric": "rgb"}
PLANAR = {"photometric": "rgb", "planarconfig": "separate"}


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(
    ("axes", "shape", "options"),
    [
        ("CYX", (3, 40, 33), PLANAR), ("ZYX", (3, 40, 33), PLANAR), ("YXC", (40, 33, 3), COLOURS),
        ("YXZ", (40, 33, 3), COLOURS), ("ZX", (40, 33), {}), ("TX", (40, 33), {}), ("XY", (40, 33), {}),
        ("CX", (3, 33), {}), ("YC", (40, 3), {}), ("CSYX", (5, 3, 40, 33), PLANAR), ("ZCYX", (4, 2, 40, 33), {}),
    ],
)  # fmt: skip
def test_axes_that_the_metadata_name_otherwise_than_the_pages(axes, shape, options, compression, rng, tmp_path):
    path, pixels = tmp_path / "a.tif", rng.integers(0, 255, shape).astype(np.uint8)
    options = {"photometric": "minisblack", **options}
    tifffile.imwrite(path, pixels, compression=compression, metadata={"axes": axes}, **options)
    whole, opened = read_image(path).array, open_image(path, least=0).array
    assert np.array_equal(np.asarray(opened[slice(None), slice(None)]), whole)
    assert read_layout(path) == (len(whole), whole.shape[1:])


STACKS = {
    "plain": {}, "compressed": {"compression": "zlib"}, "imagej": {"imagej": True}, "jpeg": {"compression": "jpeg"},
    "ome": {"ome": True, "compression": "zlib"}, "tiles": {**TILES, "compression": "jpeg"},
}  # fmt: skip


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("form", STACKS)
def test_a_file_that_is_cut_short_is_no_smaller_or_darker_image(form, share, rng, tmp_path):
    path = tmp_path / ("a.ome.tif" if form == "ome" else "a.tif")
    tifffile.imwrite(path, rng.integers(0, 255, (9, 64, 48)).astype(np.uint8), photometric="minisblack", **STACKS[form])
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    for read in (read_image, read_layout, lambda path: open_image(path, least=0)):
        with pytest.raises(ValueError, match=r"a.*\.tif: .*(cut short|cannot be read as an image)"):
            read(path)


def test_a_tile_that_ends_after_the_file_was_opened_is_an_error(rng, tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, rng.integers(0, 255, (64, 64)).astype(np.uint8), compression="zlib", tile=(16, 16))
    opened, content = open_image(path, least=0), path.read_bytes()
    with tifffile.TiffFile(path) as file:
        cut = file.pages[0].dataoffsets[9]
    path.write_bytes(content[:cut])
    with pytest.raises(ValueError, match=r"a\.tif: .*cut short"):
        opened.array[slice(None), slice(0, 64)]
