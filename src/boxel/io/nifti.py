"""The voxels of NIfTI files, read here because ITK's NIfTI library does not report damage.

It turns NaN and infinity into 0, fills voxels missing at the end of a file with arbitrary values, does not verify
checksums, and writes a part of a file if the disk is full. The geometry is read by ITK. Nibabel would not shorten this:
it reads files with a wrong checksum or with more voxels than their header claims, so that the checks would stay here.
"""

import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np

from boxel.io.claims import DEFLATE, check_claim

__all__ = ["SUFFIXES", "is_whole", "read_voxels"]

SUFFIXES = (".nii.gz", ".nii")
GZIP = b"\x1f\x8b"
HEADER = 352  # bytes
SLACK = 1 << 20  # bytes after the voxels; a file with more does not belong to its header
DTYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip


def read_voxels(path: Path, num_channels: int, shape: tuple[int, ...]) -> np.ndarray | None:
    """The array `(c, *s)`, scaled according to the header; None for types that only ITK reads (colours).

    Raises:
        ValueError: voxels are missing or the compressed content is damaged.
    """
    content = path.read_bytes()
    packed = content.startswith(GZIP)
    dtype, offset, slope, intercept = _layout(_inflated(content, HEADER, path) if packed else content)
    if dtype is None:
        return None
    count = num_channels * math.prod(shape)
    needed = offset + count * dtype.itemsize
    check_claim(path, needed, len(content), DEFLATE if packed else 1)
    if packed:
        content = _inflated(content, needed + SLACK, path, whole=True)
    if len(content) < needed:
        raise ValueError(f"{path}: the file is cut short; copy or export it again")
    voxels = np.frombuffer(content, dtype, count, offset).reshape(num_channels, *shape)
    if slope == 0 or (slope == 1 and intercept == 0) or not np.isfinite([slope, intercept]).all():
        return voxels.astype(dtype.newbyteorder("="))
    return (voxels * slope + intercept).astype(dtype.newbyteorder("=") if dtype.kind == "f" else np.float32)


def _inflated(content: bytes, most: int, path: Path, whole: bool = False) -> bytes:
    """The first `most` bytes of a gzip file; with `whole` there must be no more, and checksums must be correct."""
    parts, size = [], 0
    try:
        while content.startswith(GZIP) and size < most:
            stream = zlib.decompressobj(31)
            parts.append(stream.decompress(content, most - size))
            size += len(parts[-1])
            if not stream.eof:
                break
            content = stream.unused_data.lstrip(b"\0")
    except zlib.error:
        raise ValueError(f"{path}: the file is cut short or damaged; copy or export it again") from None
    if whole and size >= most:
        raise ValueError(f"{path}: the file contains more than its header claims; copy or export it again")
    if whole and not stream.eof:
        raise ValueError(f"{path}: the file is cut short or damaged; copy or export it again")
    return b"".join(parts)


def _layout(content: bytes) -> tuple[np.dtype | None, int, float, float]:
    """Number type, position of the first voxel, slope and intercept, from a NIfTI-1 header."""
    order = "<" if content[0] == 348 % 256 else ">"  # the header begins with its length, 348
    (code,) = struct.unpack_from(order + "h", content, 70)
    offset, slope, intercept = struct.unpack_from(order + "fff", content, 108)
    return np.dtype(order + DTYPES[code]) if code in DTYPES else None, int(offset), slope, intercept


def is_whole(path: Path, num_bytes: int) -> bool:
    """Whether a newly written file contains `num_bytes` of voxels; fast, since it trusts gzip's own count."""
    with path.open("rb") as file:
        if file.read(2) != GZIP:
            return path.stat().st_size >= num_bytes
        file.seek(-4, os.SEEK_END)
        return int.from_bytes(file.read(4), "little") == (num_bytes + 352) % 2**32  # header of 352
