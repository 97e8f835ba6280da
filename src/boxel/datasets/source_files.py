"""Whether a case has changed: its files, and what is known of it apart from them."""

from pathlib import Path
from typing import Any

from boxel.datasets.cases import Case
from boxel.inputs.signatures import Signature, digest, is_same, parts, signature_of, stamp


def source_files(case: Case) -> list[Path]:
    """All files that a case is read from, including the data file of an MHD header and the files of a DICOM folder."""
    paths = [*case.channels, *(path for path in (case.label_map, case.annotation) if path)]
    if case.annotate:  # `facts` covers the annotation if its file is shared with other cases
        paths = [*case.channels, *filter(None, [case.label_map]), *case.annotate.files]
    return [file for path in paths for file in parts(path)]


def facts(case: Case) -> str:
    """Hash of what is known of a case apart from its own files: name, group, split, classes, boxes."""
    boxes = case.box_instances
    known = [boxes.boxes.tolist(), boxes.labels.tolist(), boxes.ids.tolist()] if boxes else None
    readers = [repr(reader) for reader in (case.annotate, case.opener) if reader]
    weak = ["weak"] if case.weak else []
    return digest([case.id, case.group, case.split, sorted(case.mask_labels.items()), known, *readers, *weak])


def signature(case: Case) -> dict[str, Signature]:
    """The signature of each file of a case.

    Raises:
        ValueError: a file is missing or cannot be read.
    """
    return {str(path): signature_of(path) for path in source_files(case)}


def stamps(case: Case) -> list[list[Any]]:
    """Path, number of bytes and modification time (ns) of each file of a case; empty where one is missing."""
    try:
        return [[str(path), *stamp(path)] for path in source_files(case)]
    except (OSError, ValueError):
        return []


def unchanged(known: dict[str, Signature], case: Case) -> bool:
    """Whether the files of a case still have the signature `known`; reads whole only those whose stamps differ."""
    try:
        files = source_files(case)
        return set(known) == set(map(str, files)) and all(is_same(path, known[str(path)]) for path in files)
    except (OSError, ValueError):
        return False
