"""Preprocess an image for the model: resample to the spacing of the task and normalise."""

import logging
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from boxel.datasets.quality.plausible import implausible_size, per_axis
from boxel.inputs.memory import size_in_words
from boxel.io import resample
from boxel.io.claims import check_memory
from boxel.io.outliers import without_outliers
from boxel.slabs import Voxels, slabs_of
from boxel.types import Geometry, Image, Normalisation, Task

MOST = 2.0**62  # voxels per axis, of the shape of an image that will be refused
SpacingUnit = Literal["mm", "voxel"]


def preprocess(image: Image, task: Task, name: str = "image") -> Image:
    """Resample to the task's spacing and normalise each channel.

    Args:
        image: `(c, *s)`; it is not changed.
        task: the plan.
        name: the file, or what else is named in errors.

    Returns:
        float32 image `(c, *s)` with `s = stored_shape(...)` whose outer faces coincide with the original's.

    Raises:
        ValueError: channels or axes differ from those of the task; the voxel size is impossible, or makes the result
            too large for the memory; voxels are NaN, infinite or too large.
    """
    result = on_grid(image, task, name)
    normalise(result.array, normalisations(result.array, task.normalisation))
    return result


def normalise(array: np.ndarray, rules: Sequence[tuple[float, float]]) -> np.ndarray:
    """Normalise each channel in place, by what to subtract and what to divide by: the second half of `preprocess`."""
    for number, (shift, divisor) in enumerate(rules):
        array[number] -= shift
        array[number] /= divisor
    return array


def on_grid(image: Image, task: Task, name: str = "image") -> Image:
    """Clip and resample, keeping the units of the file: the first half of `preprocess`."""
    array, shape = checked(image, task, name)
    # Clip before interpolation, so that metal in CT does not spread into its neighbours.
    result = Image(clip(np.array(array[slice(None), slice(None)], np.float32), task.normalisation), image.geometry)
    return result if shape == image.geometry.shape else resample(result, shape)


def clip(array: np.ndarray, rules: Sequence[Normalisation]) -> np.ndarray:
    """Clip each channel `(c, *s)` in place, where its normalisation does."""
    for channel, rule in zip(array, rules, strict=True):
        if rule.kind == "ct":
            np.clip(channel, rule.lower, rule.upper, out=channel)
    return array


def checked(image: Image[Voxels], task: Task, name: str) -> tuple[Voxels, tuple[int, ...]]:
    """The voxels of an image that fits the task, without outliers, and its shape after resampling.

    Raises:
        ValueError: as `preprocess`, apart from the memory.
    """
    array = image.array
    if len(array) != len(task.channels):
        raise ValueError(
            f"{name}: has {len(array)} channels, the task has {len(task.channels)} ({', '.join(task.channels)}); "
            "give one file per channel, in this order"
        )
    if len(array.shape) - 1 != len(task.spacing):
        raise ValueError(
            f"{name}: has {len(array.shape) - 1} axes {array.shape[1:]}, "
            f"the task was planned for {len(task.spacing)} axes; give such an image"
        )
    shape = check_grid(image.geometry, task, name, in_parts=not isinstance(array, np.ndarray))
    if not isinstance(array, np.ndarray):
        return array, shape
    # Readers have removed the outliers already, but this image may come from a program.
    cleaned, remarks = without_outliers(array, name)
    for remark in remarks:
        logging.getLogger("boxel").warning(f"{name}: {remark}")
    return cleaned, shape


def check_grid(geometry: Geometry, task: Task, name: str, *, in_parts: bool = False) -> tuple[int, ...]:
    """The shape of an image after resampling, before anything is allocated.

    Args:
        geometry: of the image.
        task: the plan.
        name: named in errors.
        in_parts: whether the image is never in memory as a whole, so that its own size does not matter.

    Raises:
        ValueError: the voxel size is impossible for such images, or the result is too large for the memory.
    """
    by_mm = task.spacing_unit == "mm"
    if by_mm and (problem := implausible_size(geometry, task.channels)):
        raise ValueError(f"{name}: {problem}")
    shape = stored_shape(geometry.shape, geometry.spacing, task.spacing, task.spacing_unit)
    if in_parts and shape == geometry.shape:
        return shape
    size = math.prod(shape) * len(task.channels) * np.dtype(np.float32).itemsize
    fix = "correct the voxel size in its header, or crop the image" if by_mm else "crop the image"
    check_memory(
        f"{name}: with its voxel size of {per_axis(geometry.spacing)} mm it becomes {' x '.join(map(str, shape))} "
        f"voxels ({size_in_words(size)}) at the plan's spacing of {per_axis(task.spacing)} {task.spacing_unit}",
        size,
        f"{fix}, or prepare with a coarser --set plan.spacing",
    )
    return shape


class Range(NamedTuple):
    """The values of a channel."""

    low: float
    high: float
    mean: float


def measure(voxels: Voxels) -> list[Range]:
    """The range of each channel of an image `(c, *s)`, in one pass over its planes."""
    lows, highs, sums = [], [], []
    for slab in slabs_of(voxels):
        flat = slab.reshape(*slab.shape[:2], -1)
        lows.append(flat.min(axis=(1, 2)))
        highs.append(flat.max(axis=(1, 2)))
        sums.append(flat.sum(axis=2, dtype=np.float64))
    low, high = np.min(lows, axis=0).tolist(), np.max(highs, axis=0).tolist()
    means = [math.fsum(parts) / math.prod(voxels.shape[1:]) for parts in np.concatenate(sums, axis=1)]
    return [Range(*values) for values in zip(low, high, means, strict=True)]


def normalisations(
    voxels: Voxels, rules: Sequence[Normalisation], ranges: Sequence[Range] = ()
) -> list[tuple[float, float]]:
    """What to subtract from each channel and what to divide it by; a constant channel becomes 0, not rounding errors.

    Args:
        voxels: `(c, *s)` float32, clipped and resampled.
        rules: of each channel.
        ranges: of each channel, if they are known.
    """
    fixed = [(0.0, 1.0) if rule.kind == "none" else (rule.mean, rule.std or 1.0) for rule in rules]
    own = [number for number, rule in enumerate(rules) if rule.kind == "z_score"]
    if not own:
        return fixed
    ranges, squares = ranges or measure(voxels), [0.0] * len(rules)
    for slab, number in ((slab, number) for slab in slabs_of(voxels) for number in own):
        for plane in slab[number]:
            squares[number] += float(np.square(plane - np.float32(ranges[number].mean)).sum(dtype=np.float64))
    for number in own:
        low, high, mean = ranges[number]
        std = math.sqrt(squares[number] / math.prod(voxels.shape[1:]))
        rounding = 4 * np.finfo(np.float32).eps * max(-low, high)
        fixed[number] = mean, std if std > rounding else np.inf
    return fixed


def stored_shape(
    shape: Sequence[int], spacing: Sequence[float], target: Sequence[float], unit: SpacingUnit = "mm"
) -> tuple[int, ...]:
    """Voxels per axis after resampling to `target` spacing, in mm or in voxels of the image; at least one."""
    if unit == "voxel":
        spacing = (1.0,) * len(shape)
    return tuple(max(1, round(min(n * old / new, MOST))) for n, old, new in zip(shape, spacing, target, strict=True))
