"""Clusters from leaders, and their means."""

# mypy: disable-error-code="assignment, no-untyped-def"

import numpy as np

from boxel.ops.kernels.jit import jit


@jit
def leaders_of(leader, by_score, most):
    """The first `most` rows that lead themselves, by descending score."""
    leaders, count = np.empty(min(most, len(leader)), np.int64), 0
    for row in by_score:
        if count == most:
            break
        if leader[row] == row:
            leaders[count] = row
            count += 1
    return leaders[:count]


@jit
def group(leader, by_score):
    """Group the followers of each leader; leaders and followers by descending score: rows, begin, sizes."""
    count, clusters = len(leader), 0
    number = np.empty(count, np.int32)
    for row in by_score:
        if leader[row] == row:
            number[row] = clusters
            clusters += 1
    sizes, begin = np.zeros(clusters, np.int32), np.zeros(clusters, np.int32)
    for row in range(count):
        sizes[number[leader[row]]] += 1
    for cluster in range(1, clusters):
        begin[cluster] = begin[cluster - 1] + sizes[cluster - 1]
    rows = np.empty(count, np.int32)
    for row in by_score:
        cluster = number[leader[row]]
        rows[begin[cluster]] = row
        begin[cluster] += 1
    for cluster in range(clusters):
        begin[cluster] -= sizes[cluster]
    return rows, begin, sizes


@jit
def fuse(
    boxes, scores, rows, offsets, sizes, views, num_views, factors, coverage, expected_views, one_vote, by_area, extra,
    fused, fused_scores, first, last,
):  # fmt: skip
    """The sums of weighted box clustering for some clusters. Contributing rows move to the front of their cluster.

    Args:
        boxes, scores: of all rows.
        rows, offsets, sizes: of the clusters, by `group`; `rows` and `sizes` change.
        views, factors, coverage: of all rows, or none.
        num_views: more than every view.
        expected_views, one_vote, by_area, extra: see `clustering._Rule`.
        fused, fused_scores: of the clusters, to be filled.
        first, last: the clusters in question.
    """
    ndim, largest = boxes.shape[2], 0
    for cluster in range(first, last):
        largest = max(largest, sizes[cluster])
    weight, seen = np.empty(largest), np.full(num_views, -1, np.int64)
    for cluster in range(first, last):
        begin, best, size, distinct = offsets[cluster], rows[offsets[cluster]], 0, 0
        total = covered = votes = 0.0
        for member in range(begin, offsets[cluster + 1]):
            row = rows[member]
            if len(views) > 0 and seen[views[row]] == cluster:
                if one_vote:
                    continue
            else:
                distinct += 1
                if len(views) > 0:
                    seen[views[row]] = cluster
            intersection, area, best_area = 1.0, 1.0, 1.0
            for k in range(ndim):
                low, high = np.float64(boxes[row, 0, k]), np.float64(boxes[row, 1, k])
                best_low, best_high = np.float64(boxes[best, 0, k]), np.float64(boxes[best, 1, k])
                intersection *= max(0.0, min(high, best_high) - max(low, best_low) + extra)
                area *= high - low + extra
                best_area *= best_high - best_low + extra
            weight[size] = intersection / max(area + best_area - intersection, 1e-300)
            if by_area:
                weight[size] *= area
            if len(factors) > 0:
                weight[size] *= factors[row]
            total += weight[size]
            covered += coverage[row] if len(coverage) > 0 else 1.0
            rows[begin + size] = row
            size += 1
        sizes[cluster] = size
        if not total > 0:
            for i in range(size):
                weight[i] = 1.0
            total = np.float64(size)
        for i in range(size):
            votes += weight[i] * scores[rows[begin + i]]
        missing = max(0.0, expected_views * covered / size - distinct)
        fused_scores[cluster] = votes / (total + missing * total / size)
        for corner in range(2):
            for k in range(ndim):
                mean = 0.0
                for i in range(size):
                    row = rows[begin + i]
                    mean += boxes[row, corner, k] * (weight[i] * scores[row] if votes > 0 else weight[i])
                fused[cluster, corner, k] = mean / (votes if votes > 0 else total)


@jit
def reorder(order, boxes, scores, begin, sizes):
    """Put columns into the given order, in place; `order` is overwritten."""
    held, ndim = np.empty((2, boxes.shape[2]), boxes.dtype), boxes.shape[2]
    for start in range(len(order)):
        if order[start] < 0:
            continue
        for k in range(ndim):  # element by element: numba takes seconds to compile copies of slices
            held[0, k], held[1, k] = boxes[start, 0, k], boxes[start, 1, k]
        score, first, size, at = scores[start], begin[start], sizes[start], start
        while order[at] != start:
            source = order[at]
            order[at] = -1
            for k in range(ndim):
                boxes[at, 0, k], boxes[at, 1, k] = boxes[source, 0, k], boxes[source, 1, k]
            scores[at], begin[at], sizes[at] = scores[source], begin[source], sizes[source]
            at = source
        order[at] = -1
        for k in range(ndim):
            boxes[at, 0, k], boxes[at, 1, k] = held[0, k], held[1, k]
        scores[at], begin[at], sizes[at] = score, first, size


@jit
def take_runs(rows, begin, offsets):
    """Join runs of rows: the run that starts at `begin[i]` fills `offsets[i]` to `offsets[i + 1]`."""
    taken = np.empty(offsets[-1], np.int64)
    for i in range(len(begin)):
        for j in range(offsets[i], offsets[i + 1]):
            taken[j] = rows[begin[i] + j - offsets[i]]
    return taken
