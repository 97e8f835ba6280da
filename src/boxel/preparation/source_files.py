"""Detect whether a case has changed: by sizes, modification times and samples first, then by the whole content."""

import hashlib
import json
import os
from io import FileIO
from pathlib import Path
from typing import Any

from boxel.datasets.cases import Case
from boxel.preparation.stored_case import Signature

BLOCK, BLOCKS = 4096, 8  # bytes of a block, and their number, of the sample that tells a swapped file


def source_files(case: Case) -> list[Path]:
    """All files that a case is read from, including the data file of an MHD header and the files of a DICOM folder."""
    paths = [*case.channels, *(path for path in (case.label_map, case.annotation) if path)]
    if case.annotate:  # `facts` covers the annotation if its file is shared with other cases
        paths = [*case.channels, *filter(None, [case.label_map]), *case.annotate.files]
    return [file for path in paths for file in _files(path)]


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file())
    data = [path.with_suffix(suffix) for suffix in (".raw", ".zraw")] if path.suffix.lower() == ".mhd" else []
    return [path, *filter(Path.exists, data)]


def facts(case: Case) -> str:
    """Hash of what is known of a case apart from its own files: name, group, split, classes, boxes."""
    boxes = case.box_instances
    known = [boxes.boxes.tolist(), boxes.labels.tolist(), boxes.ids.tolist()] if boxes else None
    readers = [repr(reader) for reader in (case.annotate, case.opener) if reader]
    weak = ["weak"] if case.weak else []
    return digest([case.id, case.group, case.split, sorted(case.mask_labels.items()), known, *readers, *weak])


def digest(values: Any) -> str:
    """Hash of plain values."""
    return content_hash(json.dumps(values).encode())


def content_hash(data: bytes) -> str:
    """Hash of bytes."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def signature(case: Case) -> dict[str, Signature]:
    """The signature of each file of a case.

    Raises:
        ValueError: a file is missing or cannot be read.
    """
    return {str(path): (*_stamp(path), _digest(path), sample(path)) for path in source_files(case)}


def unchanged(known: dict[str, Signature], case: Case) -> bool:
    """Whether the files of a case still have the signature `known`; reads whole only those whose stamps differ."""
    try:
        files = source_files(case)
        return set(known) == set(map(str, files)) and all(_is_same(path, known[str(path)]) for path in files)
    except (OSError, ValueError):
        return False


def _is_same(path: Path, known: Signature) -> bool:
    stamp = _stamp(path)
    if stamp == known[:2] and (sample(path),) == known[3:]:
        return True
    return stamp[0] == known[0] and _digest(path) == known[2]


def sample(path: Path) -> str:
    """Hash of eight blocks of 4 KiB, evenly spaced from the first to the last: a swapped file differs there.

    For a folder, of the names, sizes, modification times and samples of its files.

    Raises:
        ValueError: it cannot be read.
    """
    if path.is_dir():
        return digest([[file.name, *_stamp(file), sample(file)] for file in _files(path)])
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size <= BLOCK * BLOCKS:
                return content_hash(file.read(BLOCK * BLOCKS))
            starts = [(size - BLOCK) * number // (BLOCKS - 1) for number in range(BLOCKS)]
            return content_hash(b"".join(_block(file, start) for start in starts))
    except OSError as error:
        raise _unreadable(path, error) from None


def _block(file: FileIO, start: int) -> bytes:
    file.seek(start)
    return file.read(BLOCK)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from None
    return status.st_size, status.st_mtime_ns


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> ValueError:
    return ValueError(f"{path}: cannot be read ({error.strerror}); check that it exists and its permissions")
