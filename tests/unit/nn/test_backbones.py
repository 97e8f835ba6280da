"""Backbones hand out one feature per level, in any rank, with any norm, as deep as the plan asks for."""

import json

import pytest
import torch

from boxel.models import RetinaNetConfig
from boxel.nn import ResidualEncoderConfig, ResNetConfig
from boxel.nn.backbone import BackboneConfig
from tests.unit.builders import DETECTORS, make_batch, make_task

DEEP = ResidualEncoderConfig(widths=(4,) * 7, blocks=(1,) * 7)
BACKBONES = [
    *(pytest.param(ResNetConfig(depth=d, start_filters=4, norm="none"), id=f"resnet{d}") for d in (18, 34, 50, 101)),
    *(pytest.param(ResNetConfig(depth=18, start_filters=4, norm=n), id=n) for n in ("instance", "group", "batch")),
    pytest.param(DEEP, id="residual_encoder"),
]


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


@pytest.mark.parametrize(
    "config", [ResNetConfig(depth=18, start_filters=4, norm="batch"), DEEP], ids=["resnet", "encoder"]
)
@torch.no_grad()
def test_odd_extents_round_up(config, ndim):
    backbone = config.build(ndim, 1, [(2,) * ndim] * 4, full_resolution=True).eval()
    features = backbone(torch.randn(1, 1, *(37, 21, 33)[:ndim]))
    assert [feature.shape[2] for feature in features] == [37, 19, 10, 5, 3]


def test_more_levels_than_stages_are_refused_with_a_suggested_fix(ndim):
    strides = [(2,) * ndim] * 7
    with pytest.raises(ValueError, match="1 to 6 strided stages, but the plan needs 7"):
        ResNetConfig().build(ndim, 1, strides, full_resolution=False)
    with pytest.raises(ValueError, match=r"6 widths and 6 blocks.*7 strides.*model\.backbone\.widths"):
        ResidualEncoderConfig().build(ndim, 1, strides, full_resolution=False)


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


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_every_model_trains_on_a_residual_encoder(name, ndim):
    task = make_task(ndim)
    backbone = ResidualEncoderConfig(widths=(4, 8, 8, 8), blocks=(1, 1, 1, 1))
    model = DETECTORS[name].model_copy(update={"backbone": backbone}).build(task)
    batch = make_batch(task, 2)
    sum(model(batch.images, batch).values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
