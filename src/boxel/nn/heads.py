"""Dense heads: the same small network at every position of every pyramid level."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from boxel.nn import nd
from boxel.nn.blocks import Norm, conv_block


class DenseHead(nn.Module):
    """A head that predicts numbers for each anchor of each cell, with the same weights on every level.

    Args:
        outputs: numbers per anchor; one output convolution for each entry, all on the same tower.
        kernel_size: of the output convolutions.
        prior: expected share of foreground anchors; sets the bias of the first output, a sigmoid's logits
            (Lin et al. 2017, section 4.1).
    """

    def __init__(
        self,
        ndim: int,
        channels: int,
        *,
        filters: int,
        num_convs: int,
        norm: Norm,
        num_anchors: int,
        outputs: Sequence[int],
        kernel_size: int = 3,
        prior: float | None = None,
    ) -> None:
        super().__init__()
        widths = [channels] + [filters] * num_convs
        self.tower = nn.Sequential(*(conv_block(ndim, a, b, norm=norm) for a, b in pairwise(widths)))
        convs = [nd.CONV[ndim](widths[-1], num_anchors * n, kernel_size, padding=kernel_size // 2) for n in outputs]
        self.outputs = nn.ModuleList(convs)
        self.counts = tuple(outputs)
        if prior is not None:
            nn.init.normal_(convs[0].weight, std=0.01)
            convs[0].bias = nn.Parameter(torch.full((num_anchors * outputs[0],), -math.log((1 - prior) / prior)))

    def forward(self, pyramid: list[Tensor]) -> list[Float[Tensor, "b n o"]]:
        """For each entry of `outputs`, the rows of all anchors: level by level, cells in array order, then anchors."""
        towers = [self.tower(features) for features in pyramid]
        return [
            torch.cat([_rows(output(features), count) for features in towers], dim=1)
            for output, count in zip(self.outputs, self.counts, strict=True)
        ]


def _rows(x: Float[Tensor, "b ao *s"], count: int) -> Float[Tensor, "b n o"]:
    return x.flatten(2).transpose(1, 2).reshape(len(x), -1, count)
