"""Compressed voxels of MetaImage files, read here because ITK silently fills missing voxels with zeros."""

import math
import re
import zlib
from pathlib import Path

import numpy as np

from boxel.io.claims import DEFLATE, check_claim

__all__ = ["read_voxels"]

SUFFIXES = (".mha", ".mhd")
DTYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i8", "MET_ULONG": "u8", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
HEADER = 1 << 16  # bytes that contain any header


def read_voxels(path: Path, num_channels: int, shape: tuple[int, ...]) -> np.ndarray | None:
    """The array `(c, *s)` of a compressed file; None for files that ITK reads correctly.

    Raises:
        ValueError: the number of voxels is not that of the header, or they are damaged.
    """
    with path.open("rb") as file:
        head = file.read(HEADER)
    end = re.search(rb"ElementDataFile\s*=\s*(\S+)[^\n]*\n", head)
    fields = dict(re.findall(r"(?m)^(\w+)\s*=\s*(.*?)\s*$", head[: end.end()].decode("latin-1"))) if end else {}
    dtype = DTYPES.get(fields.get("ElementType", ""))
    if end is None or dtype is None or fields.get("CompressedData", "").lower() != "true":
        return None
    local = end[1].upper() == b"LOCAL"
    data = path if local else path.parent / end[1].decode("latin-1")
    if not data.is_file():
        return None  # a list or a pattern of files, or none: ITK checks them
    orders = {fields.get(key, "").lower() for key in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")}
    kind = np.dtype((">" if "true" in orders else "<") + dtype)
    claimed = num_channels * math.prod(shape) * kind.itemsize
    content = data.read_bytes()[end.end() if local else 0 :]
    skip = int(fields.get("HeaderSize", "0"))  # bytes before the voxels; -1: they are the last of the file
    content = content[-int(fields.get("CompressedDataSize", "0")) if skip < 0 else skip :]
    check_claim(path, claimed, len(content), DEFLATE)
    stream = zlib.decompressobj(47)  # zlib or gzip
    try:
        voxels = stream.decompress(content, claimed + 1)
    except zlib.error:
        raise ValueError(f"{path}: the voxels are damaged; copy or export it again") from None
    if len(voxels) != claimed or not stream.eof:
        has = "more" if len(voxels) > claimed else f"{len(voxels)}"
        problem = f"its header claims {claimed} bytes of voxels, the file has {has}"
        raise ValueError(f"{path}: {problem}; copy or export it again")
    array = np.frombuffer(voxels, kind).reshape(*shape, num_channels)  # channels run fastest
    return np.ascontiguousarray(np.moveaxis(array, -1, 0)).astype(kind.newbyteorder("="), copy=False)
