"""Blocks of layers: convolution, norm and activation, in that order; residual blocks."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from boxel.nn import nd

Norm = Literal["none", "instance", "group", "batch"]
EncoderNorm = Literal[Norm, "frozen"]
Activation = Literal["relu", "leaky", "mish", "silu"]


class FrozenNorm(nn.Module):
    """A trained batch norm as constants, in training too; the identity until weights from a file fill it.

    Its tensors are buffers, so that they are saved but not trained. `running_var` includes the file's epsilon.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=0.0)  # type: ignore[arg-type]


def norm_layer(norm: EncoderNorm, ndim: int, channels: int) -> nn.Module:
    """The norm over `channels`; group norm has groups of at least 8 channels, and at most 16 groups."""
    if norm == "instance":
        return nd.INSTANCE_NORM[ndim](channels, affine=True)
    if norm == "batch":
        return nd.BATCH_NORM[ndim](channels)
    if norm == "group":
        groups = max(g for g in range(1, 17) if channels % g == 0 and (channels // g >= 8 or g == 1))
        return nn.GroupNorm(groups, channels)
    if norm == "frozen":
        return FrozenNorm(channels)
    return nn.Identity()


def conv_block(
    ndim: int,
    channels_in: int,
    channels_out: int,
    *,
    kernel_size: int | Sequence[int] = 3,
    stride: Sequence[int] = (1,),
    norm: EncoderNorm = "none",
    activation: Activation | None = "relu",
    slope: float = 0.1,
    bias: bool = True,
) -> nn.Sequential:
    """Convolution with same padding, then norm, then activation.

    Args:
        kernel_size: width of the kernel on all axes, or on each; odd, for the size of the image to stay.
        slope: of a leaky ReLU.
        bias: of the convolution; without effect on what a following instance or batch norm hands out. A convolution
            before a frozen norm, which has a bias, has none.
    """
    strides = tuple(stride) if len(stride) > 1 else tuple(stride) * ndim
    kernel = (kernel_size,) * ndim if isinstance(kernel_size, int) else tuple(kernel_size)
    layers: list[nn.Module] = [
        nd.conv_layer(channels_in, channels_out, kernel, strides, bias=bias and norm != "frozen")
    ]
    if norm != "none":
        layers.append(norm_layer(norm, ndim, channels_out))
    if activation:
        layers.append(activation_layer(activation, slope))
    return nn.Sequential(*layers)


def activation_layer(activation: Activation, slope: float = 0.1) -> nn.Module:
    """The activation, in place where its gradient follows from its output; `slope` is that of a leaky ReLU."""
    if activation == "relu":
        return nn.ReLU(inplace=True)
    if activation == "leaky":
        return nn.LeakyReLU(slope, inplace=True)
    return {"mish": nn.Mish, "silu": nn.SiLU}[activation]()


class ResidualBlock(nn.Module):
    """Basic (two 3x3 convolutions, 3x3x3 in 3D) or bottleneck block (1-3-1, output four times as wide as `planes`).

    Args:
        stride_in: the convolution of a bottleneck that carries the stride: `first` as in the Retina U-Net papers' code,
            `middle` as in torchvision and timm.
        pooled_shortcut: average pooling strides the shortcut, and a 1x1 convolution follows where the widths differ
            (He et al., Bag of Tricks, 2019); else one 1x1 convolution does both.
    """

    def __init__(
        self,
        ndim: int,
        channels_in: int,
        planes: int,
        *,
        bottleneck: bool,
        stride: Sequence[int],
        norm: EncoderNorm,
        stride_in: Literal["first", "middle"] = "first",
        activation: Activation = "relu",
        slope: float = 0.1,
        pooled_shortcut: bool = False,
    ) -> None:
        super().__init__()
        self.channels_out = planes * (4 if bottleneck else 1)
        linear: Any = {"norm": norm, "activation": None}
        style: Any = {"norm": norm, "activation": activation, "slope": slope}
        if bottleneck:
            first, middle = (stride, (1,)) if stride_in == "first" else ((1,), stride)
            self.body = nn.Sequential(
                conv_block(ndim, channels_in, planes, kernel_size=1, stride=first, **style),
                conv_block(ndim, planes, planes, stride=middle, **style),
                conv_block(ndim, planes, self.channels_out, kernel_size=1, **linear),
            )
        else:
            self.body = nn.Sequential(
                conv_block(ndim, channels_in, planes, stride=stride, **style),
                conv_block(ndim, planes, planes, **linear),
            )

        def project(stride: Sequence[int]) -> nn.Module:
            return conv_block(ndim, channels_in, self.channels_out, kernel_size=1, stride=stride, **linear)

        strided, wider = set(stride) != {1}, channels_in != self.channels_out
        self.shortcut: nn.Module = nn.Identity()
        if pooled_shortcut:  # odd extents round up, as those of a strided convolution do
            pool = nd.AVG_POOL[ndim](tuple(stride), ceil_mode=True) if strided else nn.Identity()
            self.shortcut = nn.Sequential(pool, project((1,)) if wider else nn.Identity())
        elif strided or wider:
            self.shortcut = project(stride)
        self.activation = activation_layer(activation, slope)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.body(x) + self.shortcut(x))
