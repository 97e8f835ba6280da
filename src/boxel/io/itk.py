"""Read and write the formats of ITK (NIfTI, MetaImage, NRRD), and resample images."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from boxel.io import metaimage, nifti
from boxel.io.claims import LOSSLESS, check_claim
from boxel.io.grids import UNIT, UNKNOWN_SPACING, right_angled
from boxel.types import Geometry, Image

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["SUFFIXES", "read", "read_geometry", "read_layout", "resample", "write"]

METAIMAGE, NRRD = (".mha", ".mhd"), (".nrrd", ".nhdr")
SUFFIXES = (*nifti.SUFFIXES, *METAIMAGE, *NRRD)
SPACING = {  # fields of which a header must have one, with numbers
    **dict.fromkeys(METAIMAGE, ("ElementSpacing or ElementSize", rb"(?im)^Element(Spacing|Size)\s*=\s*[-\d.]")),
    **dict.fromkeys(NRRD, ("space directions or spacings", rb"(?im)^(space directions:.*\(|spacings:[^\n]*\d)")),
}
UNITS = {  # mm per unit, by all names in use
    **dict.fromkeys(("um", "\u00b5m", "\u03bcm", "\ufffdm", "micron", "micrometer", "micrometre"), 1e-3),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-6),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1.0),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 10.0),
    **dict.fromkeys(("m", "meter", "metre"), 1e3),
}
UNKNOWN_UNIT = "its header gives lengths in {}, and mm are assumed; write the voxel size in mm"
BACKWARDS = (
    "its header has a negative voxel size, and its axis is taken to run backwards; write positive sizes, and the way "
    "of the axes into TransformMatrix (MetaImage) or space directions (NRRD)"
)
NO_UNIT = ("", "?", "???", "none")


def read(path: Path, reader: str = "") -> Image:
    """Read one file with the ITK class `reader` (chosen by the suffix if empty).

    Raises:
        RuntimeError: ITK cannot read it.
        ValueError: it has too many axes, is damaged, or ITK would read another file.
    """
    import SimpleITK as sitk

    if _is_nifti(path) and not reader:
        return nifti.read(path)
    if reader:
        return _from_itk(sitk.ReadImage(str(path), imageIO=reader), path)
    header = _header(path)
    geometry, remarks = _geometry(header, path)
    array = metaimage.read_voxels(path, header.GetNumberOfComponents(), geometry.shape)
    if array is None:
        _check_claim(path, header)
        return _from_itk(sitk.ReadImage(str(path), imageIO=_class(path)), path)
    return Image(array, geometry, remarks)


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith(nifti.SUFFIXES)


def _class(path: Path) -> str:
    return "MetaImageIO" if path.suffix.lower() in METAIMAGE else "NrrdImageIO"


def _check_claim(path: Path, header: "sitk.ImageFileReader") -> None:
    """Refuse a file that is too small for the voxels that its header claims."""
    import SimpleITK as sitk

    bits = re.search(r"\d+", sitk.GetPixelIDValueAsString(header.GetPixelID()))
    size = int(bits[0]) // 8 if bits else 1  # such as "16-bit signed integer"
    claimed = math.prod(header.GetSize()) * header.GetNumberOfComponents() * size
    head = _start(path)
    named = re.findall(rb"(?mi)^(?:ElementDataFile\s*=|data ?file:)\s*(\S+)", head)
    others = [path.parent / name.decode("latin-1") for name in named if name.upper() != b"LOCAL"]
    if not all(file.is_file() for file in others):
        return  # a list or a pattern of files: ITK checks them
    stored = sum(file.stat().st_size for file in (path, *others))
    packed = re.search(rb"CompressedData\s*=\s*True|encoding:\s*(gz|bz|txt|text|ascii|hex)", head, re.IGNORECASE)
    check_claim(path, claimed, stored, LOSSLESS if packed or path.name.endswith(".gz") else 1)


def read_geometry(path: Path) -> Geometry:
    """The geometry in a file's header; raises as `read`."""
    return nifti.read_header(path).geometry if _is_nifti(path) else _geometry(_header(path), path)[0]


def read_layout(path: Path) -> tuple[int, tuple[int, ...]]:
    """Number of channels and shape of one file, from its header."""
    if _is_nifti(path):
        nifti_header = nifti.read_header(path)
        return nifti_header.num_channels, nifti_header.geometry.shape
    header = _header(path)
    return header.GetNumberOfComponents(), header.GetSize()[::-1]


def write(path: Path, image: Image, compress: bool) -> None:
    """Write a file.

    Raises:
        RuntimeError, OSError: the file could not be written completely.
    """
    import SimpleITK as sitk

    sitk.WriteImage(_to_itk(image), str(path), compress)
    if _is_nifti(path) and not nifti.is_whole(path, image.array.nbytes):
        raise OSError("only a part of the file could be written")


