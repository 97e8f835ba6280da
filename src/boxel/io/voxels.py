"""Voxels that are stored plainly, deflated, as bzip2 or as text: read here, never beyond what the header claims."""

import bz2
import math
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from boxel.io.claims import DEFLATE, check_claim

__all__ = ["GZIP", "LAST", "Part", "inflate", "read_voxels"]

GZIP = b"\x1f\x8b"
LAST = -1
SLACK = 1 << 20  # bytes after the voxels; a file with more does not belong to its header
MOST = {"raw": 1, "gzip": DEFLATE, "bzip2": 2_000_000, "text": 4, "hex": 0.5}  # bytes of voxels per stored byte


class Part(NamedTuple):
    """Where a part of the voxels lies.

    Attributes:
        start: its first byte; `LAST` if the voxels are the last bytes of the file.
        inner: number of bytes before the voxels in the unpacked content of gzip and bzip2.
    """

    file: Path
    start: int = 0
    inner: int = 0


def read_voxels(
    path: Path, parts: tuple[Part, ...], packing: str, dtype: np.dtype, shape: tuple[int, ...]
) -> np.ndarray:
    """The voxels in native byte order, writable.

    Args:
        path: the file to name.
        parts: files with equal shares of the voxels, in order.
        packing: raw, gzip (or zlib), bzip2, text or hex.

    Raises:
        ValueError: there are fewer or more voxels than the header claims, they are damaged, or too many for the memory.
    """
    for part in parts:
        if not part.file.is_file():
            raise ValueError(f"{path}: its voxels, {ascii(part.file.name)[:60]}, are missing; copy them beside it")
    count = math.prod(shape)
    claimed = count * dtype.itemsize + sum(part.inner for part in parts)
    check_claim(path, claimed, sum(part.file.stat().st_size for part in parts), MOST[packing])
    share, rest = divmod(count, len(parts))
    if rest:
        raise ValueError(f"{path}: {count} voxels cannot be shared by its {len(parts)} files; copy or export it again")
    arrays = [_read_part(path, part, packing, dtype, share) for part in parts]
    array = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return array.reshape(shape).astype(dtype.newbyteorder("="), copy=not array.flags.writeable)


def _read_part(path: Path, part: Part, packing: str, dtype: np.dtype, count: int) -> np.ndarray:
    needed = count * dtype.itemsize
    start = part.file.stat().st_size - needed if part.start == LAST else part.start
    if start < 0 or (packing == "raw" and part.file.stat().st_size < start + needed):
        raise ValueError(f"{path}: the file is cut short; copy or export it again")
    if packing == "raw":
        return np.fromfile(part.file, dtype, count, offset=start)
    with part.file.open("rb") as file:
        file.seek(start)
        content = file.read() if packing in ("text", "hex") else file.read(needed + part.inner + SLACK)
    if packing == "text":
        return _of_text(path, content, dtype, count)
    if packing == "hex":
        content = bytes.fromhex(content.decode("ascii"))
    else:
        unpack = inflate if packing == "gzip" else _unzip
        content = unpack(content, part.inner + needed + SLACK, path, whole=True)
    if len(content) < part.inner + needed:
        raise ValueError(
            f"{path}: the file is cut short: its header claims {needed} bytes of voxels, it has "
            f"{max(0, len(content) - part.inner)}; copy or export it again"
        )
    return np.frombuffer(content, dtype, count, part.inner)


def inflate(content: bytes, most: int, path: Path, whole: bool = False) -> bytes:
    """The first `most` bytes of a gzip or zlib stream; with `whole` there must be no more, and checksums be correct.

    Raises:
        ValueError: the stream is damaged; names `path`.
    """
    parts, size, first = [], 0, True
    try:
        while (first or content.startswith(GZIP)) and size < most:
            stream = zlib.decompressobj(47)
            parts.append(stream.decompress(content, most - size))
            size, first = size + len(parts[-1]), False
            if not stream.eof:
                break
            content = stream.unused_data.lstrip(b"\0")
    except zlib.error:
        raise ValueError(f"{path}: the file is cut short or damaged; copy or export it again") from None
    if whole:
        _check_end(path, size >= most, stream.eof)
    return b"".join(parts)


def _unzip(content: bytes, most: int, path: Path, whole: bool) -> bytes:
    """Like `inflate`, of bzip2."""
    stream = bz2.BZ2Decompressor()
    try:
        found = stream.decompress(content, most)
    except OSError:
        raise ValueError(f"{path}: the file is cut short or damaged; copy or export it again") from None
    if whole:
        _check_end(path, len(found) >= most, stream.eof)
    return found


def _check_end(path: Path, full: bool, ended: bool) -> None:
    if full:
        raise ValueError(f"{path}: the file contains more than its header claims; copy or export it again")
    if not ended:
        raise ValueError(f"{path}: the file is cut short or damaged; copy or export it again")


def _of_text(path: Path, content: bytes, dtype: np.dtype, count: int) -> np.ndarray:
    words = content.split()
    if len(words) < count:
        raise ValueError(f"{path}: the file is cut short: {len(words)} of {count} voxels; copy or export it again")
    if dtype.kind == "f":
        return np.array([float(word) for word in words[:count]], dtype)
    return np.array([int(word) for word in words[:count]], dtype)  # refuses numbers out of range
