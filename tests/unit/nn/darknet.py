"""Darknet, as far as YOLOv4 needs it, from its own lists of layers: an implementation of its own to compare with.

A layer is a text: `c FILTERS SIZE STRIDE` (convolution, batch norm, activation), `h FILTERS` (1x1 with bias alone),
`s FROM` (shortcut), `r FROM ...` (route), `m SIZE` (max pooling of stride 1), `u` (upsampling). Numbers that start
with + are absolute places, others relative to the layer.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def stage(width: int, blocks: int, *, full: bool) -> list[str]:
    branch = width if full else width // 2
    residual = [f"c {width // 2} 1 1", f"c {branch} 3 1", "s -3"] * blocks
    end = [f"c {branch} 1 1", f"r -1 {-3 * blocks - 4}", f"c {width} 1 1"]
    return [f"c {width} 3 2", f"c {branch} 1 1", "r -2", f"c {branch} 1 1", *residual, *end]


BACKBONE = ["c 32 3 1"]
for _width, _blocks in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
    BACKBONE += stage(_width, _blocks, full=_width == 64)
FIVE = "c {0} 1 1, c {1} 3 1, c {0} 1 1, c {1} 3 1, c {0} 1 1".format
SPP = "c 512 1 1, c 1024 3 1, c 512 1 1, m 5, r -2, m 9, r -4, m 13, r -1 -3 -5 -6, c 512 1 1, c 1024 3 1, c 512 1 1"
DOWN = f"c 256 1 1, u, r +85, c 256 1 1, r -1 -3, {FIVE(256, 512)}"
DOWN += f", c 128 1 1, u, r +54, c 128 1 1, r -1 -3, {FIVE(128, 256)}"
HEADS = "c 256 3 1, h 255", "c 512 3 1, h 255", "c 1024 3 1, h 255"
UP = f"c 256 3 2, r -1 -16, {FIVE(256, 512)}", f"c 512 3 2, r -1 -37, {FIVE(512, 1024)}"
TO_137 = [*BACKBONE, *f"{SPP}, {DOWN}".split(", ")]
# After each head come the layer that turns its numbers into boxes and a route back: both do nothing here but count.
YOLOV4 = [*TO_137, *f"{HEADS[0]}, y, r -4, {UP[0]}, {HEADS[1]}, y, r -4, {UP[1]}, {HEADS[2]}".split(", ")]
C3, C4, C5, P3, P4, P5 = 54, 85, 104, 136, 147, 158


def numbers(layers: list[str], *, width: float = 1.0, channels: int = 3) -> int:
    """How many numbers a file of weights has."""
    return sum(part.size for part in _parameters(layers, width, channels, np.random.default_rng(0)))


def random_file(layers: list[str], path, *, width: float = 1.0, channels: int = 3, version=(0, 2, 5)) -> np.ndarray:
    """Writes random weights in Darknet's format, and returns them."""
    parts = _parameters(layers, width, channels, np.random.default_rng(0))
    content = np.concatenate([part.ravel() for part in parts])
    write(path, content, version)
    return content


def write(path, content: np.ndarray, version=(0, 2, 5)) -> None:
    seen = np.array([64_000], "<i8" if version[0] * 10 + version[1] >= 2 else "<i4")
    path.write_bytes(np.array(version, "<i4").tobytes() + seen.tobytes() + content.astype("<f4").tobytes())


def _places(numbers_: list[str], here: int) -> list[int]:
    return [int(text) if text.startswith("+") else here + int(text) for text in numbers_]


def _parameters(layers, width, channels, generator):
    widths: list[int] = []
    for here, layer in enumerate(layers):
        kind, *values = layer.split()
        before = widths[-1] if widths else channels
        if kind in "ch":
            filters = round(int(values[0]) * width) if kind == "c" else int(values[0])
            size = int(values[1]) if kind == "c" else 1
            yield generator.normal(0, 0.1, filters)  # bias, or beta
            if kind == "c":
                yield generator.uniform(0.5, 1.5, filters)  # scale
                yield generator.normal(0, 0.1, filters)  # mean
                yield generator.uniform(0.5, 1.5, filters)  # variance
            yield generator.normal(0, np.sqrt(2 / (before * size**2)), (filters, before, size, size))
            before = filters
        elif kind == "r":
            before = sum(widths[place] for place in _places(values, here))
        widths.append(before)


def run(layers: list[str], content: np.ndarray, x: Tensor, *, width: float = 1.0) -> list[Tensor]:
    """The outputs of all layers."""
    outputs: list[Tensor] = []
    values_left = torch.from_numpy(content.astype(np.float32)).to(x.dtype)

    def take(*shape: int) -> Tensor:
        nonlocal values_left
        size = int(np.prod(shape))
        part, values_left = values_left[:size], values_left[size:]
        return part.reshape(shape)

    for here, layer in enumerate(layers):
        kind, *values = layer.split()
        if kind == "c":
            filters, size, stride = round(int(values[0]) * width), int(values[1]), int(values[2])
            bias, scale, mean, variance = (take(filters) for _ in range(4))
            x = F.conv2d(x, take(filters, x.shape[1], size, size), stride=stride, padding=size // 2)
            shape = (1, -1, 1, 1)
            x = (x - mean.reshape(shape)) / (variance.reshape(shape) + 1e-5).sqrt() * scale.reshape(shape)
            x = x + bias.reshape(shape)
            x = x * torch.tanh(F.softplus(x)) if here < len(BACKBONE) else torch.maximum(x, 0.1 * x)
        elif kind == "h":
            bias = take(int(values[0]))
            x = F.conv2d(x, take(int(values[0]), x.shape[1], 1, 1), bias)
        elif kind == "s":
            x = x + outputs[_places(values, here)[0]]
        elif kind == "r":
            x = torch.cat([outputs[place] for place in _places(values, here)], 1)
        elif kind == "m":
            x = F.max_pool2d(x, int(values[0]), 1, int(values[0]) // 2)
        elif kind == "u":
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        outputs.append(x)
    assert not len(values_left)
    return outputs
