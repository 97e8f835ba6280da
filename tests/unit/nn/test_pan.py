"""The neck of YOLOv4 equals an independent implementation of Darknet's layers, and works on any levels in any rank."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from boxel.models import PyramidGrid, RetinaNet, RetinaNetConfig
from boxel.nn import CSPDarknetConfig, PANConfig
from boxel.nn.blocks import conv_block
from boxel.nn.pan import PAN
from boxel.nn.pretrained.darknet import fill
from tests.unit.builders import DETECTORS, make_batch, make_task
from tests.unit.nn import darknet

SHAPES = {2: [(19, 26), (10, 13), (5, 13), (3, 7)], 3: [(7, 11, 18), (7, 6, 9), (4, 3, 9), (2, 2, 5)]}
STRIDES = {2: [(2, 2), (2, 1), (2, 2)], 3: [(1, 2, 2), (2, 2, 1), (2, 2, 2)]}
CHANNELS = (4, 8, 12, 16)


def features_of(ndim: int) -> list[torch.Tensor]:
    return [torch.randn(1, width, *shape) for width, shape in zip(CHANNELS, SHAPES[ndim], strict=True)]


def build(ndim: int, used: tuple[int, ...], config: PANConfig = PANConfig()) -> PAN:  # noqa: B008 (frozen)
    neck = config.build(ndim, CHANNELS, strides=STRIDES[ndim], levels=used or (2,), used=used, full_resolution=True)
    return neck.eval()


def head(width: int, classes: int) -> nn.Sequential:
    """Of YOLOv4, for one level: three anchors, each with a box, an objectness and `classes`."""
    block = conv_block(2, width, 2 * width, norm="batch", activation="leaky", bias=False)
    return nn.Sequential(block, nn.Conv2d(2 * width, 3 * (5 + classes), 1))


@pytest.mark.parametrize(("classes", "weights"), [(80, 64_363_101), (8, 63_975_381)])
def test_yolov4_has_the_published_size(classes, weights):
    """110 convolutions; `yolov4.weights` (257,717,640 bytes) adds a mean and a variance per channel of a norm."""
    backbone = CSPDarknetConfig().build(2, 3, [(2, 2)] * 5, full_resolution=False)
    neck = PANConfig().build(
        2, backbone.channels, strides=[(2, 2)] * 5, levels=(3, 4, 5), used=(3, 4, 5), full_resolution=False
    )
    assert neck.level_channels == [128, 256, 512]
    network = nn.ModuleList([backbone, neck, *(head(width, classes) for width in neck.level_channels)])
    assert sum(parameter.numel() for parameter in network.parameters()) == weights
    assert sum(isinstance(part, nn.Conv2d) for part in network.modules()) == 110


@torch.no_grad()
def test_backbone_neck_and_heads_compute_what_the_layers_of_darknet_compute(tmp_path):
    content = darknet.random_file(darknet.YOLOV4, tmp_path / "w.weights", width=1 / 16)
    backbone = CSPDarknetConfig(width=1 / 16).build(2, 3, [(2, 2)] * 5, full_resolution=True).eval()
    neck = PAN(2, backbone.channels[1:], [(2, 2)] * 5, PANConfig(), used=(3, 4, 5), full_resolution=False).eval()
    left = content
    for module in (backbone, neck.before_pooling, neck.after_pooling, neck.down):
        left = fill(module, left)
    heads = [head(width, 80).eval() for width in neck.level_channels]
    for one, up in zip(heads, [*neck.up.values(), nn.Identity()], strict=True):
        left = fill(up, fill(one, left))
    assert not len(left)
    images = torch.randn(2, 3, 64, 96)
    features = backbone(images)
    expected = darknet.run(darknet.YOLOV4, content, images, width=1 / 16)
    levels = neck(features[1:]).levels
    ours = [*features[3:], *levels, *(one(level) for one, level in zip(heads, levels, strict=True))]
    places = [darknet.C3, darknet.C4, darknet.C5, darknet.P3, darknet.P4, darknet.P5, 138, 149, 160]
    for one, place in zip(ours, places, strict=True):
        other = expected[place]
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * other.abs().max().item())


@torch.no_grad()
def test_pooling_gives_the_maxima_over_13_9_5_and_1_cells(ndim):
    neck = build(ndim, (2, 3))
    feature = torch.randn(1, CHANNELS[-1], *(17, 6, 15)[-ndim:])
    x = neck.before_pooling(feature)
    pools = [type(neck.pool)(cells, 1, cells // 2)(x) for cells in (13, 9, 5)]
    assert torch.equal(neck.pooled(feature), neck.after_pooling(torch.cat([*pools, x], 1)))


@pytest.mark.parametrize("used", [(), (1, 2, 3), (2, 3), (1, 2), (1, 3), (2,), (3,), (3, 1)], ids=str)
def test_any_levels_are_handed_out_on_the_grids_of_the_encoder_and_nothing_is_built_in_vain(used, ndim):
    neck = build(ndim, used)
    pyramid = neck(features_of(ndim))
    assert [tuple(level.shape[2:]) for level in pyramid.levels] == [SHAPES[ndim][k] for k in used]
    assert [level.shape[1] for level in pyramid.levels] == neck.level_channels == [CHANNELS[k] // 2 for k in used]
    finest = pyramid.finest.compute()
    assert finest.shape[1:] == (neck.finest_channels, *SHAPES[ndim][0])
    (finest.sum() + sum(level.sum() for level in pyramid.levels)).backward()
    assert all(parameter.grad is not None for parameter in neck.parameters())


@torch.no_grad()
def test_the_small_object_variant_steps_over_a_level(ndim):
    """Darknet's recipe: C2 instead of C3 into the finest level, strides of 4 there; so C3 has no part in it."""
    neck = (
        PANConfig()
        .build(
            ndim, [4, 8, 16, 32, 64], strides=[(2,) * ndim] * 5, levels=(2, 4, 5), used=(2, 4, 5), full_resolution=False
        )
        .eval()
    )
    features = [torch.randn(1, 4 << k, *(32 >> k,) * ndim) for k in range(5)]
    assert neck.up["4"]["below"][0].stride == (4,) * ndim
    before = neck(features).levels
    features[2] = torch.randn_like(features[2])
    after = neck(features).levels
    assert [level.shape[2] for level in before] == [16, 4, 2]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_every_model_trains_on_a_pan(name, ndim):
    task = make_task(ndim)
    neck = PANConfig(filters=16, norm="group")
    if name == "det_unet":  # it has no heads on levels
        with pytest.raises(ValueError, match=r"filters=16: no level .* leave it out"):
            DETECTORS[name].model_copy(update={"neck": neck}).build(task)
        neck = PANConfig(norm="group")
    model = DETECTORS[name].model_copy(update={"neck": neck}).build(task)
    batch = make_batch(task, 2)
    sum(model(batch.images, batch).values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_heads_that_levels_share_ask_for_equal_widths(ndim):
    config = RetinaNetConfig.from_dict(json.loads('{"neck": "pan"}'))
    assert config.neck == PANConfig()
    with pytest.raises(ValueError, match=r"levels of 64, 128, 256, 512 channels.*set model\.neck\.filters"):
        RetinaNet(ndim, 1, 1, config=config)


def test_a_level_above_the_encoder_needs_a_neck_that_adds_it(ndim):
    grid = PyramidGrid.default(ndim, levels=(4, 5, 6))
    with pytest.raises(ValueError, match=r"P4, P5, P6 detect, .* ends with C5 .* \(pan\) adds nothing"):
        RetinaNet(ndim, 1, 1, config=RetinaNetConfig(neck=PANConfig(filters=8)), grid=grid)
    assert np.array_equal(grid.level_strides, [[16] * ndim, [32] * ndim, [64] * ndim])
