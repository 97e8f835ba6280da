"""The segmentation of an image: class probabilities averaged over tiles, views and checkpoints, and its label map.

Memory: one weight, and one value per class, for each voxel of one prepared image, and one label per voxel of the
original.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from boxel.nn import nd
from boxel.ops import patch_centre_weight

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
        self.weights = np.zeros(tuple(shape), np.float32)

    def add(self, probabilities: Float[Tensor, "k *s"], lower: Sequence[int]) -> None:
        """Add a tile whose first voxel is `lower` in the image, which it may exceed."""
        shape, lead = self.weights.shape, self.weights.ndim - probabilities.ndim + 1
        tile = probabilities.cpu().numpy()[(slice(None), *(None,) * lead)]  # a slice has a voxel on leading axes
        weight = _weight(tile.shape[1:])
        first = np.maximum(lower, 0)
        last = np.minimum(np.asarray(lower) + weight.shape, shape)
        target = tuple(map(slice, first, last))
        source = tuple(map(slice, first - lower, last - lower))
        self.sums[(slice(None), *target)] += tile[(slice(None), *source)] * weight[source]
        self.weights[target] += weight[source]

    def mean(self) -> np.ndarray:
        """The mean `(k, *s)` over the tiles, which cover the image; ends the use of this object."""
        self.sums /= self.weights
        return self.sums


@lru_cache(maxsize=4)
def _weight(patch: tuple[int, ...]) -> np.ndarray:
    """The weight of each voxel of a tile: the mean over the axes of that of its place on the axis."""
    weight = np.zeros(patch, np.float32)
    for axis, size in enumerate(patch):
        first = torch.arange(size, dtype=torch.float32)[:, None]
        profile = patch_centre_weight(torch.stack([first, first + 1], 1), (0,), (size,)).numpy()
        weight += profile.reshape([-1 if a == axis else 1 for a in range(len(patch))]) / len(patch)
    return weight


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
