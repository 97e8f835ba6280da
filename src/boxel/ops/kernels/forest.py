"""Overlaps by trees of bounding boxes: the greedy rule, soft NMS, fusion, joining of slices.

Every run of boxes (one label; for slices, one label and slice) has its own tree, in which each node is the hull of
`_FAN` neighbours along a curve. Trees of different runs share nothing, so runs can be processed at the same time. All
of it is in one file because numba does not notice that a kernel called from another file has changed.
"""

# mypy: disable-error-code="assignment, no-untyped-def"

import numpy as np

from boxel.ops.kernels.jit import jit

_FAN = 8  # children per node


@jit
def layout(begins):
    """Where each run's nodes begin: leaves first, then level by level, the root last."""
    first_node = np.zeros(len(begins), np.int64)
    for run in range(len(begins) - 1):
        width, nodes = begins[run + 1] - begins[run], 0
        while width > 1 or nodes == 0:
            width = (width + _FAN - 1) // _FAN
            nodes += width
        first_node[run + 1] = first_node[run] + nodes
    return first_node


@jit
def plant(all_boxes, place, begins, first_node, forest, slot, first, last):
    """Fill the trees of some runs: boxes along the curve; hull, children, parent and living children of nodes."""
    boxes, hull, children, parent, alive = forest
    ndim = boxes.shape[2]
    for run in range(first, last):
        for i in range(begins[run], begins[run + 1]):
            slot[place[i]] = i
            for corner in range(2):
                for k in range(ndim):
                    boxes[i, corner, k] = all_boxes[place[i], corner, k]
        node, below, below_end, level_boxes = first_node[run], begins[run], begins[run + 1], boxes
        while True:
            start = node
            while below < below_end:
                end = min(below + _FAN, below_end)
                children[node, 0], children[node, 1], alive[node] = below, end, end - below
                for k in range(ndim):
                    low, high = level_boxes[below, 0, k], level_boxes[below, 1, k]
                    for i in range(below + 1, end):
                        low, high = min(low, level_boxes[i, 0, k]), max(high, level_boxes[i, 1, k])
                    hull[node, 0, k], hull[node, 1, k] = low, high
                if start > first_node[run]:
                    for i in range(below, end):
                        parent[i] = node
                below, node = end, node + 1
            if node - start <= 1:
                parent[start] = -1
                break
            below, below_end, level_boxes = start, node, hull


@jit
def _leaves(begins, first_node, run):
    """Return the end of the leaves of a run."""
    return first_node[run] + (begins[run + 1] - begins[run] + _FAN - 1) // _FAN


@jit
def _find(forest, seed, root, leaves, stack, touched):
    """Find the leaves with living children whose hull the box in slot `seed` touches; returns their number."""
    boxes, hull, children, _, alive = forest
    height, count = 1, 0
    stack[0] = root
    while height > 0:
        height -= 1
        node = stack[height]
        if alive[node] == 0:
            continue
        touches = True
        for k in range(boxes.shape[2]):
            if hull[node, 0, k] >= boxes[seed, 1, k] or hull[node, 1, k] <= boxes[seed, 0, k]:
                touches = False
                break
        if not touches:
            continue
        if node < leaves:
            touched[count] = node
            count += 1
        else:
            for child in range(children[node, 0], children[node, 1]):
                stack[height] = child
                height += 1
    return count


@jit
def _fell(forest, leaf):
    """Record that one child of a leaf has died."""
    parent, alive = forest[3], forest[4]
    node = leaf
    alive[node] -= 1
    while alive[node] == 0 and parent[node] >= 0:
        node = parent[node]
        alive[node] -= 1


@jit
def _area(boxes, i):
    area = boxes[i, 1, 0] - boxes[i, 0, 0]
    for k in range(1, boxes.shape[2]):
        area *= boxes[i, 1, k] - boxes[i, 0, k]
    return area


