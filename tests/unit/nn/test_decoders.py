"""Decoders: the published numbers of weights, the grids they end at, and attention gates by hand."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from boxel.nn import ResNetConfig
from boxel.nn.attention_gate import AttentionGate
from boxel.nn.decoders import FCNDecoder, UNetDecoder

SHAPES = [(9, 21, 34), (5, 11, 17), (3, 6, 9), (2, 3, 5)]
CHANNELS = (4, 5, 6, 7)


@pytest.fixture
def features(ndim):
    """Features of odd sizes, finest first."""
    return [torch.randn(2, width, *shape[-ndim:]) for width, shape in zip(CHANNELS, SHAPES, strict=True)]


def weights(*modules):
    """Numbers of a network, without the biases that a norm follows and cancels."""
    layers = [layer for module in modules for layer in module.modules()]
    cancelled = sum(
        layer.bias.numel()
        for layer, after in pairwise(layers)
        if isinstance(layer, nn.Conv2d) and isinstance(after, nn.BatchNorm2d)
    )
    return sum(p.numel() for module in modules for p in module.parameters()) - cancelled


@pytest.mark.parametrize(("depth", "published"), [(18, 14_328_209), (34, 24_436_369)])
def test_a_u_net_has_the_published_number_of_weights(depth, published):
    """L-SNet, Table 3: 14.33 M on ResNet-18; the exact numbers are those of segmentation-models-pytorch."""
    config = ResNetConfig(depth=depth, start_filters=64, norm="batch")
    encoder = config.build(2, 3, [(2, 2)] * 5, full_resolution=False)
    decoder = UNetDecoder(2, encoder.channels, (256, 128, 64, 32, 16))
    assert weights(encoder, decoder, nn.Conv2d(decoder.channels, 1, 3, padding=1)) == published


@pytest.mark.parametrize("attention", [False, True], ids=["plain", "attention"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_decoder_ends_at_the_grid_of_the_last_skip(ndim, features, steps, attention):
    decoder = UNetDecoder(ndim, CHANNELS, (8, 6, 4)[:steps], attention=attention)
    leaves = [feature.requires_grad_() for feature in features]
    result = decoder(leaves)
    assert result.shape == (2, decoder.channels, *SHAPES[3 - steps][-ndim:])
    assert decoder.channels == (8, 6, 4)[steps - 1]
    assert len(decoder.gates) == steps * attention
    result.square().sum().backward()
    assert [leaf.grad is not None for leaf in leaves] == [steps >= 3, steps >= 2, True, True]
    assert all(parameter.grad is not None for parameter in decoder.parameters())


@pytest.mark.parametrize("attention", [False, True], ids=["plain", "attention"])
def test_a_step_more_than_skips_ends_at_the_shape_of_the_image(ndim, features, attention):
    decoder, shape = UNetDecoder(ndim, CHANNELS, (8, 6, 4, 2), attention=attention), (17, 43, 67)[-ndim:]
    assert decoder(features, shape).shape == (2, 2, *shape)
    assert len(decoder.gates) == 3 * attention
    with pytest.raises(ValueError, match="give it the shape of the image"):
        decoder(features)


def test_to_stride_4_the_first_feature_is_not_needed(ndim):
    encoder = ResNetConfig(depth=10, start_filters=4, norm="batch").build(
        ndim, 1, [(2,) * ndim] * 5, full_resolution=False
    )
    decoder = UNetDecoder(ndim, encoder.channels[1:], (16, 8, 4))
    features = encoder(torch.randn(2, 1, *(64,) * ndim))
    assert decoder(features[1:]).shape == (2, 4, *(16,) * ndim)


def test_a_step_concatenates_the_resized_map_and_the_skip(ndim):
    """With both convolutions replaced by the identity."""
    decoder = UNetDecoder(ndim, (1, 1), (2,))
    decoder.steps[0] = nn.Identity()
    fine, coarse = torch.randn(1, 1, *(4,) * ndim), torch.randn(1, 1, *(2,) * ndim)
    resized = coarse
    for axis in range(2, 2 + ndim):
        resized = resized.repeat_interleave(2, axis)
    assert torch.equal(decoder([fine, coarse]), torch.cat([resized, fine], 1))


@pytest.mark.parametrize("widths", [(), (8, 8, 8)])
def test_more_steps_than_features_are_refused(ndim, widths):
    with pytest.raises(ValueError, match="2 features takes 1 to 2 steps"):
        UNetDecoder(ndim, (4, 8), widths)


def test_an_attention_gate_by_hand(ndim):
    """Two channels, one hidden: theta = (1, 2), phi = 3, bias -1, psi = 0.5, bias 0.25; constant maps stay constant."""
    gate = AttentionGate(ndim, channels=2, gate_channels=1, hidden=1)
    with torch.no_grad():
        gate.theta.weight.copy_(torch.tensor([1.0, 2.0]).reshape(gate.theta.weight.shape))
        for parameter, value in zip(
            [*gate.phi.parameters(), *gate.psi.parameters()], (3.0, -1.0, 0.5, 0.25), strict=True
        ):
            parameter.fill_(value)
    skip = torch.tensor([0.5, 1.5]).reshape(1, 2, *[1] * ndim).expand(1, 2, *(6,) * ndim)
    for signal in (2.0, -3.0):
        total = max(0.0, 0.5 + 2 * 1.5 + 3 * signal - 1)  # 8.5, and cut off at 0
        attention = 1 / (1 + math.exp(-(0.5 * total + 0.25)))
        result = gate(skip, torch.full((1, 1, *(3,) * ndim), signal))
        torch.testing.assert_close(result, attention * skip)


def test_a_gate_keeps_what_its_signal_marks(ndim):
    gate = AttentionGate(ndim, channels=1, gate_channels=1, hidden=1)
    with torch.no_grad():
        for layer, weight, bias in ((gate.theta, 0.0, None), (gate.phi, 1.0, 0.0), (gate.psi, 20.0, -10.0)):
            layer.weight.fill_(weight)
            if bias is not None:
                layer.bias.fill_(bias)
    signal = torch.zeros(1, 1, *(4,) * ndim)
    signal[..., 2:] = 1  # the further half of the last axis
    result = gate(torch.ones(1, 1, *(8,) * ndim), signal)
    assert (result[..., :3] < 1e-3).all()
    assert (result[..., 5:] > 0.999).all()


def test_an_fcn_sums_projections_resized_linearly(ndim):
    """Projections of weight 1 and 2 without bias: a constant map of 3 and a ramp, whose resized values are known."""
    decoder = FCNDecoder(ndim, (1, 1), filters=1)
    with torch.no_grad():
        for project, weight in zip(decoder.projections, (1.0, 2.0), strict=True):
            project.weight.fill_(weight)
            project.bias.zero_()
    ramp = torch.tensor([0.0, 1.0]).expand(1, 1, *(2,) * ndim)
    result = decoder([torch.full((1, 1, *(4,) * ndim), 3.0), ramp])
    assert result.shape == (1, 1, *(4,) * ndim)
    torch.testing.assert_close(result, torch.tensor([3.0, 3.5, 4.5, 5.0]).expand_as(result))


def test_an_fcn_ends_at_the_grid_of_the_finest_feature_it_is_given(ndim, features):
    decoder = FCNDecoder(ndim, CHANNELS[1:], filters=3)
    assert decoder.channels == 3
    assert decoder(features[1:], shape=(1,) * ndim).shape == (2, 3, *SHAPES[1][-ndim:])
