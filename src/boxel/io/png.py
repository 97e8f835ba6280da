"""Plain PNG files: grey or colours of 8 bits per value, grey of 16, and nothing that turns or changes what is stored.

They are recognised by the names of their chunks, and undamaged by the checksums of these. All others are for
`boxel.io.pictures`.
"""

import stat
import struct
import zlib
from pathlib import Path

import numpy as np

from boxel.io.claims import LOSSLESS, check_claim

__all__ = ["read", "read_shape", "shape_of"]

START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
PLAIN = {b"IHDR", b"IDAT", b"IEND", b"pHYs", b"tIME", b"gAMA", b"cHRM", b"sRGB"}
CHANNELS = {0: 1, 2: 3, 4: 1, 6: 3}  # by colour type, without transparency


def read_shape(content: bytes) -> tuple[int, int, int] | None:
    """Channels, rows and columns of a plain PNG without damage; otherwise None."""
    if not content.startswith(START) or len(content) < 33:
        return None
    columns, rows, bits, colours, _, _, interlaced = struct.unpack(">IIBBBBB", content[16:29])
    known = colours in CHANNELS and (bits == 8 or (bits == 16 and colours == 0)) and not interlaced
    if not (known and rows and columns):
        return None
    at, name, whole = 8, b"", memoryview(content)
    while at + 12 <= len(content):
        length, name = struct.unpack_from(">I4s", content, at)
        end = at + 8 + length
        if name not in PLAIN or zlib.crc32(whole[at + 4 : end]).to_bytes(4, "big") != whole[end : end + 4]:
            return None
        at = end + 4
    return (CHANNELS[colours], rows, columns) if name == b"IEND" and at == len(content) else None


def shape_of(path: Path) -> tuple[int, int, int] | None:
    """The same of a regular file; None for anything else at that path."""
    try:
        return read_shape(path.read_bytes()) if stat.S_ISREG(path.stat().st_mode) else None
    except OSError:
        return None


def read(path: Path) -> np.ndarray | None:
    """The values `(c, rows, columns)` of a plain PNG without transparency; None for any other file.

    Raises:
        ValueError: it claims more pixels than the memory can hold.
    """
    content = path.read_bytes()
    shape = read_shape(content)
    if shape is None:
        return None
    import imagecodecs

    size = content[24] // 8
    check_claim(path, shape[0] * shape[1] * shape[2] * size, len(content), LOSSLESS)
    try:
        array = imagecodecs.png_decode(content)
    except Exception:  # damaged: pillow says how
        return None
    array = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)[: shape[0]]
    return array if array.shape == shape else None
