"""Matching of anchors; only anchors near an object are considered."""

# mypy: disable-error-code="assignment, no-untyped-def"

import numpy as np

from boxel.ops.kernels.jit import jit


@jit
def match_by_iou(anchors, boxes, positive, negative, background, ignored, matched, first, last):
    """`match_iou` without force, into `matched`; 64 anchors at a time look only at objects that touch their hull.

    Returns:
        For each object its best IoU and anchor (-1 if none touches it); whether an anchor is not finite or inverted.
    """
    ndim, run, broken = anchors.shape[2], 64, False
    best, index = np.empty(run, anchors.dtype), np.empty(run, np.int64)
    low, high = np.empty(ndim, anchors.dtype), np.empty(ndim, anchors.dtype)
    record, champion = np.zeros(len(boxes), anchors.dtype), np.full(len(boxes), -1, np.int64)
    area = np.empty(len(boxes), anchors.dtype)
    smallest = np.finfo(anchors.dtype).tiny
    for j in range(len(boxes)):
        area[j] = boxes[j, 1, 0] - boxes[j, 0, 0]
        for k in range(1, ndim):
            area[j] *= boxes[j, 1, k] - boxes[j, 0, k]
    for begin in range(first, last, run):
        end = min(begin + run, last)
        for k in range(ndim):
            low[k], high[k] = anchors[begin, 0, k], anchors[begin, 1, k]
            for i in range(begin, end):
                low[k], high[k] = min(low[k], anchors[i, 0, k]), max(high[k], anchors[i, 1, k])
                broken |= not anchors[i, 0, k] <= anchors[i, 1, k]
            broken |= not high[k] - low[k] < np.inf
        best[:] = 0
        for j in range(len(boxes)):
            touches = True
            for k in range(ndim):
                if low[k] >= boxes[j, 1, k] or high[k] <= boxes[j, 0, k]:
                    touches = False
                    break
            if not touches:
                continue
            for i in range(begin, end):
                extent = min(anchors[i, 1, 0], boxes[j, 1, 0]) - max(anchors[i, 0, 0], boxes[j, 0, 0])
                intersection, own = extent, anchors[i, 1, 0] - anchors[i, 0, 0]
                for k in range(1, ndim):
                    if extent <= 0:
                        break
                    extent = min(anchors[i, 1, k], boxes[j, 1, k]) - max(anchors[i, 0, k], boxes[j, 0, k])
                    intersection *= extent
                    own *= anchors[i, 1, k] - anchors[i, 0, k]
                if extent <= 0:
                    continue
                overlap = intersection / max(own + area[j] - intersection, smallest)
                if overlap > best[i - begin]:
                    best[i - begin], index[i - begin] = overlap, j
                if overlap > record[j]:
                    record[j], champion[j] = overlap, i
        for i in range(begin, end):
            overlap = best[i - begin]
            matched[i] = background if overlap < negative else ignored
            if overlap >= positive and overlap > 0:
                matched[i] = index[i - begin]
    return record, champion, broken


@jit
def nearest_cells(anchors, per_cell, points, count, first, last):
    """`(points, count)` cells whose anchors have the nearest centres, nearest first, ties by cell; their squares."""
    ndim, half = anchors.shape[2], anchors.dtype.type(0.5)
    rows = np.zeros((len(points), count), np.int64)
    distance = np.full((len(points), count), np.inf, anchors.dtype)
    centre = np.empty(ndim, anchors.dtype)
    for cell in range(first, last):
        for k in range(ndim):
            centre[k] = (anchors[cell * per_cell, 0, k] + anchors[cell * per_cell, 1, k]) * half
        for p in range(len(points)):
            far, worst = (centre[0] - points[p, 0]) ** 2, distance[p, count - 1]
            for k in range(1, ndim):
                if far >= worst:
                    break
                far += (centre[k] - points[p, k]) ** 2
            if far >= worst:
                continue
            place = min(cell - first, count - 1)
            while place > 0 and far < distance[p, place - 1]:
                distance[p, place], rows[p, place] = distance[p, place - 1], rows[p, place - 1]
                place -= 1
            distance[p, place], rows[p, place] = far, cell
    return rows, distance
