"""DICOM series and single files. Order, spacing and gaps follow from positions, not from names or SliceThickness.

Images without ImagePositionPatient (radiographs, mammograms, ultrasound) are 2D, one file each.
"""

import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from boxel.io.apart import now_reading
from boxel.io.claims import LOSSLESS, check_claim
from boxel.io.dicom_damage import damaged_image, is_cut, is_dicom, is_multi_frame, is_packed
from boxel.io.dicom_stack import Slice, stack
from boxel.types import Geometry, Image

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["is_dicom", "list_series", "read_file", "read_series"]

SERIES, POSITION, ORIENTATION, SPACING = "0020|000e", "0020|0032", "0020|0037", "0028|0030"
MODALITY, BODY_PART = "0008|0060", "0018|0015"
BITS, ASPECT, IMAGER_SPACING = "0028|0100", "0028|0034", "0018|1164"
SHAPE_OF_LUT, SCALE = "2050|0020", "0028|0004"
COLOUR = 2  # most bytes of voxels per byte without compression: colours may share theirs (YBR 4:2:2)


def list_series(folder: Path) -> dict[str, list[Slice]]:
    """See `boxel.io.list_series`."""
    return _scan(folder)[0]


def _scan(folder: Path) -> tuple[dict[str, list[Slice]], list[tuple[Path, str]]]:
    """The image files of a folder, and damaged ones with their SeriesInstanceUID (empty if that is lost)."""
    series: dict[str, list[Slice]] = defaultdict(list)
    damaged = []
    paths = folder.iterdir() if folder.is_dir() else [folder]
    for file in sorted(path for path in paths if path.is_file() and not path.name.startswith(".")):
        try:
            uid, entry = _header(file)
            series[uid].append(entry)
        except RuntimeError:  # not DICOM, not an image, or a damaged one
            lost = damaged_image(file)
            damaged += [(file, lost)] if lost is not None else []
    return dict(series), damaged


def _header(file: Path) -> tuple[str, Slice]:
    """The SeriesInstanceUID of a file and its plane; raises RuntimeError if it cannot be read as an image."""
    import SimpleITK as sitk

    now_reading(file)
    if is_cut(file):
        raise RuntimeError("its pixel data is cut short")
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(file))
    sitk.ProcessObject.SetGlobalWarningDisplay(False)  # ITK would print what is raised or expected here
    try:
        reader.ReadImageInformation()
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(True)
    return _text(reader, SERIES), _slice(file, reader)


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
    multi_frame = planes > 1 or is_multi_frame(file)
    remarks = []
    aspect = _numbers(_text(reader, ASPECT), 2)
    sized = _text(reader, SPACING) or _text(reader, IMAGER_SPACING)
    if aspect is not None and aspect.min() > 0 and aspect[0] != aspect[1] and not sized:
        row_step, column_step = (aspect / aspect.min()).tolist()
        remarks.append(
            f"its pixels are {row_step:.3g} x {column_step:.3g} (PixelAspectRatio), and their size in mm is not known; "
            "add PixelSpacing if sizes in mm matter"
        )
    if _text(reader, SHAPE_OF_LUT) == "INVERSE" and _text(reader, SCALE) == "MONOCHROME2":
        remarks.append(
            "its PresentationLUTShape is INVERSE, which contradicts MONOCHROME2, and its values are used as stored; "
            "write MONOCHROME1 if the highest value is black"
        )
    spacing, position = (row_step, column_step), _numbers(_text(reader, POSITION), 3)
    return Slice(file, position, axes, spacing, 1.0, claimed, multi_frame, remarks=tuple(remarks))


def read_kind(path: Path, uid: str | None = None) -> tuple[str, str]:
    """See `boxel.io.read_kind`."""
    import SimpleITK as sitk

    series = _scan(path)[0]
    chosen = series.get(uid or "") or next(iter(series.values()), None)
    if chosen is None:
        return "", ""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(chosen[0].file))
    reader.ReadImageInformation()
    return tuple(  # type: ignore[return-value]
        reader.GetMetaData(tag).strip().upper() if reader.HasMetaDataKey(tag) else "" for tag in (MODALITY, BODY_PART)
    )


def read_file(path: Path) -> Image:
    """Read a DICOM file as an image of its own: multi-frame, a single image without position (2D), or one slice.

    Raises:
        ValueError: it is damaged, or not an image.
    """
    try:
        entry = _header(path)[1]
    except RuntimeError:
        raise ValueError(f"{path}: cannot be read as a DICOM image; copy or export it again") from None
    return _read([entry], path)


def read_series(folder: Path, uid: str | None = None, *, upright: bool = False, frames: Sequence[str] = ()) -> Image:
    """See `boxel.io.read_series`."""
    series, damaged = _scan(folder)
    chosen = series.get(uid) if uid is not None else next(iter(series.values()), None)
    lost = [file for file, own in damaged if not own or own == uid or series.get(own) is chosen]
    if lost:
        raise ValueError(f"{lost[0]}: this DICOM image is damaged; copy or export it again, or remove it")
    if chosen is None or (uid is None and len(series) > 1):
        held = f"{len(series)} DICOM series" if series else "no DICOM series"
        raise ValueError(f"{folder}: contains {held}; give each image its own folder with exactly one")
    return _read(chosen, folder, upright, frames)


def _read(chosen: list[Slice], path: Path, upright: bool = False, frames: Sequence[str] = ()) -> Image:
    for entry in chosen:
        check_claim(entry.file, entry.claimed, entry.file.stat().st_size, LOSSLESS if is_packed(entry.file) else COLOUR)
    check_claim(path, sum(entry.claimed for entry in chosen), sys.maxsize)  # all of them together
    if any(entry.multi_frame for entry in chosen):
        from boxel.io.dicom_frames import read_frames

        return read_frames([entry.file for entry in chosen], path, upright, frames)
    if len(chosen) == 1:
        return _one_file(chosen[0])
    return stack(chosen, lambda entry: _voxels(entry.file), path, upright)


def _voxels(file: Path) -> np.ndarray:
    """The rescaled voxels of a slice; slices of one series may differ in their number types."""
    import SimpleITK as sitk

    now_reading(file)
    array: np.ndarray = sitk.GetArrayFromImage(sitk.ReadImage(str(file), imageIO="GDCMImageIO"))
    if array.ndim != 3:
        raise ValueError(f"{file}: a colour picture in a DICOM series; save it as PNG")
    return array[0]


def _one_file(entry: Slice) -> Image:
    """A single image; 2D if it has no position, as the world of other 2D files is 2D."""
    from boxel.io import itk

    image = itk.read_gdcm(entry.file)
    remarks = (*image.remarks, *entry.remarks)
    if entry.position is not None or image.array.ndim != 4:
        return replace(image, remarks=remarks)
    return Image(image.array[:, 0], Geometry.plain(image.geometry.shape[1:], entry.spacing), remarks)
