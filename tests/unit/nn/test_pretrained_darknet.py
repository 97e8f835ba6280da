"""Backbones with weights of VGG-16 as torchvision names them, and of YOLOv4 as Darknet writes them."""

import re

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from boxel.nn import CSPDarknetConfig, PANConfig, ResNetConfig, VGGConfig
from boxel.nn.pretrained.darknet import MAX_CLASSES, count, describe_rest
from tests.unit.nn import darknet
from tests.unit.nn.test_pretrained import assert_equal, load, refusal, saved

NARROW = CSPDarknetConfig(width=1 / 16)


# Sizes of the files at https://github.com/AlexeyAB/darknet: yolov4.weights 257,717,640 bytes, yolov4.conv.137
# 170,038,676, with headers of 20.
@pytest.mark.parametrize(("layers", "size"), [(darknet.YOLOV4, 257_717_640), (darknet.TO_137, 170_038_676)])
def test_the_layers_of_the_test_have_as_many_numbers_as_the_published_files(layers, size):
    assert darknet.numbers(layers) * 4 + 20 == size


@pytest.mark.parametrize("version", [(0, 2, 5), (0, 1, 0)], ids=["seen as int64", "seen as int32"])
@pytest.mark.parametrize(
    ("layers", "rest"),
    [
        (darknet.BACKBONE, ""),
        (darknet.TO_137, "those of the neck as far as layer 137, and are not used"),
        (darknet.YOLOV4, "the neck and the heads for 80 classes, not used"),
    ],
    ids=["backbone", "first 137 layers", "whole network"],
)  # fmt: skip
@torch.no_grad()
def test_a_file_of_darknet_is_read_back_exactly_and_gives_the_same_features(layers, rest, version, tmp_path):
    name = "w.conv.137" if layers is darknet.TO_137 else "w.weights"
    content = darknet.random_file(layers, tmp_path / name, width=1 / 16, version=version)
    backbone, loaded = load(NARROW, tmp_path / name, 2, channels=3, levels=5)
    assert rest in str(loaded)
    assert "random" not in str(loaded)
    order = ("1.bias", "1.weight", "1.running_mean", "1.running_var", "0.weight")
    blocks = [key.removesuffix("0.weight") for key in backbone.state_dict() if key.endswith(".0.weight")]
    read = [loaded.state[block + part].numpy().ravel() for block in blocks for part in order]
    assert np.array_equal(np.concatenate(read), content[: count(backbone)].astype(np.float32))
    images = torch.randn(2, 3, 64, 96)
    outputs = darknet.run(layers, content, images, width=1 / 16)
    assert_equal(backbone(images), [outputs[place] for place in stage_ends()])


def stage_ends() -> list[int]:
    """The layers before each strided convolution, and the last of the backbone."""
    strided = [place for place, layer in enumerate(darknet.BACKBONE) if layer.endswith(" 3 2")]
    return [*(place - 1 for place in strided[1:]), len(darknet.BACKBONE) - 1]


