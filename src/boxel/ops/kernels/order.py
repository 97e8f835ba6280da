"""Checks of boxes, and their sorting."""

# mypy: disable-error-code="assignment, no-untyped-def"

import numpy as np

from boxel.ops.kernels.jit import jit

_BLOCK = 256  # boxes that fit into the first-level cache


@jit
def first_bad_row(boxes, first, last):
    """Return the first box with NaN, an infinity or a lower corner above the upper; -1 if there is none."""
    for begin in range(first, last, _BLOCK):
        end, good = min(begin + _BLOCK, last), True
        for k in range(boxes.shape[2]):
            for i in range(begin, end):  # without a branch, so that it is vectorised
                good &= (boxes[i, 0, k] <= boxes[i, 1, k]) & (boxes[i, 1, k] - boxes[i, 0, k] < np.inf)
        for i in range(begin, begin if good else end):
            for k in range(boxes.shape[2]):
                if not (boxes[i, 0, k] <= boxes[i, 1, k] and boxes[i, 1, k] - boxes[i, 0, k] < np.inf):
                    return i
    return -1


@jit
def ascending(keys):
    """Stable argsort of unsigned integers, by digits of 11 bits."""
    count, shift, largest = len(keys), np.uint64(0), np.uint64(0)
    order, other, first = np.empty(count, np.int32), np.empty(count, np.int32), np.empty(2049, np.int64)
    for i in range(count):
        order[i] = i
        largest |= np.uint64(keys[i])
    while largest >> shift:
        for digit in range(2049):
            first[digit] = 0
        for i in range(count):
            first[np.int64((np.uint64(keys[i]) >> shift) & np.uint64(2047)) + 1] += 1
        for digit in range(2048):
            first[digit + 1] += first[digit]
        for j in range(count):
            i = order[j]
            digit = np.int64((np.uint64(keys[i]) >> shift) & np.uint64(2047))
            other[first[digit]] = i
            first[digit] += 1
        order, other = other, order
        shift += np.uint64(11)
    return order


@jit
def curve_keys(boxes, numbers, bits):
    """Sort keys that put neighbours of one number together: the Z-order curve of the centres."""
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
    for i in range(len(numbers)):
        keys[i] |= np.uint64(numbers[i] << (bits * ndim))
    return keys


@jit
def split(numbers, place, by_score):
    """Where runs of one number begin in `place`, which is sorted by number; and `by_score` grouped by run."""
    count, runs = len(place), 0
    run, grouped = np.empty(count, np.int32), np.empty(count, np.int32)
    for i in range(count):
        if i == 0 or (len(numbers) > 0 and numbers[place[i]] != numbers[place[i - 1]]):
            runs += 1
        run[place[i]] = runs - 1
    begins = np.zeros(runs + 1, np.int64)
    for i in range(count):
        begins[run[i] + 1] += 1
    for i in range(runs):
        begins[i + 1] += begins[i]
    filled = begins[:runs].copy()
    for row in by_score:
        grouped[filled[run[row]]] = row
        filled[run[row]] += 1
    return begins, grouped
