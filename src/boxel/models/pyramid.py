"""What the detectors share: an encoder, a neck that makes a feature pyramid, and heads on it."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from boxel.models.base import ModelConfig
from boxel.models.built import BuiltModel
from boxel.models.grid import Numbers
from boxel.nn import BackboneConfig, FPNConfig, NeckConfig, ResNetConfig


class PyramidConfig(ModelConfig):
    """A model of an encoder, `backbone`, a `neck`, and heads."""

    backbone: BackboneConfig = ResNetConfig()
    neck: NeckConfig = FPNConfig()

    @property
    def extends(self) -> bool:
        return self.neck.extends


class PyramidModel(BuiltModel):
    """A model of an encoder, a neck and heads. The encoder and the neck reach full resolution in models that segment.

    Attributes:
        uses_levels: whether heads read the detecting levels; else only P0 is built.
    """

    config_class: ClassVar[type[PyramidConfig]]
    uses_levels: ClassVar[bool] = True

    def add_parts(self, numbers: Numbers, in_channels: int, config: Any) -> None:
        full, grid = config.segments, numbers.grid
        self.encoder = config.backbone.build(numbers.ndim, in_channels, grid.strides, full_resolution=full)
        used = grid.levels if self.uses_levels else ()
        _check_extra_level(config.neck, used, len(grid.strides))
        self.neck = config.neck.build(
            numbers.ndim,
            self.encoder.channels,
            strides=grid.strides,
            levels=grid.levels,
            used=used,
            full_resolution=full,
        )
        self.add_heads(numbers, config)

    @abstractmethod
    def add_heads(self, numbers: Numbers, config: Any) -> None:
        """Build the heads on `self.neck`."""


def _check_extra_level(neck: NeckConfig, used: Sequence[int], top: int) -> None:
    """Raise where a level above the encoder's coarsest is used but not there, or there but not used."""
    names = ", ".join(f"P{level}" for level in used) or "none"
    if max(used, default=0) > top and not neck.extends:
        raise ValueError(
            f"the levels {names} detect, but the encoder ends with C{top} and model.neck ({neck.type_name}) adds "
            f"nothing above it; set model.neck.extra=pool of an fpn, or leave P{top + 1} out of plan.levels"
        )
    if neck.extends and max(used, default=0) <= top:
        raise ValueError(
            f"model.neck.extra adds P{top + 1}, but the levels that this model uses are {names}; end plan.levels with "
            f"{top + 1}, set plan.strides to one stage less than the last level, or set model.neck.extra=none"
        )
