"""Layers by rank: the only place that names 2 and 3."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

M = TypeVar("M", bound=nn.Module)

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
CONV_TRANSPOSE = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
MAX_POOL = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
AVG_POOL = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
INSTANCE_NORM = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
ONEDNN_BLOCK = 8  # channels that oneDNN processes together on AVX2
LINEAR_MODE = {1: "linear", 2: "bilinear", 3: "trilinear"}


def resize(x: Tensor, shape: tuple[int, ...], *, linear: bool) -> Tensor:
    """Resample `x (b, c, *s)` to a grid of another shape with the same outer faces."""
    if tuple(x.shape[2:]) == tuple(shape):
        return x
    if linear:
        return F.interpolate(x, size=shape, mode=LINEAR_MODE[x.ndim - 2], align_corners=False)
    return F.interpolate(x, size=shape, mode="nearest")


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve `x (b, c, *s)` with a kernel `(o, c, *k)` of odd widths, zero-padded; `(o, c)`: 1x1 (1x1x1 in 3D)."""
    weight = weight.reshape(*weight.shape, *[1] * (x.ndim - weight.ndim))
    function = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[x.ndim - 2]
    return function(x, weight, bias, padding=[size // 2 for size in weight.shape[2:]])


def conv_layer(
    channels_in: int, channels_out: int, kernel: tuple[int, ...], stride: tuple[int, ...], *, bias: bool = True
) -> nn.Module:
    """A convolution with same padding for kernels of odd widths."""
    kind: Any = CONV[len(kernel)]
    if kernel == (1, 1) and stride != (1, 1) and channels_in < ONEDNN_BLOCK:
        kind = _Subsampled
    return kind(channels_in, channels_out, kernel, stride, padding=tuple(size // 2 for size in kernel), bias=bias)


class _Subsampled(nn.Conv2d):
    """A strided 1x1 convolution as one without stride on every n-th pixel, which is the same.

    With strides, few channels, channels last and one thread, oneDNN 3.12 (torch 2.13) on a CPU with AVX2 writes its
    weights' gradient beyond their memory, which ends in a crash or worse.
    """

    def forward(self, x: Tensor) -> Tensor:
        if torch.get_num_threads() > 1 or torch.backends.cpu.get_cpu_capability() == "DEFAULT":
            return super().forward(x)
        rows, columns = self.stride
        return F.conv2d(x[..., ::rows, ::columns], self.weight, self.bias)


def channels_last(module: M, ndim: int) -> M:
    """The module, with its weights in the memory order that convolutions prefer, if torch has one for the rank."""
    formats = {2: torch.channels_last, 3: torch.channels_last_3d}
    return module.to(memory_format=formats[ndim]) if ndim in formats else module  # type: ignore[call-overload,no-any-return]
