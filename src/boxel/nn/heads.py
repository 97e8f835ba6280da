"""Dense heads: the same small networks at every position of every pyramid level."""

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from boxel.nn import nd
from boxel.nn.blocks import Norm, conv_block


class DenseHead(nn.Module):
    """Predicts `outputs` numbers for each anchor of each cell, shared over the levels.

    Args:
        prior: expected share of foreground anchors; sets the bias of a sigmoid output (Lin et al. 2017, section 4.1).
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
        outputs: int,
        prior: float | None = None,
    ) -> None:
        super().__init__()
        widths = [channels] + [filters] * num_convs
        self.tower = nn.Sequential(*(conv_block(ndim, a, b, norm=norm) for a, b in pairwise(widths)))
        self.output = nd.CONV[ndim](widths[-1], num_anchors * outputs, 3, padding=1)
        self.outputs = outputs
        if prior is not None:
            nn.init.normal_(self.output.weight, std=0.01)
            self.output.bias = nn.Parameter(torch.full((num_anchors * outputs,), -math.log((1 - prior) / prior)))

    def forward(self, pyramid: list[Tensor]) -> Float[Tensor, "b n o"]:
        """All levels in one list of anchors: level by level, cells in array order, anchors of a cell together."""
        rows = []
        for features in pyramid:
            x = self.output(self.tower(features)).flatten(2).transpose(1, 2)  # (b, cells, a * o)
            rows.append(x.reshape(len(x), -1, self.outputs))
        return torch.cat(rows, dim=1)
