"""Backbones: features of an image, one per resolution, and a configuration registered under a name."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ClassVar

from jaxtyping import Float
from pydantic import NonNegativeInt
from torch import Tensor, nn

from boxel.config import Choice
from boxel.nn.blocks import Activation, EncoderNorm, Norm


class Backbone(nn.Module):
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

    def forward(self, images: Float[Tensor, "b c *s"]) -> list[Tensor]:
        """Features C`first_level`, ... of `images (b, c, *s)`, finest first: each stage continues the one before."""
        features = []
        for stage in self.stages:
            images = stage(images)
            features.append(images)
        return features[-len(self.channels) :]

    @property
    def lowest_level(self) -> int:
        """The level of the first of `stages`, which need not be among the features."""
        return self.first_level + len(self.channels) - len(self.stages)

    @property
    def frozen_parts(self) -> list[nn.Module]:
        """The layers up to the last frozen level."""
        levels = self.config.frozen
        stems = [module for name, module in self.named_children() if name != "stages"]
        return [*stems, *self.stages[: levels + 1 - self.lowest_level]] if levels else []

    def train(self, mode: bool = True) -> "Backbone":
        """Sets the mode of training; frozen layers stay in evaluation, so that their batch norms keep statistics."""
        super().train(mode)
        for part in self.frozen_parts:
            part.eval()
        return self


class BackboneConfig(Choice):
    """How features are computed from an image.

    Attributes:
        weights: file of pretrained weights that a training starts from; not needed once it has started.
        norm: the norm after each convolution. `frozen` is a batch norm that stays as `weights` have it (without them
            the identity), after convolutions without bias, as in torchvision's detectors.
        activation: what follows the norm.
        frozen: the last of the levels C1, C2, ... that keep their weights and the statistics of their norms while the
            rest is trained, with those before it; 0: all learn. torchvision's detectors have 2.
        slope: of the leaky ReLU.
    """

    default: ClassVar[str] = "resnet"
    slope: ClassVar[float] = 0.1
    weights: str | None = None
    norm: EncoderNorm = "instance"
    activation: Activation = "relu"
    frozen: NonNegativeInt = 0

    @classmethod
    def __pydantic_init_subclass__(cls, name: str = "", **_: Any) -> None:
        super().__pydantic_init_subclass__(name)
        if "build" in vars(cls):
            cls.build = _then_freeze(cls.build)  # type: ignore[method-assign]

    @property
    def decoder_norm(self) -> Norm:
        """The norm of a decoder on this backbone: the same, or a batch norm that is trained where it is frozen."""
        return "batch" if self.norm == "frozen" else self.norm

    @property
    def style(self) -> dict[str, Any]:
        """What all blocks of the backbone share: arguments of `boxel.nn.blocks.conv_block`."""
        return {"norm": self.norm, "activation": self.activation, "slope": self.slope}

    def build(self, ndim: int, channels: int, strides: Sequence[Sequence[int]], *, full_resolution: bool) -> Backbone:
        """The backbone for images with `ndim` axes and `channels`.

        Args:
            strides: of C1, C2, ..., each relative to the level before.
            full_resolution: also return C0.
        """
        raise TypeError(
            f"{type(self).__name__} does not build a backbone; choose one of {', '.join(sorted(self.registry))}"
        )


def _then_freeze(build: Callable[..., Backbone]) -> Callable[..., Backbone]:
    """`build`, followed by what the setting `frozen` means in every backbone."""

    @wraps(build)
    def run(self: BackboneConfig, *args: Any, **kwargs: Any) -> Backbone:
        backbone = build(self, *args, **kwargs)
        last = backbone.lowest_level + len(backbone.stages) - 1
        if self.frozen > last:
            raise ValueError(f"model.backbone.frozen={self.frozen}: the last level is C{last}; choose {last} or less")
        for part in backbone.frozen_parts:
            part.requires_grad_(False)
        return backbone.train(backbone.training)

    return run
