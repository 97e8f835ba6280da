"""The formats of ITK (NIfTI, MetaImage, NRRD), read by our own readers and written by ITK; and resampling."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from boxel.io import metaimage, nifti, nrrd
from boxel.io.grids import right_angled
from boxel.io.headers import Header
from boxel.types import Geometry, Image

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["SUFFIXES", "read", "read_gdcm", "read_grid", "resample", "resample_planes", "write"]

SUFFIXES = (*nifti.SUFFIXES, *metaimage.SUFFIXES, *nrrd.SUFFIXES)


def read(path: Path) -> Image:
    """Read one file.

    Raises:
        ValueError: it has too many axes, is damaged or not supported.
    """
    return nifti.read(path) if _is_nifti(path) else _header(path).read(path)


def read_gdcm(path: Path) -> Image:
    """Read one DICOM file; raises RuntimeError if ITK cannot read it."""
    import SimpleITK as sitk

    image = sitk.ReadImage(str(path), imageIO="GDCMImageIO")
    shape, d = image.GetSize()[::-1], image.GetDimension()
    direction = np.asarray(image.GetDirection()).reshape(d, d)[:, ::-1]  # columns in array order
    geometry = Geometry(shape, image.GetSpacing()[::-1], image.GetOrigin(), tuple(map(tuple, direction.tolist())))
    geometry, remarks = right_angled(path, geometry)
    array = sitk.GetArrayFromImage(image)
    array = np.moveaxis(array, -1, 0) if image.GetNumberOfComponentsPerPixel() > 1 else array[None]
    return Image(array, geometry, remarks)


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith(nifti.SUFFIXES)


def _header(path: Path) -> Header:
    return (metaimage if path.suffix.lower() in metaimage.SUFFIXES else nrrd).read_header(path)


def read_grid(path: Path) -> tuple[int, Geometry]:
    """Number of channels and geometry of one file, from its header; raises as `read`."""
    header = nifti.read_header(path) if _is_nifti(path) else _header(path)
    return header.num_channels, header.geometry


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


def resample_planes(
    read: Callable[[int, int], np.ndarray], old: Sequence[int], new: Sequence[int], first: int, last: int
) -> np.ndarray:
    """Planes `(c, n, ...)` of the first axis of what `resample` makes linearly of a whole image, to the last bit.

    Args:
        read: returns planes `(c, n, ...)` of the image in float32, from the first to before the last.
        old: shape of the image.
        new: shape that it is resampled to.
        first: the first plane; up to before `last`.
    """
    import SimpleITK as sitk

    ratio = np.asarray(old) / np.asarray(new)
    start = 0.5 * (ratio - 1)
    planes = []
    for place in (start[0] + ratio[0] * np.arange(first, last)).tolist():
        low = min(max(math.floor(place), 0), old[0] - 1)
        grid = sitk.Image([int(n) for n in new[:0:-1]] + [1], sitk.sitkUInt8)  # one plane, whose place is not rounded
        grid.SetSpacing(ratio[::-1].tolist())
        grid.SetOrigin([*start[:0:-1].tolist(), place])
        channels = []
        for channel in read(low, min(low + 2, old[0])):
            source = sitk.GetImageFromArray(channel)
            source.SetOrigin([0.0] * (len(old) - 1) + [float(low)])
            channels.append(sitk.GetArrayFromImage(sitk.Resample(source, grid, sitk.Transform(), sitk.sitkLinear)))
        planes.append(np.stack(channels))
    return np.concatenate(planes, axis=1)


def _to_itk(source: Image) -> "sitk.Image":
    import SimpleITK as sitk

    array, geometry = source.array, source.geometry
    several = len(array) > 1
    image = sitk.GetImageFromArray(np.moveaxis(array, 0, -1) if several else array[0], isVector=several)
    image.SetSpacing(geometry.spacing[::-1])
    image.SetOrigin(geometry.origin)
    image.SetDirection(np.asarray(geometry.direction)[:, ::-1].ravel().tolist())
    return image
