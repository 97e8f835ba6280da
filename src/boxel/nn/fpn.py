"""Feature pyramids: FPN, and the U-FPN that goes on to full resolution.

Reference: Lin et al., 2017; Jaeger et al., Retina U-Net, 2018, section 3.1 (U-FPN).
"""

from collections.abc import Sequence

from torch import Tensor, nn

from boxel.nn import nd


class FPN(nn.Module):
    """Top-down pyramid over encoder features.

    How it works: the coarsest feature is projected to `filters`; each step down resizes it and adds the projection
    of the next finer encoder feature. A 3-wide convolution smooths every level that is asked for.
    Levels below `linear_below` are resized linearly, the others by nearest neighbour.

    Args:
        channels: of the encoder features, finest first.
        first_level: pyramid level of the first of them.
        filters: width of the pyramid.
        outputs: levels to return, in that order. Nothing is built for levels that no output needs.
        narrow: width of the levels below `linear_below`, where it differs from `filters`.
    """

    def __init__(
        self,
        ndim: int,
        channels: Sequence[int],
        *,
        first_level: int,
        filters: int,
        outputs: Sequence[int],
        linear_below: int = 2,
        narrow: int | None = None,
    ) -> None:
        super().__init__()
        conv = nd.CONV[ndim]
        self.first_level, self.linear_below = first_level, linear_below
        self.outputs = tuple(outputs)
        top = first_level + len(channels) - 1
        narrow = narrow or filters

        def width(level: int) -> int:
            return narrow if level < linear_below else filters

        levels = range(min(outputs), top + 1)
        self.lateral = nn.ModuleDict({str(k): conv(channels[k - first_level], width(k), 1) for k in levels})
        self.smooth = nn.ModuleDict({str(k): conv(width(k), width(k), 3, padding=1) for k in outputs})
        steps = {k: (width(k + 1), width(k)) for k in levels if k < top and width(k) != width(k + 1)}
        self.reduce = nn.ModuleDict({str(k): conv(wide, slim, 1) for k, (wide, slim) in steps.items()})

    def forward(self, features: list[Tensor], outputs: Sequence[int] | None = None) -> list[Tensor]:
        """The pyramid levels `outputs` (default: all), in that order; no finer level is computed than they need."""
        outputs = self.outputs if outputs is None else outputs
        top = self.first_level + len(features) - 1
        merged = self.lateral[str(top)](features[-1])
        pyramid = {top: merged}
        for level in range(top - 1, min(outputs) - 1, -1):
            lateral = self.lateral[str(level)](features[level - self.first_level])
            if str(level) in self.reduce:
                merged = self.reduce[str(level)](merged)
            merged = nd.resize(merged, lateral.shape[2:], linear=level < self.linear_below) + lateral
            pyramid[level] = merged
        return [self.smooth[str(level)](pyramid[level]) for level in outputs]
