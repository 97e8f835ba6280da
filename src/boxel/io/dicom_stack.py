"""Stack parallel planes: order, spacing and gaps follow from their positions.

The planes of a tilted gantry are shifted against each other; they are resampled onto a regular grid.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from boxel.io.gantry import straighten
from boxel.types import Geometry, Image
from boxel.wording import counted

__all__ = ["Slice", "sort_slices", "stack"]

GAP = 1.5  # times the usual distance: a slice is missing
UNEVEN = 0.1  # of the usual distance: more is no rounding
SHIFT = 0.5  # voxels sideways; less is rounding


class Slice(NamedTuple):
    """One plane of a DICOM image, that is a file or a frame of one.

    Attributes:
        position: LPS mm of its first voxel; None if the header does not say it.
        axes: `(2, 3)`, LPS unit vectors along a row and along a column; None if the header does not say them.
        spacing: mm between rows and between columns.
        thickness: mm between planes according to the header; only used for a single plane.
        claimed: bytes of voxels according to the header.
        multi_frame: the file has functional groups or several planes; `boxel.io.dicom_frames` separates them.
        frame: number of the frame in its file, from 1; 0 for a file with one plane.
        uid: SOPInstanceUID of the file, where it was read.
        remarks: contradictions in the header of a single image.
    """

    file: Path
    position: np.ndarray | None
    axes: np.ndarray | None
    spacing: tuple[float, float]
    thickness: float = 1.0
    claimed: int = 0
    multi_frame: bool = False
    frame: int = 0
    uid: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.file.name} frame {self.frame}" if self.frame else self.file.name


def stack(slices: list[Slice], load: Callable[[Slice], np.ndarray], folder: Path, upright: bool) -> Image:
    """The volume of the slices, in order of position along their normal.

    Args:
        slices: in any order; exact copies count once.
        load: returns the voxels `(rows, columns)` of a slice.
        folder: named in messages.
        upright: a tilted gantry is an error, because the annotations count voxels of the original slices.

    Raises:
        ValueError: a slice is missing, duplicated, misplaced or of another size; names the position.
    """
    slices = sort_slices(slices, folder)
    arrays = [load(entry) for entry in slices]
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        sizes = ", ".join(map(str, sorted(shapes)))
        raise ValueError(f"{folder}: its slices have different sizes, {sizes}; give each image its own folder")
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
    remark = f"{what}, so they were moved by up to {moved:.1f} mm onto a regular grid"
    return Image(array[None], replace(geometry, shape=array.shape, origin=origin), (remark,))


def sort_slices(slices: list[Slice], folder: Path) -> list[Slice]:
    """Sort the slices along their common normal.

    Raises:
        ValueError: positions are missing, or orientations or pixel spacings differ.
    """
    if all(entry.position is None for entry in slices):
        raise ValueError(
            f"{folder}: its {len(slices)} images have no position, so each is a 2D image of its own; give the files, "
            "or open the folder as a data set with --format dicom"
        )
    lost = next((entry.name for entry in slices if entry.position is None or entry.axes is None), None)
    if lost is not None:
        raise ValueError(f"{folder}: slice {lost} has no position; export the series again with ImagePositionPatient")
    axes = slices[0].axes
    turned = [entry.name for entry in slices if not np.allclose(entry.axes, axes, atol=1e-3)]  # type: ignore[arg-type]
    if turned:
        raise ValueError(f"{folder}: slice {turned[0]} is oriented differently (a localizer?); remove it")
    finer = next((entry for entry in slices if not np.allclose(entry.spacing, slices[0].spacing, rtol=1e-3)), None)
    if finer is not None:
        both = f"{_mm(finer.spacing)} mm, slice {slices[0].name} {_mm(slices[0].spacing)} mm"
        raise ValueError(f"{folder}: slice {finer.name} has a pixel spacing of {both}; give each image its own folder")
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
            names = f"{slices[kept[-1]].name} and {slices[index].name}"
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
            f"{folder}: {counted(len(gaps), 'gap')} between slices, the first between the positions "
            f"{places[first]:.4g} and {places[first + 1]:.4g} mm, where slices lie {usual:.4g} mm apart; add the "
            "missing slices"
        )
    if len(steps) and np.ptp(steps) > UNEVEN * usual:
        span = f"{steps.min():.4g} to {steps.max():.4g} mm"
        raise ValueError(f"{folder}: slices lie {span} apart; resample them evenly")
    along_columns, along_rows = slices[0].axes  # type: ignore[misc]
    direction = np.stack([np.cross(along_columns, along_rows), along_rows, along_columns], axis=1)
    step = float(steps.mean()) if len(steps) else slices[0].thickness
    origin = tuple(slices[0].position.tolist())  # type: ignore[union-attr]
    return Geometry(shape, (step, *slices[0].spacing), origin, tuple(map(tuple, direction.tolist())))


def _mm(spacing: tuple[float, float]) -> str:
    return " x ".join(f"{value:.4g}" for value in spacing)