def resample(image: Image, shape: Sequence[int], *, label_map: bool = False, order: int = 1) -> Image:
    """Resample onto a grid of `shape` that covers the same box of the world (outer faces coincide).

    Args:
        image: `(c, *s)`; the result is float32.
        shape: voxels per axis, array order.
        label_map: `image.array` is a label map `(*s)`, resampled by the nearest voxel; it keeps its type.
        order: 1 for linear, 3 for cubic B-spline interpolation of images.
    """
    import SimpleITK as sitk

    old = image.geometry
    ratio = np.asarray(old.shape) / np.asarray(shape)
    shift = 0.5 * (ratio - 1) * np.asarray(old.spacing)
    geometry = Geometry(
        tuple(map(int, shape)),
        tuple((ratio * old.spacing).tolist()),
        tuple((np.asarray(old.direction) @ shift + old.origin).tolist()),
        old.direction,
    )
    array = image.array if label_map else image.array.astype(np.float32, copy=False)
    if tuple(shape) == old.shape:
        return Image(array, geometry)
    method = sitk.sitkNearestNeighbor if label_map else {1: sitk.sitkLinear, 3: sitk.sitkBSpline}[order]
    # In voxels of the old grid, so that rounding of origin and direction cannot shift the result.
    grid = sitk.Image([int(n) for n in shape][::-1], sitk.sitkUInt8)
    grid.SetSpacing(ratio[::-1].tolist())
    grid.SetOrigin((0.5 * (ratio - 1))[::-1].tolist())
    planes = [
        sitk.GetArrayFromImage(sitk.Resample(sitk.GetImageFromArray(channel), grid, sitk.Transform(), method))
        for channel in (array[None] if label_map else array)
    ]
    return Image(planes[0] if label_map else np.stack(planes), geometry)


def _from_itk(image: "sitk.Image", path: Path) -> Image:
    import SimpleITK as sitk

    geometry, remarks = _geometry(image, path)
    array = sitk.GetArrayFromImage(image)
    array = np.moveaxis(array, -1, 0) if image.GetNumberOfComponentsPerPixel() > 1 else array[None]
    return Image(array, geometry, remarks)


def _header(path: Path) -> "sitk.ImageFileReader":
    import SimpleITK as sitk

    header = sitk.ImageFileReader()
    header.SetImageIO(_class(path))  # by itself it knows suffixes in lower case only
    header.SetFileName(str(path))
    header.ReadImageInformation()
    return header


def _geometry(header: "sitk.Image | sitk.ImageFileReader", path: Path) -> tuple[Geometry, tuple[str, ...]]:
    shape, d = header.GetSize()[::-1], header.GetDimension()
    if shape[3:]:
        raise ValueError(f"{path}: has {d} axes; save every time point or channel as a file of 2 or 3 axes")
    direction = np.asarray(header.GetDirection()).reshape(d, d)[:, ::-1]  # columns in array order
    geometry = Geometry(shape, header.GetSpacing()[::-1], header.GetOrigin(), tuple(map(tuple, direction.tolist())))
    head = _start(path) if path.suffix.lower() in SPACING else b""
    scale, unit = _unit(head)
    spacing, origin = (tuple(scale * value for value in values) for values in (geometry.spacing, geometry.origin))
    geometry, remarks = right_angled(path, replace(geometry, spacing=spacing, origin=origin))
    if re.search(rb"(?im)^(Element(Spacing|Size)\s*=|spacings:)[^\n]*-\d", head):
        unit += (BACKWARDS,)
    fields, pattern = SPACING.get(path.suffix.lower(), ("", b""))
    remarks = (*unit, *remarks)
    return geometry, remarks if re.search(pattern, head) else (UNKNOWN_SPACING.format(fields), *remarks)


def _unit(head: bytes) -> tuple[float, tuple[str, ...]]:
    """The mm of one unit of length, as a header of NRRD or MetaImage names it, and a remark unless that is 1."""
    fields = re.findall(rb"(?im)^(?:space units|units):(.*)$|^DistanceUnits\s*=(.*)$", head)
    names = {
        name.strip().lower()
        for text in (b" ".join(field).decode("utf-8", "replace") for field in fields)
        for name in (re.findall(r'"([^"]*)"', text) or [text])
    } - {*NO_UNIT}
    scales = {UNITS.get(name, UNITS.get(name.removesuffix("s"), 0.0)) for name in names}
    if scales <= {1.0}:
        return 1.0, ()
    (scale, *others) = scales
    if others or not scale:
        return 1.0, (UNKNOWN_UNIT.format(" and ".join(sorted(names))),)
    return scale, (UNIT.format(scale),)


def _start(path: Path) -> bytes:
    """The first bytes of a file, which contain the header's fields about its voxels; of NRRD the header alone."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    return re.split(rb"\r?\n\r?\n", head, maxsplit=1)[0] if head.startswith(b"NRRD") else head


def _to_itk(source: Image) -> "sitk.Image":
    import SimpleITK as sitk

    array, geometry = source.array, source.geometry
    several = len(array) > 1
    image = sitk.GetImageFromArray(np.moveaxis(array, 0, -1) if several else array[0], isVector=several)
    image.SetSpacing(geometry.spacing[::-1])
    image.SetOrigin(geometry.origin)
    image.SetDirection(np.asarray(geometry.direction)[:, ::-1].ravel().tolist())
    return image
