"""Values as whole numbers of 16 bits or fewer: half the bytes of a float, and most of what a reader waits for."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

MOST = np.iinfo(np.uint16).max
STEPS = 256
"""That levels must have per standard deviation, a half percent of the voxels on either side left out: a few far off
must not make all others alike."""
_SAMPLE = 2**20  # voxels looked at for it


class Levels(NamedTuple):
    """Values are `offset + scale x level`.

    Attributes:
        array: unsigned, of one channel.
        offset: the least value.
        scale: of a step; 1 where the values are whole numbers, which are then kept as they are.
    """

    array: np.ndarray
    offset: float
    scale: float


def to_levels(channel: Float[np.ndarray, "*s"]) -> Levels | None:
    """Finite whole numbers as they are, others to half a 65,535th of their range; None if that is too coarse."""
    low, high = float(channel.min()), float(channel.max())
    if high == low or (high - low <= MOST and _whole(channel)):
        scale = 1.0
    else:
        scale = (high - low) / MOST
        some = channel.ravel()[:: max(1, channel.size // _SAMPLE)].astype(np.float64)
        if scale * STEPS > some.clip(*np.percentile(some, (0.5, 99.5))).std():
            return None
    array = np.empty(channel.shape, np.min_scalar_type(min(round((high - low) / scale), MOST)))
    for levels, part in zip(array, channel, strict=True):  # slice by slice, as memory counts
        levels[...] = np.rint((part - np.float32(low)) / np.float32(scale)).clip(0, MOST)
    return Levels(array, low, scale)


def _whole(channel: np.ndarray) -> bool:
    return all(np.array_equal(part, np.rint(part)) for part in channel)


def from_levels(
    levels: Shaped[np.ndarray, "c *s"], scales: tuple[tuple[float, float], ...]
) -> Float[np.ndarray, "c *s"]:
    """float32 values of all channels; `scales` has the offset and scale of each."""
    values: np.ndarray = levels.astype(np.float32)
    for channel, (offset, scale) in zip(values, scales, strict=True):
        channel *= scale
        channel += offset
    return values
