"""The lengths in a DICOM file, followed from element to element before any of them is trusted with memory.

Reference: https://dicom.nema.org/medical/dicom/current/output/chtml/part05/chapter_7.html
"""

import struct
from pathlib import Path
from typing import BinaryIO

__all__ = ["promises_too_much"]

LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}  # 32-bit lengths
SHORT = {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL",
         b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}  # fmt: skip
NO_KIND = (b"??", b"\0\0", b"  ")  # of some scanners
UNDEFINED = 0xFFFFFFFF
ITEM, END_OF_SEQUENCE = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
ITEM_BYTES = b"\xfe\xff\x00\xe0"
PIXELS = (0x7FE0, 0x0010)
BIG_ENDIAN, DEFLATED = b"1.2.840.10008.1.2.2", b"1.2.840.10008.1.2.1.99"


def promises_too_much(file: Path, syntax: bytes) -> bool:
    """Whether an element, however deep in sequences, is longer than the rest of the file.

    False as well where the elements cannot be followed: in deflated files, and behind unknown kinds of values.

    Args:
        syntax: its transfer syntax.
    """
    if syntax == DEFLATED:
        return False
    size = file.stat().st_size
    with file.open("rb") as content:
        start = 132 if content.read(132)[128:] == b"DICM" else 0
        end = _follow(content, start, size, "<", meta=True) if start else 0
        return end is None or _follow(content, end, size, ">" if syntax == BIG_ENDIAN else "<") is None


def _follow(content: BinaryIO, place: int, size: int, order: str, meta: bool = False) -> int | None:
    """Where the elements end, or those about the file itself (`meta`); None if one of them ends behind the file."""
    head = _at(content, place)
    explicit = head[4:6] in LONG | SHORT
    fragments = False
    while len(head) >= 8:
        tag = struct.unpack_from(f"{order}2H", head)
        if tag == (0, 0) or (meta and tag[0] != 2):  # padding, or behind them
            break
        length, width, enter = struct.unpack_from(f"{order}I", head, 4)[0], 8, False
        if tag[0] == ITEM[0]:
            enter = tag == ITEM and not fragments
            fragments = fragments and tag != END_OF_SEQUENCE
        elif explicit and head[4:6] in NO_KIND:
            break
        elif explicit and head[4:6] in LONG:
            length, width = struct.unpack_from(f"{order}I", head.ljust(12, b"\0"), 8)[0], 12
            enter = head[4:6] == b"SQ"
        elif explicit and head[4:6] in SHORT:
            length = struct.unpack_from(f"{order}H", head, 6)[0]
        else:  # implicit, as single elements of explicit files may be
            enter = head[8:12] == ITEM_BYTES and tag != PIXELS
        fragments = fragments or (tag == PIXELS and length == UNDEFINED)
        place += width
        if length != UNDEFINED:
            if place + length > size:
                return None
            place += 0 if enter else length
        elif explicit and tag[0] != ITEM[0] and head[4:6] == b"UN":
            break  # its items are encoded implicitly
        head = _at(content, place)
    return place


def _at(content: BinaryIO, place: int) -> bytes:
    content.seek(place)
    return content.read(12)
