"""Images that are read or computed a few planes at a time, so that they need not be in memory as a whole."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
from typing_extensions import TypeVar

__all__ = ["Slabs", "V", "Voxels", "slabs_of"]

SLAB = 2**22  # voxels, of all channels, that are read or computed at a time


class Voxels(Protocol):
    """An image `(c, *s)` that gives the voxels of a region: an array, or one whose voxels are not in memory yet."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    def __len__(self) -> int: ...

    def __getitem__(self, region: tuple[slice, ...], /) -> np.ndarray: ...


# How an image holds its voxels: `Image` has an array, `Image[Voxels]` may read them later.
V = TypeVar("V", bound=Voxels, default=np.ndarray, covariant=True)


class Slabs:
    """An image `(c, *s)` of which the planes in memory are those of the region that was asked for last.

    Regions that come in the order of the first axis of `s` read every plane once.

    Args:
        shape: of the image.
        read: returns the planes `(c, n, ...)` from the first to before the last.
        block: number of planes that are read together, as they are stored; at least as many as `SLAB` voxels have.
    """

    def __init__(
        self, shape: Sequence[int], dtype: np.dtype, read: Callable[[int, int], np.ndarray], block: int = 1
    ) -> None:
        self.shape, self.dtype, self._read = tuple(shape), np.dtype(dtype), read
        self._block = block * max(1, planes_in_slab(shape) // block)
        self._first, self._held = 0, np.empty((shape[0], 0, *shape[2:]), dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, region: tuple[slice, ...], /) -> np.ndarray:
        first, last, _ = region[1].indices(self.shape[1])
        if first < self._first or last > self._first + self._held.shape[1]:
            self._hold(first, last)
        inside = slice(first - self._first, max(first, last) - self._first)
        return self._held[(region[0], inside, *region[2:])]

    def _hold(self, first: int, last: int) -> None:
        end = self._first + self._held.shape[1]
        if self._first <= first < end:
            begin, kept = end, self._held[:, first - self._first :]
        else:
            begin, first, kept = first // self._block * self._block, first // self._block * self._block, None
        stop = min(self.shape[1], begin + -(-(last - begin) // self._block) * self._block)
        read = self._read(begin, stop)
        self._first, self._held = first, read if kept is None else np.concatenate([kept, read], axis=1)


def planes_in_slab(shape: Sequence[int]) -> int:
    """How many planes of the first axis of an image `(c, *s)` have `SLAB` voxels; at least one."""
    return max(1, SLAB // (shape[0] * math.prod(shape[2:])))


def slabs_of(voxels: Voxels) -> Iterator[np.ndarray]:
    """All planes of an image, in order, a few at a time."""
    step = planes_in_slab(voxels.shape)
    for first in range(0, voxels.shape[1], step):
        yield voxels[(slice(None), slice(first, first + step))]
