"""Feature pyramids: FPN, and the U-FPN that continues to full resolution.

Reference: Lin et al., Feature Pyramid Networks, 2017; Jaeger et al., Retina U-Net, 2018, section 3.1 (U-FPN).
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from boxel.nn import nd
from boxel.nn.composition import compose, compose_rows, resize_and_sum_taps, tap_rows
from boxel.nn.neck import LazyLevel, Neck, NeckConfig, Pyramid
from boxel.ranges import Width


class FPNConfig(NeckConfig, name="fpn"):
    """FPN; a U-FPN in models that segment.

    Attributes:
        filters: width of the pyramid.
        narrow_filters: width of the levels of a U-FPN below those that detect (P1, P0); None: as `filters`, which is
            what the papers have.
        extra: `pool` adds a level above the encoder's coarsest: every second cell of that level, on all axes, as in
            torchvision's Faster R-CNN (P6 above P5). `plan.levels` ends with it; RoIs are not pooled from it.
    """

    filters: Width = 64
    narrow_filters: Width | None = None
    extra: Literal["none", "pool"] = "none"

    @property
    def extends(self) -> bool:
        return self.extra == "pool"

    def build(
        self,
        ndim: int,
        channels: Sequence[int],
        *,
        strides: Sequence[Sequence[int]],
        levels: Sequence[int],
        used: Sequence[int],
        full_resolution: bool,
    ) -> "FPN":
        if self.narrow_filters and not full_resolution:
            raise ValueError(
                f"model.neck.narrow_filters={self.narrow_filters}: this model has no levels below those that detect; "
                "leave it out"
            )
        return FPN(
            ndim,
            channels,
            first_level=0 if full_resolution else 1,
            filters=self.filters,
            outputs=used,
            linear_below=min(levels) if full_resolution else 2,
            narrow=self.narrow_filters,
        )


class FPN(Neck):
    """Top-down pyramid over encoder features; a U-FPN if they start at full resolution.

    How it works: a 1x1 convolution (1x1x1 in 3D) projects the coarsest feature to `filters`. Each step down resizes the
    level above and adds the projection of the next finer feature. A 3x3 convolution smooths every level that is handed
    out. Levels below `linear_below` are resized linearly, the others by nearest neighbour.

    Args:
        channels: of the encoder features, finest first.
        first_level: pyramid level of the first of them; from 0 the pyramid continues to P0.
        filters: width of the pyramid.
        outputs: detecting levels to hand out, finest first; the level above the top has every second cell of the top.
            Nothing is built for levels that no output needs.
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
        linear_below: int,
        narrow: int | None = None,
    ) -> None:
        super().__init__()
        conv = nd.CONV[ndim]
        self.first_level, self.linear_below = first_level, linear_below
        self.outputs = tuple(outputs)
        self.top = first_level + len(channels) - 1
        narrow = narrow or filters
        self.level_channels, self.finest_channels = [filters] * len(self.outputs), narrow if linear_below else filters
        self.own = sorted({min(level, self.top) for level in self.outputs})  # without the level above the top
        smoothed = self.own if first_level else [0, *self.own]

        def width(level: int) -> int:
            return narrow if level < linear_below else filters

        levels = range(min(smoothed), self.top + 1)
        self.lateral = nn.ModuleDict({str(k): conv(channels[k - first_level], width(k), 1) for k in levels})
        self.smooth = nn.ModuleDict({str(k): conv(width(k), width(k), 3, padding=1) for k in smoothed})
        steps = {k: (width(k + 1), width(k)) for k in levels if k < self.top and width(k) != width(k + 1)}
        self.reduce = nn.ModuleDict({str(k): conv(wide, slim, 1) for k, (wide, slim) in steps.items()})

    def forward(self, features: list[Tensor]) -> Pyramid:
        """The pyramid over `features (b, c, *s)`, finest first."""
        merged = self.descend(features, {}, min([self.top + 1, *self.own]))
        smooth = {level: self.smooth[str(level)](merged[level]) for level in self.own}
        if self.top + 1 in self.outputs:
            smooth[self.top + 1] = smooth[self.top][(..., *[slice(None, None, 2)] * (features[0].ndim - 2))]
        levels = [smooth[level] for level in self.outputs]
        return Pyramid(levels, None if self.first_level else FinestLevel(self, features, merged))

    def descend(self, features: list[Tensor], merged: dict[int, Tensor], lowest: int) -> dict[int, Tensor]:
        """The levels `merged`, not smoothed yet, and those from there down to `lowest`."""
        merged = dict(merged)
        for level in range(min([self.top + 1, *merged]) - 1, lowest - 1, -1):
            detail = self.lateral[str(level)](features[level - self.first_level])
            if level < self.top:
                coarse = merged[level + 1]
                if str(level) in self.reduce:
                    coarse = self.reduce[str(level)](coarse)
                detail = nd.resize(coarse, detail.shape[2:], linear=level < self.linear_below) + detail
            merged[level] = detail
        return merged


class FinestLevel(LazyLevel):
    """P0 of a U-FPN, continued from the levels that are already merged, or from the top where there are none."""

    def __init__(self, neck: FPN, features: list[Tensor], merged: dict[int, Tensor]) -> None:
        self.neck, self.features, self.merged = neck, features, merged

    def compute(self) -> Tensor:
        return self.neck.smooth["0"](self.neck.descend(self.features, self.merged, 0)[0])

    def convolve(self, conv: Any) -> Tensor:
        """P0 under the 1x1 convolution `conv`, without P0.

        How it works: everything between the merged levels and the result is linear, so the kernels are composed first
        and applied once, in few channels (see `boxel.nn.composition`).
        """
        neck, features, merged = self.neck, self.features, self.merged
        base = min([neck.top, *merged])
        weights = {}
        with torch.autocast(features[0].device.type, enabled=False):
            kernel, bias = compose(conv, neck.smooth["0"])
            rows = tap_rows(kernel)
            constant = torch.zeros_like(rows[:, 0])  # of all biases: resizing keeps it
            for level in range(base):
                weights[level], constant = compose_rows(rows, constant, neck.lateral[str(level)])
                if str(level) in neck.reduce:
                    rows, constant = compose_rows(rows, constant, neck.reduce[str(level)])
            if not merged:
                rows, constant = compose_rows(rows, constant, neck.lateral[str(base)])
            lateral: Any = neck.lateral["0"]
            kernel = torch.einsum("kc...,cd->kd...", kernel, lateral.weight.flatten(1))
        taps = nd.convolve(merged[base] if merged else features[base], rows, constant)
        for level in range(base - 1, 0, -1):
            detail = nd.convolve(features[level], weights[level])
            taps = nd.resize(taps, detail.shape[2:], linear=level < neck.linear_below) + detail
        detail = nd.convolve(features[0], kernel, bias)
        return resize_and_sum_taps(taps, detail.shape[2:]) + detail
