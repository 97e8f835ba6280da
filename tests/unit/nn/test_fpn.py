"""Feature pyramids."""

import pytest
import torch
from torch import nn

from boxel.nn import nd
from boxel.nn.fpn import FPN

SHAPES = {2: [(19, 26), (10, 13), (5, 13), (3, 7)], 3: [(7, 11, 18), (7, 6, 9), (4, 3, 9), (2, 2, 5)]}


@pytest.mark.parametrize("narrow", [None, 3], ids=["as wide", "narrow"])
@pytest.mark.parametrize("levels", [(), (1, 2, 3), (2, 3), (3,)], ids=str)
def test_a_projected_level_equals_the_projection_of_the_whole_level(ndim, levels, narrow):
    torch.manual_seed(0)
    channels, linear_below = (4, 5, 6, 7), min(levels, default=2)
    neck = FPN(
        ndim,
        channels,
        first_level=0,
        filters=8,
        outputs=(0, *levels),
        linear_below=linear_below,
        narrow=narrow,
    ).double()
    project = nd.CONV[ndim](narrow or 8, 2, 1).double()
    nn.init.normal_(project.bias)
    features = [
        torch.randn(2, width, *shape, dtype=torch.float64, requires_grad=True)
        for width, shape in zip(channels, SHAPES[ndim], strict=True)
    ]
    finest, *rest = neck(features)
    plain = [project(finest), *rest]
    composed = neck(features, project=project)
    direction = [torch.randn_like(level) for level in plain]
    inputs = [*features, *neck.parameters(), *project.parameters()]
    expected, found = (torch.autograd.grad(outputs, inputs, direction) for outputs in (plain, composed))
    for one, other in zip([*plain, *expected], [*composed, *found], strict=True):
        torch.testing.assert_close(other, one, rtol=1e-10, atol=1e-10)
