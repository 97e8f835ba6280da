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
    """The mean of what tiles say about the classes of each voxel of an image.

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
        first = np.maximum(lower, 0)
        last = np.minimum(np.asarray(lower) + tile.shape[1:], shape)
        target = tuple(map(slice, first, last))
        source = tuple(map(slice, first - lower, last - lower))
        self.sums[(slice(None), *target)] += tile[(slice(None), *source)]

    def mean(self, starts: Sequence[Sequence[int]], patch: Sequence[int], num_views: int) -> np.ndarray:
        """The mean `(k, *s)` over the tiles of a grid, each seen in `num_views` views; ends the use of this object.

        Args:
            starts: where tiles begin, per axis.
            patch: voxels of a tile, per axis.
        """
        for axis, (begins, size) in enumerate(zip(starts, patch, strict=True)):
            voxels = np.arange(self.sums.shape[1 + axis])
            count = sum(((begin <= voxels) & (voxels < begin + size)).astype(np.float32) for begin in begins)
            self.sums /= np.reshape(count, [-1 if a == axis else 1 for a in range(self.sums.ndim - 1)])
        self.sums /= num_views
        return self.sums


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
