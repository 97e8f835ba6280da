"""Matching of the anchors that a batch of images shares, by any of the rules in `matching`."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Int, Real
from torch import Tensor

from boxel.ops.arrays import numpy_too
from boxel.ops.boxes import centre
from boxel.ops.checks import check_boxes, check_choice, check_pair
from boxel.ops.matching import match_atss_into, match_centre, match_iou_into
from boxel.ops.number_types import as_floats

_OPTIONS = {
    "iou": ("positive", "negative", "force_best"),
    "atss": ("candidates", "centre_inside"),
    "centre": ("strides", "radius", "size_ranges"),
}


@numpy_too
def match(
    anchors: Real[Tensor, "n 2 d"],
    boxes: Sequence[Real[Tensor, "_ 2 d"]],
    *,
    rule: Literal["iou", "atss", "centre"] = "atss",
    level_sizes: Sequence[int] | None = None,
    anchors_per_cell: int = 1,
    positive: float | None = None,
    negative: float | None = None,
    force_best: bool | None = None,
    candidates: int | None = None,
    centre_inside: bool | None = None,
    strides: Sequence[Sequence[float]] | None = None,
    radius: float | None = None,
    size_ranges: Sequence[tuple[float, float]] | None = None,
) -> Int[Tensor, "b n"]:
    """Match the anchors that the images of a batch share, image by image, on the device of the input.

    Args:
        anchors: `(n, 2, d)` voxels, levels concatenated, each in the order of `anchor_grid`.
        boxes: per image, `(m, 2, d)` voxels, the boxes of its objects.
        rule: `match_iou`, `match_atss` or `match_centre`; for the last, the cell of an anchor is its centre.
        level_sizes: number of anchors of each level; None: all belong to one level.
        anchors_per_cell: number of adjacent anchors that share a centre.
        positive: for `iou`, required: see `match_iou`.
        negative: for `iou`, required.
        force_best: for `iou`; None: its default.
        candidates: for `atss`: see `match_atss`; None: its default.
        centre_inside: for `atss`; None: its default.
        strides: for `centre`, required: see `match_centre`.
        radius: for `centre`; None: its default.
        size_ranges: for `centre`.

    Returns:
        `(b, n)` object index within the image, `BACKGROUND` or `IGNORED`.

    Raises:
        ValueError: an unknown rule, an option of another rule, a required one that is missing, levels that do not
            add up, or broken boxes; names the image and the row.

    Example:
        >>> import torch
        >>> from boxel.ops import anchor_grid, match
        >>> anchors = anchor_grid((1, 4), stride=(8, 8), sizes=[(8, 8)])
        >>> objects = torch.tensor([[[0.0, 9.0], [8.0, 15.0]]])
        >>> match(anchors, [objects, objects[:0]], rule="iou", positive=0.5, negative=0.4).tolist()
        [[-1, 0, -1, -1], [-1, -1, -1, -1]]
    """
    sizes = [len(anchors)] if level_sizes is None else list(level_sizes)
    if sum(sizes) != len(anchors):
        raise ValueError(f"level_sizes {sizes} add up to {sum(sizes)}; there are {len(anchors)} anchors")
    check_choice("rule", rule, list(_OPTIONS))
    _check_options(
        rule, positive=positive, negative=negative, force_best=force_best, candidates=candidates,
        centre_inside=centre_inside, strides=strides, radius=radius, size_ranges=size_ranges,
    )  # fmt: skip
    anchors, *boxes = as_floats(anchors, *boxes)
    if rule != "iou":  # `match_iou_into` checks the anchors while it matches
        check_boxes(anchors, "anchors")
    matched = torch.empty((len(boxes), len(anchors)), dtype=torch.long, device=anchors.device)
    for image, objects in enumerate(boxes):
        try:
            check_boxes(objects)
            check_pair(anchors, objects)
            # The options identify the rule, as `_check_options` rejects those of other rules.
            if positive is not None and negative is not None:
                match_iou_into(anchors, objects, matched[image], positive, negative, force_best is not False)
            elif strides is not None:
                cells = [centre(level[::anchors_per_cell]) for level in anchors.split(sizes)]
                rows = match_centre(
                    cells, objects, strides=strides, radius=1.5 if radius is None else radius, size_ranges=size_ranges
                )
                matched[image] = rows.repeat_interleave(anchors_per_cell)
            else:
                match_atss_into(
                    anchors.split(sizes), objects, matched[image], 4 if candidates is None else candidates,
                    anchors_per_cell, centre_inside is True,
                )  # fmt: skip
        except ValueError as error:
            raise ValueError(f"image {image}: {error}") from None
    return matched


def _check_options(rule: str, **options: object) -> None:
    """Check that every given option belongs to the rule and that no required one is missing."""
    for name, value in options.items():
        if value is not None and name not in _OPTIONS[rule]:
            raise ValueError(f"{name} is no option of rule {rule!r}; it takes {', '.join(_OPTIONS[rule])}")
        if value is None and name in _OPTIONS[rule] and name in ("positive", "negative", "strides"):
            raise ValueError(f"{name} is missing; rule {rule!r} requires it")
