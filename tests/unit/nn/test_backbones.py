"""Backbones hand out one feature per level, in any rank, with any norm, as deep as the plan asks for."""

import json

import pytest
import torch

from boxel.models import RetinaNetConfig
from boxel.nn import CSPDarknetConfig, ResidualEncoderConfig, ResNetConfig, VGGConfig, nd
from boxel.nn.backbone import BackboneConfig
from tests.unit.builders import DETECTORS, make_batch, make_task

DEEP = ResidualEncoderConfig(widths=(4,) * 7, blocks=(1,) * 7)
BACKBONES = [
    *(pytest.param(ResNetConfig(depth=d, start_filters=4, norm="none"), id=f"resnet{d}") for d in (18, 34, 50, 101)),
    *(pytest.param(ResNetConfig(depth=18, start_filters=4, norm=n), id=n) for n in ("instance", "group", "batch")),
    pytest.param(DEEP, id="residual_encoder"),
    pytest.param(CSPDarknetConfig(width=1 / 16, depth=0.3), id="csp_darknet"),
]
SMALL = {
    "resnet": ResNetConfig(depth=18, start_filters=4),
    "residual_encoder": ResidualEncoderConfig(widths=(4, 8, 8, 8), blocks=(1, 1, 1, 1)),
    "csp_darknet": CSPDarknetConfig(width=1 / 8, depth=0.2),
    "vgg": VGGConfig(depth=11, start_filters=4),
}


def build(config: BackboneConfig, ndim: int, levels: int, *, c0: bool = False, channels: int = 1):
    return config.build(ndim, channels, [(2,) * ndim] * levels, full_resolution=c0)


def count(module: torch.nn.Module, ndim: int) -> tuple[int, int]:
    """Weights and convolutions."""
    convolutions = sum(isinstance(part, nd.CONV[ndim]) for part in module.modules())
    return sum(parameter.numel() for parameter in module.parameters()), convolutions


@pytest.mark.parametrize("config", BACKBONES)
@pytest.mark.parametrize("full_resolution", [True, False], ids=["from C0", "from C1"])
@torch.no_grad()
def test_features_reach_from_full_resolution_to_c6(config, full_resolution, ndim):
    extent = {2: 128, 3: 64}[ndim]
    strides = [(1, *(2,) * (ndim - 1)), *((2,) * ndim,) * 5]
    backbone = config.build(ndim, 2, strides, full_resolution=full_resolution).eval()
    features = backbone(torch.randn(1, 2, *(extent,) * ndim))
    assert backbone.first_level == 1 - full_resolution
    assert [feature.shape[1] for feature in features] == backbone.channels
    expected = [(extent >> max(level - 1, 0), *(extent >> level,) * (ndim - 1)) for level in range(7)]
    assert [tuple(feature.shape[2:]) for feature in features] == expected[backbone.first_level :]


@pytest.mark.parametrize("config", [SMALL["resnet"], DEEP, SMALL["csp_darknet"], SMALL["vgg"]], ids=type)
@torch.no_grad()
def test_odd_extents_round_up(config, ndim):
    backbone = build(config, ndim, 4, c0=True).eval()
    features = backbone(torch.randn(1, 1, *(37, 21, 33)[:ndim]))
    assert [feature.shape[2] for feature in features] == [37, 19, 10, 5, 3]


def test_c0_has_a_width_of_its_own_and_is_refused_where_there_is_none(ndim):
    config = ResNetConfig(depth=18, start_filters=8, finest_filters=4)
    assert build(config, ndim, 3, c0=True).channels == [4, 8, 8, 16]
    with pytest.raises(ValueError, match=r"model\.backbone\.finest_filters=4: .* leave it out"):
        build(config, ndim, 3)


def test_more_levels_than_stages_are_refused_with_a_suggested_fix(ndim):
    strides = [(2,) * ndim] * 7
    with pytest.raises(ValueError, match="1 to 6 strided stages, but the plan needs 7"):
        ResNetConfig().build(ndim, 1, strides, full_resolution=False)
    with pytest.raises(ValueError, match=r"6 widths and 6 blocks.*7 strides.*model\.backbone\.widths"):
        ResidualEncoderConfig().build(ndim, 1, strides, full_resolution=False)
    with pytest.raises(ValueError, match="1 to 6 strided stages, but the plan needs 7"):
        CSPDarknetConfig().build(ndim, 1, strides, full_resolution=False)
    with pytest.raises(ValueError, match=r"pools=3 has 1 to 3 .* needs 7; set plan\.strides to 3 stages or fewer"):
        VGGConfig(pools=3).build(ndim, 1, strides, full_resolution=False)


def test_the_stride_of_a_bottleneck_sits_where_the_setting_says():
    for stride_in, kernel in (("first", 1), ("middle", 3)):
        config = ResNetConfig(depth=50, start_filters=4, stride_in=stride_in)
        backbone = config.build(2, 1, [(2, 2)] * 3, full_resolution=False)
        strided = [m for m in backbone.stages[2].modules() if isinstance(m, torch.nn.Conv2d) and m.stride == (2, 2)]
        assert sorted(conv.kernel_size[0] for conv in strided) == [1, kernel]


