"""What all models share: an encoder and a feature pyramid, with or without the way down to full resolution (U-FPN).

Reference: Jaeger et al., Retina U-Net, 2018, section 3.1 and figure 2.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from boxel.models.base import ModelConfig
from boxel.nn.backbone import BackboneConfig
from boxel.nn.fpn import FPN
from boxel.nn.resnet import ResNetConfig
from boxel.types import Task


class PyramidConfig(ModelConfig):
    """A model on an FPN; `pyramid_filters` is the FPN's width."""

    backbone: BackboneConfig = ResNetConfig()
    pyramid_filters: int = 64


class UPyramidConfig(PyramidConfig):
    """A model on a U-FPN, whose finest level P0 learns to segment.

    Attributes:
        narrow_filters: width of the levels below those that detect (P1, P0), where it differs from `pyramid_filters`
            (the papers': the same).
        segment: what P0 learns to tell apart: foreground from background, or the classes.
        segmentation_loss: `paper` is eq. (1) of the paper, `mdt` the form of its code.
        boxes_without_mask: what the inside of an object known by its box alone counts as: `ignore` leaves it out of
            the loss, `fill` takes the ellipse that touches the box' sides for the object.
        mask_cells: instance masks are given on so many cells per axis of the object's box.
    """

    gives_masks: ClassVar[bool] = True

    narrow_filters: int | None = None
    segment: Literal["foreground", "classes"] = "foreground"
    segmentation_loss: Literal["paper", "mdt"] = "paper"
    segmentation_weight: float = 0.5
    boxes_without_mask: Literal["ignore", "fill"] = "ignore"
    mask_cells: int = 28

    def segmentation_classes(self, classes: Sequence[str]) -> tuple[str, ...]:
        return tuple(classes) if self.segment == "classes" else ("foreground",)


class Pyramid(nn.Module):
    """Encoder and FPN; with `full_resolution` a U-FPN.

    Args:
        outputs: levels to detect on; default those of the task.
    """

    def __init__(self, task: Task, config: PyramidConfig, *, outputs: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.levels = task.levels if outputs is None else outputs
        wide = config if isinstance(config, UPyramidConfig) else None
        self.encoder = config.backbone.build(
            task.ndim, task.input_channels, task.strides, full_resolution=wide is not None
        )
        self.neck = FPN(
            task.ndim,
            self.encoder.channels,
            first_level=self.encoder.first_level,
            filters=config.pyramid_filters,
            outputs=self.levels if wide is None else (0, *self.levels),
            linear_below=2 if wide is None else min(task.levels),
            narrow=wide.narrow_filters if wide else None,
        )

    def forward(
        self, images: Float[Tensor, "b c *s"], project: nn.Module | None = None
    ) -> tuple[list[Tensor], Tensor | None]:
        """The detecting levels, finest first, and the 1-wide convolution `project` of P0 where given.

        Nothing below the detecting levels is computed without it.
        """
        features = self.encoder(images)
        if project is None:
            return self.neck(features, self.levels) if self.levels else [], None
        finest, *levels = self.neck(features, project=project)
        return levels, finest
