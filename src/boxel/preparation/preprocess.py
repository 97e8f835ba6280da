"""Preprocess an image for the model: resample to the spacing of the task and normalise."""

import logging
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from boxel.datasets.quality.plausible import implausible_size, per_axis
from boxel.inputs.memory import size_in_words
from boxel.io import resample
from boxel.io.claims import check_memory
from boxel.io.outliers import without_outliers
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
    normalise(result.array, task)
    return result


def normalise(array: np.ndarray, task: Task) -> None:
    """Normalise each channel in place: the second half of `preprocess`."""
    for channel, rule in zip(array, task.normalisation, strict=True):
        shift, divisor = normalisation_of(channel, rule)
        channel -= shift
        channel /= divisor


def on_grid(image: Image, task: Task, name: str = "image") -> Image:
    """Clip and resample, keeping the units of the file: the first half of `preprocess`."""
    array = image.array
    if len(array) != len(task.channels):
        raise ValueError(
            f"{name}: has {len(array)} channels, the task has {len(task.channels)} ({', '.join(task.channels)}); "
            "give one file per channel, in this order"
        )
    if array.ndim - 1 != len(task.spacing):
        raise ValueError(
            f"{name}: has {array.ndim - 1} axes {array.shape[1:]}, "
            f"the task was planned for {len(task.spacing)} axes; give such an image"
        )
    shape = check_grid(image.geometry, task, name)
    if array.dtype.itemsize > 1:  # readers have removed the outliers already, but this image may come from a program
        with np.errstate(over="ignore"):
            array, remarks = without_outliers(array.astype(np.float32, copy=False), name)
        for remark in remarks:
            logging.getLogger("boxel").warning(f"{name}: {remark}")
    # Clip before interpolation, so that metal in CT does not spread into its neighbours.
    clipped = np.empty(array.shape, np.float32)
    for channel, given, rule in zip(clipped, array, task.normalisation, strict=True):
        channel[...] = given
        if rule.kind == "ct":
            np.clip(channel, rule.lower, rule.upper, out=channel)
    result = Image(clipped, image.geometry)
    return result if shape == image.geometry.shape else resample(result, shape)


def check_grid(geometry: Geometry, task: Task, name: str) -> tuple[int, ...]:
    """The shape of an image after resampling, before anything is allocated.

    Raises:
        ValueError: the voxel size is impossible for such images, or the result is too large for the memory.
    """
    by_mm = task.spacing_unit == "mm"
    if by_mm and (problem := implausible_size(geometry, task.channels)):
        raise ValueError(f"{name}: {problem}")
    shape = stored_shape(geometry.shape, geometry.spacing, task.spacing, task.spacing_unit)
    size = math.prod(shape) * len(task.channels) * np.dtype(np.float32).itemsize
    fix = "correct the voxel size in its header, or crop the image" if by_mm else "crop the image"
    check_memory(
        f"{name}: with its voxel size of {per_axis(geometry.spacing)} mm it becomes {' x '.join(map(str, shape))} "
        f"voxels ({size_in_words(size)}) at the plan's spacing of {per_axis(task.spacing)} {task.spacing_unit}",
        size,
        f"{fix}, or prepare with a coarser --set plan.spacing",
    )
    return shape


def normalisation_of(channel: np.ndarray, rule: Normalisation) -> tuple[float, float]:
    """What to subtract from a channel and what to divide it by; a constant channel becomes 0, not rounding errors."""
    if rule.kind in ("ct", "fixed"):
        return rule.mean, rule.std or 1.0
    if rule.kind == "none":
        return 0.0, 1.0
    rounding = 4 * np.finfo(np.float32).eps * float(np.abs(channel).max())
    shift = float(channel.mean(dtype=np.float64))
    squares = sum(float(np.square(part - np.float32(shift)).sum(dtype=np.float64)) for part in channel)
    std = math.sqrt(squares / channel.size)
    return shift, std if std > rounding else np.inf


def stored_shape(
    shape: Sequence[int], spacing: Sequence[float], target: Sequence[float], unit: SpacingUnit = "mm"
) -> tuple[int, ...]:
    """Voxels per axis after resampling to `target` spacing, in mm or in voxels of the image; at least one."""
    if unit == "voxel":
        spacing = (1.0,) * len(shape)
    return tuple(max(1, round(min(n * old / new, MOST))) for n, old, new in zip(shape, spacing, target, strict=True))
