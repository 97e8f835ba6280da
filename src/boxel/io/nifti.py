"""NIfTI-1, NIfTI-2 and ANALYZE 7.5 files, read here because ITK's NIfTI library does not report damage.

It turns NaN and infinity into 0, fills voxels missing at the end of a file with arbitrary values, does not verify
checksums, writes a part of a file if the disk is full, refuses NIfTI-2 and sheared grids, and may prefer the qform.
Here the grid is that of nibabel: the sform if its code is positive, else the qform, else the voxel size alone.
Nibabel would not shorten this: it reads files with a wrong checksum or with more voxels than their header claims, so
that the checks would stay here.
"""

import math
import os
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from boxel.io.grids import UNIT, UNKNOWN_SPACING, right_angled
from boxel.io.voxels import GZIP, Part, inflate, read_voxels
from boxel.types import Geometry, Image

__all__ = ["SUFFIXES", "is_whole", "read", "read_header"]

SUFFIXES = (".nii.gz", ".nii", ".hdr")
SIZES = {348: 1, 540: 2}  # bytes of a header, which are its first number, and the version of NIfTI
MOST = 540
VOXELS = (352, 544)  # first byte that voxels may have behind a header of NIfTI-1 and NIfTI-2
DTYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 128: "u1", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
    2304: "u1",
}  # fmt: skip
COLOURS = {128: 3, 2304: 4}  # channels that run fastest
UNITS = {1: 1e3, 2: 1.0, 3: 1e-3}  # millimetres of metre, millimetre and micrometre


class Header(NamedTuple):
    """What the first bytes of a file say; in `interleaved` files (colours) channels run fastest."""

    num_channels: int
    geometry: Geometry
    remarks: tuple[str, ...]
    dtype: np.dtype
    interleaved: bool
    offset: int
    slope: float
    intercept: float


def read(path: Path) -> Image:
    """The image `(c, *s)`, scaled according to the header.

    Raises:
        ValueError: an unpacked file of the same name lies beside it, the grid or number type is not supported, voxels
            are missing, or compressed content is damaged.
    """
    if path.name.lower().endswith(".nii.gz") and path.with_suffix("").exists():
        raise ValueError(f"{path}: {path.with_suffix('').name} lies beside it; keep only one of them")
    header = read_header(path)
    data = _data(path)
    with data.open("rb") as file:
        packed = file.read(2) == GZIP
    where = Part(data, 0, header.offset) if packed else Part(data, header.offset)
    count = header.num_channels * math.prod(header.geometry.shape)
    voxels = read_voxels(path, (where,), "gzip" if packed else "raw", header.dtype, (count,))
    if header.interleaved:
        voxels = np.moveaxis(voxels.reshape(*header.geometry.shape, header.num_channels), -1, 0)
    voxels = voxels.reshape(header.num_channels, *header.geometry.shape)
    return Image(_scaled(voxels, header.slope, header.intercept), header.geometry, header.remarks)