@jit
def _iou(boxes, i, others, j, area):
    """Return the IoU of two boxes, `area` being that of the first; the operations of `boxes.iou` in the same order."""
    extent = min(boxes[i, 1, 0], others[j, 1, 0]) - max(boxes[i, 0, 0], others[j, 0, 0])
    intersection, other = extent, others[j, 1, 0] - others[j, 0, 0]
    for k in range(1, boxes.shape[2]):
        if extent <= 0:
            break
        extent = min(boxes[i, 1, k], others[j, 1, k]) - max(boxes[i, 0, k], others[j, 0, k])
        intersection *= extent
        other *= others[j, 1, k] - others[j, 0, k]
    if extent <= 0:
        return boxes.dtype.type(0)
    return intersection / max(area + other - intersection, np.finfo(boxes.dtype).tiny)


@jit
def lead(forest, place, slot, begins, first_node, by_score, iou_threshold, most, leader, first, last):
    """Apply the greedy rule of `leaders.find_leaders` to some runs; `leader` is -1 where a run stopped early."""
    boxes, children = forest[0], forest[2]
    stack = np.empty(_FAN * 24, np.int64)
    for run in range(first, last):
        begin, end, root = begins[run], begins[run + 1], first_node[run + 1] - 1
        leaves, touched = _leaves(begins, first_node, run), np.empty((end - begin) // _FAN + 1, np.int64)
        led = np.full(end - begin, -1, np.int32)  # in slots, so that neighbours lie together
        leaders = 0
        for best in by_score[begin:end]:
            seed = slot[best]
            if leaders >= most:
                break
            if led[seed - begin] >= 0:
                continue
            leaders += 1
            area = _area(boxes, seed)
            for i in range(_find(forest, seed, root, leaves, stack, touched)):
                for j in range(children[touched[i], 0], children[touched[i], 1]):
                    if led[j - begin] < 0 and (j == seed or _iou(boxes, seed, boxes, j, area) > iou_threshold):
                        led[j - begin] = seed
                        _fell(forest, touched[i])
            led[seed - begin] = seed  # a box without extent touches no hull
        for i in range(begin, end):
            leader[place[i]] = place[led[i - begin]] if led[i - begin] >= 0 else -1


@jit
def soften(
    forest, place, slot, begins, first_node, by_score, scores, kept, gaussian, sigma, iou_threshold, min_score,
    first, last,
):  # fmt: skip
    """Soft NMS of some runs: lowers `scores` and marks the rows that are `kept`.

    A heap of earlier scores, in place of `by_score`, gives the candidate for the next box. Scores only fall: a
    candidate whose score has fallen goes back into the heap.
    """
    boxes, children = forest[0], forest[2]
    stack = np.empty(_FAN * 24, np.int64)
    for run in range(first, last):
        begin, end, root = begins[run], begins[run + 1], first_node[run + 1] - 1
        leaves, touched = _leaves(begins, first_node, run), np.empty((end - begin) // _FAN + 1, np.int64)
        heap, size = by_score[begin:end], end - begin
        was, dead = scores[heap], np.zeros(end - begin, np.bool_)
        while size > 0:
            row, current = heap[0], scores[heap[0]]
            if current == was[0]:
                if not current >= min_score:
                    break
                kept[row] = dead[slot[row] - begin] = True
                seed = slot[row]
                area = _area(boxes, seed)
                for i in range(_find(forest, seed, root, leaves, stack, touched)):
                    for j in range(children[touched[i], 0], children[touched[i], 1]):
                        if j == seed:
                            _fell(forest, touched[i])
                        if dead[j - begin]:
                            continue
                        overlap = np.float64(_iou(boxes, seed, boxes, j, area))
                        if gaussian:
                            scores[place[j]] *= np.exp(-overlap * overlap / sigma)
                        elif overlap > iou_threshold:
                            scores[place[j]] *= 1 - overlap
                        if not scores[place[j]] >= min_score:
                            dead[j - begin] = True
                            _fell(forest, touched[i])
                size -= 1
                row, current = heap[size], was[size]
            at = 0  # the row sinks to its place: higher scores first, of equal ones the first row
            while True:
                child = 2 * at + 1
                if child + 1 < size and (
                    was[child + 1] > was[child] or (was[child + 1] == was[child] and heap[child + 1] < heap[child])
                ):
                    child += 1
                if child >= size or current > was[child] or (current == was[child] and row < heap[child]):
                    break
                heap[at], was[at] = heap[child], was[child]
                at = child
            heap[at], was[at] = row, current


@jit
def follow_means(
    forest, place, slot, begins, first_node, by_score, scores, iou_threshold, steps, leader, weights, first, last
):
    """Weighted box fusion of some runs: the first box of each box's cluster, and in its slot the weight of the cluster.

    The mean of the cluster replaces that box in `forest`, where the box itself is no longer needed. A hull covers all
    means that the clusters opened below it have had.
    """
    boxes, hull, children, parent, _ = forest
    ndim, stack = boxes.shape[2], np.empty(_FAN * 24, np.int64)
    for run in range(first, last):
        begin, end, root = begins[run], begins[run + 1], first_node[run + 1] - 1
        leaves, touched = _leaves(begins, first_node, run), np.empty((end - begin) // _FAN + 1, np.int64)
        opened = np.full(end - begin, -1, np.int32)
        hull[first_node[run] : root + 1, 0] = np.inf
        hull[first_node[run] : root + 1, 1] = -np.inf
        clusters = 0
        for row in by_score[begin:end]:
            seed, chosen, best = slot[row], -1, iou_threshold
            area = _area(boxes, seed)
            for i in range(_find(forest, seed, root, leaves, stack, touched)):
                for j in range(children[touched[i], 0], children[touched[i], 1]):
                    if opened[j - begin] < 0:
                        continue
                    overlap = np.rint(_iou(boxes, seed, boxes, j, area) * steps) / steps
                    equal = chosen >= 0 and overlap == best and opened[j - begin] < opened[chosen - begin]
                    if overlap > best or equal:
                        chosen, best = j, overlap
            if chosen < 0:
                chosen, opened[seed - begin], weights[seed] = seed, clusters, 0
                clusters += 1
            leader[row] = place[chosen]
            weights[chosen] += scores[row]
            if weights[chosen] > 0:
                part = scores[row] / weights[chosen]
                for corner in range(2):
                    for k in range(ndim):
                        boxes[chosen, corner, k] += (boxes[seed, corner, k] - boxes[chosen, corner, k]) * part
            node, grows = first_node[run] + (chosen - begin) // _FAN, True
            while grows and node >= 0:
                grows = False
                for k in range(ndim):
                    if boxes[chosen, 0, k] < hull[node, 0, k]:
                        hull[node, 0, k], grows = boxes[chosen, 0, k], True
                    if boxes[chosen, 1, k] > hull[node, 1, k]:
                        hull[node, 1, k], grows = boxes[chosen, 1, k], True
                node = parent[node]


@jit
def join_slices(forest, place, slot, begins, first_node, groups, slices, by_score, iou_threshold, leader, first, last):
    """`slices.merge_slices` for some labels: the first row of the cluster of each box.

    A run is one slice of one label; `groups` says where the runs of each label begin, and `by_score` has the rows by
    label, then by score.
    """
    boxes, children = forest[0], forest[2]
    stack, touched = np.empty(_FAN * 24, np.int64), np.empty(len(place) // _FAN + 1, np.int64)
    for group in range(first, last):
        for best in by_score[begins[groups[group]] : begins[groups[group + 1]]]:
            if leader[best] >= 0:
                continue
            seed, area = slot[best], _area(boxes, slot[best])
            leader[best], own = best, np.searchsorted(begins, seed, side="right") - 1
            _fell(forest, first_node[own] + (seed - begins[own]) // _FAN)
            for step in (0, -1, 1):  # its own slice, downwards, upwards
                run = own + step
                while groups[group] <= run < groups[group + 1]:
                    if slices[place[begins[run]]] != slices[best] + run - own:
                        break
                    taken, leaves = 0, _leaves(begins, first_node, run)
                    for i in range(_find(forest, seed, first_node[run + 1] - 1, leaves, stack, touched)):
                        for j in range(children[touched[i], 0], children[touched[i], 1]):
                            if leader[place[j]] < 0 and _iou(boxes, seed, boxes, j, area) > iou_threshold:
                                leader[place[j]] = best
                                _fell(forest, touched[i])
                                taken += 1
                    if step == 0 or taken == 0:
                        break
                    run += step
