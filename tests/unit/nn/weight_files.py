"""Weights as torchvision and nnU-Net name them, and what their networks do with them, spelled out from the keys."""

import math
import re

import torch
from torch import Tensor
from torch.nn import functional as F

CONV = {2: F.conv2d, 3: F.conv3d}
MAX_POOL = {2: F.max_pool2d, 3: F.max_pool3d}
AVG_POOL = {2: F.avg_pool2d, 3: F.avg_pool3d}
State = dict[str, Tensor]


def add_layer(state: State, conv: str, norm: str, shape: tuple[int, ...], *, batch_norm: bool) -> None:
    state[f"{conv}.weight"] = torch.randn(shape) * math.sqrt(2 / math.prod(shape[1:]))
    state[f"{norm}.weight"], state[f"{norm}.bias"] = torch.rand(shape[0]) + 0.5, torch.randn(shape[0]) * 0.1
    if batch_norm:
        state[f"{norm}.running_mean"], state[f"{norm}.running_var"] = torch.randn(shape[0]), torch.rand(shape[0]) + 0.5
        state[f"{norm}.num_batches_tracked"] = torch.tensor(100)


def resnet_state(blocks=(2, 2, 2, 2), *, bottleneck=False, width=8, channels=3, axes=2) -> State:
    """A ResNet of torchvision, with a classifier."""
    state: State = {}

    def add(conv: str, norm: str, shape: tuple[int, ...]) -> None:
        add_layer(state, conv, norm, shape, batch_norm=True)

    add("conv1", "bn1", (width, channels, *(7,) * axes))
    wide = width
    for layer, count in enumerate(blocks, start=1):
        planes = width * 2 ** (layer - 1)
        out = planes * (4 if bottleneck else 1)
        for block in range(count):
            name = f"layer{layer}.{block}"
            kernels = [(planes, 1), (planes, 3), (out, 1)] if bottleneck else [(planes, 3), (planes, 3)]
            last = wide
            for number, (filters, kernel) in enumerate(kernels, start=1):
                add(f"{name}.conv{number}", f"{name}.bn{number}", (filters, last, *(kernel,) * axes))
                last = filters
            if block == 0 and (layer > 1 or bottleneck):
                add(f"{name}.downsample.0", f"{name}.downsample.1", (out, wide, *(1,) * axes))
            wide = out
    state["fc.weight"], state["fc.bias"] = torch.randn(10, wide), torch.randn(10)
    return state


def resnet_features(state: State, x: Tensor, *, eps: float = 1e-5) -> list[Tensor]:
    """Outputs of the stem and of the layers; bottlenecks stride in their middle convolution."""
    axes = x.ndim - 2

    def layer(x: Tensor, conv: str, norm: str, stride: int = 1) -> Tensor:
        kernel = state[f"{conv}.weight"]
        x = CONV[axes](x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        parts = (state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts, training=False, eps=eps)

    features = [F.relu(layer(x, "conv1", "bn1", 2))]
    x = MAX_POOL[axes](features[0], 3, stride=2, padding=1)
    for name in sorted({match[0] for key in state if (match := re.match(r"layer\d+\.\d+", key))}):
        stride = 2 if name.endswith(".0") and not name.startswith("layer1") else 1
        if f"{name}.conv3.weight" in state:
            y = F.relu(layer(x, f"{name}.conv1", f"{name}.bn1"))
            y = F.relu(layer(y, f"{name}.conv2", f"{name}.bn2", stride))
            y = layer(y, f"{name}.conv3", f"{name}.bn3")
        else:
            y = F.relu(layer(x, f"{name}.conv1", f"{name}.bn1", stride))
            y = layer(y, f"{name}.conv2", f"{name}.bn2")
        if f"{name}.downsample.0.weight" in state:
            x = layer(x, f"{name}.downsample.0", f"{name}.downsample.1", stride)
        x = F.relu(x + y)
        if name.endswith(".0"):
            features.append(x)
        features[-1] = x
    return features


def encoder_state(axes: int, *, widths=(4, 8, 8), blocks=(1, 2, 2), channels=1, kernels=None) -> State:
    """The encoder of an nnU-Net with residual encoder, without a prefix. Stage 0 does not stride, all others do."""
    state: State = {}
    kernels = kernels or [(3,) * axes] * len(widths)

    def add(conv: str, shape: tuple[int, ...], *, bias: bool = True) -> None:
        add_layer(state, f"{conv}.conv", f"{conv}.norm", shape, batch_norm=False)
        if bias:
            state[f"{conv}.conv.bias"] = torch.randn(shape[0]) * 0.1
        state[f"{conv}.all_modules.0.weight"] = state[f"{conv}.conv.weight"]

    add("stem.convs.0", (widths[0], channels, *kernels[0]))
    wide = widths[0]
    for stage, (width, count, kernel) in enumerate(zip(widths, blocks, kernels, strict=True)):
        for block in range(count):
            name = f"stages.{stage}.blocks.{block}"
            add(f"{name}.conv1", (width, wide, *kernel))
            add(f"{name}.conv2", (width, width, *kernel))
            if wide != width:
                add(f"{name}.skip.1", (width, wide, *(1,) * axes), bias=False)
            wide = width
    return state


def encoder_features(state: State, x: Tensor) -> list[Tensor]:
    """Outputs of the stages, which halve all axes from the second on."""
    axes = x.ndim - 2

    def layer(x: Tensor, name: str, stride: int = 1) -> Tensor:
        kernel = state[f"{name}.conv.weight"]
        padding = [width // 2 for width in kernel.shape[2:]]
        x = CONV[axes](x, kernel, state.get(f"{name}.conv.bias"), stride, padding)
        return F.instance_norm(x, weight=state[f"{name}.norm.weight"], bias=state[f"{name}.norm.bias"], eps=1e-5)

    x, features = F.leaky_relu(layer(x, "stem.convs.0"), 0.01), []
    for name in sorted({match[0] for key in state if (match := re.match(r"stages\.\d+\.blocks\.\d+", key))}):
        stride = 2 if name.endswith(".0") and not name.startswith("stages.0") else 1
        y = layer(F.leaky_relu(layer(x, f"{name}.conv1", stride), 0.01), f"{name}.conv2")
        if stride > 1:
            x = AVG_POOL[axes](x, stride, stride)
        if f"{name}.skip.1.conv.weight" in state:
            x = layer(x, f"{name}.skip.1")
        x = F.leaky_relu(x + y, 0.01)
        if name.endswith(".0"):
            features.append(x)
        features[-1] = x
    return features
