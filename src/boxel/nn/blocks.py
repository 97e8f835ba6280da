"""Convolution blocks: convolution, norm, activation, in that order."""

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from boxel.nn import nd

Norm = Literal["none", "instance", "group", "batch"]


def norm_layer(norm: Norm, ndim: int, channels: int) -> nn.Module:
    """The norm over `channels`; group norm takes groups of at least 8 channels, 16 groups at most."""
    if norm == "instance":
        return nd.INSTANCE_NORM[ndim](channels, affine=True)
    if norm == "batch":
        return nd.BATCH_NORM[ndim](channels)
    if norm == "group":
        groups = max(g for g in range(1, 17) if channels % g == 0 and (channels // g >= 8 or g == 1))
        return nn.GroupNorm(groups, channels)
    return nn.Identity()


def conv_block(
    ndim: int,
    channels_in: int,
    channels_out: int,
    *,
    kernel_size: int = 3,
    stride: Sequence[int] = (1,),
    norm: Norm = "none",
    relu: bool = True,
) -> nn.Sequential:
    """Convolution with same padding and bias, then norm, then ReLU."""
    strides: Any = tuple(stride) if len(stride) > 1 else stride[0]
    conv = nd.CONV[ndim](channels_in, channels_out, kernel_size, strides, padding=kernel_size // 2)
    layers: list[nn.Module] = [conv]
    if norm != "none":
        layers.append(norm_layer(norm, ndim, channels_out))
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class ResidualBlock(nn.Module):
    """Basic (two 3-wide convolutions) or bottleneck block (1-3-1, output four times as wide as `planes`).

    The bottleneck's first 1-wide convolution carries the stride, as in the Retina U-Net papers' code.
    """

    def __init__(
        self, ndim: int, channels_in: int, planes: int, *, bottleneck: bool, stride: Sequence[int], norm: Norm
    ) -> None:
        super().__init__()
        self.channels_out = planes * (4 if bottleneck else 1)
        if bottleneck:
            self.body = nn.Sequential(
                conv_block(ndim, channels_in, planes, kernel_size=1, stride=stride, norm=norm),
                conv_block(ndim, planes, planes, norm=norm),
                conv_block(ndim, planes, self.channels_out, kernel_size=1, norm=norm, relu=False),
            )
        else:
            self.body = nn.Sequential(
                conv_block(ndim, channels_in, planes, stride=stride, norm=norm),
                conv_block(ndim, planes, planes, norm=norm, relu=False),
            )
        same = channels_in == self.channels_out and set(stride) == {1}
        self.shortcut = (
            nn.Identity()
            if same
            else conv_block(ndim, channels_in, self.channels_out, kernel_size=1, stride=stride, norm=norm, relu=False)
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.body(x) + self.shortcut(x))
