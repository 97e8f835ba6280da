"""Whether a file has changed: told by size, modification time and a sample first, then by the whole content."""

import hashlib
import json
import os
from io import FileIO
from pathlib import Path
from typing import Any

from boxel.inputs.folders import listing

__all__ = ["Signature", "content_hash", "digest", "is_same", "parts", "sample", "signature_of", "stamp"]

Signature = tuple[int, int, str] | tuple[int, int, str, str]
"""Of a file: bytes, modification time (ns), content hash, and hash of a sample, which earlier versions did not keep."""
BLOCK, BLOCKS = 4096, 8  # bytes of a block, and their number, of the sample that tells a swapped file


def digest(values: Any) -> str:
    """Hash of plain values."""
    return content_hash(json.dumps(values).encode())


def content_hash(data: bytes) -> str:
    """Hash of bytes."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def signature_of(path: Path) -> Signature:
    """The signature of a file.

    Raises:
        ValueError: it is missing or cannot be read.
    """
    size, modified = stamp(path)
    content = _content(path)
    return size, modified, content, content if size <= BLOCK * BLOCKS else sample(path)  # of a small file it is all


def is_same(path: Path, known: Signature) -> bool:
    """Whether a file still has the signature `known`; raises as `signature_of`."""
    now = stamp(path)
    if now == known[:2] and (sample(path),) == known[3:]:
        return True
    return now[0] == known[0] and _content(path) == known[2]


def sample(path: Path) -> str:
    """Hash of eight blocks of 4 KiB, evenly spaced from the first to the last: a swapped file differs there.

    For a folder, of the names, sizes, modification times and samples of its files.

    Raises:
        ValueError: it cannot be read.
    """
    if path.is_dir():
        return digest([[file.name, *stamp(file), sample(file)] for file in parts(path)])
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size <= BLOCK * BLOCKS:
                return content_hash(file.read(BLOCK * BLOCKS))
            starts = [(size - BLOCK) * number // (BLOCKS - 1) for number in range(BLOCKS)]
            return content_hash(b"".join(_block(file, start) for start in starts))
    except OSError as error:
        raise _unreadable(path, error) from None


def parts(path: Path) -> list[Path]:
    """The files that an image is read from: those of a folder, or a header and its data file."""
    if path.is_dir():
        return [file for file in listing(path) if file.is_file()]
    data = [path.with_suffix(suffix) for suffix in (".raw", ".zraw")] if path.suffix.lower() == ".mhd" else []
    return [path, *filter(Path.exists, data)]


def stamp(path: Path) -> tuple[int, int]:
    """Number of bytes and modification time (ns); raises as `signature_of`."""
    try:
        status = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from None
    return status.st_size, status.st_mtime_ns


def _block(file: FileIO, start: int) -> bytes:
    file.seek(start)
    return file.read(BLOCK)


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> ValueError:
    return ValueError(f"{path}: cannot be read ({error.strerror}); check that it exists and its permissions")
