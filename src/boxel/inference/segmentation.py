"""The segmentation of an image: class probabilities averaged over tiles, views and checkpoints, and its label map.

Memory: one weight, and one value per class, for each voxel of the planes that tiles still to come may reach, and one
label per voxel of the original.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from boxel.nn import nd
from boxel.ops import patch_centre_weight

SLAB = 2**20  # voxels times classes that are divided or resampled at a time


class MeanProbability:
    """The weighted mean of what tiles say about the classes of each voxel of an image.

    A tile counts more in its middle, where its network sees more around a voxel: as in `boxel.ops.patch_centre_weight`.
    The background is not stored: it is what the classes leave of 1.

    Args:
        shape: of the image.
        planes: called with the mean `(k, p, *s)` of planes of the first axis, in their order, when they are finished.
    """

    def __init__(self, shape: Sequence[int], planes: Callable[[np.ndarray], object]) -> None:
        self.shape, self.planes = tuple(shape), planes
        self.first = self.held = 0  # the arrays hold so many planes from this one on, and zeros after them
        self.sums = np.zeros((1, 0, *shape[1:]), np.float32)
        self.weights = np.zeros((0, *shape[1:]), np.float32)

    def add(self, probabilities: Float[Tensor, "k *s"], lower: Sequence[int]) -> None:
        """Add a tile whose first voxel is `lower` in the image, which it may exceed."""
        lead = len(self.shape) - probabilities.ndim + 1
        tile = probabilities.cpu().numpy()[(slice(None), *(None,) * lead)]  # a slice has a voxel on leading axes
        weight = _weight(tile.shape[1:])
        first = np.maximum(lower, 0)
        last = np.minimum(np.asarray(lower) + weight.shape, self.shape)
        self.held = max(self.held, int(last[0]) - self.first)
        if (missing := self.held - len(self.weights)) > 0:
            more = np.zeros((len(tile), missing, *self.shape[1:]), np.float32)
            self.sums = np.concatenate([self.sums, more], axis=1) if len(self.weights) else more
            self.weights = np.concatenate([self.weights, np.zeros_like(more[0])])
        origin = (self.first, *(0,) * (len(self.shape) - 1))
        target = tuple(map(slice, first - origin, last - origin))
        source = tuple(map(slice, first - lower, last - lower))
        self.sums[(slice(None), *target)] += tile[(slice(None), *source)] * weight[source]
        self.weights[target] += weight[source]

    def finish(self, stop: int) -> None:
        """Hand over the planes before `stop`, which no further tile reaches and which the earlier ones cover."""
        number = max(0, stop - self.first)
        if not number:
            return
        step = max(1, SLAB // (len(self.sums) * math.prod(self.shape[1:])))
        for begin in range(0, number, step):
            some = slice(begin, min(begin + step, number))
            self.planes(self.sums[:, some] / self.weights[some])
        rest = self.held - number
        for array in (*self.sums, self.weights):
            array[:rest] = array[number : self.held]
            array[rest : self.held] = 0
        self.first, self.held = self.first + number, rest


@lru_cache(maxsize=4)
def _weight(patch: tuple[int, ...]) -> np.ndarray:
    """The weight of each voxel of a tile: the mean over the axes of that of its place on the axis."""
    weight = np.zeros(patch, np.float32)
    for axis, size in enumerate(patch):
        first = torch.arange(size, dtype=torch.float32)[:, None]
        profile = patch_centre_weight(torch.stack([first, first + 1], 1), (0,), (size,)).numpy()
        weight += profile.reshape([-1 if a == axis else 1 for a in range(len(patch))]) / len(patch)
    return weight


class Painter:
    """The label map on another grid with the same outer faces: 0 for background, 1 + k for class k.

    Probabilities are interpolated linearly, a few planes at a time, before the most probable class is chosen.

    Args:
        planes: number of planes of the probabilities.
        shape: of the label map.

    Attributes:
        labels: the label map; complete when all planes are added.
    """

    def __init__(self, planes: int, shape: Sequence[int]) -> None:
        self.labels = np.zeros(tuple(shape), np.uint8)
        position = ((np.arange(shape[0]) + 0.5) * planes / shape[0] - 0.5).clip(0, planes - 1)
        self._low = np.floor(position).astype(int)
        self._share = (position - self._low).astype(np.float32)
        self._high = np.minimum(self._low + 1, planes - 1)
        self._painted = self._first = 0
        self._held: np.ndarray | None = None  # from the plane `_first` on

    def add(self, planes: Float[np.ndarray, "k p *s"]) -> None:
        """Paint what lies between the planes added before and these next ones."""
        if self._held is None:
            self.labels = self.labels.astype(np.min_scalar_type(len(planes)), copy=False)
        held = planes if self._held is None or not self._held.shape[1] else np.concatenate([self._held, planes], axis=1)
        end, shape = self._first + held.shape[1], self.labels.shape
        stop = int(np.searchsorted(self._high, end))
        step = max(1, SLAB // (len(held) * max(math.prod(shape[1:]), math.prod(held.shape[2:]))))
        for begin in range(self._painted, stop, step):
            index = slice(begin, min(begin + step, stop))
            share = self._share[index].reshape(-1, *[1] * (held.ndim - 2))
            slab = (
                held[:, self._low[index] - self._first] * (1 - share) + held[:, self._high[index] - self._first] * share
            )
            fine = nd.resize(torch.from_numpy(slab.swapaxes(0, 1)), tuple(shape[1:]), linear=True)
            best, winner = fine.max(1)
            self.labels[index] = torch.where(best > 1 - fine.sum(1), winner + 1, 0).numpy()
        needed = min(int(self._low[stop]), end) if stop < len(self._low) else end
        self._held, self._painted, self._first = held[:, needed - self._first :].copy(), stop, needed
