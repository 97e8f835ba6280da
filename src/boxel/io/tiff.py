"""Read TIFF files by tifffile: whole, or a few planes at a time, which are rows of a picture or pages of a stack."""

import contextlib
import math
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from boxel.io.claims import LOSSLESS, check_claim

__all__ = ["Layout", "layout", "read", "read_planes"]

LOSSY = (6, 7, 33007, 34892)  # JPEG compressions
CUT_SHORT = "the file is cut short; copy or export it again"
# By type of a tag.
VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
AT_ONCE = 2**26  # bytes of the planes that have to be decoded together, the most that are read in parts


class Layout(NamedTuple):
    """What `read_planes` gives, without decoding all of it.

    Attributes:
        shape: `(c, *s)` of the image.
        block: number of planes of the first axis of `s` that are stored together.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    block: int
    remarks: tuple[str, ...]


class _Opened(NamedTuple):
    file: Any
    series: Any
    remarks: tuple[str, ...]

    @property
    def axis(self) -> int:
        """The first axis of the stored array that is not one of channels."""
        return next(axis for axis, name in enumerate(self.series.axes) if name not in "CS")

    @property
    def size(self) -> int:
        """Bytes of all pixels."""
        return self.series.size * self.series.dtype.itemsize

    @property
    def block(self) -> int:
        """Number of planes that are stored together; 0 if the image can be read only as a whole."""
        series, page, ndim = self.series, self.series.keyframe, len(self.series.keyframe.shape)
        further, before = series.axes[:-ndim], series.axes[: self.axis]  # the axes along which pages lie; of channels
        if len(before) > 1 or ("C" in series.axes and before == "S"):
            return 0  # two axes of channels
        if series.dataoffset is not None:
            return 1
        if self.axis >= len(further) and page.axes[self.axis - len(further)] != "Y":
            return 0  # the metadata name an axis of a page otherwise than the page does
        if series.transform or page.jpegheader is not None or page.imagedepth > 1 or len(series.axes) < ndim:
            return 0
        if math.prod(series.shape[:-ndim]) != len(series.pages) or further not in ("", "C", series.axes[self.axis]):
            return 0
        return 1 if self.axis < len(further) else min(page.imagelength, page.tilelength or page.rowsperstrip)


def read(path: Path, colours: bool) -> tuple[np.ndarray, tuple[str, ...]]:
    """The image `(c, *s)` and remarks; arguments are those of `boxel.io.pictures.read`."""
    with _opened(path, colours) as opened:
        _check_whole(path, opened)
        _check_claim(path, opened, opened.size)
        return _finish(opened, opened.series.asarray(), colours), opened.remarks


def layout(path: Path, least: int) -> Layout | None:
    """How to read an image in parts; None if that is not possible, or if it has fewer bytes of pixels than `least`."""
    with _opened(path, True) as opened:
        planes, block = opened.series.shape[opened.axis], opened.block
        if opened.size < least or not block or opened.size // planes * block > AT_ONCE:
            return None
        _check_whole(path, opened)
        first = _planes(path, opened, 0, 1)
        return Layout((len(first), planes, *first.shape[2:]), first.dtype, block, opened.remarks)


def read_planes(path: Path, first: int, last: int) -> np.ndarray:
    """The planes `(c, n, ...)` of an image from `first` to before `last`, as `read` gives them with colours."""
    with _opened(path, True) as opened:
        return _planes(path, opened, first, last)


def _planes(path: Path, opened: _Opened, first: int, last: int) -> np.ndarray:
    series, axis = opened.series, opened.axis
    planes = series.shape[axis]
    _check_claim(path, opened, opened.size // planes * (last - first + opened.block))
    if series.dataoffset is not None:
        dtype = series.dtype.newbyteorder(opened.file.byteorder)
        stored = np.memmap(path, dtype, "r", series.dataoffset, series.shape)
        array = stored[(slice(None),) * axis + (slice(first, last),)].astype(series.dtype)
    elif axis < len(series.axes) - len(series.keyframe.shape):
        array = np.stack([page.asarray() for page in series.pages[first:last]])
    else:
        rows = [_rows(page, first, last) for page in series.pages]
        array = np.stack(rows) if len(series.axes) > len(series.keyframe.axes) else rows[0]
    return _finish(opened, array, True)


def _rows(page: Any, first: int, last: int) -> np.ndarray:
    """Rows of a page, from the strips or tiles that have some of them."""
    frame, file = page.keyframe, page.parent.filehandle
    samples, _, length, width, _ = frame.shaped
    height, across = (frame.tilelength, -(-width // frame.tilewidth)) if frame.is_tiled else (frame.rowsperstrip, 1)
    down = -(-length // height)
    settings = {"_fullsize": frame.is_tiled}
    if frame.compression in LOSSY:
        settings |= {"jpegtables": page.jpegtables, "jpegheader": frame.jpegheader}
    array = np.zeros((samples, last - first, *frame.shaped[3:]), frame.dtype)
    for sample in range(samples):
        for number in range((sample * down + first // height) * across, (sample * down + -(-last // height)) * across):
            file.seek(page.dataoffsets[number])
            data = file.read(page.databytecounts[number])
            if len(data) < page.databytecounts[number]:
                raise ValueError(f"{file.path}: {CUT_SHORT}")
            # A tile of no bytes was never written.
            segment, (_, _, row, column, _), shape = frame.decode(data or None, number, **settings)
            begin, end = max(first, row), min(last, row + shape[1])
            target = array[sample, begin - first : end - first, column : column + shape[2]]
            found = frame.nodata if segment is None else segment[0, begin - row : end - row, : target.shape[1]]
            target[...] = found
    return array.reshape(
        [last - first if name == "Y" else size for name, size in zip(frame.axes, frame.shape, strict=True)]
    )


@contextlib.contextmanager
def _opened(path: Path, colours: bool) -> Iterator[_Opened]:
    """A file with its first image, if that is of a kind that Boxel reads."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        remarks = _left_out(path, file.series)
        series = file.series[0]
        page, kinds = series.keyframe, tifffile.PHOTOMETRIC
        plain = page.compression == tifffile.COMPRESSION.NONE
        if not colours and page.compression in LOSSY:
            raise ValueError(f"{path}: JPEG changes label values; save label maps without it, as .png, .tif or .nii.gz")
        if page.photometric in (kinds.SEPARATED, kinds.CIELAB) or (page.photometric == kinds.YCBCR and plain):
            raise ValueError(f"{path}: its colours are {kinds(page.photometric).name}; save it as grey or RGB")
        if series.dtype.kind == "c":
            raise ValueError(f"{path}: its pixels are complex numbers; save their magnitude as float32")
        yield _Opened(file, series, remarks)


