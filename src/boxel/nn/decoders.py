"""Decoders: from the features of an encoder, finest first, to one map, of any rank. U-Net, Attention U-Net and FCN.

References: Ronneberger et al., U-Net, MICCAI 2015; Oktay et al., Attention U-Net, MIDL 2018; Long et al., Fully
Convolutional Networks for Semantic Segmentation, CVPR 2015.
"""

from collections.abc import Sequence
from itertools import zip_longest

import torch
from jaxtyping import Float
from torch import Tensor, nn

from boxel.nn import nd
from boxel.nn.attention_gate import AttentionGate
from boxel.nn.blocks import Norm, conv_block


class UNetDecoder(nn.Module):
    """The concatenating decoder of a U-Net.

    How it works: from the coarsest feature on, each step resizes to the grid of the next finer feature (nearest
    neighbour), concatenates that feature, and applies two 3x3 convolutions (3x3x3 in 3D), each with norm and ReLU. A
    step beyond the finest feature resizes to the shape of the image and concatenates nothing.

    Args:
        channels: of the encoder's features, finest first.
        widths: channels after each step, coarsest first. Fewer steps end at a coarser grid, and the features below it
            are not used; as many steps as features end at the shape of the image.
        norm: the norm after each convolution.
        attention: an attention gate on every skip, gated by the feature before resizing.

    Attributes:
        channels: of the result.

    Raises:
        ValueError: no widths, or more than features; in `forward`, a last step without skip and no `shape`.

    Example:
        >>> import torch
        >>> from boxel.nn.decoders import UNetDecoder
        >>> decoder = UNetDecoder(ndim=2, channels=(4, 8, 16), widths=(8, 4, 2))
        >>> features = [torch.rand(1, 4, 16, 16), torch.rand(1, 8, 8, 8), torch.rand(1, 16, 4, 4)]
        >>> decoder(features, shape=(32, 32)).shape
        torch.Size([1, 2, 32, 32])
    """

    def __init__(
        self,
        ndim: int,
        channels: Sequence[int],
        widths: Sequence[int],
        *,
        norm: Norm = "batch",
        attention: bool = False,
    ) -> None:
        super().__init__()
        if not 1 <= len(widths) <= len(channels):
            raise ValueError(
                f"a U-Net decoder of {len(channels)} features takes 1 to {len(channels)} steps, got {len(widths)} "
                f"widths: {tuple(widths)}"
            )
        self.channels = widths[-1]
        skips = [*channels[-2::-1], 0][: len(widths)]
        self.lacks_skip = skips[-1] == 0
        below = [channels[-1], *widths]
        self.gates = nn.ModuleList(
            AttentionGate(ndim, skip, gate) for skip, gate in zip(skips, below, strict=False) if attention and skip
        )
        self.steps = nn.ModuleList(
            nn.Sequential(
                conv_block(ndim, wide + skip, width, norm=norm),
                conv_block(ndim, width, width, norm=norm),
            )
            for wide, skip, width in zip(below, skips, widths, strict=False)
        )

    def forward(self, features: Sequence[Float[Tensor, "b _ ..."]], shape: Sequence[int] | None = None) -> Tensor:
        """The map `(b, channels, *s)`.

        Args:
            features: of the encoder, finest first.
            shape: of the image; read by a last step without skip only.
        """
        if self.lacks_skip and shape is None:
            raise ValueError("the last step of this decoder has no feature to go with; give it the shape of the image")
        x = features[-1]
        for step, gate, skip in zip_longest(self.steps, self.gates, features[-2::-1][: len(self.steps)]):
            if skip is None:
                x = step(nd.resize(x, tuple(shape or ()), linear=False))
            else:
                detail = gate(skip, x) if gate else skip
                x = step(torch.cat([nd.resize(x, skip.shape[2:], linear=False), detail], 1))
        return x


class FCNDecoder(nn.Module):
    """The summing decoder of an FCN, on every feature it is given, as FCN-8s does on three.

    How it works: a 1x1 convolution (1x1x1 in 3D) projects each feature to `filters`; the projections are resized
    linearly to the grid of the finest and summed. FCN-8s projects to the classes and adds step by step, with learned
    interpolation; here any head may follow.

    Args:
        channels: of the encoder's features, finest first.
        filters: channels of the result.

    Attributes:
        channels: of the result.

    Example:
        >>> import torch
        >>> from boxel.nn.decoders import FCNDecoder
        >>> decoder = FCNDecoder(ndim=2, channels=(4, 8), filters=6)
        >>> decoder([torch.rand(1, 4, 16, 16), torch.rand(1, 8, 8, 8)]).shape
        torch.Size([1, 6, 16, 16])
    """

    def __init__(self, ndim: int, channels: Sequence[int], filters: int) -> None:
        super().__init__()
        self.channels = filters
        self.projections = nn.ModuleList(nd.CONV[ndim](width, filters, 1) for width in channels)

    def forward(self, features: Sequence[Float[Tensor, "b _ ..."]], shape: Sequence[int] | None = None) -> Tensor:
        """The map `(b, channels, *s)` on the grid of the finest feature.

        Args:
            features: of the encoder, finest first.
            shape: of the image; accepted so that either decoder is called alike, and not needed.
        """
        finest, *coarser = (project(x) for project, x in zip(self.projections, features, strict=True))
        for x in coarser:
            finest = finest + nd.resize(x, finest.shape[2:], linear=True)
        return finest
