"""Matching of anchors, looking only at those near an object."""

# mypy: disable-error-code="assignment, no-untyped-def"

import numpy as np

from boxel.ops.kernels.jit import jit


@jit
def match_by_iou(anchors, boxes, positive, negative, background, ignored):
    """`match_iou` without force: for a run of anchors only those objects count that touch its hull.

    Returns:
        The match of each anchor; of each object, its best IoU and anchor (-1 if none touches it).
    """
    count, ndim, run = len(anchors), anchors.shape[2], 64
    matched = np.empty(count, np.int64)
    best, index = np.empty(run, anchors.dtype), np.empty(run, np.int64)
    low, high = np.empty(ndim, anchors.dtype), np.empty(ndim, anchors.dtype)
    record, champion = np.zeros(len(boxes), anchors.dtype), np.full(len(boxes), -1, np.int64)
    area = np.empty(len(boxes), anchors.dtype)
    smallest = np.finfo(anchors.dtype).tiny
    for j in range(len(boxes)):
        area[j] = boxes[j, 1, 0] - boxes[j, 0, 0]
        for k in range(1, ndim):
            area[j] *= boxes[j, 1, k] - boxes[j, 0, k]
    for begin in range(0, count, run):
        end = min(begin + run, count)
        for k in range(ndim):
            first, last = anchors[begin, 0, k], anchors[begin, 1, k]
            for i in range(begin + 1, end):
                first, last = min(first, anchors[i, 0, k]), max(last, anchors[i, 1, k])
            low[k], high[k] = first, last
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
    return matched, record, champion


@jit
def nearest_cells(anchors, per_cell, points, count):
    """`(points, count)` cells whose anchors have the nearest centres, nearest first, ties by cell."""
    ndim, half = anchors.shape[2], anchors.dtype.type(0.5)
    rows = np.empty((len(points), count), np.int64)
    distance = np.full((len(points), count), np.inf, anchors.dtype)
    centre = np.empty(ndim, anchors.dtype)
    for cell in range(len(anchors) // per_cell):
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
            place = min(cell, count - 1)
            while place > 0 and far < distance[p, place - 1]:
                distance[p, place], rows[p, place] = distance[p, place - 1], rows[p, place - 1]
                place -= 1
            distance[p, place], rows[p, place] = far, cell
    return rows