def _scaled(voxels: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    if slope == 0 or (slope == 1 and intercept == 0) or not np.isfinite([slope, intercept]).all():
        return np.ascontiguousarray(voxels)
    return (voxels * slope + intercept).astype(voxels.dtype if voxels.dtype.kind == "f" else np.float32)


def read_header(path: Path) -> Header:
    """The header of a file; raises as `read`."""
    with path.open("rb") as file:
        content = file.read(1 << 16)
    content = inflate(content, MOST, path) if content.startswith(GZIP) else content
    order = next((o for o in "<>" if len(content) >= 348 and struct.unpack_from(o + "i", content)[0] in SIZES), "")
    if not order:
        raise ValueError(f"{path}: cannot be read as an image (no NIfTI or ANALYZE header); copy or export it again")

    def get(kind: str, first: int, second: int) -> tuple[float, ...]:
        """Numbers at their place in NIfTI-1, or, with wider numbers, in NIfTI-2."""
        if not newer:
            return struct.unpack_from(order + kind, content, first)
        return struct.unpack_from(order + kind.translate({ord("h"): "q", ord("f"): "d"}), content, second)

    newer = SIZES[struct.unpack_from(order + "i", content)[0]] == 2
    if newer and len(content) < MOST:
        raise ValueError(f"{path}: the file is cut short; copy or export it again")
    magic = content[4:7] if newer else content[344:347]
    nifti, single = magic in (b"n+1", b"ni1", b"n+2", b"ni2"), path.suffix.lower() != ".hdr"
    if not nifti and (newer or single):
        raise ValueError(f"{path}: cannot be read as an image (no NIfTI magic number); copy or export it again")
    (code,) = struct.unpack_from(order + "h", content, 12 if newer else 70)
    if code not in DTYPES:
        raise ValueError(f"{path}: number type {code} of NIfTI is not supported; save it as integers or float32")
    dims, sizes = get("8h", 40, 16), get("8f", 76, 104)
    shape, num_channels = _axes(path, [int(n) for n in dims])
    offset, slope, intercept = get("h" if newer else "f", 108, 168)[0], *get("2f", 112, 176)
    first = VOXELS[newer] if single else 0
    offset = offset or first
    if not first <= offset < math.inf:
        raise ValueError(f"{path}: its header claims that the voxels begin at byte {offset:g}; copy or export it again")
    codes = struct.unpack_from(order + ("2i" if newer else "2h"), content, 344 if newer else 252)
    affine, notes = _affine(
        sizes,
        shape,
        np.array(get("6f", 256, 352)) if nifti and codes[0] > 0 else None,
        np.array(get("12f", 280, 400)).reshape(3, 4) if nifti and codes[1] > 0 else None,
    )
    (units,) = struct.unpack_from(order + "i", content, 500) if newer else (content[123],)
    scale = UNITS.get(units & 7, 1.0) if nifti else 1.0
    if scale != 1:
        affine, sizes = affine * scale, tuple(size * scale for size in sizes)
        notes += (UNIT.format(scale),)
    geometry, more = _geometry(path, shape, affine, sizes[1:4])
    return Header(
        num_channels * COLOURS.get(code, 1), geometry, notes + more, np.dtype(order + DTYPES[code]), code in COLOURS,
        int(offset), slope if nifti else 0, intercept,
    )  # fmt: skip


def _data(path: Path) -> Path:
    """The file with the voxels: beside `NAME.hdr` lies `NAME.img`."""
    if path.suffix.lower() != ".hdr":
        return path
    wanted = [path.stem + ".img", path.stem + ".img.gz"]
    data = next((p for p in path.parent.iterdir() if p.name.startswith(path.stem) and p.name.lower() in
                 [name.lower() for name in wanted]), None)  # fmt: skip
    if data is None:
        raise ValueError(f"{path}: its voxels, {wanted[0]}, are missing; copy them beside it")
    return data


def _axes(path: Path, dims: list[int]) -> tuple[tuple[int, ...], int]:
    """Shape in array order, and number of channels: an axis behind the third is that of the channels."""
    ndim = dims[0]
    if not 2 <= ndim <= 7 or min(dims[1 : ndim + 1]) < 1:
        raise ValueError(f"{path}: its header claims the shape {dims[1 : max(0, ndim) + 1]}; copy or export it again")
    further = [n for n in dims[4 : ndim + 1] if n > 1]
    if further[1:]:
        raise ValueError(f"{path}: has {3 + len(further)} axes; save every time point or channel as a file")
    flat = ndim == 2 or (ndim == 5 and dims[5] > 1 and dims[3] == 1)  # ITK writes 2D vectors with one plane
    return tuple(dims[1 : 3 if flat else 4][::-1]), further[0] if further else 1


def _affine(
    sizes: tuple[float, ...], shape: tuple[int, ...], qform: np.ndarray | None, sform: np.ndarray | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The matrix `(3, 4)` from voxels (fastest axis first) to RAS, and remarks."""
    steps = np.abs(sizes[1:4])
    unknown = ~(np.isfinite(steps) & (steps > 0))
    steps[unknown] = 1
    notes = (UNKNOWN_SPACING.format("pixdim"),) if unknown[: len(shape)].any() else ()
    quaternion = None if qform is None else _of_quaternion(qform, steps, -1 if sizes[0] < 0 else 1)
    if sform is not None and (quaternion is None or abs(np.linalg.det(sform[:, :3])) > 1e-9):
        known = quaternion is None or np.abs(quaternion - sform).max() <= 0.05 * steps.max()
        return sform, () if known else ("its sform and qform differ, and the sform is used",)
    if quaternion is not None:
        return quaternion, notes
    centre = (np.array([*shape[::-1], 1][:3]) - 1) / 2 * steps * (-1, 1, 1)
    return np.column_stack([np.diag(steps * (-1, 1, 1)), -centre]), notes


def _of_quaternion(qform: np.ndarray, steps: np.ndarray, handed: int) -> np.ndarray:
    b, c, d = qform[:3]
    rest = 1 - (b * b + c * c + d * d)
    a = math.sqrt(rest) if rest > 3 * np.finfo(np.float32).eps else 0.0  # less is rounding
    b, c, d, a = np.array([b, c, d, a]) / (np.linalg.norm([a, b, c, d]) or 1)
    rotation = np.array([
        [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
    ])  # fmt: skip
    return np.column_stack([rotation * steps * (1, 1, handed), qform[3:]])


def _geometry(
    path: Path, shape: tuple[int, ...], affine: np.ndarray, sizes: tuple[float, ...]
) -> tuple[Geometry, tuple[str, ...]]:
    d = len(shape)
    lps = (affine * np.array([[-1], [-1], [1]]))[:d]
    matrix, origin = lps[:, d - 1 :: -1], lps[:, 3]
    spacing = np.linalg.norm(matrix, axis=0)
    if not np.isfinite(lps).all() or (spacing < 1e-9).any():
        raise ValueError(f"{path}: its header does not say where the voxels lie (sform, qform); write a valid affine")
    direction = matrix / spacing
    stored = np.abs(sizes[d - 1 :: -1])
    spacing = np.where(np.isclose(stored, spacing, rtol=1e-5, atol=0), stored, spacing)
    geometry = Geometry(shape, tuple(spacing.tolist()), tuple(origin.tolist()), tuple(map(tuple, direction.tolist())))
    return right_angled(path, geometry)


def is_whole(path: Path, num_bytes: int) -> bool:
    """Whether a newly written file contains `num_bytes` of voxels; fast, since it trusts gzip's own count."""
    with path.open("rb") as file:
        if file.read(2) != GZIP:
            return path.stat().st_size >= num_bytes
        file.seek(-4, os.SEEK_END)
        return int.from_bytes(file.read(4), "little") == (num_bytes + 352) % 2**32  # header of 352
