"""CSPDarknet encoders of any rank: Darknet residual stages whose two branches each hold half of the channels.

Reference: Wang et al., CSPNet, 2020; Bochkovskiy et al., YOLOv4, 2020, and its `yolov4.cfg` (CSPDarknet53).
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor, nn

from boxel.nn.backbone import Backbone, BackboneConfig
from boxel.nn.blocks import Activation, EncoderNorm, conv_block

# Channels of C0, C1, ..., and blocks of C1, C2, ... of CSPDarknet53. It ends with C5: C6 is as wide, half as deep.
WIDTHS = (32, 64, 128, 256, 512, 1024, 1024)
BLOCKS = (1, 2, 8, 8, 4, 2)


class CSPDarknetConfig(BackboneConfig, name="csp_darknet"):
    """A CSPDarknet.

    Attributes:
        width: multiple of the channels of CSPDarknet53 (32 to 1024).
        depth: multiple of its residual blocks (1, 2, 8, 8, 4); every stage keeps one at least.
    """

    norm: EncoderNorm = "batch"
    activation: Activation = "mish"
    width: PositiveFloat = 1.0
    depth: PositiveFloat = 1.0

    def build(
        self, ndim: int, channels: int, strides: Sequence[Sequence[int]], *, full_resolution: bool
    ) -> "CSPDarknet":
        return CSPDarknet(ndim, channels, strides, self, full_resolution=full_resolution)


class CSPDarknet(Backbone):
    """Features C0 (if `full_resolution`), C1, ..., one per entry of `strides`, finest first.

    One convolution leads to C0 at full resolution, the stem; each level further down is a `CSPStage`. C1 is computed
    from C0, whether or not C0 is returned. Convolutions have no bias where a norm follows, as in Darknet.
    """

    def __init__(
        self,
        ndim: int,
        channels: int,
        strides: Sequence[Sequence[int]],
        config: CSPDarknetConfig,
        *,
        full_resolution: bool,
    ) -> None:
        super().__init__()
        self.config = config
        if not 1 <= len(strides) <= len(BLOCKS):
            raise ValueError(f"a CSPDarknet has 1 to {len(BLOCKS)} strided stages, but the plan needs {len(strides)}")
        self.first_level = 0 if full_resolution else 1
        widths = [2 * max(1, round(config.width * width / 2)) for width in WIDTHS]
        stages: list[nn.Module] = [conv_block(ndim, channels, widths[0], bias=config.norm == "none", **config.style)]
        for level, (stride, count) in enumerate(zip(strides, BLOCKS, strict=False), start=1):
            blocks = max(1, round(config.depth * count))
            stages.append(CSPStage(ndim, widths[level - 1], widths[level], stride, blocks, config, full=level == 1))
        self.stages = nn.ModuleList(stages)
        self.channels = widths[self.first_level : len(stages)]


class CSPStage(nn.Module):
    """A strided convolution, then two branches: residual blocks in one, nothing in the other; both are concatenated.

    The convolutions are registered in the order of Darknet's files.

    Args:
        full: both branches have all channels and the blocks are narrow inside, as in the first stage; else each branch
            has half of the channels.
    """

    def __init__(
        self,
        ndim: int,
        channels_in: int,
        channels_out: int,
        stride: Sequence[int],
        blocks: int,
        config: CSPDarknetConfig,
        *,
        full: bool,
    ) -> None:
        super().__init__()
        half = channels_out // 2
        width = channels_out if full else half

        def conv(channels_in: int, channels_out: int, kernel_size: int, stride: Sequence[int] = (1,)) -> nn.Module:
            style: Any = {"kernel_size": kernel_size, "bias": config.norm == "none", **config.style}
            return conv_block(ndim, channels_in, channels_out, stride=stride, **style)

        self.down = conv(channels_in, channels_out, 3, stride)
        self.bypass = conv(channels_out, width, 1)
        self.split = conv(channels_out, width, 1)
        self.blocks = nn.ModuleList(nn.Sequential(conv(width, half, 1), conv(half, width, 3)) for _ in range(blocks))
        self.transition = conv(width, width, 1)
        self.merge = conv(2 * width, channels_out, 1)

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b d *z"]:
        x = self.down(x)
        bypass, x = self.bypass(x), self.split(x)
        for block in self.blocks:
            x = x + block(x)
        return self.merge(torch.cat([self.transition(x), bypass], 1))
