"""Backbones: features of an image, one per resolution, and a configuration registered under a name."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from boxel.config import Choice
from boxel.nn.blocks import Norm


class Backbone(nn.Module, ABC):
    """An encoder.

    Attributes:
        config: what it was built from.
        stages: the layers, one stage per level, finest first.
        first_level: level of the finest feature; 0 is full resolution.
        channels: channels of each feature, finest first.
    """

    config: "BackboneConfig"
    stages: nn.ModuleList
    first_level: int
    channels: list[int]

    @abstractmethod
    def forward(self, images: Tensor) -> list[Tensor]:
        """Features C`first_level`, ... of `images (b, c, *s)`, finest first."""


class BackboneConfig(Choice):
    """How features are computed from an image.

    Attributes:
        weights: file of pretrained weights that a training starts from; not needed once it has started.
        norm: the norm after each convolution.
    """

    default: ClassVar[str] = "resnet"
    weights: str | None = None
    norm: Norm = "instance"

    def build(self, ndim: int, channels: int, strides: Sequence[Sequence[int]], *, full_resolution: bool) -> Backbone:
        """The backbone for images with `ndim` axes and `channels`.

        Args:
            strides: of C1, C2, ..., each relative to the level before.
            full_resolution: also return C0.
        """
        raise TypeError(
            f"{type(self).__name__} does not build a backbone; choose one of {', '.join(sorted(self.registry))}"
        )
