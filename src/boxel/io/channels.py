"""The channels of one image: which files they are, and how they become one array."""

import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from boxel.io import grid_fix, has_geometry, open_image, read_grid, same_grid, split_suffix
from boxel.io.outliers import seem_ordinary, without_outliers
from boxel.slabs import Voxels
from boxel.types import Geometry, Image
from boxel.wording import counted

__all__ = [
    "as_declared",
    "check_same_grid",
    "fit_image",
    "group_channels",
    "in_memory",
    "in_order",
    "open_channels",
    "read_grids",
    "split_channel",
]

COLOURS = ("red", "green", "blue")
Channels = Mapping[int, Sequence[Path]]
"""The files of one case by channel number; more than one file of a number is a mistake that `in_order` names."""


def split_channel(path: Path) -> tuple[str, int | None]:
    """The case that a file belongs to and the number of its channel: `CASE_0001.nii.gz` is channel 1 of CASE.

    The number is None for a name without one; the case is then the name without its image suffix.
    """
    stem = _stem(path)
    match = re.fullmatch(r"(.+)_(\d{4})", stem)
    return (match[1], int(match[2])) if match else (stem, None)


def _stem(path: Path) -> str:
    return path.resolve().name if path.is_dir() else split_suffix(path)[0]


def group_channels(files: Iterable[Path], cases: Container[str] = ()) -> dict[str, dict[int, list[Path]]]:
    """Image files by case and channel number.

    Args:
        files: image files or DICOM folders. A file without a channel number is channel 0 of its own case.
        cases: known names of cases, which are taken whole even if they end in four digits.
    """
    grouped: dict[str, dict[int, list[Path]]] = {}
    for path in files:
        case, channel = (_stem(path), 0) if _stem(path) in cases else split_channel(path)
        grouped.setdefault(case, {}).setdefault(channel or 0, []).append(path)
    return grouped


def in_order(channels: Channels) -> tuple[Path, ...]:
    """The file of each channel, in the order of their numbers.

    Raises:
        ValueError: two files have the same number.
    """
    for paths in channels.values():
        if len(paths) > 1:
            names = " and ".join(path.name for path in paths)
            raise ValueError(f"{paths[1]}: duplicate case: {names}; keep one of them")
    return tuple(channels[number][0] for number in sorted(channels))


def open_channels(files: Sequence[Path], open_file: Callable[[Path], Image[Voxels]] = open_image) -> Image[Voxels]:
    """One image `(c, *s)` from one file, or from one file per channel; without outliers.

    It is float32, unless the file stores integers of at most 16 bits; a large TIFF may stay on disk, see `open_image`.

    Args:
        files: at least one; each may hold several channels.
        open_file: reads one of them.

    Raises:
        ValueError: a file cannot be read, does not lie on the voxel grid of the first, or has voxels that are NaN,
            infinite or too large.
    """
    images = [open_file(path) for path in files]
    if not files[1:] and not isinstance(images[0].array, np.ndarray) and seem_ordinary(images[0].array):
        return images[0]
    arrays, remarks = [], [*images[0].remarks]
    for path, image in zip(files, map(in_memory, images), strict=True):
        if path is not files[0]:
            check_same_grid(path, image.geometry, files[0], images[0].geometry)
        array, found = without_outliers(image.array, path)
        remarks += found if len(files) == 1 else [f"{path.name}: {remark}" for remark in found]
        arrays.append(array)
    array = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return Image(array, images[0].geometry, tuple(remarks))


def read_grids(files: Sequence[Path]) -> tuple[int, Geometry | None]:
    """Number of channels and grid of the image that `open_channels` makes of files; no grid if headers say too little.

    Raises:
        ValueError: as `open_channels`, but for voxels that are damaged.
    """
    number, first = 0, None
    for path in files:
        grid = read_grid(path)
        if grid is None:
            return 0, None
        if first is not None:
            check_same_grid(path, grid[1], files[0], first)
        number, first = number + grid[0], first or grid[1]
    return number, first


def in_memory(image: Image[Voxels], dtype: type[np.generic] | None = None) -> Image:
    """The image with all its voxels, in their number type or in another one."""
    return Image(np.asarray(image.array[slice(None), slice(None)], dtype), image.geometry, image.remarks)


def fit_image(image: Image[Voxels], channels: Sequence[str], ndim: int, file: Path) -> Image[Voxels]:
    """An image with the channels and axes that a detector takes.

    A grey picture becomes a colour picture and the other way round where no value changes; a DICOM image of one plane
    becomes an image of 2 axes.

    Args:
        image: as it was read from `file`.
        channels: names of those that the detector takes.
        ndim: number of axes that the detector takes.
        file: named in errors.

    Raises:
        ValueError: the image has other channels or axes.
    """
    array, geometry = image.array, image.geometry
    if ndim == 2 and len(array.shape) == 4 and array.shape[1] == 1 and not split_suffix(file)[1]:
        array, geometry = array[slice(None), slice(1)][:, 0], Geometry.plain(array.shape[2:], geometry.spacing[1:])
    image = as_declared(Image(array, geometry, image.remarks), channels)
    array = image.array
    if len(array.shape) - 1 != ndim:
        raise ValueError(
            f"{file}: has {len(array.shape) - 1} axes {geometry.shape}, the detector takes images of {ndim}; give "
            "images like those that it was trained on"
        )
    if len(array) != len(channels):
        many = f"; give each channel as a file, CASE_0000 to CASE_{len(channels) - 1:04d}" if channels[1:] else ""
        raise ValueError(
            f"{file}: has {counted(len(array), 'channel')}, the detector takes {len(channels)}: {', '.join(channels)}"
            f"{many or '; save a grey image'}"
        )
    return image


def as_declared(image: Image[Voxels], channels: Sequence[str]) -> Image[Voxels]:
    """A grey picture among colours gets three equal channels; colours that are all equal among grey ones become one.

    Args:
        image: `(c, *s)`.
        channels: the names of the channels that are expected; only `red, green, blue` and a single one matter here.
    """
    if {len(image.array), len(channels)} != {1, 3}:
        return image
    array = in_memory(image).array
    if len(array) == 1 and tuple(channels) == COLOURS:
        remark = "a grey picture among colours: its values are used as red, green and blue"
        return replace(image, array=np.repeat(array, 3, axis=0), remarks=(*image.remarks, remark))
    if len(array) == 3 and len(channels) == 1 and (array == array[:1]).all():
        remark = "colours without any colour among grey pictures: one of the three equal channels is used"
        return replace(image, array=array[:1], remarks=(*image.remarks, remark))
    return image


def check_same_grid(path: Path, geometry: Geometry, other_path: Path, other: Geometry) -> None:
    """Refuse a file that does not lie on the voxel grid of another one.

    Shapes are always compared; spacing, origin and direction only if both files store them.

    Raises:
        ValueError: names the file and the first difference.
    """
    if geometry == other:
        return
    difference = same_grid(geometry, other, world=has_geometry(path) and has_geometry(other_path))
    if difference:
        problem = difference.format(other_path.name)
        raise ValueError(f"{path}: {problem}; {grid_fix(geometry, other)}")
