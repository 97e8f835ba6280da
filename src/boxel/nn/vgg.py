"""VGG encoders of any rank, in the order of torchvision's layers.

Reference: Simonyan & Zisserman, 2015, table 1, configurations A, B, D and E.
"""

from collections.abc import Sequence
from typing import Literal

from torch import nn

from boxel.nn import nd
from boxel.nn.backbone import Backbone, BackboneConfig
from boxel.nn.blocks import Norm, conv_block
from boxel.ranges import Width

# Convolutions per block, before each pooling.
BLOCKS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


class VGGConfig(BackboneConfig, name="vgg"):
    """A VGG without its classifier.

    Attributes:
        depth: number of layers, with the three of the classifier.
        start_filters: width of the first block; it doubles from block to block, up to eight times as wide.
        pools: poolings that stay, from the first; with 3, blocks 4 and 5 work at stride 8.
    """

    norm: Norm = "none"
    depth: Literal[11, 13, 16, 19] = 16
    start_filters: Width = 64
    pools: Literal[1, 2, 3, 4, 5] = 5

    def build(self, ndim: int, channels: int, strides: Sequence[Sequence[int]], *, full_resolution: bool) -> "VGG":
        return VGG(ndim, channels, strides, self, full_resolution=full_resolution)


class VGG(Backbone):
    """Features C0 (if `full_resolution`), C1, ..., one per entry of `strides`, finest first.

    C0 is block 1, at full resolution. Ck is the k-th pooling, with the plan's stride, and then block k + 1: C5 is the
    last pooling alone. The last of fewer `pools` is followed by all blocks that remain: C3 of `pools=3` is blocks 4 and
    5. If the plan has fewer strides than `pools`, the blocks behind the last one are left out. Odd extents round up
    (torchvision: down); the patches of a plan have none.
    """

    def __init__(
        self,
        ndim: int,
        channels: int,
        strides: Sequence[Sequence[int]],
        config: VGGConfig,
        *,
        full_resolution: bool,
    ) -> None:
        super().__init__()
        self.config = config
        if not 1 <= len(strides) <= config.pools:
            raise ValueError(
                f"a VGG with model.backbone.pools={config.pools} has 1 to {config.pools} strided stages, but the plan "
                f"needs {len(strides)}; set plan.strides to {config.pools} stages or fewer"
            )
        self.first_level = 0 if full_resolution else 1
        self.blocks: list[list[str]] = []  # the names of the convolutions of each
        stages: list[nn.Module] = []
        widths: list[int] = []
        for level, stride in enumerate([None, *strides]):
            layers: list[nn.Module] = (
                [nd.MAX_POOL[ndim](tuple(stride), tuple(stride), ceil_mode=True)] if stride else []
            )
            last = level == config.pools
            for block, count in list(enumerate(BLOCKS[config.depth]))[level : None if last else level + 1]:
                self.blocks.append([f"stages.{level}.{len(layers) + place}" for place in range(count)])
                width = config.start_filters * min(2**block, 8)
                for _ in range(count):
                    layers.append(conv_block(ndim, channels, width, **config.style))
                    channels = width
            stages.append(nn.Sequential(*layers))
            widths.append(channels)
        self.stages = nn.ModuleList(stages)
        self.channels = widths[self.first_level :]
