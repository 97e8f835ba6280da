"""Read and write pictures: PNG, JPEG and BMP by pillow, PNG with 16-bit colours by imagecodecs, TIFF in `tiff`.

They store no geometry, but nnU-Net writes the spacing of `CASE_0000.tif` into `CASE.json` beside it.
"""

import math
import re
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from boxel.inputs.texts import read_json
from boxel.io import tiff
from boxel.io.claims import LOSSLESS, check_claim

if TYPE_CHECKING:
    from PIL import Image as Picture

__all__ = [
    "SUFFIXES", "TIFF_SUFFIXES", "is_common", "layout", "orientation", "read", "read_embedded", "read_layout",
    "spacing_beside", "turn_upright", "write",
]  # fmt: skip

TIFF_SUFFIXES = (".tif", ".tiff")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", *TIFF_SUFFIXES)
ORIENTATION = 0x0112  # the tag of TIFF and EXIF
AS_STORED = 1
BYTES = {"I;16": 2, "I;16B": 2, "I": 4, "F": 4}  # of a value, by pillow's mode; all others have one
SIDEWAYS = (5, 6, 7, 8)  # orientations that swap rows and columns


def read(path: Path, colours: bool) -> tuple[np.ndarray, tuple[str, ...], int]:
    """Read a picture `(c, *s)`, with remarks and its `orientation`; pages are planes, transparency is dropped.

    Args:
        path: the file.
        colours: look up the entries of a palette and turn a scale on which 0 is white; otherwise the numbers of a label
            map are returned, and such a scale is turned only in a mask, which has no values but the lowest and the
            highest.
    """
    if path.suffix.lower() in TIFF_SUFFIXES:
        return (*tiff.read(path, colours), orientation(path))
    array, turn = _read_pillow(path, colours)
    return array, (), turn


def layout(path: Path, least: int) -> tiff.Layout | None:
    """How to read a TIFF in parts, see `boxel.io.tiff.layout`; None also if its header turns it."""
    return tiff.layout(path, least) if orientation(path) == AS_STORED else None


def spacing_beside(path: Path, ndim: int) -> tuple[float, ...] | None:
    """The spacing in the JSON file beside a TIFF; None if there is none.

    Raises:
        ValueError: its spacing is not one positive number for each axis.
    """
    names = (path.stem, re.sub(r"_\d{4}$", "", path.stem)) if path.suffix.lower() in TIFF_SUFFIXES else ()
    for file in (path.with_name(f"{name}.json") for name in names):
        try:
            values = read_json(file)
        except ValueError:  # none, or about something else
            continue
        if not isinstance(values, dict) or "spacing" not in values:
            continue
        spacing = values["spacing"]
        good = isinstance(spacing, list) and len(spacing) == ndim
        if not good or not all(isinstance(step, int | float) and 0 < step < math.inf for step in spacing):
            raise ValueError(f"{path}: {file.name} gives the spacing {spacing!r}; write {ndim} positive numbers (mm)")
        return tuple(map(float, spacing))
    return None


def orientation(path: Path) -> int:
    """How a picture is shown, according to its header (EXIF): 1 as it is stored, otherwise turned or mirrored."""
    from PIL import Image as Picture

    try:
        with Picture.open(path) as picture:
            return _orientation(picture)
    except Exception:  # pillow does not open all that tifffile opens
        return AS_STORED


def _orientation(picture: "Picture.Image") -> int:
    try:
        value = picture.getexif().get(ORIENTATION, AS_STORED)
    except Exception:  # damaged metadata do not matter here
        return AS_STORED
    return value if value in range(1, 9) else AS_STORED


def turn_upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn the last two axes of the stored pixels as viewers do."""
    array = array.swapaxes(-2, -1) if orientation in SIDEWAYS else array
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return array[..., ::rows, ::columns]


def read_layout(path: Path) -> tuple[int, tuple[int, ...]]:
    """Number of channels and shape of a picture that pillow opens, as it is shown, without decoding it."""
    from PIL import Image as Picture

    with Picture.open(path) as picture:
        bands = ("R", "G", "B") if picture.mode in ("P", "CMYK", "YCbCr") else picture.getbands()
        shape = picture.size if orientation(path) in SIDEWAYS else picture.size[::-1]
        return _deep_colours(path) or max(1, len(bands) - ("A" in bands)), shape


def is_common(path: Path) -> bool:
    """Whether the content is PNG, JPEG, BMP or GIF, whatever the name says."""
    with path.open("rb") as file:
        return file.read(4).startswith((b"\x89PNG", b"\xff\xd8\xff", b"BM", b"GIF8"))


def read_embedded(content: bytes) -> np.ndarray:
    """The numbers of a picture that is a part of another file; raises almost anything if it is damaged."""
    from PIL import Image as Picture

    return np.asarray(Picture.open(BytesIO(content)))


def write(path: Path, array: np.ndarray, compress: bool) -> None:
    """Write a picture `(c, *s)`.

    Raises:
        TypeError: the format cannot store these channels, axes or numbers.
    """
    if path.suffix.lower() in TIFF_SUFFIXES:
        _write_tiff(path, array, compress)
    else:
        _write_pillow(path, array)


def _read_pillow(path: Path, colours: bool) -> tuple[np.ndarray, int]:
    """A picture and its orientation, for which a PNG has to be decoded."""
    from PIL import Image as Picture

    with Picture.open(path) as picture:
        values = math.prod(picture.size) * len(picture.getbands())
        deep = _deep_colours(path)
        size = 2 if deep else BYTES.get(picture.mode, 1)
        check_claim(path, values * size, path.stat().st_size, LOSSLESS)
        if deep:
            import imagecodecs

            array = np.moveaxis(imagecodecs.png_decode(path.read_bytes()), -1, 0)[:deep]
            return array, _orientation(picture)
        palette = picture.mode == "P" and colours
        mode = "RGB" if palette or picture.mode in ("CMYK", "YCbCr") else picture.mode
        decoded = picture.convert("L" if mode == "1" else mode)
        turn = _orientation(picture)
    bands, array = decoded.getbands(), np.array(decoded)
    return np.moveaxis(array, -1, 0)[: len(bands) - ("A" in bands)] if bands[1:] else array[None], turn


def _deep_colours(path: Path) -> int:
    """Number of channels without transparency of a PNG that pillow reduces to 8 bits; 0 for all other files."""
    with path.open("rb") as file:
        head = file.read(26)
    return {2: 3, 4: 1, 6: 3}.get(head[-1], 0) if head.startswith(b"\x89PNG") and head[24:25] == b"\x10" else 0


def _write_pillow(path: Path, array: np.ndarray) -> None:
    from PIL import Image as Picture

    num_channels, *shape = array.shape
    if shape[2:] or num_channels not in (1, 3):
        raise TypeError(f"{num_channels} channels of {len(shape)} axes; pictures have 1 or 3 channels of 2 axes")
    if array.dtype == np.uint16 and num_channels == 3 and path.suffix.lower() == ".png":
        import imagecodecs

        path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(np.moveaxis(array, 0, -1))))
        return
    Picture.fromarray(array[0] if num_channels == 1 else np.moveaxis(array, 0, -1)).save(path)


def _write_tiff(path: Path, array: np.ndarray, compress: bool) -> None:
    import tifffile

    axes = "C" + "ZYX"[1 - array.ndim :]
    array, axes = (array[0], axes[1:]) if len(array) == 1 else (array, axes)
    compression = "zlib" if compress else None
    tifffile.imwrite(path, array, photometric="minisblack", compression=compression, metadata={"axes": axes})
