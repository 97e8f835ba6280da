"""ResNet encoders of any rank, with the optional full-resolution stage C0 of the U-FPN.

Reference: He et al., 2016; stages and widths as in Jaeger et al., Retina U-Net, 2018 (section 4.1 and its code).
"""

from collections.abc import Sequence
from typing import Literal

from torch import nn

from boxel.nn import nd
from boxel.nn.backbone import Backbone, BackboneConfig
from boxel.nn.blocks import ResidualBlock, conv_block
from boxel.ranges import Width

# Residual blocks in C2, C3, C4, C5, C6; bottleneck or not.
BLOCKS = {
    10: ((1, 1, 1, 1, 1), False),
    18: ((2, 2, 2, 2, 2), False),
    34: ((3, 4, 6, 3, 3), False),
    50: ((3, 4, 6, 3, 3), True),
    101: ((3, 4, 23, 3, 3), True),
}


class ResNetConfig(BackboneConfig, name="resnet"):
    """A ResNet.

    Attributes:
        depth: number of layers.
        start_filters: width of the first stage; it doubles from stage to stage, up to `max_filters`.
        max_filters: largest width of a stage.
        finest_filters: width of C0, which models that segment have at full resolution and which takes much of the time
            of a narrow network; None: as `start_filters`.
        stem_kernel: width of the kernel that computes C1.
        stride_in: the convolution of a bottleneck that carries the stride: `first` as in the Retina U-Net papers' code,
            `middle` as in torchvision and timm. Nothing else differs from theirs.
    """

    depth: Literal[10, 18, 34, 50, 101] = 50
    start_filters: Width = 32
    max_filters: Width = 2048
    finest_filters: Width | None = None
    stem_kernel: Literal[3, 5, 7] = 7
    stride_in: Literal["first", "middle"] = "first"

    def build(self, ndim: int, channels: int, strides: Sequence[Sequence[int]], *, full_resolution: bool) -> "ResNet":
        if self.finest_filters and not full_resolution:
            raise ValueError(
                f"model.backbone.finest_filters={self.finest_filters}: only models that segment have a C0; leave it out"
            )
        return ResNet(ndim, channels, strides, self, full_resolution=full_resolution)


class ResNet(Backbone):
    """Features C0 (if `full_resolution`), C1, ..., one per entry of `strides`, finest first.

    C1 is one strided convolution; C2 max-pools, then stacks residual blocks; later stages stride in their first block.
    """

    def __init__(
        self,
        ndim: int,
        channels: int,
        strides: Sequence[Sequence[int]],
        config: ResNetConfig,
        *,
        full_resolution: bool,
    ) -> None:
        super().__init__()
        self.config = config
        blocks, bottleneck = BLOCKS[config.depth]
        start_filters = config.start_filters
        if not 1 <= len(strides) <= len(blocks) + 1:
            raise ValueError(f"a ResNet has 1 to {len(blocks) + 1} strided stages, but the plan needs {len(strides)}")
        self.first_level = 0 if full_resolution else 1
        stages: list[nn.Module] = []
        self.channels: list[int] = []
        if full_resolution:
            finest = config.finest_filters or start_filters
            stages.append(
                nn.Sequential(
                    conv_block(ndim, channels, finest, **config.style), conv_block(ndim, finest, finest, **config.style)
                )
            )
            self.channels.append(finest)
            channels = finest
        stages.append(
            conv_block(ndim, channels, start_filters, kernel_size=config.stem_kernel, stride=strides[0], **config.style)
        )
        self.channels.append(start_filters)
        width, planes = start_filters, start_filters
        for stage, (count, stride) in enumerate(zip(blocks, strides[1:], strict=False)):
            layers: list[nn.Module] = []
            if stage == 0:
                layers.append(nd.MAX_POOL[ndim](3, tuple(stride), padding=1))
                stride = (1,) * ndim
            for index in range(count):
                block_stride = tuple(stride) if index == 0 else (1,) * ndim
                layers.append(
                    ResidualBlock(
                        ndim,
                        width,
                        planes,
                        bottleneck=bottleneck,
                        stride=block_stride,
                        **config.style,
                        stride_in=config.stride_in,
                    )
                )
                width = layers[-1].channels_out  # type: ignore[assignment]
            stages.append(nn.Sequential(*layers))
            self.channels.append(width)
            planes = min(planes * 2, config.max_filters // (4 if bottleneck else 1))
        self.stages = nn.ModuleList(stages)
