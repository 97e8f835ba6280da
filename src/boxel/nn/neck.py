"""Necks: a feature pyramid from the features of an encoder, and a configuration registered under a name."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from boxel.config import Choice


class LazyLevel(ABC):
    """A pyramid level that is computed only when it is asked for, and only as far as needed."""

    @abstractmethod
    def compute(self) -> Tensor:
        """The whole level `(b, c, *s)`."""

    def convolve(self, conv: Any) -> Tensor:
        """The level under the 1x1 convolution `conv` (1x1x1 in 3D); a neck may compute it without the whole level."""
        return conv(self.compute())


class Pyramid(NamedTuple):
    """The detecting levels, finest first, and level P0 at full resolution, where the neck leads to it."""

    levels: list[Tensor]
    finest: LazyLevel | None


class Neck(nn.Module, ABC):
    """A network that turns the features of an encoder into a feature pyramid.

    Attributes:
        level_channels: of each of the detecting levels that are used, finest first.
        finest_channels: of P0.
    """

    level_channels: list[int]
    finest_channels: int

    @property
    def channels(self) -> int:
        """The channels that all detecting levels have; those of P0 if none is used.

        Raises:
            ValueError: the levels differ.
        """
        widths = self.level_channels or [self.finest_channels]
        if len(set(widths)) > 1:
            raise ValueError(
                f"model.neck hands out levels of {', '.join(map(str, widths))} channels, but the heads of this model "
                "are shared by its levels and need equal ones; set model.neck.filters of an fpn or pan, such as 64"
            )
        return widths[0]

    @abstractmethod
    def forward(self, features: list[Tensor]) -> Pyramid:
        """The pyramid over encoder features, finest first. Nothing below the detecting levels is computed yet."""


class NeckConfig(Choice):
    """How encoder features become a feature pyramid."""

    default: ClassVar[str] = "fpn"

    @property
    def extends(self) -> bool:
        """Whether the neck hands out a level above the encoder's coarsest, which has every second cell of it."""
        return False

    def build(
        self,
        ndim: int,
        channels: Sequence[int],
        *,
        strides: Sequence[Sequence[int]],
        levels: Sequence[int],
        used: Sequence[int],
        full_resolution: bool,
    ) -> Neck:
        """Build the neck on an encoder with `channels`, one number per feature, finest first.

        Args:
            strides: of C1, C2, ..., each relative to the level before.
            levels: the levels of the task that detect.
            used: those of them that the model uses.
            full_resolution: the encoder's first feature is C0, and the pyramid reaches P0; else it is C1.
        """
        raise TypeError(
            f"{type(self).__name__} does not build a neck; choose one of {', '.join(sorted(self.registry))}"
        )


class NoNeckConfig(NeckConfig, name="none"):
    """No neck: the detecting levels are the features of the encoder, such as the only one of Faster R-CNN on a VGG."""

    def build(
        self,
        ndim: int,
        channels: Sequence[int],
        *,
        strides: Sequence[Sequence[int]],
        levels: Sequence[int],
        used: Sequence[int],
        full_resolution: bool,
    ) -> "NoNeck":
        if full_resolution:
            raise ValueError("model.neck=none has no way to full resolution, which this model segments at; choose fpn")
        return NoNeck(channels, used)


class NoNeck(Neck):
    """Hands out the features C1, C2, ... of an encoder with `channels` whose levels are `used`."""

    def __init__(self, channels: Sequence[int], used: Sequence[int]) -> None:
        super().__init__()
        self.used, self.level_channels = used, [channels[level - 1] for level in used]

    def forward(self, features: list[Tensor]) -> Pyramid:
        return Pyramid([features[level - 1] for level in self.used], None)
