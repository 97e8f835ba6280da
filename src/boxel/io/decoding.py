"""Pictures and DICOM files are decoded in another process, small pictures many at a time.

To ask that process for each of many small pictures takes longer than to read them.
"""

import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import numpy as np

from boxel.io import dicom, pictures, png
from boxel.io.apart import apart, now_reading
from boxel.types import Geometry, Image

__all__ = ["ahead", "ahead_of", "decode", "is_small"]

SMALL = 2**16  # bytes of a file
TOGETHER = 2**24  # bytes of voxels of small pictures, after which the others are read one by one
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
Wanted = tuple[Path, bool]
"""A file, and whether its palette is looked up; see `decode`."""


class _Batch:
    """Small pictures that are read together when the first of them is asked for."""

    def __init__(self, wanted: Iterable[Wanted]) -> None:
        self.wanted = list(dict.fromkeys(wanted))
        self.images: dict[Wanted, Image] | None = None

    def get(self, path: Path, colours: bool) -> Image | None:
        if self.images is None and (path, colours) in self.wanted:
            self.images = self._read()
        return (self.images or {}).pop((path, colours), None)  # not kept: who reads an image may change it

    def _read(self) -> dict[Wanted, Image]:
        try:
            images = apart(self.wanted[0][0], _decode_all, self.wanted)
        except (ValueError, RuntimeError):  # told again, of the file alone
            return {}
        return {one: image for one, image in zip(self.wanted, images, strict=False) if image is not None}


_batch: ContextVar[_Batch | None] = ContextVar("_batch", default=None)


def is_small(path: Path) -> bool:
    """Whether a file is a picture that `ahead` reads together with others."""
    try:
        status = path.stat()
    except OSError:
        return False
    return path.suffix.lower() in SUFFIXES and stat.S_ISREG(status.st_mode) and 0 < status.st_size <= SMALL


@contextmanager
def ahead(wanted: Iterable[Wanted]) -> Iterator[None]:
    """Within it, the first that is read of these small pictures brings all of them."""
    token = _batch.set(_Batch(wanted))
    try:
        yield
    finally:
        _batch.reset(token)


def ahead_of(path: Path, colours: bool) -> Image | None:
    """A picture that was read ahead, upright; None if it was not, or has a problem, which reading it alone tells."""
    batch = _batch.get()
    return batch.get(path, colours) if batch else None


def decode(path: Path, colours: bool, upright: bool) -> Image:
    """Read a DICOM file or a picture in this process.

    Args:
        path: the file.
        colours: look up palette entries; in a label map saved with a palette the values are the entries' numbers.
        upright: turn the picture as its header says.
    """
    if not path.name.lower().endswith(pictures.SUFFIXES):
        return dicom.read_file(path)
    plain = png.read(path) if path.suffix.lower() == ".png" else None
    if plain is not None:
        return Image(plain, Geometry.plain(plain.shape[1:]))
    array, remarks, turn = pictures.read(path, colours)
    if not array.size:
        raise ValueError("it has no pixels")
    if upright and turn != pictures.AS_STORED:
        array = np.ascontiguousarray(pictures.turn_upright(array, turn))
        remarks += (f"turned upright, as its orientation {turn} (EXIF) says",)
    spacing = pictures.spacing_beside(path, array.ndim - 1)
    return Image(array, Geometry.plain(array.shape[1:], spacing), remarks)


def _decode_all(wanted: Iterable[Wanted]) -> list[Image | None]:
    """The first images of those wanted, as many as fit; None for those with a problem."""
    images: list[Image | None] = []
    size = 0
    for path, colours in wanted:
        now_reading(path)
        try:
            image = decode(path, colours, upright=True)
        except Exception:
            images.append(None)
            continue
        images.append(image)
        size += image.array.nbytes
        if size > TOGETHER:
            break
    return images
