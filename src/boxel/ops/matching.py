"""Which anchor answers for which object.

The result is one index per anchor: that of its object, `BACKGROUND` or `IGNORED`. Class and box of a matched
anchor are both read from that one index, so they always belong to the same object. Objects are checked; anchors
are not, as they are many and come from `anchor_grid`: they must be finite.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from boxel.config import did_you_mean
from boxel.ops.arrays import kernels, numpy_too
from boxel.ops.boxes import centre, iou, paired_iou, size
from boxel.ops.checks import check_boxes

BACKGROUND = -1
IGNORED = -2

_PAIRS = 1 << 18  # of a cell and an object, looked at together


@numpy_too
def match(
    anchors: Float[Tensor, "n 2 d"],
    boxes: Sequence[Float[Tensor, "_ 2 d"]],
    *,
    rule: Literal["iou", "atss", "centre"] = "atss",
    level_sizes: Sequence[int] | None = None,
    anchors_per_cell: int = 1,
    **options: Any,
) -> Int[Tensor, "b n"]:
    """Match the anchors that a batch of images shares, image by image, on the device of its input.

    Args:
        anchors: `(n, 2, d)`, levels concatenated, each as `anchor_grid` orders it.
        boxes: per image, `(m, 2, d)` of its objects.
        rule: `match_iou`, `match_atss` or `match_centre`; for the last, an anchor's cell is its centre.
        level_sizes: anchors of each level; None: all are of one.
        anchors_per_cell: adjacent anchors that share a centre.
        **options: of the rule.

    Returns:
        `(b, n)` object index within the image, `BACKGROUND` or `IGNORED`.

    Raises:
        ValueError: an unknown rule, levels that do not add up, broken boxes; names image and row.
    """
    sizes = [len(anchors)] if level_sizes is None else list(level_sizes)
    if sum(sizes) != len(anchors):
        raise ValueError(f"level_sizes {sizes} add up to {sum(sizes)}; there are {len(anchors)} anchors")
    levels = anchors.split(sizes)
    matched = torch.empty((len(boxes), len(anchors)), dtype=torch.long, device=anchors.device)
    for image, objects in enumerate(boxes):
        try:
            matched[image] = _match_one(anchors, levels, objects, rule, anchors_per_cell, options)
        except ValueError as error:
            raise ValueError(f"image {image}: {error}") from None
    return matched


def _match_one(
    anchors: Tensor, levels: Sequence[Tensor], boxes: Tensor, rule: str, anchors_per_cell: int, options: dict[str, Any]
) -> Tensor:
    if rule == "iou":
        return match_iou(anchors, boxes, **options)
    if rule == "atss":
        return match_atss(levels, boxes, anchors_per_cell=anchors_per_cell, **options)
    if rule == "centre":
        cells = [centre(level[::anchors_per_cell]) for level in levels]
        return match_centre(cells, boxes, **options).repeat_interleave(anchors_per_cell)
    raise ValueError(f"unknown rule {rule!r}{did_you_mean(rule, ['iou', 'atss', 'centre'])}")


@numpy_too
def match_iou(
    anchors: Float[Tensor, "n 2 d"],
    boxes: Float[Tensor, "m 2 d"],
    *,
    positive: float,
    negative: float,
    force_best: bool = True,
) -> Int[Tensor, " n"]:
    """Match by IoU with the best object (Ren et al., NeurIPS 2015).

    Args:
        anchors: `(n, 2, d)`.
        boxes: `(m, 2, d)` of the objects.
        positive: an anchor with IoU >= positive answers for its best object.
        negative: one with IoU < negative is background; between the two it is ignored.
        force_best: the best anchor of each object answers for it whatever their IoU, if it is above 0. Where
            two objects share their best anchor, the larger IoU decides.

    Returns:
        `(n,)` object index, `BACKGROUND` or `IGNORED`; of equal IoUs the first object, the first anchor.

    Raises:
        ValueError: NaN or inverted boxes, `negative` above `positive`; an object without extent matches nothing.
    """
    check_boxes(boxes)
    if not 0 <= negative <= positive:
        raise ValueError(f"negative is {negative}, positive {positive}; needed is 0 <= negative <= positive")
    compiled = kernels(anchors, boxes)
    if compiled and len(anchors):
        arrays = (tensor.detach().float().contiguous().numpy() for tensor in (anchors, boxes))
        limits = np.float32(positive), np.float32(negative)
        matched, overlap, champion = compiled.match_by_iou(*arrays, *limits, BACKGROUND, IGNORED)
        if force_best:
            # The larger IoU is written last; of equal ones, the first object.
            order = np.argsort(overlap[::-1], kind="stable")
            order = (len(overlap) - 1 - order)[overlap[::-1][order] > 0]
            matched[champion[order]] = order
        return torch.from_numpy(matched)
    return _match_iou_plain(anchors, boxes, positive, negative, force_best)


def _match_iou_plain(anchors: Tensor, boxes: Tensor, positive: float, negative: float, force_best: bool) -> Tensor:
    best, index = (
        anchors.new_zeros(len(anchors)),
        torch.zeros(len(anchors), dtype=torch.long, device=anchors.device),
    )
    forced, rank = index.new_full((len(anchors),), BACKGROUND), torch.zeros_like(best)
    for k in range(
        len(boxes) if len(anchors) else 0
    ):  # one column at a time: anchors x objects would not fit for a volume
        overlap = iou(anchors, boxes[k : k + 1])[:, 0]
        better = overlap > best
        best, index = torch.where(better, overlap, best), torch.where(better, k, index)
        if force_best:
            champion = overlap.argmax(keepdim=True)
            wins = overlap[champion] > rank[champion]
            rank[champion] = torch.where(wins, overlap[champion], rank[champion])
            forced[champion] = torch.where(wins, k, forced[champion])
    matched = torch.where(best < negative, BACKGROUND, IGNORED)
    matched = torch.where((best >= positive) & (best > 0), index, matched)
    return torch.where(forced >= 0, forced, matched)


@numpy_too
def match_atss(
    anchors_per_level: Sequence[Float[Tensor, "_ 2 d"]],
    boxes: Float[Tensor, "m 2 d"],
    *,
    candidates: int = 4,
    anchors_per_cell: int = 1,
    centre_inside: bool = False,
) -> Int[Tensor, " n"]:
    """Match by a threshold that each object draws from its surroundings (ATSS, Zhang et al., CVPR 2020).

    Per level the anchors of the cells nearest to an object's centre are its candidates; those whose IoU
    reaches the mean plus the standard deviation of its candidates' IoUs answer for it. An anchor wanted by
    several objects goes to the largest IoU. Unlike the published rule an object's best candidate always
    qualifies (the threshold can exceed the largest IoU, as when half of them are 0), and one that does not
    touch it never does.

    Args:
        anchors_per_level: anchors of each level as `anchor_grid` orders them.
        boxes: `(m, 2, d)` of the objects.
        candidates: cells per level and object; 9 as published (one anchor per cell), 4 in nnDetection.
        anchors_per_cell: adjacent anchors that share a centre.
        centre_inside: candidates must have their centre in the object, as published; harms small and flat
            objects.

    Returns:
        `(n,)` object index or `BACKGROUND`, levels concatenated; of equal distances the first cell, of equal
        IoUs the first object.

    Raises:
        ValueError: NaN or inverted boxes; an object without extent matches nothing.
    """
    check_boxes(boxes)
    levels = [len(anchors) for anchors in anchors_per_level]
    matched = _background(sum(levels), boxes.device)
    if not len(boxes) or not sum(levels):
        return matched
    rows, candidate_boxes = [], []
    adjacent = torch.arange(anchors_per_cell, device=boxes.device)
    for anchors, first in zip(anchors_per_level, itertools.accumulate(levels, initial=0), strict=False):
        cells = _nearest(anchors, anchors_per_cell, centre(boxes), candidates)
        near = (cells[..., None] * anchors_per_cell + adjacent).flatten(1)
        rows.append(near + first)
        candidate_boxes.append(anchors[near])
    candidate, near_anchors = torch.cat(rows, 1), torch.cat(candidate_boxes, 1)
    overlap = paired_iou(near_anchors, boxes[:, None].expand_as(near_anchors)).double()
    spread = overlap.std(1) if overlap.shape[1] > 1 else 0.0
    threshold = torch.minimum(overlap.mean(1) + spread, overlap.amax(1))
    chosen = (overlap >= threshold[:, None]) & (overlap > 0)
    if centre_inside:
        middle = centre(near_anchors)
        chosen &= ((boxes[:, None, 0] <= middle) & (middle < boxes[:, None, 1])).all(-1)
    instance, column = chosen.nonzero(as_tuple=True)
    # Sorted by anchor, within an anchor by IoU, best first: the first of each anchor is its match.
    order = overlap[instance, column].argsort(descending=True, stable=True)
    anchor = candidate[instance, column][order]
    anchor, by_anchor = anchor.sort(stable=True)
    first_of_anchor = torch.ones_like(anchor, dtype=torch.bool)
    first_of_anchor[1:] = anchor[1:] != anchor[:-1]
    matched[anchor[first_of_anchor]] = instance[order[by_anchor]][first_of_anchor]
    return matched


@numpy_too
def match_centre(
    cells_per_level: Sequence[Float[Tensor, "_ d"]],
    boxes: Float[Tensor, "m 2 d"],
    *,
    strides: Sequence[Sequence[float]],
    radius: float = 1.5,
    size_ranges: Sequence[tuple[float, float]] | None = None,
) -> Int[Tensor, " n"]:
    """Match by position (FCOS, Tian et al., ICCV 2019, with centre sampling).

    A cell answers for an object if its centre lies in the box and within `radius` strides of the box's centre
    on every axis; of several objects, for the smallest.

    Args:
        cells_per_level: cell centres of each level.
        boxes: `(m, 2, d)` of the objects.
        strides: per level, voxels per cell and axis.
        radius: in strides.
        size_ranges: per level, the objects it answers for by longest side, `low <= side < high`; None: all.

    Returns:
        `(n,)` object index or `BACKGROUND`, levels concatenated; of equal areas the first object.

    Raises:
        ValueError: NaN or inverted boxes; an object without extent matches nothing.
    """
    check_boxes(boxes)
    extent = size(boxes)
    order = extent.prod(-1).argsort(stable=True)
    matched = []
    for level, (cells, stride) in enumerate(zip(cells_per_level, strides, strict=True)):
        low, high = (0.0, math.inf) if size_ranges is None else size_ranges[level]
        side = extent.amax(-1)
        some = order[((low <= side) & (side < high))[order]]
        reach = torch.minimum(extent[some] / 2, extent.new_tensor(list(stride)) * radius)
        for part in cells.split(max(1, _PAIRS // max(1, len(some)))) if len(some) else ():
            hit = ((part[:, None] - centre(boxes)[some]).abs() < reach).all(-1)
            matched.append(torch.where(hit.any(1), some[hit.byte().argmax(1)], BACKGROUND))
        if not len(some):
            matched.append(_background(len(cells), cells.device))
    return torch.cat(matched)


def _background(count: int, device: torch.device) -> Tensor:
    """On the CPU by numpy: torch wakes its threads for it, which takes long on a busy machine."""
    if device.type == "cpu":
        return torch.from_numpy(np.full(count, BACKGROUND, np.int64))
    return torch.full((count,), BACKGROUND, dtype=torch.long, device=device)


def _nearest(anchors: Tensor, per_cell: int, points: Tensor, count: int) -> Tensor:
    """`(points, count)` rows of the nearest cells, nearest first, ties by row."""
    count = min(count, len(anchors) // per_cell)
    compiled = kernels(anchors, points)
    if compiled:
        array, centres = (tensor.detach().float().contiguous().numpy() for tensor in (anchors, points))
        return torch.from_numpy(compiled.nearest_cells(array, per_cell, centres, count))
    cells = centre(anchors[::per_cell])
    return torch.cat([_nearest_plain(cells, some, count) for some in points.split(16)])


def _nearest_plain(cells: Tensor, points: Tensor, count: int) -> Tensor:
    """One key holds distance and row: the bits of a positive float32 are ordered like an integer's."""
    squares = (cells - points[:, None]).float().square().unbind(-1)
    bits = sum(squares[1:], squares[0]).view(torch.int32).long()
    key = (bits << 32) | torch.arange(len(cells), device=cells.device)
    return key.topk(count, largest=False, sorted=True).values & 0xFFFFFFFF
