"""Blocks of layers."""

import subprocess
import sys

import pytest
import torch

from boxel.nn import nd
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


@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("size", [7, 8])
def test_a_strided_pointwise_convolution_is_that_of_torch(ndim, stride, size):
    block = conv_block(ndim, 4, 6, kernel_size=1, stride=[stride] * ndim, activation=None)
    plain = nd.CONV[ndim](4, 6, 1, stride)
    plain.load_state_dict(block[0].state_dict())
    x = torch.randn(2, 4, *[size] * ndim)
    torch.testing.assert_close(block(x), plain(x))


STRIDED = """
import torch
from boxel.nn import nd
from boxel.nn.blocks import conv_block
torch.set_num_threads(1)
for channels in range(1, 10):
    block = nd.channels_last(conv_block(NDIM, channels, 16, kernel_size=1, stride=[2] * NDIM), NDIM)
    for _ in range(20):
        x = nd.channels_last(torch.randn(2, channels, *[8] * NDIM, requires_grad=True), NDIM)
        block(x).sum().backward()
        others = [torch.randn(2**k) for k in range(3, 9)]
"""


def test_few_channels_in_one_thread_do_not_damage_memory(ndim):
    """They did on CPUs with AVX2, where a training in one thread crashed."""
    subprocess.run([sys.executable, "-c", STRIDED.replace("NDIM", str(ndim))], check=True)
