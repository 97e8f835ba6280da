"""Quantise values to whole numbers of at most 16 bits, which halves the bytes to read."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

MOST = np.iinfo(np.uint16).max
STEPS = 256
"""Least number of levels per standard deviation, which is measured without half a percent of the voxels on either side:
a few outliers must not merge the levels of all others."""
PART = 2**16  # voxels that are computed at once
_SAMPLE = 2**20  # voxels on which it is measured


class Levels(NamedTuple):
    """The levels of one channel; values are `offset + scale x level`.

    Attributes:
        array: unsigned levels.
        offset: the least value.
        scale: the step between levels; 1 if the values are whole numbers, which are stored exactly.
    """

    array: np.ndarray
    offset: float
    scale: float


def to_levels(channel: Float[np.ndarray, "*s"]) -> Levels | None:
    """Quantise a channel: whole numbers exactly, others to half a 65,535th of their range.

    None if these steps would be too coarse, or too small for a float32.
    """
    low, high = float(channel.min()), float(channel.max())
    if high == low or (high - low <= MOST and _whole(channel)):
        scale = 1.0
    else:
        scale = (high - low) / MOST
        some = channel.ravel()[:: max(1, channel.size // _SAMPLE)].astype(np.float64)
        coarse = scale * STEPS > some.clip(*np.percentile(some, (0.5, 99.5))).std()
        if coarse or scale < np.finfo(np.float32).tiny:
            return None
    array = np.empty(channel.shape, np.min_scalar_type(min(round((high - low) / scale), MOST)))
    for part in _parts(channel):
        array[part] = np.rint((channel[part] - np.float32(low)) / np.float32(scale)).clip(0, MOST)
    return Levels(array, low, scale)


def _whole(channel: np.ndarray) -> bool:
    return all(np.array_equal(channel[part], np.rint(channel[part])) for part in _parts(channel))


def _parts(channel: np.ndarray) -> Iterator[slice]:
    """Slices along the first axis of about `PART` voxels each, to save memory."""
    step = max(1, PART * len(channel) // channel.size)
    return (slice(start, start + step) for start in range(0, len(channel), step))


def from_levels(
    levels: Shaped[np.ndarray, "c *s"], scales: tuple[tuple[float, float], ...]
) -> Float[np.ndarray, "c *s"]:
    """float32 values of all channels; `scales` contains the offset and scale of each."""
    values: np.ndarray = levels.astype(np.float32)
    for channel, (offset, scale) in zip(values, scales, strict=True):
        channel *= scale
        channel += offset
    return values
