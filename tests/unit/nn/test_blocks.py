"""Blocks of layers."""

import pytest
import torch

from boxel.nn.blocks import conv_block

KERNEL, STRIDE, SHAPE = (1, 3, 7), (1, 1, 2), (5, 6, 9)


def test_a_kernel_has_one_width_per_axis_and_keeps_the_size(ndim):
    block = conv_block(ndim, 2, 4, kernel_size=KERNEL[-ndim:])
    assert block[0].weight.shape == (4, 2, *KERNEL[-ndim:])
    assert block(torch.randn(1, 2, *SHAPE[-ndim:])).shape == (1, 4, *SHAPE[-ndim:])
    strided = conv_block(ndim, 2, 4, kernel_size=KERNEL[-ndim:], stride=STRIDE[-ndim:])
    assert strided(torch.randn(1, 2, *SHAPE[-ndim:])).shape == (1, 4, *SHAPE[-ndim:-1], 5)


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_one_width_is_that_of_all_axes(ndim, kernel_size):
    one, each = (conv_block(ndim, 2, 4, kernel_size=k) for k in (kernel_size, [kernel_size] * ndim))
    each.load_state_dict(one.state_dict())
    x = torch.randn(1, 2, *SHAPE[-ndim:])
    assert torch.equal(one(x), each(x))
