"""Detect truncated DICOM images: a damaged slice must not be mistaken for a file of another kind."""

import re
from pathlib import Path

__all__ = ["damaged_image", "is_cut", "is_packed"]

HEAD, TAIL = 1 << 13, 1 << 16  # bytes at both ends of a file that are searched
# In the file meta information, which is always explicit little endian: transfer syntax, kind of object.
SYNTAX = re.compile(rb"\x02\x00\x10\x00UI..([0-9.]+)", re.DOTALL)
KIND = re.compile(rb"\x02\x00\x02\x00UI..([0-9.]+)", re.DOTALL)
SERIES = re.compile(rb"\x20\x00\x0e\x00(?:UI..|..\x00\x00)([0-9.]+)", re.DOTALL)
ENCAPSULATED = re.compile(rb"1\.2\.840\.10008\.1\.2\.(4\.\d+|5)")  # JPEG in all its kinds, RLE
PLAIN = (b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.2")  # transfer syntaxes without compression
IMAGES = re.compile(rb"1\.2\.840\.10008\.5\.1\.4\.1\.1\.(2|4|20|128|3\.1|6\.1)(\.\d)?")  # CT, MR, NM, PET, ultrasound
END = b"\xfe\xff\xdd\xe0"  # of compressed pixel data: sequence delimitation item


def is_packed(file: Path) -> bool:
    """Whether its voxels are compressed."""
    syntax = SYNTAX.search(_head(file))
    return syntax is not None and syntax[1] not in PLAIN


def is_cut(file: Path) -> bool:
    """Whether compressed voxels lack their end; a decoder may allocate gigabytes to find it."""
    syntax = SYNTAX.search(_head(file))
    if syntax is None or not ENCAPSULATED.fullmatch(syntax[1]):
        return False
    with file.open("rb") as content:
        content.seek(-min(TAIL, file.stat().st_size), 2)
        return END not in content.read()


def damaged_image(file: Path) -> str | None:
    """The SeriesInstanceUID (empty if lost) of a damaged image file; None for files that never were images.

    Args:
        file: a file that cannot be read as an image.
    """
    head = _head(file)
    if head[128:132] != b"DICM":
        return "" if file.suffix.lower() == ".dcm" else None
    kind, series = KIND.search(head), SERIES.search(head)
    known = kind is None or IMAGES.fullmatch(kind[1])
    return (series[1].decode() if series else "") if known else None


def _head(file: Path) -> bytes:
    with file.open("rb") as content:
        return content.read(HEAD)
