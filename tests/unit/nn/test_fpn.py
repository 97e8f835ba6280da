"""Feature pyramids: P0 is computed only as far as a model asks for it."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from boxel.nn import nd
from boxel.nn.fpn import FPN, FPNConfig
from boxel.preparation.patch_and_strides import choose_grid
from boxel.strides import level_strides
from tests.unit.builders import DETECTORS, make_batch, make_task

SHAPES = {2: [(19, 26), (10, 13), (5, 13), (3, 7)], 3: [(7, 11, 18), (7, 6, 9), (4, 3, 9), (2, 2, 5)]}
CHANNELS = (4, 5, 6, 7)
STRIDES = {2: [(2, 2), (2, 1), (2, 2)], 3: [(1, 2, 2), (2, 2, 1), (2, 2, 2)]}


@pytest.mark.parametrize("narrow", [None, 3], ids=["as wide", "narrow"])
@pytest.mark.parametrize("levels", [(), (1, 2, 3), (2, 3), (3,)], ids=str)
def test_a_convolution_of_the_finest_level_equals_that_of_the_whole_level(ndim, levels, narrow):
    torch.manual_seed(0)
    linear_below = min(levels, default=2)
    neck = FPN(ndim, CHANNELS, first_level=0, filters=8, outputs=levels, linear_below=linear_below, narrow=narrow)
    neck, conv = neck.double(), nd.CONV[ndim](neck.finest_channels, 2, 1).double()
    nn.init.normal_(conv.bias)
    features = [
        torch.randn(2, width, *shape, dtype=torch.float64, requires_grad=True)
        for width, shape in zip(CHANNELS, SHAPES[ndim], strict=True)
    ]
    pyramid = neck(features)
    plain = [conv(pyramid.finest.compute()), *pyramid.levels]
    composed = [pyramid.finest.convolve(conv), *pyramid.levels]
    direction = [torch.randn_like(level) for level in plain]
    inputs = [*features, *neck.parameters(), *conv.parameters()]
    expected, gradients = (
        torch.autograd.grad(outputs, inputs, direction, retain_graph=True) for outputs in (plain, composed)
    )
    for one, other in zip([*plain, *expected], [*composed, *gradients], strict=True):
        torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-10)


def test_nothing_below_the_detecting_levels_is_computed_unless_asked_for(ndim):
    neck = FPNConfig(filters=8).build(
        ndim, CHANNELS, strides=STRIDES[ndim], levels=(2, 3), used=(2, 3), full_resolution=True
    )
    calls = []
    for name, module in neck.named_modules():
        module.register_forward_hook(lambda *_, name=name: calls.append(name))
    features = [torch.randn(1, width, *shape) for width, shape in zip(CHANNELS, SHAPES[ndim], strict=True)]
    pyramid = neck(features)
    assert not {"lateral.0", "lateral.1", "smooth.0"} & set(calls)
    calls.clear()
    pyramid.finest.convolve(nd.CONV[ndim](8, 2, 1))
    assert not calls  # composed: no layer runs by itself, so P0 never has its full width
    pyramid.finest.compute()
    assert calls == ["lateral.1", "lateral.0", "smooth.0"]


def test_narrow_levels_are_refused_where_there_are_none(ndim):
    with pytest.raises(ValueError, match=r"model\.neck\.narrow_filters=8: .* leave it out"):
        FPNConfig(narrow_filters=8).build(
            ndim, CHANNELS, strides=STRIDES[ndim], levels=(2, 3), used=(2, 3), full_resolution=False
        )


@torch.no_grad()
def test_an_extra_level_has_every_second_cell_of_the_level_before(ndim):
    """P6 of torchvision's `LastLevelMaxPool`: a pooling of one cell, with stride 2."""
    config = FPNConfig(filters=8, extra="pool")
    plain, extended = (
        FPN(ndim, CHANNELS, first_level=1, filters=8, outputs=levels, linear_below=2) for levels in [(3, 4), (3, 4, 5)]
    )
    extended.load_state_dict(plain.state_dict())
    assert config.extends
    features = [torch.randn(1, width, *shape) for width, shape in zip(CHANNELS, SHAPES[ndim], strict=True)]
    (p3, p4), (*same, p5) = plain(features).levels, extended(features).levels
    assert torch.equal(p3, same[0])
    assert torch.equal(p4, same[1])
    assert torch.equal(p5, nd.MAX_POOL[ndim](1, 2)(p4))
    [alone] = FPN(ndim, CHANNELS, first_level=1, filters=8, outputs=[5], linear_below=2)(features).levels
    assert alone.shape == p5.shape


@pytest.mark.parametrize("name", sorted({*DETECTORS} - {"det_unet"}))
def test_models_detect_on_the_extra_level(ndim, name):
    task = make_task(ndim, levels=(2, 3, 4), anchors=(((8.0,) * ndim,), ((14.0,) * ndim,), ((20.0,) * ndim,)))
    assert task.level_strides == ((4,) * ndim, (8,) * ndim, (16,) * ndim)
    config = DETECTORS[name].model_copy(update={"neck": FPNConfig(filters=16, extra="pool")})
    model, batch = config.build(task), make_batch(task, 2)
    sum(model(batch.images, batch).values()).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    outputs = model.eval().infer(batch.images)
    dense = getattr(outputs, "dense", None) or getattr(outputs, "rpn", outputs)
    sizes = [math.prod(cells) for cells in dense.cells] if name == "yolov4" else dense.level_sizes
    assert sizes == [6**ndim, 3**ndim, 2**ndim]
    assert len(model.detect(outputs)) == 2


def test_the_plan_doubles_the_strides_of_a_level_above_the_backbone(ndim):
    sizes, shapes, why = np.full((4, ndim), 16.0), np.full((2, ndim), 64), {}
    strides = ((1, *(2,) * (ndim - 1)), (2,) * ndim)
    stages, levels, patch = choose_grid(
        sizes, shapes, (1.0,) * ndim, strides=strides, levels=(2, 3), patch_size=None, budget=64**ndim, why=why
    )
    assert (stages, levels) == (strides, (2, 3))
    assert level_strides(stages, levels) == ((2, *(4,) * (ndim - 1)), (4, *(8,) * (ndim - 1)))
    assert patch == (64,) * ndim  # a multiple of the backbone's stride
    assert why["levels"] == "Set to P2, P3. The last has every second cell of P2 (model.neck.extra=pool)."


@pytest.mark.parametrize("name", ["retina_net", "det_unet"])
def test_an_extra_level_that_nothing_uses_is_refused(ndim, name):
    config = DETECTORS[name].model_copy(update={"neck": FPNConfig(extra="pool")})
    with pytest.raises(ValueError, match=r"model\.neck\.extra adds P4, .* set model\.neck\.extra=none"):
        config.build(make_task(ndim))
