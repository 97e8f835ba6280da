"""Preprocess an image for the model: resample to the spacing of the task and normalise."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from boxel.io import resample
from boxel.types import Image, Normalisation, Task

SpacingUnit = Literal["mm", "voxel"]


def preprocess(image: Image, task: Task) -> Image:
    """Resample to the task's spacing and normalise each channel.

    Returns:
        float32 image `(c, *s)` with `s = stored_shape(...)` whose outer faces coincide with the original's.

    Raises:
        ValueError: channels or axes differ from those of the task, or voxels are NaN or infinite.
    """
    result = on_grid(image, task)
    normalise(result.array, task)
    return result


def normalise(array: np.ndarray, task: Task) -> None:
    """Normalise each channel in place: the second half of `preprocess`."""
    for channel, rule in zip(array, task.normalisation, strict=True):
        shift, divisor = normalisation_of(channel, rule)
        channel -= shift
        channel /= divisor


def on_grid(image: Image, task: Task) -> Image:
    """Clip and resample, keeping the units of the file: the first half of `preprocess`."""
    array = image.array
    if len(array) != len(task.channels):
        raise ValueError(
            f"image has {len(array)} channels, the task has {len(task.channels)} ({', '.join(task.channels)}); "
            "give one file per channel, in this order"
        )
    if array.ndim - 1 != len(task.spacing):
        raise ValueError(
            f"image has {array.ndim - 1} axes {array.shape[1:]}, "
            f"the task was planned for {len(task.spacing)} axes; give such an image"
        )
    if not all(np.isfinite(part).all() for channel in array for part in channel):
        raise ValueError("image has NaN or infinite voxels; replace them, for example by the background value")
    # Clip before interpolation, so that metal in CT does not spread into its neighbours.
    clipped = np.empty(array.shape, np.float32)
    for channel, given, rule in zip(clipped, array, task.normalisation, strict=True):
        channel[...] = given
        if rule.kind == "ct":
            np.clip(channel, rule.lower, rule.upper, out=channel)
    shape = stored_shape(image.geometry.shape, image.geometry.spacing, task.spacing, task.spacing_unit)
    result = Image(clipped, image.geometry)
    return result if shape == image.geometry.shape else resample(result, shape)


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
    return tuple(max(1, round(n * old / new)) for n, old, new in zip(shape, spacing, target, strict=True))
