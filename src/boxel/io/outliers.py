"""Voxels that are no measurement: NaN, infinity, and values far beyond all others, which would drown the rest."""

import math

import numpy as np

from boxel.slabs import Voxels, slabs_of
from boxel.wording import counted

__all__ = ["LARGEST", "seem_ordinary", "without_outliers"]

LARGEST = 1e18  # the square of a much larger number is infinite as a float32
HUGE = float(np.finfo(np.float32).max)
FEW = 2  # voxels per axis: an object no larger than that cannot be detected
FAR = 30  # times the range of the other voxels; in 3,279 channels of real images the farthest lie at 1.2
SHARE, VERY_FAR = 1000, 2**16  # every 1000th voxel may be farther away than the levels of any sensor reach
SAMPLE = 10_000  # voxels that tell an ordinary image, without sorting it
FIX = "replace them, for example by the background value"


def without_outliers(array: np.ndarray, name: object) -> tuple[np.ndarray, tuple[str, ...]]:
    """The image `(c, *s)` with outliers moved to the end of the range of the others, and a remark for each channel.

    Outliers are at most `2^d` voxels farther from the others than 30 times their range, or a thousandth of the voxels
    farther than 65,536 times. Where there are none, which is usual, nothing is copied.

    Args:
        array: of any real numbers. All but integers of at most 16 bits become float32; these too if they have outliers.
        name: the file, or what else is named in errors.

    Raises:
        ValueError: voxels are NaN, infinite, or too large to compute with and too many to be outliers.
    """
    if array.dtype.itemsize == 1:  # 8 bits are too few for outliers
        return array, ()
    if array.dtype.kind == "f" or array.dtype.itemsize > 2:
        with np.errstate(over="ignore"):
            array = array.astype(np.float32, copy=False)
    ranges = [_inner_range(channel, name) for channel in array]
    if not any(ranges):
        return array, ()
    array = array.astype(np.float32)
    remarks = []
    for number, (channel, inner) in enumerate(zip(array, ranges, strict=True)):
        if inner:
            where = f"channel {number}: " if len(array) > 1 else ""
            outside = (channel < inner[0]) | (channel > inner[1])
            is_one = outside.sum() == 1
            remarks.append(
                f"{where}{counted(int(outside.sum()), 'voxel')} far beyond the range {inner[0]:g} to {inner[1]:g} of "
                f"all others, {'' if is_one else 'such as '}{_farthest(channel, outside)}, "
                f"{'is' if is_one else 'are'} moved to the end of that range; correct the file if that matters"
            )
            np.clip(channel, *inner, out=channel)
    return array, tuple(remarks)


def _inner_range(channel: np.ndarray, name: object) -> tuple[float, float] | None:
    """The range of a channel without its outliers; None if it has none."""
    low, high = float(channel.min()), float(channel.max())
    if not np.isfinite([low, high]).all():
        number = int(channel.size - np.isfinite(channel).sum())
        raise ValueError(f"{name}: NaN or infinite values in {counted(number, 'voxel')}; {FIX}")
    if _is_ordinary(low, high, channel.ravel()[:: _step(channel.size)], channel.ndim):
        return None
    few, channel, inner = FEW**channel.ndim, channel.astype(np.float32, copy=False), (low, high)
    for number, far in ((channel.size // SHARE, VERY_FAR), (few, FAR)):
        if 0 < number <= channel.size // 25:  # else no majority is left to compare with
            first, last = _middle(channel.ravel().clip(*inner), number)
            limit = min(far * (last - first) or LARGEST, HUGE)
            others = channel[(channel >= max(first - limit, -HUGE)) & (channel <= min(last + limit, HUGE))]
            inner = max(inner[0], float(others.min())), min(inner[1], float(others.max()))
    if max(map(abs, inner)) > LARGEST:
        large = np.abs(channel) > LARGEST
        problem = f"{counted(int(large.sum()), 'voxel')} too large to compute with, {_farthest(channel, large)}"
        raise ValueError(f"{name}: has {problem}; {FIX}")
    return None if inner == (low, high) else inner


def _step(size: int) -> int:
    """Of how many voxels in a row one is in the sample."""
    return max(1, size // SAMPLE)


def _is_ordinary(low: float, high: float, sample: np.ndarray, ndim: int) -> bool:
    """Whether a sample of a channel with values from `low` to `high` shows that it has no outliers."""
    trimmed = max(FEW**ndim, sample.size // 100)  # as many or more than are outliers: the rest is a part of the others
    if trimmed > sample.size // 3 or not max(abs(low), abs(high)) < LARGEST:
        return False
    first, last = _middle(sample, trimmed)
    return max(high - last, first - low) <= FAR * (last - first)


def seem_ordinary(voxels: Voxels) -> bool:
    """Whether `without_outliers` would find nothing to do, as far as one pass over the planes of an image shows."""
    if voxels.dtype.itemsize == 1:
        return True
    size, ndim = math.prod(voxels.shape[1:]), len(voxels.shape) - 1
    begin, ranges, samples = 0, [], []
    for slab in slabs_of(voxels):
        flat = slab.reshape(len(slab), -1)
        ranges.append((flat.min(axis=1), flat.max(axis=1)))
        samples.append(flat[:, -begin % _step(size) :: _step(size)].astype(np.float32))
        begin += flat.shape[1]
    lows, highs = (np.array(ends, np.float64) for ends in zip(*ranges, strict=True))
    each = zip(lows.min(axis=0), highs.max(axis=0), np.concatenate(samples, axis=1), strict=True)
    return all(_is_ordinary(float(low), float(high), sample, ndim) for low, high, sample in each)


def _middle(values: np.ndarray, number: int) -> tuple[float, float]:
    """The range of values without the `number` lowest and highest."""
    ordered = np.partition(values, (number, values.size - 1 - number))
    return float(ordered[number]), float(ordered[-1 - number])


def _farthest(channel: np.ndarray, chosen: np.ndarray) -> str:
    """The largest of the chosen values, by size, and its position."""
    position = np.unravel_index(int(np.where(chosen, np.abs(channel), -1).argmax()), channel.shape)
    return f"{channel[position]:g} at {tuple(map(int, position))}"
