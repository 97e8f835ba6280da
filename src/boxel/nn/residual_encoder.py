"""The residual encoder of nnU-Net (ResEnc), of any rank.

Reference: Isensee et al., nnU-Net Revisited, 2024; its ResEnc-L has the default widths and blocks.
"""

from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from boxel.nn.backbone import Backbone, BackboneConfig
from boxel.nn.blocks import Activation, Norm, ResidualBlock, conv_block
from boxel.ranges import Width


class ResidualEncoderConfig(BackboneConfig, name="residual_encoder"):
    """A residual encoder with the `widths` and numbers of `blocks` of C0, C1, ...; its leaky ReLU has slope 0.01."""

    slope: ClassVar[float] = 0.01
    norm: Norm = "instance"
    activation: Activation = "leaky"
    widths: tuple[Width, ...] = (32, 64, 128, 256, 320, 320)
    blocks: tuple[PositiveInt, ...] = (1, 3, 4, 6, 6, 6)

    def build(
        self, ndim: int, channels: int, strides: Sequence[Sequence[int]], *, full_resolution: bool
    ) -> "ResidualEncoder":
        return ResidualEncoder(ndim, channels, strides, self, full_resolution=full_resolution)


class ResidualEncoder(Backbone):
    """Features C0 (if `full_resolution`), C1, ..., one per entry of `strides`, finest first.

    A convolution leads to C0, stacked residual blocks to each level; the first of them strides. C0 is at full
    resolution; C1 is computed from it, whether or not it is returned.
    """

    def __init__(
        self,
        ndim: int,
        channels: int,
        strides: Sequence[Sequence[int]],
        config: ResidualEncoderConfig,
        *,
        full_resolution: bool,
    ) -> None:
        super().__init__()
        self.config = config
        if not len(strides) < len(config.widths) == len(config.blocks):
            raise ValueError(
                f"a residual encoder of {len(config.widths)} widths and {len(config.blocks)} blocks needs equally many "
                f"of both, and more than the plan's {len(strides)} strides; change model.backbone.widths and .blocks"
            )
        self.first_level = 0 if full_resolution else 1
        width = config.widths[0]
        self.stem = conv_block(ndim, channels, width, **config.style)
        stages = []
        for planes, count, stride in zip(config.widths, config.blocks, [(1,) * ndim, *strides], strict=False):
            layers = []
            for block_stride in [tuple(stride), *((1,) * ndim,) * (count - 1)]:
                layers.append(
                    ResidualBlock(
                        ndim,
                        width,
                        planes,
                        bottleneck=False,
                        stride=block_stride,
                        **config.style,
                        pooled_shortcut=True,
                    )
                )
                width = planes
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)
        self.channels = list(config.widths[self.first_level : len(stages)])

    def forward(self, images: Float[Tensor, "b c *s"]) -> list[Tensor]:
        return super().forward(self.stem(images))
