"""Attention gates on the skip connections of a U-Net, of any rank.

Reference: Oktay et al., Attention U-Net, MIDL 2018, section 3 and eq. (1) to (3).
"""

from jaxtyping import Float
from torch import Tensor, nn

from boxel.nn import nd


class AttentionGate(nn.Module):
    """Weighs every voxel of a skip feature by its relevance, a number between 0 and 1, given a coarser feature.

    How it works: additive attention on the grid of the gating feature g, `sigmoid(psi(relu(theta(x) + phi(g))))`, where
    theta, phi and psi are 1x1 convolutions (1x1x1 in 3D) and x is resized linearly to that grid. The result is resized
    linearly to the grid of x and multiplies all channels. The authors' code has a strided convolution for theta,
    and a further convolution and norm behind the gate, which the paper does not.

    Args:
        channels: of the skip feature.
        gate_channels: of the gating feature.
        hidden: width of the sum; None: half of `channels`.

    Example:
        >>> import torch
        >>> from boxel.nn.attention_gate import AttentionGate
        >>> gate = AttentionGate(ndim=2, channels=4, gate_channels=8)
        >>> gate(torch.rand(1, 4, 10, 12), torch.rand(1, 8, 5, 6)).shape
        torch.Size([1, 4, 10, 12])
    """

    def __init__(self, ndim: int, channels: int, gate_channels: int, *, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or max(1, channels // 2)
        conv = nd.CONV[ndim]
        self.theta = conv(channels, hidden, 1, bias=False)
        self.phi = conv(gate_channels, hidden, 1)
        self.psi = conv(hidden, 1, 1)

    def forward(self, skip: Float[Tensor, "b c *s"], gate: Float[Tensor, "b g *z"]) -> Float[Tensor, "b c *s"]:
        coarse = self.theta(nd.resize(skip, gate.shape[2:], linear=True))  # theta after resizing: the same, for less
        attention = self.psi((coarse + self.phi(gate)).relu()).sigmoid()
        return skip * nd.resize(attention, skip.shape[2:], linear=True)
