"""Dense heads: a small network at every position of a pyramid level, the same on all levels or one for each."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from boxel.nn import nd
from boxel.nn.blocks import Activation, Norm, conv_block, norm_layer


class DenseHead(nn.Module):
    """A head that predicts numbers for each anchor of each cell, with the same weights on every level.

    Batch norms alone are those of each level: the running statistics of several levels together, which prediction
    uses, would be those of none, while training normalises every level by its own.

    Args:
        levels: of the pyramid.
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
        levels: int,
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
        further = range(1, levels if norm == "batch" else 1)
        self.norms = nn.ModuleList(nn.ModuleList(norm_layer(norm, ndim, b) for b in widths[1:]) for _ in further)
        convs = [nd.CONV[ndim](widths[-1], num_anchors * n, kernel_size, padding=kernel_size // 2) for n in outputs]
        self.outputs = nn.ModuleList(convs)
        self.counts = tuple(outputs)
        if prior is not None:
            nn.init.normal_(convs[0].weight, std=0.01)
            convs[0].bias = nn.Parameter(torch.full((num_anchors * outputs[0],), _logit(prior)))

    def forward(self, pyramid: list[Tensor]) -> list[Float[Tensor, "b n o"]]:
        """For each entry of `outputs`, the rows of all anchors: level by level, cells in array order, then anchors."""
        towers = [self._tower(features, level) for level, features in enumerate(pyramid)]
        return [
            torch.cat([_rows(output(features), count) for features in towers], dim=1)
            for output, count in zip(self.outputs, self.counts, strict=True)
        ]

    def _tower(self, features: Tensor, level: int) -> Tensor:
        if not level or not self.norms:
            return self.tower(features)
        for block, norm in zip(self.tower, self.norms[level - 1].children(), strict=True):
            convolution, _, activation = block.children()
            features = activation(norm(convolution(features)))
        return features


class LevelHead(nn.Module):
    """The head of one level of YOLO: a convolution to twice the level's width, then one to each anchor's numbers.

    Args:
        channels: of the level.
        anchors: at each position.
        outputs: numbers per anchor.
    """

    def __init__(
        self, ndim: int, channels: int, *, anchors: int, outputs: int, norm: Norm, activation: Activation
    ) -> None:
        super().__init__()
        self.wide = conv_block(ndim, channels, 2 * channels, norm=norm, activation=activation, bias=norm == "none")
        self.numbers = nd.CONV[ndim](2 * channels, anchors * outputs, 1)
        self.outputs = outputs

    def forward(self, level: Float[Tensor, "b c *s"]) -> Float[Tensor, "b n o"]:
        """The numbers of all anchors: cells in array order, then anchors."""
        return _rows(self.numbers(self.wide(level)), self.outputs)

    def expect(self, output: int, share: float) -> None:
        """Let an output, a sigmoid's logit, start at the expected `share` of anchors with an object."""
        with torch.no_grad():
            self.numbers.bias.view(-1, self.outputs)[:, output] = _logit(share)  # type: ignore[union-attr]


def _logit(share: float) -> float:
    return -math.log((1 - share) / share)


def _rows(x: Float[Tensor, "b ao *s"], count: int) -> Float[Tensor, "b n o"]:
    return x.flatten(2).transpose(1, 2).reshape(len(x), -1, count)
