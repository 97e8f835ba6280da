"""Metrics of one ranking under many weights, compiled because a bootstrap spends its time here."""

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
    for r in range(len(weights)):
        if not objects[r] > 0:
            continue
        true, false, row = 0.0, 0.0, 0
        for point in range(num_points):
            while row <= ends[point]:
                if true_positives[row]:
                    true += weights[r, groups[row]]
                else:
                    false += weights[r, groups[row]]
                row += 1
            positives[point], negatives[point] = true, false
        out[r, 1] = true / objects[r]

        out[r, 2:5] = 0.0
        for point in range(num_points):  # the first of the best: the highest score
            f1 = 2 * positives[point] / (positives[point] + negatives[point] + objects[r])
            if f1 > out[r, 4]:
                out[r, 2] = positives[point] / (positives[point] + negatives[point])
                out[r, 3], out[r, 4], out[r, 5] = positives[point] / objects[r], f1, point

        best, average = 0.0, 0.0
        for point in range(num_points - 1, -1, -1):
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
            while last + 1 < num_points and negatives[last + 1] / images[r] <= rates[k] + 1e-12:
                last += 1
            value = positives[last] / objects[r] if last >= 0 else 0.0
            if between and last + 1 < num_points:
                below = negatives[last] / images[r] if last >= 0 else 0.0
                share = (rates[k] - below) / (negatives[last + 1] / images[r] - below)
                value += share * (positives[last + 1] / objects[r] - value)
            out[r, 6 + k] = value
    return out
