"""An image as a model sees it, computed region by region: of a large one there is no second array."""

from collections.abc import Sequence

import numpy as np

from boxel.io import resample_planes
from boxel.preparation.preprocess import checked, clip, measure, normalisations, normalise
from boxel.slabs import Slabs, Voxels
from boxel.types import Image, Normalisation, Task


class Prepared:
    """The voxels that `preprocess` gives, to the last bit, computed for the regions that are asked for.

    Args:
        image: `(c, *s)`; its voxels are read again whenever a region needs them.
        task: the plan.
        name: the file, or what else is named in errors.

    Attributes:
        shape: of the prepared image `(c, *s)`.
        dtype: float32.
        fill: the least value, which stands for what lies beyond the border.

    Raises:
        ValueError: as `preprocess`.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, image: Image[Voxels], task: Task, name: str = "image") -> None:
        source, shape = checked(image, task, name)
        old, clipped = image.geometry.shape, _Clipped(source, task.normalisation)
        self.shape = (len(source), *shape)
        self._on_grid: Voxels = clipped
        if shape != old:
            self._on_grid = Slabs(
                self.shape, self.dtype, lambda first, last: resample_planes(clipped.planes, old, shape, first, last)
            )
        ranges = measure(self._on_grid)
        self._rules = normalisations(self._on_grid, task.normalisation, ranges)
        lowest = np.array([one.low for one in ranges], np.float32)
        self.fill = float(normalise(lowest, self._rules).min())

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, region: tuple[slice, ...], /) -> np.ndarray:
        return normalise(np.array(self._on_grid[region]), self._rules[region[0]])


class _Clipped:
    """An image in float32 and in the units of the file, clipped as its normalisation says."""

    dtype = np.dtype(np.float32)

    def __init__(self, source: Voxels, rules: Sequence[Normalisation]) -> None:
        self.shape, self._source, self._rules = source.shape, source, rules

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, region: tuple[slice, ...], /) -> np.ndarray:
        return clip(np.array(self._source[region], np.float32), self._rules[region[0]])

    def planes(self, first: int, last: int) -> np.ndarray:
        return self[slice(None), slice(first, last)]
