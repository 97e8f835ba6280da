"""Feature pyramids: FPN, and the U-FPN that goes on to full resolution.

Reference: Lin et al., 2017; Jaeger et al., Retina U-Net, 2018, section 3.1 (U-FPN).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from boxel.nn import nd
from boxel.nn.composition import compose, compose_rows, resize_and_sum_taps, tap_rows


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

    def forward(
        self, features: list[Tensor], outputs: Sequence[int] | None = None, project: Any = None
    ) -> list[Tensor]:
        """The pyramid levels `outputs` (default: all), in that order; no finer level is computed than they need.

        Args:
            project: a 1-wide convolution of the first of them, the finest. All that is linear before it is composed
                with it (see `boxel.nn.composition`): that level is never computed in its full width.
        """
        outputs = self.outputs if outputs is None else outputs
        top = self.first_level + len(features) - 1
        wide = outputs if project is None else outputs[1:]
        pyramid: dict[int, Tensor] = {}
        for level in range(top, min(wide, default=top + 1) - 1, -1):
            merged = self.lateral[str(level)](features[level - self.first_level])
            if level < top:
                coarse = pyramid[level + 1]
                if str(level) in self.reduce:
                    coarse = self.reduce[str(level)](coarse)
                merged = nd.resize(coarse, merged.shape[2:], linear=level < self.linear_below) + merged
            pyramid[level] = merged
        levels = [self.smooth[str(level)](pyramid[level]) for level in wide]
        return levels if project is None else [self._project(features, pyramid, outputs[0], project), *levels]

    def _project(self, features: list[Tensor], pyramid: dict[int, Tensor], finest: int, project: Any) -> Tensor:
        """`project` of the level `finest`, from the finest level in `pyramid` or, where that is empty, from the top."""
        base = min(pyramid, default=self.first_level + len(features) - 1)
        weights = {}
        with torch.autocast(features[0].device.type, enabled=False):
            kernel, bias = compose(project, self.smooth[str(finest)])
            rows = tap_rows(kernel)
            constant = torch.zeros_like(rows[:, 0])  # of all biases: resizing keeps it
            for level in range(finest, base):
                weights[level], constant = compose_rows(rows, constant, self.lateral[str(level)])
                if str(level) in self.reduce:
                    rows, constant = compose_rows(rows, constant, self.reduce[str(level)])
            if not pyramid:
                rows, constant = compose_rows(rows, constant, self.lateral[str(base)])
            lateral: Any = self.lateral[str(finest)]
            kernel = torch.einsum("kc...,cd->kd...", kernel, lateral.weight.flatten(1))
        taps = nd.convolve(pyramid[base] if pyramid else features[base - self.first_level], rows, constant)
        for level in range(base - 1, finest, -1):
            detail = nd.convolve(features[level - self.first_level], weights[level])
            taps = nd.resize(taps, detail.shape[2:], linear=level < self.linear_below) + detail
        detail = nd.convolve(features[finest - self.first_level], kernel, bias)
        return resize_and_sum_taps(taps, detail.shape[2:]) + detail
