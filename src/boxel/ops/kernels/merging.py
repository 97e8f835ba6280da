"""Boxes of adjacent slices joined."""

# mypy: disable-error-code="assignment, no-untyped-def"

import numpy as np

from boxel.ops.kernels.jit import jit


@jit
def join_slices(boxes, labels, slices, place, by_score, iou_threshold, extra):
    """The rule of `slices.merge_slices`, slice by slice away from each seed.

    Args:
        boxes: `(n, 2, d)`.
        labels, slices: `(n,)`.
        place: rows by label, then slice.
        by_score: rows by descending score.
        iou_threshold, extra: of the boxes' type.

    Returns:
        Members, joined, each cluster's by descending score; their offsets; seeds; first and last slices.
    """
    count, ndim = boxes.shape[0], boxes.shape[2]
    area, rank, run = np.empty(count, boxes.dtype), np.empty(count, np.int64), np.empty(count, np.int64)
    for i in range(count):
        rank[by_score[i]] = i
        area[i] = boxes[i, 1, 0] - boxes[i, 0, 0] + extra
        for k in range(1, ndim):
            area[i] *= boxes[i, 1, k] - boxes[i, 0, k] + extra
    begin, runs = np.empty(count + 1, np.int64), 0  # of the rows of one label and slice
    for i in range(count):
        row, before = place[i], place[max(i - 1, 0)]
        if i == 0 or labels[row] != labels[before] or slices[row] != slices[before]:
            begin[runs] = i
            runs += 1
        run[row] = runs - 1
    begin[runs] = count
    free = np.ones(count, np.bool_)
    members, offsets, seeds = np.empty(count, np.int64), np.zeros(count + 1, np.int64), np.empty(count, np.int64)
    first, last = np.empty(count, np.int64), np.empty(count, np.int64)
    clusters = filled = 0
    for seed in by_score:
        if not free[seed]:
            continue
        free[seed] = False
        start = filled
        members[filled] = rank[seed]
        filled += 1
        first[clusters] = last[clusters] = slices[seed]
        for step in (0, -1, 1):  # its own slice, downwards, upwards
            here = run[seed] + step
            while 0 <= here < runs:
                row = place[begin[here]]
                edge = first[clusters] if step < 0 else last[clusters]
                if labels[row] != labels[seed] or slices[row] != edge + step:
                    break
                before = filled
                for i in range(begin[here], begin[here + 1]):
                    row = place[i]
                    if not free[row]:
                        continue
                    intersection = boxes.dtype.type(1)
                    for k in range(ndim):
                        extent = min(boxes[row, 1, k], boxes[seed, 1, k]) - max(boxes[row, 0, k], boxes[seed, 0, k])
                        intersection *= max(extent + extra, boxes.dtype.type(0))
                    if intersection > iou_threshold * (area[row] + area[seed] - intersection):
                        free[row] = False
                        members[filled] = rank[row]
                        filled += 1
                if step == 0 or filled == before:
                    break
                if step < 0:
                    first[clusters] -= 1
                else:
                    last[clusters] += 1
                here += step
        members[start:filled] = by_score[np.sort(members[start:filled])]
        seeds[clusters] = seed
        clusters += 1
        offsets[clusters] = filled
    return members, offsets[: clusters + 1], seeds[:clusters], first[:clusters], last[:clusters]
