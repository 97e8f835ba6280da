"""Detect whether a case has changed: by sizes and modification times first, then by content."""

import hashlib
import json
from pathlib import Path
from typing import Any

from boxel.datasets.cases import Case
from boxel.inputs.folders import listing


def source_files(case: Case) -> list[Path]:
    """All files that a case is read from, including the data file of an MHD header and the files of a DICOM folder."""
    paths = [*case.channels, *(path for path in (case.label_map, case.annotation) if path)]
    if case.annotate:  # `facts` covers the annotation if its file is shared with other cases
        paths = [*case.channels, *filter(None, [case.label_map]), *case.annotate.files]
    return [file for path in paths for file in _files(path)]


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return [file for file in listing(path) if file.is_file()]
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


def signature(case: Case) -> dict[str, tuple[int, int, str]]:
    """Number of bytes, modification time (ns) and content hash per file.

    Raises:
        ValueError: a file is missing or cannot be read.
    """
    return {str(path): (*_stamp(path), _digest(path)) for path in source_files(case)}


def stamps(case: Case) -> list[list[Any]]:
    """Path, number of bytes and modification time (ns) of each file of a case; empty where one is missing."""
    try:
        return [[str(path), *_stamp(path)] for path in source_files(case)]
    except (OSError, ValueError):
        return []


def unchanged(known: dict[str, tuple[int, int, str]], case: Case) -> bool:
    """Whether the files of a case still have the signature `known`; reads only files whose time stamp differs."""
    try:
        files = source_files(case)
        return set(known) == set(map(str, files)) and all(
            _stamp(path) == tuple(known[str(path)][:2])
            or (_stamp(path)[0] == known[str(path)][0] and _digest(path) == known[str(path)][2])
            for path in files
        )
    except (OSError, ValueError):
        return False


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror}); check that it exists and its permissions"
        ) from None
    return status.st_size, status.st_mtime_ns


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
