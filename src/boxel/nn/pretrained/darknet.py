"""Darknet's files of weights: numbers without names, convolution by convolution.

A header (major, minor, revision as int32; images seen as int64, before version 0.2 as int32), then float32 numbers. A
convolution with batch norm has the norm's bias, scale, mean and variance before its kernel; one without has its bias.
`NETWORK.conv.N` holds the first N layers of a network.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from boxel.nn import nd
from boxel.nn.backbone import BackboneConfig
from boxel.nn.csp_darknet import CSPDarknetConfig
from boxel.nn.pan import PANConfig

NORM = ("bias", "weight", "running_mean", "running_var")  # in the order of the file
STRIDES, LEVELS, ANCHORS = ((2, 2),) * 5, (3, 4, 5), 3  # of YOLOv4
BOX = 5  # numbers of an anchor before those of its classes
MAX_CLASSES = 10_000  # YOLO9000 has 9,418; a file that seems to have more is of another network


def is_darknet(file: Path) -> bool:
    """Whether the name is that of a file of Darknet's: `yolov4.weights`, `yolov4.conv.137`."""
    return re.search(r"\.weights$|\.conv\.\d+$", file.name) is not None


class DarknetFile(NamedTuple):
    """A file of YOLOv4.

    Attributes:
        backbone: a CSPDarknet for images with 2 axes and 3 channels, with the weights of the file.
        rest: the numbers behind the backbone.
        ends: what the file ends with.
        classes: that the heads are for; 0 without heads.
    """

    backbone: nn.Module
    rest: np.ndarray
    ends: Literal["backbone", "layer 137", "heads"]
    classes: int

    @property
    def unused(self) -> str:
        """What a user of the backbone alone should know about the rest."""
        if self.ends == "backbone":
            return ""
        parts = f"the neck and the heads for {self.classes} classes, not used"
        if self.ends == "layer 137":
            parts = "those of the neck as far as layer 137, and are not used"
        return f"the {len(self.rest)} numbers behind the backbone are {parts}"


def read_darknet(file: Path, config: BackboneConfig) -> DarknetFile:
    """Reads a file for a backbone like `config`, or for one of the original width and depth.

    Raises:
        ValueError: no such file, no header of Darknet, or a count of numbers that no part of such a network has.
    """
    numbers = read_numbers(file)
    own = config if isinstance(config, CSPDarknetConfig) else CSPDarknetConfig()
    errors = []
    for one in (CSPDarknetConfig(), own):
        with torch.device("meta"):
            backbone = CSPDarknetConfig(width=one.width, depth=one.depth).build(2, 3, STRIDES, full_resolution=True)
            neck: Any = PANConfig().build(
                2, backbone.channels[1:], strides=STRIDES, levels=LEVELS, used=LEVELS, full_resolution=False
            )
        try:
            ends = describe_rest(len(numbers) - count(backbone), neck)
        except ValueError as error:
            errors.append(
                f"a csp_darknet of width {one.width:g} and depth {one.depth:g} has {count(backbone)}, {error}"
            )
            continue
        return DarknetFile(backbone, fill(backbone.to_empty(device="cpu"), numbers), *ends)
    problems = "; ".join(dict.fromkeys(reversed(errors)))
    raise ValueError(
        f"{file}: {len(numbers)} numbers, but {problems}. Download the file again, or give one of YOLOv4: the whole "
        "network, its first 137 layers or its backbone"
    )


def read_numbers(file: Path) -> np.ndarray:
    """The numbers of a file, without its header."""
    if not file.is_file():
        raise ValueError(f"{file}: no such file; give a file of pretrained weights of Darknet (.weights, .conv.137)")
    content = file.read_bytes()
    version = np.frombuffer(content[:12], "<i4").tolist() if len(content) >= 12 else [-1] * 3
    header = 20 if version[0] * 10 + version[1] >= 2 else 16
    if min(version) < 0 or max(version) >= 1000 or len(content) < header or (len(content) - header) % 4:
        raise ValueError(f"{file}: not a whole file of Darknet's: no header, or cut within a number; download it again")
    return np.frombuffer(content, "<f4", offset=header)


def count(module: nn.Module) -> int:
    """The numbers that Darknet's files have for the convolutions of a module."""
    return sum(tensor.numel() for tensor in _tensors(module))


def fill(module: nn.Module, numbers: np.ndarray) -> np.ndarray:
    """Fills convolutions and their batch norms, which are in the order of the file; returns the numbers behind them.

    Raises:
        ValueError: there are fewer numbers than the module needs.
    """
    if len(numbers) < count(module):
        raise ValueError(f"{count(module) - len(numbers)} numbers are missing; download the file again")
    for tensor in _tensors(module):
        part, numbers = numbers[: tensor.numel()], numbers[tensor.numel() :]
        tensor.data.copy_(torch.from_numpy(part.copy()).reshape(tensor.shape))
    return numbers


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    """The tensors of a module in the order of Darknet's files."""
    kinds = (*nd.CONV.values(), *nd.BATCH_NORM.values())
    layers: list[Any] = [part for part in module.modules() if isinstance(part, kinds)]
    norms = tuple(nd.BATCH_NORM.values())
    for layer, following in zip(layers, [*layers[1:], None], strict=False):
        if isinstance(layer, norms):
            continue
        if isinstance(following, norms):
            yield from (getattr(following, name) for name in NORM)
        elif layer.bias is not None:  # without, a norm that Darknet has not follows
            yield layer.bias
        yield layer.weight


def describe_rest(left: int, neck: Any) -> tuple[Literal["backbone", "layer 137", "heads"], int]:
    """What a file of YOLOv4 ends with that has so many numbers behind its backbone, and the classes of its heads.

    Raises:
        ValueError: says how many are missing, or left and belong to nothing.
    """
    widths = neck.level_channels
    towers = sum(9 * width * 2 * width + 4 * 2 * width for width in widths)
    outputs = ANCHORS * sum(2 * width + 1 for width in widths)  # for each number of a box
    per_box, remainder = divmod(left - count(neck) - towers, outputs)
    if left < 0:
        raise ValueError(f"{-left} more: they are missing")
    if left == 0:
        return "backbone", 0
    if left == sum(map(count, way_down(neck))):
        return "layer 137", 0
    if remainder == 0 and BOX < per_box <= BOX + MAX_CLASSES:
        return "heads", per_box - BOX
    raise ValueError(f"{left} fewer: these are left behind the backbone, and are no neck of YOLOv4")


def way_down(neck: Any) -> tuple[nn.Module, ...]:
    """The parts of YOLOv4's neck as far as layer 137."""
    return neck.before_pooling, neck.after_pooling, neck.down
