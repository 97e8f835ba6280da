"""Which object each anchor is trained on.

The result is one index per anchor: that of its object, `BACKGROUND` or `IGNORED`. Class and box of a matched
anchor are both read from that one index, so they always belong to the same object.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int, Real
from torch import Tensor

from boxel.ops.arrays import kernels, numpy_too
from boxel.ops.boxes import centre, size
from boxel.ops.checks import check_boxes, check_pair, check_points, check_positive, check_sizes
from boxel.ops.nearest import LEAST, nearest_cells
from boxel.ops.number_types import as_floats
from boxel.ops.overlaps import iou, paired_iou
from boxel.ops.threads import share

BACKGROUND = -1
IGNORED = -2

_PAIRS = 1 << 18  # pairs of a cell and an object that are processed together


@numpy_too
def match_iou(
    anchors: Real[Tensor, "n 2 d"],
    boxes: Real[Tensor, "m 2 d"],
    *,
    positive: float,
    negative: float,
    force_best: bool = True,
) -> Int[Tensor, " n"]:
    """Match each anchor with the object of the largest IoU.

    Args:
        anchors: `(n, 2, d)` voxels.
        boxes: `(m, 2, d)` voxels, the boxes of the objects.
        positive: an anchor with IoU >= positive is matched with its best object.
        negative: an anchor with IoU < negative is background; between the two it is ignored.
        force_best: the best anchor of each object is matched with it at any IoU above 0. Where two objects share
            their best anchor, the larger IoU wins.

    Returns:
        `(n,)` object index, `BACKGROUND` or `IGNORED`; of equal IoUs the first object, the first anchor.

    Raises:
        ValueError: NaN or inverted boxes, or `negative` above `positive`. An object without extent is not matched.

    Example:
        >>> import torch
        >>> from boxel.ops import anchor_grid, match_iou
        >>> anchors = anchor_grid((1, 4), stride=(8, 8), sizes=[(8, 8)])
        >>> objects = torch.tensor([[[0.0, 10.0], [8.0, 18.0]]])  # IoU 0.6 with the second anchor, 0.14 with the third
        >>> match_iou(anchors, objects, positive=0.5, negative=0.1).tolist()
        [-1, 0, -2, -1]

    Reference: Ren et al., Faster R-CNN, NeurIPS 2015, section 3.1.2.
    """
    anchors, boxes = as_floats(anchors, boxes)
    check_boxes(boxes)
    check_pair(anchors, boxes)
    matched = torch.empty(len(anchors), dtype=torch.long, device=anchors.device)
    match_iou_into(anchors, boxes, matched, positive, negative, force_best)
    return matched


def match_iou_into(
    anchors: Tensor, boxes: Tensor, matched: Tensor, positive: float, negative: float, force_best: bool = True
) -> None:
    """`match_iou` into a row of a batch; checks the anchors while it matches."""
    if not 0 <= negative <= positive:
        raise ValueError(f"negative is {negative}, positive {positive}; needed is 0 <= negative <= positive")
    compiled = kernels(anchors, boxes)
    if not compiled or not len(anchors):
        check_boxes(anchors, "anchors")
        matched.copy_(_match_iou_plain(anchors, boxes, positive, negative, force_best))
        return
    arrays = [tensor.detach().float().contiguous().numpy() for tensor in (anchors, boxes)]
    limits, rows = (np.float32(positive), np.float32(negative), BACKGROUND, IGNORED), matched.numpy()
    bests = share(lambda *part: compiled.match_by_iou(*arrays, *limits, rows, *part), len(anchors), LEAST)
    overlaps, champions, broken = (np.stack(parts) for parts in zip(*bests, strict=True))
    if broken.any():
        check_boxes(anchors, "anchors")
    if force_best and len(boxes):
        # The larger IoU is written last; of equal ones, the first object.
        overlap, champion = overlaps.max(0), champions[overlaps.argmax(0), np.arange(len(boxes))]
        order = np.argsort(overlap[::-1], kind="stable")
        order = (len(overlap) - 1 - order)[overlap[::-1][order] > 0]
        rows[champion[order]] = order


def _match_iou_plain(anchors: Tensor, boxes: Tensor, positive: float, negative: float, force_best: bool) -> Tensor:
    best, index = (
        anchors.new_zeros(len(anchors)),
        torch.zeros(len(anchors), dtype=torch.long, device=anchors.device),
    )
    forced, rank = index.new_full((len(anchors),), BACKGROUND), torch.zeros_like(best)
    for k in range(
        len(boxes) if len(anchors) else 0
    ):  # one column at a time: for a volume, anchors x objects would not fit into memory
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
    anchors_per_level: Sequence[Real[Tensor, "_ 2 d"]],
    boxes: Real[Tensor, "m 2 d"],
    *,
    candidates: int = 4,
    anchors_per_cell: int = 1,
    centre_inside: bool = False,
) -> Int[Tensor, " n"]:
    """Match by a threshold that each object derives from its surroundings: adaptive training sample selection (ATSS).

    How it works: per level the anchors of the cells nearest to an object's centre are its candidates. Those whose IoU
    reaches the mean plus the standard deviation of the candidates' IoUs are matched with the object. An anchor that
    several objects claim goes to the largest IoU. Unlike in the paper, the best candidate of an object always qualifies
    (the threshold can exceed the largest IoU, as when half of the IoUs are 0), and a candidate that does not touch the
    object never does.

    Args:
        anchors_per_level: `(n, 2, d)` voxels of each level, in the order of `anchor_grid`.
        boxes: `(m, 2, d)` voxels, the boxes of the objects.
        candidates: cells per level and object; 9 as published (one anchor per cell), 4 in nnDetection.
        anchors_per_cell: number of adjacent anchors that share a centre.
        centre_inside: candidates must have their centre in the object, as published; bad for small and flat objects.

    Returns:
        `(n,)` object index or `BACKGROUND`, levels concatenated; of equal distances the first cell, of equal IoUs the
        first object.

    Raises:
        ValueError: NaN or inverted boxes. An object without extent is not matched.

    Example:
        >>> import torch
        >>> from boxel.ops import anchor_grid, match_atss
        >>> levels = [anchor_grid((1, 4), (8, 8), [(8, 8)]), anchor_grid((1, 2), (16, 16), [(16, 16)])]
        >>> match_atss(levels, torch.tensor([[[0.0, 9.0], [8.0, 15.0]]]), candidates=2).tolist()
        [-1, 0, -1, -1, -1, -1]

    Reference: Zhang et al., Bridging the Gap Between Anchor-based and Anchor-free Detection, CVPR 2020, algorithm 1.
    """
    boxes, *anchors_per_level = as_floats(boxes, *anchors_per_level)
    check_boxes(boxes)
    for level, anchors in enumerate(anchors_per_level):
        check_boxes(anchors, f"anchors_per_level[{level}]")
        check_pair(anchors, boxes)
    total = sum(len(anchors) for anchors in anchors_per_level)
    matched = torch.empty(total, dtype=torch.long, device=boxes.device)
    match_atss_into(anchors_per_level, boxes, matched, candidates, anchors_per_cell, centre_inside)
    return matched


def match_atss_into(
    anchors_per_level: Sequence[Tensor], boxes: Tensor, matched: Tensor, candidates: int = 4,
    anchors_per_cell: int = 1, centre_inside: bool = False,
) -> None:  # fmt: skip
    """`match_atss` into a row of a batch, without its checks of the boxes."""
    check_positive(candidates=candidates, anchors_per_cell=anchors_per_cell)
    _fill(matched, BACKGROUND)
    levels = [len(anchors) for anchors in anchors_per_level]
    if not len(boxes) or not sum(levels):
        return
    rows, candidate_boxes = [], []
    adjacent = torch.arange(anchors_per_cell, device=boxes.device)
    for anchors, first in zip(anchors_per_level, itertools.accumulate(levels, initial=0), strict=False):
        cells = nearest_cells(anchors, anchors_per_cell, centre(boxes), candidates)
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


@numpy_too
def match_centre(
    cells_per_level: Sequence[Real[Tensor, "_ d"]],
    boxes: Real[Tensor, "m 2 d"],
    *,
    strides: Sequence[Sequence[float]],
    radius: float = 1.5,
    size_ranges: Sequence[tuple[float, float]] | None = None,
) -> Int[Tensor, " n"]:
    """Match by position, with centre sampling (FCOS).

    A cell is matched with an object if its centre lies in the box and within `radius` strides of the box's centre
    on every axis; of several such objects, with the smallest.

    Args:
        cells_per_level: `(n, d)` cell centres of each level, in voxels.
        boxes: `(m, 2, d)` voxels, the boxes of the objects.
        strides: per level, voxels per cell and axis.
        radius: in strides.
        size_ranges: per level, which objects it is responsible for by their longest side, `low <= side < high`
            voxels; None: all.

    Returns:
        `(n,)` object index or `BACKGROUND`, levels concatenated; of equal areas the first object.

    Raises:
        ValueError: NaN or inverted boxes. An object without extent is not matched.

    Example:
        >>> import torch
        >>> from boxel.ops import anchor_grid, centre, match_centre
        >>> cells = centre(anchor_grid((1, 4), stride=(8, 8), sizes=[(8, 8)]))
        >>> match_centre([cells], torch.tensor([[[0.0, 5.0], [8.0, 22.0]]]), strides=[(8, 8)]).tolist()
        [-1, 0, 0, -1]

    Reference: Tian et al., FCOS, ICCV 2019.
    """
    boxes, *cells_per_level = as_floats(boxes, *cells_per_level)
    check_boxes(boxes)
    check_positive(radius=radius)
    for level, cells in enumerate(cells_per_level):
        check_points(f"cells_per_level[{level}]", cells, boxes.shape[2])
        check_sizes(f"strides[{level}]", strides[level], boxes.shape[2])
    extent = size(boxes)
    order = extent.prod(-1).argsort(stable=True)
    matched = []
    for level, (cells, stride) in enumerate(zip(cells_per_level, strides, strict=True)):
        low, high = (0.0, math.inf) if size_ranges is None else size_ranges[level]
        side = extent.amax(-1)
        some = order[((low <= side) & (side < high))[order]]
        reach = torch.minimum(extent[some] / 2, extent.new_tensor(list(stride)) * radius)
        for part in cells.split(max(1, _PAIRS // max(1, len(some)))) if len(some) else ():
            inside = ((part[:, None] - centre(boxes)[some]).abs() < reach).all(-1)
            matched.append(torch.where(inside.any(1), some[inside.byte().argmax(1)], BACKGROUND))
        if not len(some):
            matched.append(torch.full((len(cells),), BACKGROUND, dtype=torch.long, device=cells.device))
    return torch.cat(matched)


def _fill(matched: Tensor, value: int) -> None:
    """Fill by numpy on the CPU: torch would wake its threads, which takes long on a busy machine."""
    (matched.numpy() if matched.device.type == "cpu" else matched)[:] = value
