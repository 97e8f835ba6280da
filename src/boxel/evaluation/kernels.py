"""Loops that an evaluation spends its time in, compiled: metrics under many weights, and boxes that meet."""

# mypy: disable-error-code="no-untyped-def"

import numpy as np

from boxel.ops.kernels.jit import jit

LANES = 16  # rows of the weights that are summed side by side, by the vector units of a processor


def curve_metrics(weights, *arguments):
    """The metrics of `fill_curve_metrics`; counts up to 255 stay bytes, of which eight times as many fit a cache."""
    for dtype, sums, largest in ((np.uint8, np.int64, 255.0), (np.float64, np.float64, np.inf)):
        tile, counts = np.zeros((weights.shape[1], LANES), dtype), np.zeros((2, LANES), sums)
        is_exact, found = fill_curve_metrics(tile, counts, largest, weights, *arguments)
        if is_exact:
            break
    return found


@jit
def fill_curve_metrics(
    tile, counts, largest, weights, true_positives, groups, ends, classes, objects, images, steps, enveloped, rates,
    between,
):  # fmt: skip
    """Whether `tile (g, LANES)`, of whole numbers up to `largest` unless that is infinite, holds the weights; if so
    `(r, k, 6 + rates)` average precision, highest recall, precision, recall and F1 at the point of the highest F1,
    the position of that point (nan without a true positive), and sensitivities; all nan without objects.

    The same as `curve_average` of `Ranking.counts(weights)` for each class, of which the points `classes[i]` to
    `classes[i + 1]` are; `steps` is 0 for an area, and without `rates` there is no point of the highest F1.
    """  # noqa: D205
    num_classes = len(classes) - 1
    out = np.full((len(weights), num_classes, 6 + len(rates)), np.nan)
    most = 1 if len(ends) == 0 else np.max(np.diff(classes))
    # Where a true positive counts: F1 and precision are highest at one of these.
    stops, positives, negatives = np.empty(most, np.int64), np.empty((most, LANES)), np.empty((most, LANES))
    true, false, wanted = counts[0], counts[1], np.ones(LANES)
    for start in range(0, len(weights), LANES):
        lanes = min(LANES, len(weights) - start)
        is_exact = True
        for group in range(len(tile)):
            for lane in range(lanes):
                weight = weights[start + lane, group]
                is_exact &= largest == np.inf or (0 <= weight <= largest and weight == np.floor(weight))
                tile[group, lane] = weight
        if not is_exact:
            return False, out
        row = 0
        for label in range(num_classes):
            first, beyond, num_stops = classes[label], classes[label + 1], 0
            counts[:] = 0
            for point in range(first, beyond):
                is_stop = between or point == first
                while row <= ends[point]:
                    group = groups[row]
                    if true_positives[row]:
                        is_stop = True
                        for lane in range(LANES):
                            true[lane] += tile[group, lane]
                    else:
                        for lane in range(LANES):
                            false[lane] += tile[group, lane]
                    row += 1
                if is_stop:
                    for lane in range(LANES):
                        positives[num_stops, lane], negatives[num_stops, lane] = true[lane], false[lane]
                    stops[num_stops] = point - first
                    num_stops += 1
            wanted[:lanes] = objects[start : start + lanes, label]
            average = _averages(positives, negatives, num_stops, wanted, steps, enveloped)
            best = _best_f1(positives, negatives, num_stops if len(rates) else 0, wanted)
            for lane in range(lanes):
                if not wanted[lane] > 0:
                    continue
                found = out[start + lane, label]
                found[0], found[1], found[2:5] = average[lane], true[lane] / wanted[lane], 0.0
                if best[lane] >= 0:
                    hits, errors = positives[best[lane], lane], negatives[best[lane], lane]
                    found[2], found[3] = hits / (hits + errors), hits / wanted[lane]
                    found[4], found[5] = 2 * hits / (hits + errors + wanted[lane]), stops[best[lane]]
                if len(rates):
                    per_image = negatives[:num_stops, lane] / images[start + lane]
                    _sensitivities(positives[:num_stops, lane] / wanted[lane], per_image, rates, between, found[6:])
    return True, out


@jit
def _averages(positives, negatives, num_stops, objects, steps, enveloped):
    """`(LANES,)` average precision from the counts at the stops."""
    best, average, reached, before = np.zeros(LANES), np.zeros(LANES), np.zeros(LANES), np.zeros(LANES)
    for stop in range(num_stops - 1, -2, -1):
        for lane in range(LANES):
            before[lane] = positives[stop, lane] if stop >= 0 else 0.0
            if steps and stop >= 0:  # recalls on the grid that this threshold is the first to reach
                before[lane] = np.floor(before[lane] / objects[lane] * steps + 1e-9) + 1
        if stop + 1 < num_stops:
            for lane in range(LANES):
                detected = positives[stop + 1, lane] + negatives[stop + 1, lane]
                precision = positives[stop + 1, lane] / detected if detected > 0 else 0.0
                best[lane] = max(best[lane], precision) if enveloped else precision
                average[lane] += best[lane] * (reached[lane] - before[lane])
        for lane in range(LANES):
            reached[lane] = before[lane]
    return average / (steps + 1) if steps else average / objects  # of whole numbers: 1 stays 1 to the last bit


@jit
def _best_f1(positives, negatives, num_stops, objects):
    """`(LANES,)` the first stop with the highest F1, which is the one of the highest score; -1 without any."""
    best, highest = np.full(LANES, -1), np.zeros(LANES)
    for stop in range(num_stops):
        for lane in range(LANES):
            f1 = 2 * positives[stop, lane] / (positives[stop, lane] + negatives[stop, lane] + objects[lane])
            best[lane] = stop if f1 > highest[lane] else best[lane]
            highest[lane] = max(highest[lane], f1)
    return best


@jit
def _sensitivities(recall, per_image, rates, between, out):
    """Write the recalls at the ascending `rates` of false positives per image into `out`."""
    last = -1
    for k in range(len(rates)):
        beyond = len(recall)  # the first point with more false positives
        while last + 1 < beyond:
            middle = (last + 1 + beyond) // 2
            if per_image[middle] <= rates[k] + 1e-12:
                last = middle
            else:
                beyond = middle
        out[k] = recall[last] if last >= 0 else 0.0
        if between and last + 1 < len(recall):
            below = per_image[last] if last >= 0 else 0.0
            out[k] += (rates[k] - below) / (per_image[last + 1] - below) * (recall[last + 1] - out[k])


@jit
def stepwise_terms(weights, true_positives, groups, ends):
    """`(t, r)` the summands of the area under precision and recall, not yet divided by the number of objects, `(r,)`
    twice the area under the ROC curve in pairs, and `(r,)` all true and all false positives.
    """  # noqa: D205
    resamples, row = len(weights), 0
    of_groups = weights.T.copy()  # what is read for a group, and written for a point, is next to each other
    terms = np.zeros((len(ends), resamples))
    area, true, false = np.zeros(resamples), np.zeros(resamples), np.zeros(resamples)
    for point in range(len(ends)):
        true_before, false_before = true.copy(), false.copy()
        while row <= ends[point]:
            counts = true if true_positives[row] else false
            counts += of_groups[groups[row]]
            row += 1
        for r in range(resamples):
            if true[r] + false[r] > 0:
                terms[point, r] = (true[r] - true_before[r]) * (true[r] / (true[r] + false[r]))
            area[r] += (false[r] - false_before[r]) * (true_before[r] + true[r])
    return terms, area, true, false


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
