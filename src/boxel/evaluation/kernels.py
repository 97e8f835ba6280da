"""Loops that an evaluation spends its time in, compiled: metrics under many weights, and boxes that meet."""

# mypy: disable-error-code="no-untyped-def"

import numpy as np

from boxel.ops.kernels.jit import jit


@jit
def curve_metrics(weights, true_positives, groups, ends, objects, images, steps, enveloped, rates, between):
    """`(r, 6 + rates)` average precision, highest recall, precision, recall and F1 at the point of the highest F1, the
    position of that point (nan without a true positive), and sensitivities; all nan without objects.

    The same as `curve_average` of `Ranking.counts(weights)`; `steps` is 0 for an area.
    """  # noqa: D205
    num_points = len(ends)
    out = np.full((len(weights), 6 + len(rates)), np.nan)
    positives, negatives = np.empty(num_points), np.empty(num_points)
    rises = np.empty(num_points, np.int64)  # where a true positive counts: F1 and precision are highest at one of these
    for r in range(len(weights)):
        if not objects[r] > 0:
            continue
        true, false, row, num_rises = 0.0, 0.0, 0, 0
        for point in range(num_points):
            before = true
            while row <= ends[point]:
                if true_positives[row]:
                    true += weights[r, groups[row]]
                else:
                    false += weights[r, groups[row]]
                row += 1
            positives[point], negatives[point] = true, false
            if true > before or point == 0:
                rises[num_rises] = point
                num_rises += 1
        out[r, 1] = true / objects[r]

        out[r, 2:5] = 0.0
        for point in rises[:num_rises]:  # the first of the best: the highest score
            f1 = 2 * positives[point] / (positives[point] + negatives[point] + objects[r])
            if f1 > out[r, 4]:
                out[r, 2] = positives[point] / (positives[point] + negatives[point])
                out[r, 3], out[r, 4], out[r, 5] = positives[point] / objects[r], f1, point

        best, average = 0.0, 0.0
        for point in rises[:num_rises][::-1]:
            detected = positives[point] + negatives[point]
            precision = positives[point] / detected if detected > 0 else 0.0
            best = max(best, precision) if enveloped else precision
            reached, before = positives[point], positives[point - 1] if point else 0.0
            if steps:  # recalls on the grid that this threshold is the first to reach
                reached = np.floor(reached / objects[r] * steps + 1e-9) + 1
                before = np.floor(before / objects[r] * steps + 1e-9) + 1 if point else 0.0
            average += best * (reached - before)
        out[r, 0] = average / (steps + 1 if steps else objects[r])  # of whole numbers: 1 stays 1 to the last bit

        last = -1
        for k in range(len(rates)):  # ascending
            beyond = num_points  # the first point with more false positives
            while last + 1 < beyond:
                middle = (last + 1 + beyond) // 2
                if negatives[middle] / images[r] <= rates[k] + 1e-12:
                    last = middle
                else:
                    beyond = middle
            value = positives[last] / objects[r] if last >= 0 else 0.0
            if between and last + 1 < num_points:
                below = negatives[last] / images[r] if last >= 0 else 0.0
                share = (rates[k] - below) / (negatives[last + 1] / images[r] - below)
                value += share * (positives[last + 1] / objects[r] - value)
            out[r, 6 + k] = value
    return out


@jit
def find_meeting(regions, others, begin, end, axis, starts, found):
    """Count for each of `regions (n, 2, d)` those of `others (m, 2, d)` in its rows `begin[i]` to `end[i]` that it
    meets; borders belong to a region. Between `begin` and `end` the lower corners ascend along `axis`.

    Their rows are written into `found`, unless that is empty, from `starts[i]` on.
    """  # noqa: D205
    longest = 0.0
    for j in range(len(others)):
        longest = max(longest, others[j, 1, axis] - others[j, 0, axis])
    counts = np.zeros(len(regions), np.int64)
    for i in range(len(regions)):
        low, high = regions[i, 0, axis], regions[i, 1, axis]
        ascending = others[begin[i] : end[i], 0, axis]
        # A rounding error of the difference must not lose a region.
        first = np.searchsorted(ascending, low - longest - 1e-6 * (abs(low) + longest))
        last = np.searchsorted(ascending, high, side="right")
        for j in range(begin[i] + first, begin[i] + last):
            meets = True
            for k in range(regions.shape[2]):
                if others[j, 0, k] > regions[i, 1, k] or others[j, 1, k] < regions[i, 0, k]:
                    meets = False
                    break
            if meets:
                if len(found):
                    found[starts[i] + counts[i]] = j
                counts[i] += 1
    return counts