def test_settings_of_runs_from_before_backbones_had_a_type_mean_a_resnet():
    old = {"type": "retina_net", "backbone": {"depth": 18, "start_filters": 16}}
    config = RetinaNetConfig.from_dict(old)
    assert config.backbone == ResNetConfig(depth=18, start_filters=16)
    assert json.loads(config.to_json())["backbone"]["type"] == "resnet"
    assert BackboneConfig.from_dict({"type": "residual_encoder"}) == ResidualEncoderConfig()
    with pytest.raises(ValueError, match="did you mean 'resnet'"):
        BackboneConfig.from_dict({"type": "resnett"})


def test_csp_darknet_has_the_published_size():
    """Bochkovskiy et al., 2020: 26.6 M weights in 72 convolutions, three channels, without the classifier."""
    assert count(build(CSPDarknetConfig(), 2, 5, channels=3), 2) == (26_617_184, 72)


@pytest.mark.parametrize("pools", [3, 5])
def test_vgg_16_has_the_published_size(pools):
    """torchvision's `vgg16().features` has 14,714,688 weights, with or without the poolings that have none."""
    assert count(build(VGGConfig(pools=pools), 2, pools, channels=3), 2) == (14_714_688, 13)


@torch.no_grad()
def test_vgg_without_its_last_poolings_ends_at_stride_8(ndim):
    images = torch.randn(1, 1, *(32, 32, 48)[-ndim:])
    backbone = build(VGGConfig(start_filters=4, pools=3), ndim, 3)
    assert [len(block) for block in backbone.blocks] == [2, 2, 3, 3, 3]
    *_, last = backbone(images)
    assert last.shape[1:] == (32, *(4, 4, 6)[-ndim:])
    whole = build(VGGConfig(start_filters=4), ndim, 5)(torch.randn(1, 1, *(32, 32, 64)[-ndim:]))
    assert torch.equal(whole[4], nd.MAX_POOL[ndim](2)(whole[3]))  # C5 is the last pooling alone


def test_width_and_depth_are_multiples_of_csp_darknet_53(ndim):
    half = build(CSPDarknetConfig(width=0.25, depth=0.5), ndim, 5)
    assert half.channels == [16, 32, 64, 128, 256]
    assert [len(stage.blocks) for stage in half.stages[1:]] == [1, 1, 4, 4, 2]


def test_every_backbone_has_every_activation(ndim):
    layers = {"relu": torch.nn.ReLU, "leaky": torch.nn.LeakyReLU, "mish": torch.nn.Mish, "silu": torch.nn.SiLU}
    for name, config in SMALL.items():
        for activation, layer in layers.items():
            backbone = build(config.model_copy(update={"activation": activation}), ndim, 3)
            found = [part for part in backbone.modules() if isinstance(part, tuple(layers.values()))]
            assert {type(part) for part in found} == {layer}
            if activation == "leaky":
                assert {part.negative_slope for part in found} == {0.01 if name == "residual_encoder" else 0.1}


@pytest.mark.parametrize("name", sorted(SMALL))
@pytest.mark.parametrize("c0", [False, True], ids=["from C1", "from C0"])
def test_frozen_levels_keep_weights_and_statistics_in_training_and_the_others_do_not(name, c0, ndim):
    config = SMALL[name].model_copy(update={"norm": "batch", "frozen": 2})
    backbone = build(config, ndim, 3, c0=c0).train()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    optimiser = torch.optim.SGD(backbone.parameters(), lr=1.0, weight_decay=0.1)
    sum(feature.square().mean() for feature in backbone(torch.randn(2, 1, *(16,) * ndim))).backward()
    optimiser.step()
    changed = {key for key, value in backbone.state_dict().items() if not torch.equal(value, before[key])}
    last = f"stages.{len(backbone.stages) - 1}."  # C3
    assert changed == {key for key in before if key.startswith(last)}
    assert any(key.endswith("running_mean") for key in changed)
    backbone.eval()
    assert not any(part.training for part in backbone.modules())


def test_more_frozen_levels_than_there_are_are_refused(ndim):
    with pytest.raises(ValueError, match=r"frozen=4: the last level is C3; choose 3 or less"):
        build(SMALL["resnet"].model_copy(update={"frozen": 4}), ndim, 3)


@pytest.mark.parametrize("backbone", ["residual_encoder", "csp_darknet", "vgg"])
@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_every_model_trains_on_every_backbone(name, backbone, ndim):
    task = make_task(ndim)
    model = DETECTORS[name].model_copy(update={"backbone": SMALL[backbone]}).build(task)
    batch = make_batch(task, 2)
    sum(model(batch.images, batch).values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
