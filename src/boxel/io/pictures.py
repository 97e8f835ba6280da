"""Read and write pictures, which store no geometry: PNG, JPEG and BMP by pillow, TIFF by tifffile."""

from pathlib import Path

import numpy as np

from boxel.io.claims import LOSSLESS, check_claim

__all__ = ["SUFFIXES", "TIFF_SUFFIXES", "orientation", "read", "read_layout", "turn_upright", "write"]

TIFF_SUFFIXES = (".tif", ".tiff")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", *TIFF_SUFFIXES)
ORIENTATION = 0x0112  # the tag of TIFF and EXIF
AS_STORED = 1
SIDEWAYS = (5, 6, 7, 8)  # orientations that swap rows and columns


def read(path: Path, colours: bool) -> np.ndarray:
    """Read a picture `(c, *s)`; pages are planes, transparency is dropped.

    Args:
        path: the file.
        colours: look up the entries of a palette; otherwise their numbers are returned.
    """
    return _read_tiff(path) if path.suffix.lower() in TIFF_SUFFIXES else _read_pillow(path, colours)


def orientation(path: Path) -> int:
    """How a picture is shown, according to its header (EXIF): 1 as it is stored, otherwise turned or mirrored."""
    from PIL import Image as Picture

    try:
        with Picture.open(path) as picture:
            value = picture.getexif().get(ORIENTATION, AS_STORED)
    except Exception:  # pillow does not open all that tifffile opens; damaged metadata do not matter here
        return AS_STORED
    return value if value in range(1, 9) else AS_STORED


def turn_upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn the last two axes of the stored pixels as viewers do."""
    array = array.swapaxes(-2, -1) if orientation in SIDEWAYS else array
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return array[..., ::rows, ::columns]


def read_layout(path: Path) -> tuple[int, tuple[int, ...]]:
    """Number of channels and shape of a picture that pillow opens, without decoding it."""
    from PIL import Image as Picture

    with Picture.open(path) as picture:
        bands = ("R", "G", "B") if picture.mode in ("P", "CMYK", "YCbCr") else picture.getbands()
        return max(1, len(bands) - ("A" in bands)), picture.size[::-1]


def write(path: Path, array: np.ndarray, compress: bool) -> None:
    """Write a picture `(c, *s)`.

    Raises:
        TypeError: the format cannot store these channels, axes or numbers.
    """
    if path.suffix.lower() in TIFF_SUFFIXES:
        _write_tiff(path, array, compress)
    else:
        _write_pillow(path, array)


def _read_pillow(path: Path, colours: bool) -> np.ndarray:
    from PIL import Image as Picture

    with Picture.open(path) as picture:
        palette = picture.mode == "P" and colours
        mode = "RGB" if palette or picture.mode in ("CMYK", "YCbCr") else picture.mode
        decoded = picture.convert("L" if mode == "1" else mode)
    bands, array = decoded.getbands(), np.array(decoded)
    return np.moveaxis(array, -1, 0)[: len(bands) - ("A" in bands)] if bands[1:] else array[None]


def _read_tiff(path: Path) -> np.ndarray:
    import tifffile

    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        plain = series.keyframe.compression == tifffile.COMPRESSION.NONE
        check_claim(path, series.size * series.dtype.itemsize, path.stat().st_size, 1 if plain else LOSSLESS)
        array, axes, extra = series.asarray(), series.axes, series.keyframe.extrasamples
    if "C" in axes:
        return np.moveaxis(array, axes.index("C"), 0)
    if "S" not in axes:
        return array[None]
    array = np.moveaxis(array, axes.index("S"), 0)
    alpha = {tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA} & set(extra)
    return array[:-1] if alpha else array


def _write_pillow(path: Path, array: np.ndarray) -> None:
    from PIL import Image as Picture

    num_channels, *shape = array.shape
    if shape[2:] or num_channels not in (1, 3):
        raise TypeError(f"{num_channels} channels of {len(shape)} axes; pictures have 1 or 3 channels of 2 axes")
    Picture.fromarray(array[0] if num_channels == 1 else np.moveaxis(array, 0, -1)).save(path)


def _write_tiff(path: Path, array: np.ndarray, compress: bool) -> None:
    import tifffile

    axes = "C" + "ZYX"[1 - array.ndim :]
    array, axes = (array[0], axes[1:]) if len(array) == 1 else (array, axes)
    compression = "zlib" if compress else None
    tifffile.imwrite(path, array, photometric="minisblack", compression=compression, metadata={"axes": axes})