@torch.no_grad()
def test_weights_of_darknet_work_in_volumes_without_norms_from_c0_and_with_fewer_levels(tmp_path):
    content = darknet.random_file(darknet.BACKBONE, tmp_path / "w.weights", width=1 / 16)
    config = NARROW.model_copy(update={"norm": "none"})
    backbone, loaded = load(config, tmp_path / "w.weights", 3, channels=3, levels=3, c0=True)
    assert "kernels of 2 -> 3 axes" in str(loaded)
    slices = torch.randn(1, 3, 32, 32)
    volume = backbone(slices[:, :, None].expand(-1, -1, 8, -1, -1))
    outputs = darknet.run(darknet.BACKBONE, content, slices, width=1 / 16)
    for feature, place in zip(volume, [0, *stage_ends()], strict=False):
        assert_equal([feature[:, :, feature.shape[2] // 2]], [outputs[place]])


@pytest.mark.parametrize(
    ("change", "says"),
    [(-3, "3 more: they are missing"), (7, "7 fewer: these are left behind the backbone")],
)
def test_a_wrong_number_of_numbers_is_refused_with_the_difference(change, says, tmp_path):
    file = tmp_path / "w.weights"
    content = darknet.random_file(darknet.BACKBONE, file, width=1 / 16)
    darknet.write(file, np.resize(content, len(content) + change))
    message = refusal(NARROW, file, tmp_path, levels=5)
    assert (
        f"{len(content) + change} numbers, but a csp_darknet of width 0.0625 and depth 1 has {len(content)}" in message
    )
    assert says in message


def test_files_that_are_not_of_darknet_are_refused(tmp_path):
    for name, content in {"a": b"", "b": b"\xff" * 40, "c": bytes(16) + b"123"}.items():
        (tmp_path / f"{name}.weights").write_bytes(content)
        assert "not a whole file of Darknet's" in refusal(NARROW, tmp_path / f"{name}.weights", tmp_path, levels=5)
    assert "no such file" in refusal(NARROW, tmp_path / "gone.weights", tmp_path, levels=5)


def test_the_original_size_is_suggested_where_a_file_of_it_is_given_to_another_backbone(tmp_path):
    file = tmp_path / "yolov4.conv.105"
    darknet.write(file, np.zeros(darknet.numbers(darknet.BACKBONE), np.float32))
    for config in (NARROW, ResNetConfig()):
        message = refusal(config, file, tmp_path, levels=5)
        assert re.search(r"it fits with --set 'model.backbone=\{\"type\": \"csp_darknet\"", message)


def vgg_state(blocks, *, axes: int = 2) -> dict[str, Tensor]:
    """VGG of torchvision, 4 channels wide, with a classifier."""
    state, place, channels = {}, 0, 3
    for number, size in enumerate(blocks):
        for _ in range(size):
            width = 4 * min(2**number, 8)
            state[f"features.{place}.weight"] = torch.randn(width, channels, *(3,) * axes) * 0.2
            state[f"features.{place}.bias"] = torch.randn(width) * 0.1
            channels, place = width, place + 2
        place += 1
    return state | {"classifier.0.weight": torch.randn(10, 7), "classifier.0.bias": torch.randn(10)}


def vgg_features(state: dict[str, Tensor], x: Tensor, pools: int) -> list[Tensor]:
    """The last layer of each resolution."""
    features: list[Tensor] = []
    done = 0
    for place in range(31):
        if f"features.{place}.weight" in state:
            x = F.relu(F.conv2d(x, state[f"features.{place}.weight"], state[f"features.{place}.bias"], padding=1))
        elif f"features.{place - 1}.weight" not in state:  # neither a convolution nor the ReLU behind one
            done += 1
            if done <= pools:
                features.append(x)
                x = F.max_pool2d(x, 2)
    return [*features, x]


@pytest.mark.parametrize(("pools", "levels"), [(5, 5), (5, 3), (3, 3), (4, 2)])
@pytest.mark.parametrize("c0", [False, True])
@torch.no_grad()
def test_a_vgg_16_of_torchvision_gives_the_same_features(pools, levels, c0, tmp_path):
    state = vgg_state((2, 2, 3, 3, 3))
    config = VGGConfig(start_filters=4, pools=pools)
    backbone, loaded = load(config, saved(state, tmp_path / "vgg16.pth"), 2, channels=3, levels=levels, c0=c0)
    assert "random" not in str(loaded)
    images = torch.randn(2, 3, 64, 96)
    assert_equal(backbone(images), vgg_features(state, images, pools)[1 - c0 : levels + 1])


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (VGGConfig(start_filters=4, depth=16, norm="batch"), "trained without norms"),
        (VGGConfig(start_filters=4, depth=19), r"features\.16\.weight: missing"),
        (VGGConfig(start_filters=4, depth=11), r"features\.3\.weight: missing"),
        (ResNetConfig(), "a VGG of torchvision without norms, but model.backbone is a resnet"),
    ],
)
def test_a_vgg_that_does_not_fit_is_refused_with_the_settings_that_fit(config, says, tmp_path):
    message = refusal(config, vgg_state((2, 2, 3, 3, 3)), tmp_path, levels=3)
    assert re.search(says, message)
    assert '"type": "vgg"' in message
    assert '"start_filters": 4' in message


def test_a_deeper_vgg_is_refused_even_where_the_backbone_ends_within_it(tmp_path):
    message = refusal(VGGConfig(start_filters=4, depth=16), vgg_state((2, 2, 4, 4, 4)), tmp_path, levels=2)
    assert re.search(r"features\.16\.weight: .* no such layer", message)
    assert '"depth": 19' in message


def test_a_vgg_with_batch_norm_is_refused(tmp_path):
    state = {"features.0.weight": torch.ones(4, 3, 3, 3), "features.0.bias": torch.ones(4)}
    state |= {f"features.1.{name}": torch.ones(4) for name in ("weight", "bias", "running_mean", "running_var")}
    message = refusal(VGGConfig(start_filters=4), state, tmp_path)
    assert "Boxel has plain VGGs only" in message


@pytest.mark.parametrize(("classes", "read"), [(1, True), (MAX_CLASSES, True), (44458, False)])
def test_numbers_that_fit_an_absurd_count_of_classes_are_of_another_network(classes, read):
    neck = PANConfig().build(
        2, NARROW.build(2, 3, ((2, 2),) * 5, full_resolution=False).channels, strides=((2, 2),) * 5, levels=(3, 4, 5),
        used=(3, 4, 5), full_resolution=False,
    )  # fmt: skip
    widths = neck.level_channels
    heads = sum(9 * w * 2 * w + 4 * 2 * w + 3 * (5 + classes) * (2 * w + 1) for w in widths)
    if read:
        assert describe_rest(count(neck) + heads, neck) == ("heads", classes)
    else:
        with pytest.raises(ValueError, match="no neck of YOLOv4"):
            describe_rest(count(neck) + heads, neck)
