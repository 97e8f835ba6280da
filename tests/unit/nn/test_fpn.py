"""Feature pyramids: P0 is computed only as far as a model asks for it."""

import pytest
import torch
from torch import nn

from boxel.nn import nd
from boxel.nn.fpn import FPN, FPNConfig

SHAPES = {2: [(19, 26), (10, 13), (5, 13), (3, 7)], 3: [(7, 11, 18), (7, 6, 9), (4, 3, 9), (2, 2, 5)]}
CHANNELS = (4, 5, 6, 7)


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
    neck = FPNConfig(filters=8).build(ndim, CHANNELS, levels=(2, 3), used=(2, 3), full_resolution=True)
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
        FPNConfig(narrow_filters=8).build(ndim, CHANNELS, levels=(2, 3), used=(2, 3), full_resolution=False)
