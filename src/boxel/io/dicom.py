"""DICOM series. Order, spacing and gaps follow from the positions of the slices, not from names or SliceThickness.

The slices of a tilted gantry are shifted against each other; they are resampled onto a regular grid.
"""

import math
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from boxel.io.claims import LOSSLESS, check_claim
from boxel.io.dicom_damage import damaged_image, is_cut, is_packed
from boxel.io.gantry import straighten
from boxel.types import Geometry, Image

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["Slice", "is_dicom", "list_series", "read_series", "sort_slices"]

SERIES, POSITION, ORIENTATION, SPACING = "0020|000e", "0020|0032", "0020|0037", "0028|0030"
BITS = "0028|0100"
COLOUR = 2  # most bytes of voxels per byte without compression: colours may share theirs (YBR 4:2:2)
GAP = 1.5  # times the usual distance: a slice is missing
UNEVEN = 0.1  # of the usual distance: more is no rounding
SHIFT = 0.5  # voxels sideways; less is rounding


class Slice(NamedTuple):
    """One file: LPS `position` of its first voxel, LPS vectors along columns and along rows; both may be missing.

    `claimed` is the number of bytes of voxels according to the header.
    """

    file: Path
    position: np.ndarray | None
    axes: np.ndarray | None
    spacing: tuple[float, float]
    planes: int
    claimed: int = 0


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its suffix `.dcm` or its magic number."""
    if path.suffix.lower() == ".dcm" or not path.is_file():
        return path.is_file()
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def list_series(folder: Path) -> dict[str, list[Slice]]:
    """The image files of a folder by SeriesInstanceUID (empty if a file has none), in order of file names."""
    return _scan(folder)[0]


def _scan(folder: Path) -> tuple[dict[str, list[Slice]], list[tuple[Path, str]]]:
    """The image files of a folder, and damaged ones with their SeriesInstanceUID (empty if that is lost)."""
    import SimpleITK as sitk

    series: dict[str, list[Slice]] = defaultdict(list)
    damaged = []
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # ITK would print what is raised or expected here
    try:
        paths = folder.iterdir() if folder.is_dir() else [folder]
        for file in sorted(path for path in paths if path.is_file() and not path.name.startswith(".")):
            reader.SetFileName(str(file))
            try:
                if is_cut(file):
                    raise RuntimeError
                reader.ReadImageInformation()
            except RuntimeError:  # not DICOM, not an image, or a damaged one
                uid = damaged_image(file)
                damaged += [(file, uid)] if uid is not None else []
                continue
            series[_text(reader, SERIES)].append(_slice(file, reader))
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(True)
    return dict(series), damaged


def _text(reader: "sitk.ImageFileReader", tag: str) -> str:
    return reader.GetMetaData(tag).strip("\0 ") if reader.HasMetaDataKey(tag) else ""


def _numbers(text: str, count: int) -> np.ndarray | None:
    try:
        values = np.array([float(part) for part in text.split("\\")])
    except ValueError:
        return None
    return values if len(values) == count and np.isfinite(values).all() else None


def _slice(file: Path, reader: "sitk.ImageFileReader") -> Slice:
    orientation = _numbers(_text(reader, ORIENTATION), 6)
    axes = None if orientation is None else orientation.reshape(2, 3)
    planes = reader.GetSize()[2] if reader.GetDimension() > 2 else 1
    row_step, column_step = reader.GetSpacing()[1], reader.GetSpacing()[0]
    bits = _numbers(_text(reader, BITS), 1)
    claimed = (
        math.prod(reader.GetSize()) * reader.GetNumberOfComponents() * int(bits[0] if bits is not None else 8) // 8
    )
    return Slice(file, _numbers(_text(reader, POSITION), 3), axes, (row_step, column_step), planes, claimed)


def read_series(folder: Path, uid: str | None = None, *, upright: bool = False) -> Image:
    """Read one DICOM series; `Image.remarks` says whether a tilted gantry was corrected.

    Args:
        folder: contains its files, in any order and under any names; other files are skipped. Or one file, which is
            then the image.
        uid: its SeriesInstanceUID, if the folder contains several series.
        upright: a tilted gantry is an error, because the annotations count voxels of the original slices.

    Raises:
        ValueError: there is no such series, or a slice is missing, duplicated or misplaced; names the position.
    """
    series, damaged = _scan(folder)
    chosen = series.get(uid) if uid is not None else next(iter(series.values()), None)
    lost = [file for file, own in damaged if not own or own == uid or series.get(own) is chosen]
    if lost:
        raise ValueError(f"{lost[0]}: this DICOM image is damaged; copy or export it again, or remove it")
    if chosen is None or (uid is None and len(series) > 1):
        held = f"{len(series)} DICOM series" if series else "no DICOM series"
        raise ValueError(f"{folder}: contains {held}; give each image its own folder with exactly one")
    for entry in chosen:
        check_claim(entry.file, entry.claimed, entry.file.stat().st_size, LOSSLESS if is_packed(entry.file) else COLOUR)
    check_claim(folder, sum(entry.claimed for entry in chosen), sys.maxsize)  # all of them together
    if len(chosen) == 1:
        return _one_file(chosen[0])
    slices = sort_slices(chosen, folder)
    arrays = [_voxels(entry.file) for entry in slices]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise ValueError(f"{folder}: slices of different sizes {sorted(shapes)}; give each image its own folder")
    slices, arrays = _without_copies(slices, arrays, folder)
    dtype = np.result_type(*{array.dtype for array in arrays})
    geometry = _geometry(slices, (len(arrays), *arrays[0].shape), folder)
    offsets, tilt = _sideways(slices)
    if np.abs(offsets).max() <= SHIFT:
        return Image(np.stack(arrays).astype(dtype, copy=False)[None], geometry)
    return _straightened(
        [array.astype(dtype, copy=False) for array in arrays], offsets, geometry, tilt, folder, upright
    )


def _straightened(
    arrays: list[np.ndarray], offsets: np.ndarray, geometry: Geometry, tilt: float, folder: Path, upright: bool
) -> Image:
    """The stack on a regular grid; its first plane lies `offsets[0]` voxels from the corner of the grid."""
    what = f"the slices are shifted sideways by a gantry tilt of {tilt:.1f} degrees"
    if upright:
        raise ValueError(
            f"{folder}: {what}, but the annotations count voxels of the original slices; correct both first"
        )
    if (np.ptp(offsets, axis=0) > arrays[0].shape).any():
        raise ValueError(f"{folder}: the slices do not lie over each other; give each image its own folder")
    array, lower = straighten(arrays, offsets)
    step = np.asarray(geometry.direction)[:, 1:] @ (lower * geometry.spacing[1:])
    origin = tuple((np.asarray(geometry.origin) + step).tolist())
    moved = np.abs(offsets * geometry.spacing[1:]).max()
    remark = f"{what}; they were moved by up to {moved:.1f} mm onto a regular grid"
    return Image(array[None], replace(geometry, shape=array.shape, origin=origin), (remark,))


def _voxels(file: Path) -> np.ndarray:
    """The rescaled voxels of a slice; slices of one series may differ in their number types."""
    import SimpleITK as sitk

    array: np.ndarray = sitk.GetArrayFromImage(sitk.ReadImage(str(file), imageIO="GDCMImageIO"))
    if array.ndim != 3:
        raise ValueError(f"{file}: a colour picture in a DICOM series; save it as PNG")
    return array[0]


def _one_file(entry: Slice) -> Image:
    from boxel.io import itk

    return itk.read(entry.file, "GDCMImageIO")


def sort_slices(slices: list[Slice], folder: Path) -> list[Slice]:
    """Sort the slices along their common normal.

    Raises:
        ValueError: positions are missing, or orientations differ.
    """
    lost = next((entry.file.name for entry in slices if entry.position is None or entry.axes is None), None)
    if lost is not None:
        raise ValueError(f"{folder}: slice {lost} has no position; export the series again with ImagePositionPatient")
    several = next((entry.file.name for entry in slices if entry.planes > 1), None)
    if several is not None:
        raise ValueError(f"{folder}: {several} contains several slices beside other files; give it its own folder")
    axes = slices[0].axes
    turned = [entry.file.name for entry in slices if not np.allclose(entry.axes, axes, atol=1e-3)]  # type: ignore[arg-type]
    if turned:
        raise ValueError(f"{folder}: slice {turned[0]} is oriented differently (a localizer?); remove it")
    normal = np.cross(*axes)  # type: ignore[misc]
    return sorted(slices, key=lambda entry: float(entry.position @ normal))  # type: ignore[operator]


def _sideways(slices: list[Slice]) -> tuple[np.ndarray, float]:
    """The shift of the slices against the first, `(n, 2)` in rows and columns, and their tilt in degrees."""
    along_columns, along_rows = slices[0].axes  # type: ignore[misc]
    way = np.stack([entry.position - slices[0].position for entry in slices])  # type: ignore[operator]
    sideways = way @ np.stack([along_rows, along_columns], axis=1)
    forward = way @ np.cross(along_columns, along_rows)
    tilt = np.degrees(np.arctan2(np.linalg.norm(sideways[-1]), forward[-1]))
    return sideways / slices[0].spacing, float(tilt)


def _without_copies(
    slices: list[Slice], arrays: list[np.ndarray], folder: Path
) -> tuple[list[Slice], list[np.ndarray]]:
    """Drop duplicate slices; two different slices at one position are an error."""
    places = _places(slices)
    kept = [0]
    for index in range(1, len(slices)):
        if places[index] - places[kept[-1]] > 1e-3:
            kept.append(index)
        elif not np.array_equal(arrays[index], arrays[kept[-1]]):
            names = f"{slices[kept[-1]].file.name} and {slices[index].file.name}"
            raise ValueError(f"{folder}: {names} both lie at {places[index]:.4g} mm but differ; remove one")
    return [slices[index] for index in kept], [arrays[index] for index in kept]


def _places(slices: list[Slice]) -> np.ndarray:
    """Positions along the normal (mm)."""
    normal = np.cross(*slices[0].axes)  # type: ignore[misc]
    return np.array([float(entry.position @ normal) for entry in slices])  # type: ignore[operator]


def _geometry(slices: list[Slice], shape: tuple[int, ...], folder: Path) -> Geometry:
    places = _places(slices)
    steps = np.diff(places)
    usual = float(np.median(steps)) if len(steps) else 1.0
    gaps = np.flatnonzero(steps > GAP * usual)
    if len(gaps):
        first = gaps[0]
        raise ValueError(
            f"{folder}: {len(gaps)} gaps between slices, the first between the positions {places[first]:.4g} and "
            f"{places[first + 1]:.4g} mm, where slices lie {usual:.4g} mm apart; add the missing ones"
        )
    if len(steps) and np.ptp(steps) > UNEVEN * usual:
        span = f"{steps.min():.4g} to {steps.max():.4g} mm"
        raise ValueError(f"{folder}: slices lie {span} apart; resample them evenly")
    along_columns, along_rows = slices[0].axes  # type: ignore[misc]
    direction = np.stack([np.cross(along_columns, along_rows), along_rows, along_columns], axis=1)
    step = float(steps.mean()) if len(steps) else 1.0
    origin = tuple(slices[0].position.tolist())  # type: ignore[union-attr]
    return Geometry(shape, (step, *slices[0].spacing), origin, tuple(map(tuple, direction.tolist())))
