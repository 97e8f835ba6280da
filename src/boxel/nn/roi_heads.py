"""The heads of two-stage detectors: small networks on the pooled features of each region of interest (RoI).

Reference: He et al., Mask R-CNN, 2017; widths and layers as in Jaeger et al., Retina U-Net, 2018 and its code.
"""

from collections.abc import Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from boxel.nn import nd
from boxel.nn.blocks import Norm, conv_block, norm_layer


class RoIBoxHead(nn.Module):
    """Class logits `(r, outputs)` and, for each of them, box deltas `(r, outputs, 2, d)`."""

    def __init__(
        self, ndim: int, channels: int, *, pool_size: Sequence[int], filters: int, norm: Norm, outputs: int
    ) -> None:
        super().__init__()
        kernel: Any = tuple(pool_size)
        layers: list[nn.Module] = []
        for conv in (nd.CONV[ndim](channels, filters, kernel), nd.CONV[ndim](filters, filters, 1)):
            layers += [conv, *([norm_layer(norm, ndim, filters)] if norm != "none" else []), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.classes = nn.Linear(filters, outputs)
        self.boxes = nn.Linear(filters, outputs * 2 * ndim)

    def forward(self, pooled: Float[Tensor, "r c *p"]) -> tuple[Tensor, Tensor]:
        x = self.layers(pooled)
        return self.classes(x).float(), self.boxes(x).float().unflatten(1, (-1, 2, pooled.ndim - 2))


class RoIMaskHead(nn.Module):
    """Mask logits `(r, outputs, *m)` on a grid over the RoI, twice as fine as the pooled features."""

    def __init__(self, ndim: int, channels: int, *, num_convs: int, norm: Norm, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(conv_block(ndim, channels, channels, norm=norm) for _ in range(num_convs)),
            nd.CONV_TRANSPOSE[ndim](channels, channels, 2, 2),
            nn.ReLU(inplace=True),
            nd.CONV[ndim](channels, outputs, 1),
        )

    def forward(self, pooled: Float[Tensor, "r c *p"]) -> Float[Tensor, "r o *m"]:
        return self.layers(pooled).float()
