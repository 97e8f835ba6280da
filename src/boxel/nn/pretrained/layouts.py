"""The layouts of weight files: how to recognise them, their names of our layers, and the settings they fit."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from boxel.nn import nd
from boxel.nn.backbone import Backbone, BackboneConfig
from boxel.nn.blocks import ResidualBlock
from boxel.nn.csp_darknet import WIDTHS, CSPDarknetConfig
from boxel.nn.residual_encoder import ResidualEncoderConfig
from boxel.nn.resnet import BLOCKS, ResNetConfig
from boxel.nn.vgg import BLOCKS as VGG_BLOCKS
from boxel.nn.vgg import VGGConfig

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Layout:
    """One layout.

    Attributes:
        anchor: a tensor by which the layout, and its number of axes, is recognised.
        image_layer: the convolution that reads the image.
        norms: the norms that the backbone may have; the first is the file's.
        activation: the backbone's, with which the file was trained.
        norm_state: the tensors of a norm.
        layers: X of each of our convolutions X.0 and norms X.1, with the file's names of both, for the stages that the
            file has.
        fitting: the configuration that the file fits, if there is one.
        stage: the part of the network that a tensor belongs to; of a part that is used, everything must be.
    """

    title: str
    anchor: str
    image_layer: str
    norms: tuple[str, ...]
    activation: str
    norm_state: tuple[str, ...]
    layers: Callable[[Backbone, Tensors], Iterator[tuple[str, str, str]]]
    fitting: Callable[[BackboneConfig, Tensors], BackboneConfig | None]
    stage: Callable[[str, Tensors], str] = lambda key, _: re.match(r"stages\.\d+|[^.]*", key)[0]  # type: ignore[index]


def recognise(file: Path, content: Mapping[str, Any]) -> tuple[str, dict[str, Tensor]]:
    """The type of backbone that the file is for, and its tensors by the names they have in that layout.

    Raises:
        ValueError: no backbone of Boxel has this layout, or there are several networks in the file.
    """
    plan = {key.removeprefix(PLAN): value for key, value in content.items() if key.startswith(PLAN)}
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    for name, layout in LAYOUTS.items():
        places = [key.removesuffix(layout.anchor) for key in tensors if f".{key}".endswith(f".{layout.anchor}")]
        places = [place for place in places if not place.endswith("decoder.encoder.")]  # nnU-Net's decoder holds it too
        if len(places) > 1:
            places = [p for p in places if p + "stages" == f"{NETWORK}{plan.get('key_to_encoder')}"] or places
        if len(places) > 1:
            raise ValueError(f"{file}: holds several networks ({', '.join(places)}); save one of them to a file")
        if places:
            sources = {places[0]: ""}
            if "key_to_stem" in plan:  # there may be one per data set
                sources = {f"{places[0]}stages.": "stages.", f"{NETWORK}{plan['key_to_stem']}.": "stem."}
            return name, {
                new + key.removeprefix(old): tensor
                for old, new in sources.items()
                for key, tensor in tensors.items()
                if key.startswith(old)
            }
    what = plan.get("architecture_plans.arch_class_name", "a network")
    raise ValueError(
        f"{file}: {what} that Boxel has no backbone for (tensors: {', '.join([*tensors][:3]) or 'none'}); "
        f"give the weights of a {' or a '.join(layout.title for layout in LAYOUTS.values())}"
    )


def _resnet_layers(backbone: Backbone, tensors: Tensors) -> Iterator[tuple[str, str, str]]:
    stem = 1 - backbone.first_level
    if stem == 0:  # otherwise C1 reads C0, theirs the image
        yield "stages.0", "conv1", "bn1"
    for number, stage in enumerate(backbone.stages[stem + 1 :], start=1):
        if f"layer{number}.0.conv1.weight" not in tensors:
            return
        for index, (place, block) in enumerate(_blocks(stage)):
            ours, theirs = f"stages.{stem + number}.{place}", f"layer{number}.{index}"
            for k in range(len(block.body)):
                yield f"{ours}.body.{k}", f"{theirs}.conv{k + 1}", f"{theirs}.bn{k + 1}"
            if not isinstance(block.shortcut, nn.Identity):
                yield f"{ours}.shortcut", f"{theirs}.downsample.0", f"{theirs}.downsample.1"


def _resnet_fitting(config: BackboneConfig, tensors: Tensors) -> BackboneConfig | None:
    blocks, bottleneck = _count_blocks(r"layer(\d+)\.(\d+)\.", tensors), "layer1.0.conv3.weight" in tensors
    depths = [depth for depth, (has, wide) in BLOCKS.items() if has[: len(blocks)] == blocks and wide == bottleneck]
    if not depths:
        return None
    values = {
        "weights": config.weights,
        "depth": depths[0],
        "start_filters": len(tensors["layer1.0.conv1.weight"]),
        "norm": config.norm if config.norm in BATCH_NORMS else "batch",
        "stride_in": "middle" if bottleneck else "first",
    }
    return ResNetConfig.from_dict(values)


def _encoder_layers(backbone: Backbone, tensors: Tensors) -> Iterator[tuple[str, str, str]]:
    yield "stem", "stem.convs.0.conv", "stem.convs.0.norm"
    for number, stage in enumerate(backbone.stages):
        if f"stages.{number}.blocks.0.conv1.conv.weight" not in tensors:
            return
        for index, block in _blocks(stage):
            ours, theirs = f"stages.{number}.{index}", f"stages.{number}.blocks.{index}"
            for k in range(len(block.body)):
                yield f"{ours}.body.{k}", f"{theirs}.conv{k + 1}.conv", f"{theirs}.conv{k + 1}.norm"
            if any(True for _ in block.shortcut.parameters()):
                skip = f"{theirs}.skip.{int(f'{theirs}.skip.1.conv.weight' in tensors)}"  # 1 behind a pooling
                yield f"{ours}.shortcut.1", f"{skip}.conv", f"{skip}.norm"


def _encoder_fitting(config: BackboneConfig, tensors: Tensors) -> BackboneConfig | None:
    blocks = _count_blocks(r"stages\.(\d+)\.blocks\.(\d+)\.", tensors)
    first = (tensors.get(f"stages.{stage}.blocks.0.conv1.conv.weight") for stage in range(len(blocks)))
    widths = tuple(len(kernel) for kernel in first if kernel is not None)
    return ResidualEncoderConfig(weights=config.weights, widths=widths, blocks=blocks)


def _csp_layers(backbone: Backbone, tensors: Tensors) -> Iterator[tuple[str, str, str]]:
    for name, block in backbone.named_modules():
        if isinstance(block, nn.Sequential) and isinstance(block[0], tuple(nd.CONV.values())):
            stage = ".".join(name.split(".")[:2])
            if f"{stage}.down.0.weight" in tensors or stage == "stages.0":
                yield name, f"{name}.0", f"{name}.1"


def _csp_fitting(config: BackboneConfig, tensors: Tensors) -> BackboneConfig | None:
    width = len(tensors["stages.1.down.0.weight"]) / WIDTHS[1]
    if isinstance(config, CSPDarknetConfig) and 2 * round(config.width * WIDTHS[1] / 2) == width * WIDTHS[1]:
        width = config.width  # widths are rounded to whole channels
    values = {
        "weights": config.weights,
        "width": width,
        "depth": config.depth if isinstance(config, CSPDarknetConfig) else 1.0,
        "norm": config.norm if config.norm in BATCH_NORMS else "batch",
    }
    return CSPDarknetConfig.from_dict(values)


def _vgg_layers(backbone: Backbone, tensors: Tensors) -> Iterator[tuple[str, str, str]]:
    place = 0
    for block in backbone.blocks:  # type: ignore[union-attr]
        for ours in block:
            yield ours, f"features.{place}", ""
            place += 2  # an activation follows each
        place += 1  # and a pooling each block


def _vgg_blocks(tensors: Tensors) -> list[list[str]]:
    """The places of the convolutions of each block; a pooling lies between blocks."""
    places = sorted(int(match[1]) for key in tensors if (match := re.fullmatch(r"features\.(\d+)\.weight", key)))
    blocks: list[list[str]] = []
    for place, last in zip(places, [-9, *places], strict=False):
        if place - last != 2:
            blocks.append([])
        blocks[-1].append(str(place))
    return blocks


def _vgg_stage(key: str, tensors: Tensors) -> str:
    parts = key.split(".")
    blocks = enumerate(_vgg_blocks(tensors)) if parts[0] == "features" else ()
    return next((f"block {number}" for number, block in blocks if parts[1] in block), key)


def _vgg_fitting(config: BackboneConfig, tensors: Tensors) -> BackboneConfig | None:
    counts = tuple(map(len, _vgg_blocks(tensors)))
    depths = [depth for depth, has in VGG_BLOCKS.items() if has == counts]
    if not depths:
        return None
    values = {"weights": config.weights, "depth": depths[0], "start_filters": len(tensors["features.0.weight"])}
    return VGGConfig.from_dict(values | ({"pools": config.pools} if isinstance(config, VGGConfig) else {}))


def _blocks(stage: nn.Module) -> list[tuple[int, ResidualBlock]]:
    """The residual blocks of a stage with their places in it; a pooling may come first."""
    return [(place, block) for place, block in enumerate(stage.children()) if isinstance(block, ResidualBlock)]


def _count_blocks(pattern: str, tensors: Tensors) -> tuple[int, ...]:
    """Blocks of each stage, from names that hold the numbers of stage and block."""
    pairs = {tuple(map(int, match.groups())) for match in map(re.compile(pattern).match, tensors) if match}
    stages = [stage for stage, _ in pairs]
    return tuple(stages.count(stage) for stage in sorted(set(stages)))


BATCH_NORMS = ("batch", "frozen", "none")  # of a backbone that takes the weights of one with batch norm
NETWORK, PLAN = "network_weights.", "nnssl_adaptation_plan."  # of checkpoints by nnU-Net and nnssl
LAYOUTS = {
    "resnet": Layout(
        title="ResNet of torchvision or timm",
        anchor="layer1.0.conv1.weight",
        image_layer="conv1",
        norms=BATCH_NORMS,
        activation="relu",
        norm_state=("weight", "bias", "running_mean", "running_var"),
        layers=_resnet_layers,
        fitting=_resnet_fitting,
    ),
    "residual_encoder": Layout(
        title="residual encoder of nnU-Net or nnssl",
        anchor="stages.0.blocks.0.conv1.conv.weight",
        image_layer="stem.convs.0.conv",
        norms=("instance",),
        activation="leaky",
        norm_state=("weight", "bias"),
        layers=_encoder_layers,
        fitting=_encoder_fitting,
    ),
    "csp_darknet": Layout(
        title="CSPDarknet of Darknet",
        anchor="stages.1.down.0.weight",
        image_layer="stages.0.0",
        norms=BATCH_NORMS,
        activation="mish",
        norm_state=("weight", "bias", "running_mean", "running_var"),
        layers=_csp_layers,
        fitting=_csp_fitting,
    ),
    "vgg": Layout(
        title="VGG of torchvision without norms",
        anchor="features.0.weight",
        image_layer="features.0",
        norms=("none",),
        activation="relu",
        norm_state=(),
        layers=_vgg_layers,
        fitting=_vgg_fitting,
        stage=_vgg_stage,
    ),
}
