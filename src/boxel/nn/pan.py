"""The neck of YOLOv4: spatial pyramid pooling (SPP), then a path aggregation network (PAN) by concatenation.

Reference: Liu et al., PANet, 2018; He et al., SPP, 2015; Bochkovskiy et al., YOLOv4, 2020, and its `yolov4.cfg`.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor, nn

from boxel.nn import nd
from boxel.nn.blocks import Activation, Norm, conv_block
from boxel.nn.neck import LazyLevel, Neck, NeckConfig, Pyramid


class PANConfig(NeckConfig, name="pan"):
    """SPP and PAN of YOLOv4.

    Attributes:
        norm: the norm after each convolution.
        activation: what follows the norm; a leaky ReLU has slope 0.1.
        filters: width to which 1x1 convolutions (1x1x1 in 3D) bring all levels, for heads that levels share; None: each
            level is half as wide as the encoder's feature, for heads of its own.
    """

    norm: Norm = "batch"
    activation: Activation = "leaky"
    filters: PositiveInt | None = None

    def build(
        self,
        ndim: int,
        channels: Sequence[int],
        *,
        strides: Sequence[Sequence[int]],
        levels: Sequence[int],
        used: Sequence[int],
        full_resolution: bool,
    ) -> "PAN":
        return PAN(ndim, channels, strides, self, used=used, full_resolution=full_resolution)


class PAN(Neck):
    """SPP on the coarsest feature, a way down to the finest level that is used, and a way up again.

    How it works: a level is half as wide as its encoder feature. On the way down, the level above is projected, resized
    by nearest neighbour and concatenated to the projected feature; five convolutions (1, 3, 1, 3, 1 wide) follow. On
    the way up, a strided convolution of the level below is concatenated to the level of the way down, and five follow.
    Both ways step from used level to used level, over those between: the small-object variant of YOLOv4 uses 2, 4, 5
    (here P2 has 64 channels, half of P3's).
    The way down begins at the encoder's coarsest level even where that is not used.

    The outputs are the used levels, finest first: of YOLOv4 (C3, C4 and C5 used) P3 with 128, P4 with 256 and P5 with
    512 channels, which are layers 136, 147 and 158 of `yolov4.cfg`. P3 ends the way down, P4 and P5 the way
    up. Convolutions are registered in the order of Darknet's files: SPP, way down, way up; there, the heads of a level
    follow it.

    Args:
        channels: of the encoder features, finest first; the first is C0 if `full_resolution`, else C1.
        strides: of C1, C2, ...
    """

    def __init__(
        self,
        ndim: int,
        channels: Sequence[int],
        strides: Sequence[Sequence[int]],
        config: PANConfig,
        *,
        used: Sequence[int],
        full_resolution: bool,
    ) -> None:
        super().__init__()
        self.outputs, self.used, self.first_level = tuple(used), sorted(used), 1 - full_resolution
        self.top = self.first_level + len(channels) - 1
        lowest = min([self.top + 1, *self.used])
        self.way = [k for k in range(self.top - 1, lowest - 1, -1) if k in self.used or k > max(self.used)]
        self.below = list(range(min(lowest, self.top) - 1, -1, -1)) if full_resolution else []  # to P0
        encoder = {k: channels[k - self.first_level] for k in range(self.first_level, self.top + 1)}
        width = {k: max(1, wide // 2) for k, wide in encoder.items()}
        style: Any = {"norm": config.norm, "activation": config.activation, "bias": config.norm == "none"}

        def conv(channels_in: int, channels_out: int, kernel_size: int, stride: Sequence[int] = (1,)) -> nn.Module:
            return conv_block(ndim, channels_in, channels_out, kernel_size=kernel_size, stride=stride, **style)

        def fuse(k: int, channels_in: int, kernels: Sequence[int]) -> nn.Sequential:
            """Convolutions that alternate between the level's width and twice that."""
            widths = [channels_in, *(width[k] * (1 + (kernel > 1)) for kernel in kernels)]
            return nn.Sequential(*map(conv, widths, widths[1:], kernels))

        self.before_pooling = fuse(self.top, encoder[self.top], (1, 3, 1))
        self.pool = nd.MAX_POOL[ndim](5, 1, 2)
        self.after_pooling = fuse(self.top, 4 * width[self.top], (1, 3, 1))
        self.down, self.up, self.same_width = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        above = self.top
        for k in (*self.way, *self.below):
            self.down[str(k)] = nn.ModuleDict(
                {
                    "above": conv(width[above], width[k], 1),
                    "lateral": conv(encoder[k], width[k], 1),
                    "fuse": fuse(k, 2 * width[k], (1, 3, 1, 3, 1)),
                }
            )
            above = k
        for finer, k in pairwise(self.used):
            stride = [math.prod(axis) for axis in zip(*strides[finer:k], strict=True)]
            self.up[str(k)] = nn.ModuleDict(
                {
                    "below": conv(width[finer], width[k], 3, stride),
                    "fuse": fuse(k, 2 * width[k], (1, 3, 1, 3, 1)),
                }
            )
        self.level_channels = [width[k] for k in self.outputs]
        if config.filters and not self.used:
            raise ValueError(
                f"model.neck.filters={config.filters}: no level of this model is read by heads; leave it out"
            )
        if config.filters:
            for k in self.used:
                self.same_width[str(k)] = nd.CONV[ndim](width[k], config.filters, 1)
            self.level_channels = [config.filters] * len(self.used)
        self.finest_channels = width[self.first_level]

    def forward(self, features: list[Tensor]) -> Pyramid:
        """The pyramid over `features (b, c, *s)`, finest first."""
        merged = self.descend(features, {self.top: self.pooled(features[-1])}, self.way)
        finest = PANFinestLevel(self, features, merged) if self.first_level == 0 else None
        levels = dict(merged)
        for finer, k in pairwise(self.used):
            step: Any = self.up[str(k)]
            levels[k] = step["fuse"](torch.cat([step["below"](levels[finer]), merged[k]], 1))
        if len(self.same_width):
            levels = {k: self.same_width[str(k)](levels[k]) for k in self.outputs}
        return Pyramid([levels[k] for k in self.outputs], finest)

    def pooled(self, feature: Float[Tensor, "b c *s"]) -> Float[Tensor, "b d *s"]:
        """SPP: maxima over 13, 9, 5 and 1 cells; two of 5 in a row are one of 9, three one of 13."""
        pools = [self.before_pooling(feature)]
        for _ in range(3):
            pools.append(self.pool(pools[-1]))
        return self.after_pooling(torch.cat(pools[::-1], 1))

    def descend(self, features: list[Tensor], merged: dict[int, Tensor], way: Sequence[int]) -> dict[int, Tensor]:
        """The levels `merged` of the way down, and those of `way` below them."""
        merged = dict(merged)
        for k in way:
            step: Any = self.down[str(k)]
            lateral = step["lateral"](features[k - self.first_level])
            above = nd.resize(step["above"](merged[min(merged)]), lateral.shape[2:], linear=False)
            merged[k] = step["fuse"](torch.cat([lateral, above], 1))
        return merged


class PANFinestLevel(LazyLevel):
    """P0: the way down, continued to full resolution."""

    def __init__(self, neck: PAN, features: list[Tensor], merged: dict[int, Tensor]) -> None:
        self.neck, self.features, self.merged = neck, features, merged

    def compute(self) -> Tensor:
        return self.neck.descend(self.features, self.merged, self.neck.below)[0]
