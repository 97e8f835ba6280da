"""The constructor of all registered models: from numbers and a configuration, without a `Task`."""

from abc import abstractmethod
from numbers import Integral
from typing import Any, ClassVar

from boxel.models.base import Model, ModelConfig
from boxel.models.grid import Numbers, PyramidGrid
from boxel.nn import nd


class BuiltModel(Model):
    """A model built from numbers. All registered models have its constructor.

    Args:
        ndim: spatial axes of the images, 2 or 3.
        in_channels: channels of the images.
        num_classes: classes of objects, background not counted.
        config: sizes and training targets; default: those of the model's configuration.
        grid: strides, detecting levels and anchors; default: P2 to P5, and P6 where the neck adds it, with three
            anchors each.
        max_detections: most boxes kept per image.
        masks: some objects of the data set have masks; without, nothing is learnt from the segmentation, unless it is
            filled from boxes (`model.boxes_without_mask`).

    Raises:
        ValueError: a number out of range, or a grid for images with another number of axes.
        TypeError: the configuration of another model.

    Attributes:
        config_class: the model's configuration.
    """

    config_class: ClassVar[type[ModelConfig]]

    def __init__(
        self,
        ndim: int,
        in_channels: int,
        num_classes: int,
        *,
        config: ModelConfig | None = None,
        grid: PyramidGrid | None = None,
        max_detections: int = 100,
        masks: bool = True,
    ) -> None:
        super().__init__()
        if ndim not in nd.CONV:
            raise ValueError(f"ndim is {ndim!r}; it must be the number of spatial axes: {', '.join(map(str, nd.CONV))}")
        _check_counts(in_channels=in_channels, num_classes=num_classes, max_detections=max_detections)
        config = self.config_class() if config is None else config
        if not isinstance(config, self.config_class):
            raise TypeError(
                f"{type(self).__name__} needs a {self.config_class.__name__}, got {config!r:.60}; pass "
                f"config={self.config_class.__name__}(...), or build it by config.build(task)"
            )
        grid = PyramidGrid.default(ndim, levels=range(2, 6 + config.extends)) if grid is None else grid
        if len(grid.strides[0]) != ndim:
            raise ValueError(
                f"the grid is for images with {len(grid.strides[0])} axes, but ndim is {ndim}; use "
                f"PyramidGrid.default({ndim}, ...)"
            )
        self.num_classes = num_classes
        self.add_parts(Numbers(ndim, num_classes, grid, max_detections, masks), in_channels, config)

    @abstractmethod
    def add_parts(self, numbers: Numbers, in_channels: int, config: Any) -> None:
        """Build the network."""


def _check_counts(**counts: object) -> None:
    for name, count in counts.items():
        if not isinstance(count, Integral) or count < 1:
            raise ValueError(f"{name} is {count!r}; it must be a whole number, 1 or more")
