"""What the first bytes of a DICOM file say: kind, compression, and whether it is a truncated image.

A damaged slice must not be mistaken for a file of another kind.
"""

import re
from pathlib import Path

from boxel.io.dicom_lengths import promises_too_much

__all__ = ["damaged_image", "is_annotation", "is_cut", "is_dicom", "is_multi_frame", "is_packed"]

HEAD, TAIL = 1 << 13, 1 << 16  # bytes at both ends of a file that are searched
# In the file meta information, which is always explicit little endian: transfer syntax, kind of object.
SYNTAX = re.compile(rb"\x02\x00\x10\x00UI..([0-9.]+)", re.DOTALL)
KIND = re.compile(rb"\x02\x00\x02\x00UI..([0-9.]+)", re.DOTALL)
SERIES = re.compile(rb"\x20\x00\x0e\x00(?:UI..|..\x00\x00)([0-9.]+)", re.DOTALL)
ENCAPSULATED = re.compile(rb"1\.2\.840\.10008\.1\.2\.(4\.\d+|5)")  # JPEG in all its kinds, RLE
PLAIN = (b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.2")  # transfer syntaxes without compression
SUFFIXES = (".dcm", ".dicom")
# Projections (CR, DX, mammograms), CT, MR, ultrasound, secondary captures, X-ray, NM, tomosynthesis, PET.
IMAGES = re.compile(rb"1\.2\.840\.10008\.5\.1\.4\.1\.1\.(1|2|3|4|6|7|12|13|20|128|130)(\.\d+)*")
# With functional groups: enhanced CT, MR, PET and ultrasound, multi-frame secondary capture, XA, RF, 3D X-ray.
MULTI_FRAME = re.compile(
    rb"1\.2\.840\.10008\.5\.1\.4\.1\.1\.(2\.[12]|4\.[134]|6\.2|7\.[1-4]|12\.[12]\.1|13\.1\.\d|128\.1|130)"
)
# Segmentations, structure sets, structured reports.
ANNOTATIONS = re.compile(rb"1\.2\.840\.10008\.5\.1\.4\.1\.1\.(66\.\d|481\.3|88\.\d+)")
END = b"\xfe\xff\xdd\xe0"  # of compressed pixel data: sequence delimitation item


def is_packed(file: Path) -> bool:
    """Whether its voxels are compressed."""
    syntax = SYNTAX.search(_head(file))
    return syntax is not None and syntax[1] not in PLAIN


def is_dicom(file: Path) -> bool:
    """Whether it is a DICOM file, by its suffix or its magic number; the name may be a UID."""
    try:
        return file.suffix.lower() in SUFFIXES or _head(file)[128:132] == b"DICM"
    except OSError:  # missing, a folder, or not to be read
        return False


def is_multi_frame(file: Path) -> bool:
    """Whether its kind of object has functional groups, so that geometry and intensity may differ per frame."""
    kind = KIND.search(_head(file))
    return kind is not None and MULTI_FRAME.fullmatch(kind[1]) is not None


def is_annotation(file: Path) -> bool:
    """Whether it is a segmentation, a structure set or a structured report."""
    kind = KIND.search(_head(file))
    return kind is not None and ANNOTATIONS.fullmatch(kind[1]) is not None


def is_cut(file: Path) -> bool:
    """Whether an element ends behind the file, or compressed voxels lack their end; both may cost gigabytes."""
    syntax = SYNTAX.search(_head(file))
    if promises_too_much(file, syntax[1] if syntax else b""):
        return True
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
