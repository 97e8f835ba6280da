"""NRRD files (`.nrrd`, `.nhdr`), read here because ITK's parser may crash on a damaged header.

Reference: https://teem.sourceforge.net/nrrd/format.html
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from boxel.io.headers import LONGEST, Header, counts, numbers, on_grid, read_lines
from boxel.io.voxels import LAST, Part
from boxel.types import Geometry

__all__ = ["SUFFIXES", "read_header", "read_values"]

SUFFIXES = (".nrrd", ".nhdr")
DTYPES = {
    name: dtype
    for dtype, names in {
        "i1": "signed char,int8,int8_t",
        "u1": "uchar,unsigned char,uint8,uint8_t",
        "i2": "short,short int,signed short,signed short int,int16,int16_t",
        "u2": "ushort,unsigned short,unsigned short int,uint16,uint16_t",
        "i4": "int,signed int,int32,int32_t",
        "u4": "uint,unsigned int,uint32,uint32_t",
        "i8": "longlong,long long,long long int,signed long long,signed long long int,int64,int64_t",
        "u8": "ulonglong,unsigned long long,unsigned long long int,uint64,uint64_t",
        "f4": "float",
        "f8": "double",
    }.items()
    for name in names.split(",")
}
ENCODINGS = {
    "raw": "raw", "gz": "gzip", "gzip": "gzip", "bz2": "bzip2", "bzip2": "bzip2", "txt": "text", "text": "text",
    "ascii": "text", "hex": "hex",
}  # fmt: skip
SPACES = {  # sign of each coordinate in LPS
    "left-posterior-superior": (1, 1, 1), "lps": (1, 1, 1), "right-anterior-superior": (-1, -1, 1), "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1), "las": (1, -1, 1), "scanner-xyz": (1, 1, 1), "3d-right-handed": (1, 1, 1),
    "3d-left-handed": (1, 1, 1),
}  # fmt: skip
CHANNELS = {  # kinds of an axis of channels, and how many they are; 0 for any number
    "list": 0, "vector": 0, "point": 0, "covariant-vector": 0, "normal": 0, "stub": 1, "scalar": 1, "2-color": 2,
    "3-color": 3, "rgb-color": 3, "hsv-color": 3, "xyz-color": 3, "4-color": 4, "rgba-color": 4, "2-vector": 2,
    "3-vector": 3, "3-gradient": 3, "3-normal": 3, "4-vector": 4,
}  # fmt: skip
PLACES = ("domain", "space", "time", "???", "none")  # kinds of the other axes
UNUSED = (
    "content", "number", "blocksize", "thicknesses", "axismaxs", "labels", "min", "max", "oldmin", "oldmax",
    "sampleunits", "measurementframe",
)  # fmt: skip
USED = (
    "type", "dimension", "sizes", "encoding", "endian", "lineskip", "byteskip", "datafile", "space", "spacedimension",
    "spacedirections", "spaceorigin", "spaceunits", "spacings", "axismins", "centers", "kinds", "units",
)  # fmt: skip
OTHER_NAMES = {"centerings": "centers"}
VECTOR = r"\(([^()]*)\)"


class _Text(NamedTuple):
    """The fields, named in lower case without blanks, the key/value pairs, the lines of a list of files, the length."""

    fields: dict[str, str]
    values: dict[str, str]
    files: list[str]
    size: int


def _read_text(path: Path) -> _Text:
    lines, size = read_lines(path, lambda line: not line.strip())  # a header without voxels may end with the file
    if not re.fullmatch(r"NRRD(000[1-5]|00\.01)", lines[0]):
        raise ValueError("not a NRRD header")
    fields: dict[str, str] = {}
    values: dict[str, str] = {}
    files: list[str] = []
    for line in lines[1:]:
        if "datafile" in fields and fields["datafile"].split()[0] == "LIST":
            files += [line.strip()] if line.strip() else []
            continue
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([^:]+):(=|\s)\s*(.*?)\s*", line)
        if not match:
            raise ValueError(f"its header has the line {line[:60]!r}, which is no FIELD: VALUE")
        if match[2] == "=":
            values[match[1]] = re.sub(r"\\([n\\])", lambda found: "\n" if found[1] == "n" else "\\", match[3])
            continue
        name = re.sub(r"\s", "", match[1]).lower()
        name = OTHER_NAMES.get(name, name)
        if name not in USED + UNUSED or name in fields:
            problem = "twice" if name in fields else "which is unknown"
            raise ValueError(f"its header has the field {match[1][:60]!r}, {problem}")
        fields[name] = match[3]
    return _Text(fields, values, files, size)


def read_values(path: Path) -> dict[str, str]:
    """The key/value pairs of a header; raises as `read_header`."""
    return _read_text(path).values


def read_header(path: Path) -> Header:
    """The header of a file.

    Raises:
        ValueError: it is not complete and valid, or not supported.
    """
    text = _read_text(path)
    fields = text.fields
    missing = [name for name in ("type", "dimension", "sizes", "encoding") if not fields.get(name)]
    if missing:
        raise ValueError(f"its header has no {missing[0]}")
    (dimension,) = counts("dimension", fields["dimension"], 1)
    sizes = counts("sizes", fields["sizes"], dimension)
    code, packing = DTYPES.get(fields["type"].lower()), ENCODINGS.get(fields["encoding"].lower())
    if code is None or packing is None:
        raise ValueError(
            f"its header has the type {fields['type'][:60]!r} and the encoding {fields['encoding'][:60]!r}; one of "
            "them is not supported"
        )
    endian = fields.get("endian", "").lower()
    if endian not in ("little", "big") and (endian or (code[1] != "1" and packing != "text")):
        raise ValueError(f"its header has the endian {endian[:60]!r} where little or big is needed")
    channel_axis = _channel_axis(fields, sizes)
    kept = [axis for axis in range(dimension) if axis != channel_axis]
    geometry, remarks = _place(path, fields, sizes, kept)
    return Header(
        geometry, remarks, np.dtype((">" if endian == "big" else "<") + code), sizes[::-1],
        None if channel_axis is None else dimension - 1 - channel_axis, _parts(path, text, sizes, packing), packing,
    )  # fmt: skip


def _channel_axis(fields: dict[str, str], sizes: tuple[int, ...]) -> int | None:
    """The axis of the channels, the fastest first, by its kind or because it has no direction."""
    kinds = fields.get("kinds", " ".join(["???"] * len(sizes))).lower().split()
    vectors = _vectors(fields, len(sizes))
    if len(kinds) != len(sizes):
        raise ValueError(f"its header has {len(kinds)} kinds where {len(sizes)} are needed")
    for kind, size in zip(kinds, sizes, strict=True):
        if kind not in PLACES and CHANNELS.get(kind, -1) not in (0, size):
            raise ValueError(f"its header has an axis of kind {kind[:60]!r} and size {size}, which is not supported")
    axes = [axis for axis, kind in enumerate(kinds) if kind in CHANNELS or (vectors and vectors[axis] is None)]
    if len(axes) > 1:
        raise ValueError("its header has several axes of channels; save one of them as files")
    return axes[0] if axes else None


def _vectors(fields: dict[str, str], dimension: int) -> list[np.ndarray | None]:
    """The direction of each axis, the fastest first, None if it has none; empty if the header has no directions."""
    if "spacedirections" not in fields:
        return []
    text = fields["spacedirections"]
    found = re.findall(rf"{VECTOR}|(none)", text)
    if len(found) != dimension or re.sub(rf"{VECTOR}|none|\s", "", text):
        raise ValueError(f"its header has space directions {text[:60]!r} where {dimension} are needed")
    space = _space(fields)
    return [None if none else _vector("space directions", inner, space) for inner, none in found]


def _space(fields: dict[str, str]) -> tuple[int, ...]:
    """The sign of each coordinate of the space in LPS."""
    if "space" in fields:
        if fields["space"].lower() not in SPACES:
            raise ValueError(f"its header has the space {fields['space'][:60]!r}, which is not supported")
        return SPACES[fields["space"].lower()]
    return (1,) * counts("space dimension", fields.get("spacedimension", ""), 1)[0]


def _vector(field: str, text: str, space: tuple[int, ...]) -> np.ndarray:
    return numbers(field, text.replace(",", " "), len(space)) * space


def _place(
    path: Path, fields: dict[str, str], sizes: tuple[int, ...], kept: list[int]
) -> tuple[Geometry, tuple[str, ...]]:
    """The geometry of the axes `kept`, and remarks."""
    d, shape = len(kept), tuple(sizes[axis] for axis in reversed(kept))
    units = re.findall(r'"([^"]*)"', fields.get("spaceunits", "") + fields.get("units", ""))
    what = "space directions or spacings"
    vectors = _vectors(fields, len(sizes))
    if not vectors and ("space" in fields or "spacedimension" in fields):
        raise ValueError("its header has a space without space directions")
    if not vectors:
        steps, lowest = (
            numbers(name, fields.get(key, " ".join(["nan"] * len(sizes))), len(sizes))[kept]
            for name, key in (("spacings", "spacings"), ("axis mins", "axismins"))
        )
        known = np.isfinite(steps)
        spacing = np.where(known, steps, 1.0)
        nodes = np.array([fields.get("centers", "").lower().split()[axis : axis + 1] == ["node"] for axis in kept])
        origin = np.where(np.isfinite(lowest), lowest + np.where(nodes, 0, 0.5) * spacing, 0.0)
        return on_grid(path, shape, spacing[::-1] if known.all() else None, origin, np.eye(d)[::-1], units, what)
    matrix = np.array([vectors[axis] for axis in reversed(kept)])
    if matrix.shape != (d, d):
        raise ValueError(f"its header places {d} axes in a space of {matrix.shape[-1]}, which is not supported")
    text = re.fullmatch(VECTOR, fields.get("spaceorigin", f"({','.join('0' * d)})"))
    if text is None:
        raise ValueError(f"its header has the space origin {fields['spaceorigin'][:60]!r}, which is no vector")
    spacing = np.linalg.norm(matrix, axis=1)
    axes = matrix / np.where(spacing > 0, spacing, 1)[:, None]
    return on_grid(path, shape, spacing, _vector("space origin", text[1], _space(fields)), axes, units, what)


def _parts(path: Path, text: _Text, sizes: tuple[int, ...], packing: str) -> tuple[Part, ...]:
    """The files of the voxels: behind the header, one beside it, a list of them, or a pattern."""
    (lines,) = counts("line skip", text.fields.get("lineskip", "0"), 1, 0)
    (skip,) = counts("byte skip", text.fields.get("byteskip", "0"), 1, LAST)
    if skip == LAST and (lines or packing != "raw"):
        raise ValueError("its header has byte skip -1, which only raw voxels without line skip may have")
    packed = packing in ("gzip", "bzip2")
    if "datafile" not in text.fields:
        return (_part(path, text.size, lines, skip, packed),)
    word, *rest = text.fields["datafile"].split() or [""]
    names = [text.fields["datafile"]]
    if word == "LIST":
        names = text.files
    elif re.fullmatch(r"[^%]*%0?\d?d[^%]*", word):
        (first, last, step) = counts("data file", " ".join(rest[:3]), 3, 0)
        names = [word % number for number in range(first, last + 1, step)[: max(sizes)]] if step else []
    if not names:
        raise ValueError("its header lists no data file")
    return tuple(_part(path.parent / name, 0, lines, skip, packed) for name in names)


def _part(file: Path, start: int, lines: int, skip: int, packed: bool) -> Part:
    if skip == LAST:
        return Part(file, LAST)
    if lines and file.is_file():
        with file.open("rb") as content:
            content.seek(start)
            for _ in range(min(lines, file.stat().st_size)):
                content.readline(LONGEST)
            start = content.tell()
    return Part(file, start, skip) if packed else Part(file, start + skip)
