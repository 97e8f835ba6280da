"""Order, and the greedy rule of NMS and clustering, by a tree over the boxes."""

# mypy: disable-error-code="assignment, no-untyped-def"

import numpy as np

from boxel.ops.kernels.jit import jit

_FAN = 8  # children per node


@jit
def first_bad_row(boxes):
    """The first box with a NaN, an infinity or a lower corner above the upper; -1 if there is none."""
    for i in range(boxes.shape[0]):
        for k in range(boxes.shape[2]):
            if not (boxes[i, 0, k] <= boxes[i, 1, k] and boxes[i, 1, k] - boxes[i, 0, k] < np.inf):
                return i
    return -1


@jit
def ascending(keys):
    """Stable argsort of uint64, by digits of 11 bits."""
    count, shift, largest = len(keys), np.uint64(0), np.uint64(0)
    order, other, first = np.empty(count, np.int32), np.empty(count, np.int32), np.empty(2049, np.int64)
    for i in range(count):
        order[i] = i
        largest |= keys[i]
    while largest >> shift:
        for digit in range(2049):
            first[digit] = 0
        for i in range(count):
            first[np.int64((keys[i] >> shift) & np.uint64(2047)) + 1] += 1
        for digit in range(2048):
            first[digit + 1] += first[digit]
        for j in range(count):
            i = order[j]
            digit = np.int64((keys[i] >> shift) & np.uint64(2047))
            other[first[digit]] = i
            first[digit] += 1
        order, other = other, order
        shift += np.uint64(11)
    return order


@jit
def curve_keys(boxes, labels, bits):
    """Sort keys that put neighbours of one label together: the Z-order curve of the centres."""
    count, ndim = boxes.shape[0], boxes.shape[2]
    keys = np.zeros(count, np.uint64)
    for k in range(ndim):
        first = last = np.float64(boxes[0, 0, k]) + boxes[0, 1, k]
        for i in range(count):
            middle = np.float64(boxes[i, 0, k]) + boxes[i, 1, k]
            first, last = min(first, middle), max(last, middle)
        scale = (2.0**bits - 1) / (last - first) if last > first else 0.0
        for i in range(count):
            cell = np.int64((np.float64(boxes[i, 0, k]) + boxes[i, 1, k] - first) * scale)
            for bit in range(bits):
                keys[i] |= np.uint64(((cell >> bit) & 1) << (bit * ndim + k))
    for i in range(len(labels)):
        keys[i] |= np.uint64(labels[i] << (bits * ndim))
    return keys


@jit
def lead(all_boxes, labels, place, by_score, iou_threshold, most):
    """Greedy suppression by a tree of bounding boxes: each node is the hull of `_FAN` neighbours.

    Args:
        all_boxes: `(n, 2, d)`, at least one.
        labels: `(n,)` int64 from 0, small; or none. A label is one more axis, `[label, label + 1)`.
        place: rows along a space-filling curve.
        by_score: rows by descending score.
        iou_threshold: not negative.
        most: stop after so many leaders.

    Returns:
        Leader of each row (-1 where stopped before), the leaders in order, and how many they are.
    """
    count, ndim = all_boxes.shape[0], all_boxes.shape[2]
    axes = ndim + 1 if len(labels) else ndim
    boxes, slot = np.empty((count, 2, axes), all_boxes.dtype), np.empty(count, np.int32)
    for i in range(count):
        row = place[i]
        slot[row] = i
        for corner in range(2):
            for k in range(ndim):
                boxes[i, corner, k] = all_boxes[row, corner, k]
            if axes > ndim:
                boxes[i, corner, ndim] = labels[row] + corner
    level_first, level_count, top = np.zeros(24, np.int64), np.zeros(24, np.int64), 0
    level_count[0] = (count + _FAN - 1) // _FAN
    while level_count[top] > 1:
        level_first[top + 1] = level_first[top] + level_count[top]
        level_count[top + 1] = (level_count[top] + _FAN - 1) // _FAN
        top += 1
    total = level_first[top] + 1
    hull = np.empty((total, 2, axes), boxes.dtype)
    alive = np.zeros(total, np.int32)  # children not yet led
    for level in range(top + 1):
        children = count if level == 0 else level_count[level - 1]
        for i in range(level_count[level]):
            node, begin, end = level_first[level] + i, i * _FAN, min((i + 1) * _FAN, children)
            alive[node] = end - begin
            for j in range(begin, end):
                child = boxes[j] if level == 0 else hull[level_first[level - 1] + j]
                for k in range(axes):
                    if j == begin or child[0, k] < hull[node, 0, k]:
                        hull[node, 0, k] = child[0, k]
                    if j == begin or child[1, k] > hull[node, 1, k]:
                        hull[node, 1, k] = child[1, k]
    leader = np.empty(count, np.int32)  # in slots, like `boxes`
    for i in range(count):
        leader[i] = -1
    leaders = np.empty(min(most, count), np.int64)
    found = 0
    stack_level, stack_index = np.empty(_FAN * 24, np.int64), np.empty(_FAN * 24, np.int64)
    smallest = np.finfo(boxes.dtype).tiny
    for best in by_score:
        seed = slot[best]
        if found >= most:
            break
        if leader[seed] >= 0:
            continue
        leaders[found] = best
        found += 1
        seed_area = boxes[seed, 1, 0] - boxes[seed, 0, 0]
        for k in range(1, axes):
            seed_area *= boxes[seed, 1, k] - boxes[seed, 0, k]
        stack_level[0], stack_index[0] = top, 0
        height = 1
        while height > 0:
            height -= 1
            level, i = stack_level[height], stack_index[height]
            begin = i * _FAN
            end = min(begin + _FAN, count if level == 0 else level_count[level - 1])
            for j in range(begin, end):
                if level > 0:
                    node = level_first[level - 1] + j
                    if alive[node] > 0:
                        touches = True
                        for k in range(axes):
                            if hull[node, 0, k] >= boxes[seed, 1, k] or hull[node, 1, k] <= boxes[seed, 0, k]:
                                touches = False
                                break
                        if touches:
                            stack_level[height], stack_index[height] = level - 1, j
                            height += 1
                    continue
                if leader[j] >= 0:
                    continue
                if j != seed:
                    extent = min(boxes[j, 1, 0], boxes[seed, 1, 0]) - max(boxes[j, 0, 0], boxes[seed, 0, 0])
                    area = boxes[j, 1, 0] - boxes[j, 0, 0]
                    intersection = extent
                    for k in range(1, axes):
                        if extent <= 0:
                            break
                        extent = min(boxes[j, 1, k], boxes[seed, 1, k]) - max(boxes[j, 0, k], boxes[seed, 0, k])
                        intersection *= extent
                        area *= boxes[j, 1, k] - boxes[j, 0, k]
                    if extent <= 0 or not intersection / max(seed_area + area - intersection, smallest) > iou_threshold:
                        continue
                leader[j] = seed
                node_level, node_index = 0, i
                alive[i] -= 1
                while alive[level_first[node_level] + node_index] == 0 and node_level < top:
                    node_level, node_index = node_level + 1, node_index // _FAN
                    alive[level_first[node_level] + node_index] -= 1
        if leader[seed] < 0:  # a box without extent touches no hull
            leader[seed] = seed
    result = np.empty(count, np.int64)
    for row in range(count):
        chosen = leader[slot[row]]
        result[row] = place[chosen] if chosen >= 0 else -1
    return result, leaders, found
