"""MetaImage files (`.mha`, `.mhd`), read here because ITK's parser may crash on a damaged header.

ITK also fills missing voxels with zeros. Reference: https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

import re
from pathlib import Path

import numpy as np

from boxel.io.headers import Header, counts, numbers, on_grid, read_lines
from boxel.io.voxels import LAST, Part

__all__ = ["SUFFIXES", "read_header"]

SUFFIXES = (".mha", ".mhd")
DTYPES = {
    "CHAR": "i1", "ASCII_CHAR": "i1", "UCHAR": "u1", "SHORT": "i2", "USHORT": "u2", "INT": "i4", "UINT": "u4",
    "LONG": "i4", "ULONG": "u4", "LONG_LONG": "i8", "ULONG_LONG": "u8", "FLOAT": "f4", "DOUBLE": "f8",
}  # fmt: skip
SPACING = ("ElementSpacing", "ElementSize")  # the first that a header has is used, as of the others
ORIGIN = ("Offset", "Position", "Origin")
AXES = ("TransformMatrix", "Rotation", "Orientation")
BYTE_ORDER = ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
TRUE, FALSE = ("true", "t", "1"), ("false", "f", "0")
DATA = "ElementDataFile"


def read_header(path: Path) -> Header:
    """The header of a file.

    Raises:
        ValueError: it is not complete and valid, or not supported.
    """
    lines, end = read_lines(path, lambda line: line.startswith(DATA))
    matches = [re.fullmatch(r"\s*([^=:]*[^=:\s])\s*[=:]\s*(.*?)\s*", line) for line in lines if line.strip()]
    if not all(matches):
        raise ValueError("its header has a line that is no FIELD = VALUE")
    fields = {match[1]: match[2] for match in matches if match}
    missing = [name for name in ("NDims", "DimSize", "ElementType", DATA) if not fields.get(name)]
    if missing:
        raise ValueError(f"its header has no {missing[0]}")
    (d,) = counts("NDims", fields["NDims"], 1)
    shape = counts("DimSize", fields["DimSize"], d)[::-1]
    (num_channels,) = counts("ElementNumberOfChannels", fields.get("ElementNumberOfChannels", "1"), 1)
    texts = {names[0]: _first(fields, names) for names in (SPACING, ORIGIN, AXES)}
    spacing, origin = (numbers(name, texts[name], d) if texts[name] else None for name in (SPACING[0], ORIGIN[0]))
    axes = numbers(AXES[0], texts[AXES[0]], d * d).reshape(d, d) if texts[AXES[0]] else np.eye(d)
    geometry, remarks = on_grid(
        path, shape, None if spacing is None else spacing[::-1], np.zeros(d) if origin is None else origin, axes[::-1],
        [fields.get("DistanceUnits", "")], " or ".join(SPACING),
    )  # fmt: skip
    name = fields["ElementType"].removeprefix("MET_").removesuffix("_ARRAY")
    if name not in DTYPES:
        raise ValueError(f"its header has the ElementType {fields['ElementType'][:60]!r}, which is not supported")
    dtype = np.dtype((">" if _is_true(fields, *BYTE_ORDER) else "<") + DTYPES[name])
    packed = _is_true(fields, "CompressedData")
    packing = "text" if not _is_true(fields, "BinaryData", default=True) else "gzip" if packed else "raw"
    sizes = (*shape, num_channels) if num_channels > 1 else shape
    parts = tuple(_part(file, local * end, fields, packed) for file, local in _files(path, end, fields[DATA], shape))
    return Header(geometry, remarks, dtype, sizes, d if num_channels > 1 else None, parts, packing)


def _first(fields: dict[str, str], names: tuple[str, ...]) -> str:
    return next((fields[name] for name in names if name in fields), "")


def _is_true(fields: dict[str, str], *names: str, default: bool = False) -> bool:
    text = _first(fields, names).lower()
    if text not in (*TRUE, *FALSE, ""):
        raise ValueError(f"its header has {names[0]} {text[:60]!r} where True or False is needed")
    return text in TRUE if text else default


def _files(path: Path, end: int, text: str, shape: tuple[int, ...]) -> list[tuple[Path, bool]]:
    """The files of the voxels, and whether each is the one with the header: one, a list of them, or a pattern."""
    word, *rest = text.split()
    if word.upper() == "LOCAL":
        return [(path, True)]
    if word.upper() == "LIST":
        if rest not in ([], [str(len(shape) - 1)], [f"{len(shape) - 1}D"]):
            raise ValueError(f"its header has {DATA} {text[:60]!r}; files of {len(shape) - 1} axes are supported")
        names = path.read_bytes()[end:].decode("utf-8", "replace").split("\n", shape[0])[: shape[0]]
    elif "%" in word:
        (first, last, step) = counts(DATA, " ".join([*rest, *["1", str(shape[0]), "1"][len(rest) :]]), 3, 0)
        if not re.fullmatch(r"[^%]*%0?\d?d[^%]*", word) or not step or (last - first) // step + 1 != shape[0]:
            raise ValueError(f"its header has {DATA} {text[:60]!r}; one file for each of {shape[0]} planes is needed")
        names = [word % number for number in range(first, last + 1, step)]
    else:
        names = [text]
    return [(path.parent / name.strip(), False) for name in names]


def _part(file: Path, end: int, fields: dict[str, str], packed: bool) -> Part:
    """Where the voxels lie in a file whose header, if it has one, ends at byte `end`."""
    (skip,) = counts("HeaderSize", fields.get("HeaderSize", "0"), 1, -1)
    if skip == LAST and packed:
        (size,) = counts("CompressedDataSize", fields.get("CompressedDataSize", ""), 1)
        return Part(file, max(end, file.stat().st_size - size) if file.is_file() else 0)
    if 0 < skip < end:
        raise ValueError(f"its header has HeaderSize {skip}, but ends at byte {end}")
    return Part(file, skip or end)
