"""The segmentation of an image: class probabilities averaged over tiles, views and checkpoints, and its label map.

Memory: one value per voxel and class of one prepared image, and one label per voxel of the original.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from boxel.nn import nd

SLAB = 2**22  # voxels and classes that are resampled at a time


class MeanProbability:
    """The weighted mean of what tiles say about the classes of each voxel of an image.

    A tile counts more in its middle, where its network sees more around a voxel: as in `boxel.ops.patch_centre_weight`.
    The background is not stored: it is what the classes leave of 1.

    Args:
        num_classes: without the background.
        shape: of the image.
    """

    def __init__(self, num_classes: int, shape: Sequence[int]) -> None:
        self.sums = np.zeros((num_classes, *shape), np.float32)

    def add(self, probabilities: Float[Tensor, "k *s"], lower: Sequence[int]) -> None:
        """Add a tile whose first voxel is `lower` in the image, which it may exceed."""
        shape, lead = self.sums.shape[1:], self.sums.ndim - probabilities.ndim  # a slice has a voxel on leading axes
        tile = probabilities.cpu().numpy()[(slice(None), *(None,) * lead)]
        tile = tile * _weight(tile.shape[1:])
        first = np.maximum(lower, 0)
        last = np.minimum(np.asarray(lower) + tile.shape[1:], shape)
        target = tuple(map(slice, first, last))
        source = tuple(map(slice, first - lower, last - lower))
        self.sums[(slice(None), *target)] += tile[(slice(None), *source)]

    def mean(self, starts: Sequence[Sequence[int]], patch: Sequence[int], num_views: int) -> np.ndarray:
        """The weighted mean `(k, *s)` over the tiles of a grid, each seen in `num_views` views.

        Ends the use of this object.

        Args:
            starts: where tiles begin, per axis.
            patch: voxels of a tile, per axis.
        """
        shape = self.sums.shape[1:]
        counts, profiles = [], []
        for begins, size, length in zip(starts, patch, shape, strict=True):
            voxels = np.arange(length) - np.asarray(begins)[:, None]
            inside = (voxels >= 0) & (voxels < size)
            counts.append(inside.sum(0).astype(np.float32))
            profiles.append((_profile(size)[voxels.clip(0, size - 1)] * inside).sum(0))
        # The sum over the tiles of the mean over the axes of their profiles, a plane at a time.
        for plane in range(shape[0]):
            weight = np.zeros(shape[1:], np.float32)
            for axis in range(len(shape)):
                factors = [profiles[a] if a == axis else counts[a] for a in range(len(shape))]
                weight += factors[0][plane] * _outer(factors[1:])
            self.sums[:, plane] /= weight * (num_views / len(shape))
        return self.sums


def _profile(size: int) -> np.ndarray:
    """The weight of a voxel by its place on an axis of a tile, as `boxel.ops.patch_centre_weight` has it for boxes."""
    offset = (np.arange(size) + 0.5 - size / 2) / (0.4 * size)
    return np.exp(-0.5 * offset**2).astype(np.float32)


def _weight(patch: Sequence[int]) -> np.ndarray:
    """The weight of each voxel of a tile: the mean over its axes."""
    weight = np.zeros(tuple(patch), np.float32)
    for axis, size in enumerate(patch):
        weight += _profile(size).reshape([-1 if a == axis else 1 for a in range(len(patch))]) / len(patch)
    return weight


def _outer(factors: Sequence[np.ndarray]) -> np.ndarray:
    result = np.ones((1,) * len(factors), np.float32)
    for axis, factor in enumerate(factors):
        result = result * factor.reshape([-1 if a == axis else 1 for a in range(len(factors))])
    return result


def paint(probabilities: Float[np.ndarray, "k *s"], shape: Sequence[int]) -> np.ndarray:
    """The label map on a grid of `shape` with the same outer faces: 0 for background, 1 + k for class k.

    Probabilities are interpolated linearly, a few planes at a time, before the most probable class is chosen.
    """
    labels = np.zeros(tuple(shape), np.min_scalar_type(len(probabilities)))
    planes, coarse = probabilities.shape[1], probabilities.shape[2:]
    step = max(1, SLAB // (len(probabilities) * max(math.prod(shape[1:]), math.prod(coarse))))
    for begin in range(0, shape[0], step):
        index = np.arange(begin, min(begin + step, shape[0]))
        position = ((index + 0.5) * planes / shape[0] - 0.5).clip(0, planes - 1)
        low = np.floor(position).astype(int)
        share = (position - low).astype(np.float32).reshape(-1, *[1] * (probabilities.ndim - 2))
        high = np.minimum(low + 1, planes - 1)
        slab = probabilities[:, low] * (1 - share) + probabilities[:, high] * share
        fine = nd.resize(torch.from_numpy(slab.swapaxes(0, 1)), tuple(shape[1:]), linear=True)
        best, winner = fine.max(1)
        labels[index] = torch.where(best > 1 - fine.sum(1), winner + 1, 0).numpy()
    return labels