def _check_whole(path: Path, opened: _Opened) -> None:
    """Raise ValueError if a page, or a part of one, lies beyond the end of the file; tifffile leaves it out."""
    pages, end = opened.file.pages, path.stat().st_size
    values, _ = _directory(opened.file, pages[0].offset)
    _, following = _directory(opened.file, pages[len(pages) - 1].offset)
    parts = ((page.dataoffsets, page.databytecounts) for page in opened.series.pages if page is not None)
    if following or max(values) > end or any(np.add(*part).max(initial=0) > end for part in parts):
        raise ValueError(f"{path}: {CUT_SHORT}")


def _directory(file: Any, offset: int) -> tuple[list[int], int]:
    """Where the values of a page's tags end, and where the next page is described; 0 if it is the last."""
    tiff, stream = file.tiff, file.filehandle
    stream.seek(offset)
    (number,) = struct.unpack(tiff.tagnoformat, stream.read(tiff.tagnosize))
    content = stream.read(number * tiff.tagsize + tiff.offsetsize)
    ends = [0]
    for start in range(0, number * tiff.tagsize, tiff.tagsize):
        kind, count, place = struct.unpack_from(
            f"{file.byteorder}xxH{'QQ' if tiff.is_bigtiff else 'II'}", content, start
        )
        size = count * VALUE_BYTES.get(kind, 1)
        ends.append(place + size if size > tiff.tagoffsetthreshold else 0)
    return ends, int.from_bytes(content[number * tiff.tagsize :])


def _check_claim(path: Path, opened: _Opened, at_once: int) -> None:
    page = opened.series.keyframe
    bits, size = page.bitspersample, opened.series.dtype.itemsize
    ratio = 8 * size / bits if page.compression == 1 else LOSSLESS  # less than 8 bits are unpacked
    check_claim(path, opened.size, path.stat().st_size, ratio, at_once)


def _finish(opened: _Opened, array: np.ndarray, colours: bool) -> np.ndarray:
    """Stored numbers as an image `(c, *s)`: palette, a scale on which 0 is white, channels first, no transparency."""
    import tifffile

    page, axes, kinds = opened.series.keyframe, opened.series.axes, tifffile.PHOTOMETRIC
    is_imagej, bits = opened.file.is_imagej, page.bitspersample
    # The palette of ImageJ is a look-up table for the screen: the numbers are the measured ones.
    palette = page.colormap if page.photometric == kinds.PALETTE and colours and not is_imagej else None
    plain_mask = bits == 1 or not is_imagej  # ImageJ shows its masks, 255 in objects, as black on white
    if (
        page.photometric == kinds.MINISWHITE
        and array.dtype.kind in "bu"
        and (colours or (plain_mask and np.isin(array, (0, 2**bits - 1)).all()))
    ):
        array = ~array if array.dtype == bool else (2**bits - 1 - array).astype(array.dtype)
    if palette is not None:
        return (palette >> 8).astype(np.uint8)[:, array]
    if "C" in axes:
        return np.moveaxis(array, axes.index("C"), 0)
    if "S" not in axes:
        return array[None]
    array = np.moveaxis(array, axes.index("S"), 0)
    alpha = {tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA} & set(page.extrasamples)
    return array[:-1] if alpha else array


def _left_out(path: Path, series: Sequence[Any]) -> tuple[str, ...]:
    """What a TIFF holds besides its first image: thumbnails and labels of a slide, which are left out.

    Raises:
        ValueError: there is another image.
    """
    (first, *others), small = series, [each for each in series[1:] if _is_small_copy(each, series[0])]
    if len(small) < len(others):
        shapes = ", ".join(str(each.shape) for each in series[:4])
        problem = f"its pages do not form one image: shapes {shapes}{', ...' if series[4:] else ''}"
        raise ValueError(f"{path}: {problem}; save each image as a file of its own")
    small += first.levels[1:]  # a pyramid
    if not small:
        return ()
    shapes = ", ".join(str(each.shape) for each in small[:4])
    return (f"only the image of shape {first.shape} is used, not its smaller copies or labels of shape {shapes}; "
            "nothing to do if this is correct",)  # fmt: skip


def _is_small_copy(series: Any, image: Any) -> bool:
    """Whether a series of pages is a thumbnail, by its tag, its name, or its size of half the image or less."""
    if series.keyframe.is_reduced or series.name.lower() in ("thumbnail", "label", "macro"):
        return True
    sizes = [(each.keyframe.imagelength, each.keyframe.imagewidth) for each in (image, series)]
    ratios = [own / whole for whole, own in zip(*sizes, strict=True)]
    return len(series) == len(image) == 1 and max(ratios) <= 0.5 and math.isclose(*ratios, rel_tol=0.05)
