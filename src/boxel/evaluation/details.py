"""Tables behind single metrics: class confusion, box sizes, calibration of the scores."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from boxel.evaluation.bootstrap import in_blocks, interval
from boxel.evaluation.grouped_matches import CALIBRATION_BINS, calibration_bins, size_ratios
from boxel.evaluation.matching import MatchTable, Overlaps, Rule

MOST_CLASSES = 20  # that a confusion matrix names, for its size grows with their square


def size_strata(
    overlaps: Overlaps, limits: Sequence[float] | None, iou_threshold: float, rule: Rule
) -> tuple[list[float], dict[str, MatchTable]]:
    """The limits used, and the matches among objects of each range of sizes, by a name such as "27..125".

    Objects of other sizes are ignored, and so are detections of other sizes that match no object (as in COCO).

    Args:
        overlaps: to be matched.
        limits: volumes between the ranges; None: such that each range holds a third of the objects.
        iou_threshold: of the matching.
        rule: of the matching.
    """
    sizes = overlaps.table.object_sizes[~overlaps.table.object_ignored]
    if limits is None:
        limits = np.unique(np.quantile(sizes, [1 / 3, 2 / 3])).tolist() if len(np.unique(sizes)) > 1 else []
    limits = sorted(float(limit) for limit in limits)
    bounds = [0.0, *limits, np.inf]
    ranges = pairwise(bounds) if limits else ()
    return limits, {f"{a:g}..{b:g}": overlaps.within(a, b).match(iou_threshold, rule) for a, b in ranges}


def confusion_matrix(
    overlaps: Overlaps,
    iou_threshold: float,
    score_thresholds: Sequence[float | None],
    groups: np.ndarray,
    drawn: np.ndarray,
) -> tuple[dict[str, Any], np.ndarray]:
    """Classes of objects (rows) and of the detections that matched them (columns); the matching disregards classes.

    The last row, "background", counts unmatched detections, the last column, "missed", unmatched objects. Of more than
    `MOST_CLASSES` classes those are named that are most often taken for another, or another for them; the rest are
    one, "other (N classes)". Only detections from the score threshold of their class upwards take part, all where it is
    None.

    Args:
        overlaps: of `find_overlaps(..., across_classes=True)`.
        iou_threshold: of the greedy matching.
        score_thresholds: of each class.
        groups: `(cases,)` group index of each case.
        drawn: `(r, g)` weights of the groups in each resample, for the intervals of the counts "ci95"; may be empty.

    Returns:
        The table, and what it counts: class of the object and of the detection `(n, 2)`, the number of classes where
        there is none.
    """
    from scipy.sparse import coo_array

    classes = overlaps.table.classes
    cases, pairs = _pairs(overlaps, iou_threshold, score_thresholds)
    named = _most_confused(pairs, len(classes))
    others = len(classes) - len(named)
    names = [classes[label] for label in named] + [f"other ({others} classes)"] * bool(others)
    size = len(names) + 1
    place = np.full(len(classes) + 1, size - 2)
    place[named], place[-1] = np.arange(len(named)), size - 1
    cells, num_groups = place[pairs[:, 0]] * size + place[pairs[:, 1]], int(groups.max()) + 1
    of_group = coo_array((np.ones(len(cells)), (cells, groups[cases])), shape=(size * size, num_groups)).tocsr()
    counts = np.bincount(cells, minlength=size * size)
    out = {"rows": [*names, "background"], "columns": [*names, "missed"],
           "counts": counts.reshape(size, size).tolist()}  # fmt: skip
    if len(drawn):
        counted = in_blocks(lambda weights: {"": (of_group @ weights.T).T}, drawn)[""]
        ends = [interval(values, count, num_groups) for values, count in zip(counted.T, counts, strict=True)]
        out["ci95"] = [ends[start : start + size] for start in range(0, size * size, size)]
    return out, pairs


def _pairs(
    overlaps: Overlaps, iou_threshold: float, score_thresholds: Sequence[float | None]
) -> tuple[np.ndarray, np.ndarray]:
    """Case `(n,)`, and class of the object and of the detection `(n, 2)`, of what a confusion matrix counts."""
    table = overlaps.table
    least = np.array([0.0 if score is None else score for score in score_thresholds])
    matched = overlaps.above(least[table.labels]).match(iou_threshold)
    correct, false, none = matched.true_positives, matched.false_positives, len(table.classes)
    missed = ~matched.detected & ~matched.object_ignored
    cases = [matched.detection_cases[correct], matched.detection_cases[false], matched.object_cases[missed]]
    pairs = [
        (matched.object_labels[matched.matches[correct]], matched.labels[correct]),
        (np.full(int(false.sum()), none), matched.labels[false]),
        (matched.object_labels[missed], np.full(int(missed.sum()), none)),
    ]
    return np.concatenate(cases), np.concatenate([np.stack(pair, axis=1) for pair in pairs])


def _most_confused(pairs: np.ndarray, num_classes: int) -> np.ndarray:
    """The classes that a table names, ascending: all, or those with the most mistakes, then the most frequent ones."""
    mistaken = pairs[(pairs[:, 0] != pairs[:, 1]) & (pairs < num_classes).all(axis=1)]
    mistakes, frequency = (np.bincount(p.ravel(), minlength=num_classes + 1)[:num_classes] for p in (mistaken, pairs))
    return np.sort(np.lexsort((-frequency, -mistakes))[:MOST_CLASSES])


def size_ratio_table(table: MatchTable) -> dict[str, Any]:
    """For each class, of the ratios of predicted to true volume: number, share, mean, median, least and largest.

    "bigger" are predictions at least as large as the object; None where there is no pair.
    """
    ratios, out = size_ratios(table), {}
    for label, name in enumerate(table.classes):
        of_class = ratios[(table.labels == label) & np.isfinite(ratios)]
        parts = {"all": of_class, "bigger": of_class[of_class >= 1], "smaller": of_class[of_class < 1]}
        out[name] = {key: _describe(values, len(of_class)) for key, values in parts.items()}
    return out


def _describe(values: np.ndarray, total: int) -> dict[str, Any] | None:
    if not len(values):
        return None
    summary = {"mean": values.mean(), "median": np.median(values), "min": values.min(), "max": values.max()}
    return {"num": len(values), "share": len(values) / total} | {key: float(v) for key, v in summary.items()}


def calibration_curves(table: MatchTable, groups: np.ndarray, drawn: np.ndarray) -> dict[str, Any]:
    """For each class and each of ten equal ranges of the score: number, mean score and precision.

    Args:
        table: matched cases.
        groups: `(cases,)` group index of each case.
        drawn: `(r, g)` weights of the groups in each resample, for the intervals of the shares; may be empty.
    """
    bins, out, num_groups = calibration_bins(table), {}, int(groups.max()) + 1

    def share(rows: np.ndarray, true_positives: np.ndarray, all_: np.ndarray) -> list[float] | None:
        values = np.divide(true_positives, all_, out=np.full(len(drawn), np.nan), where=all_ > 0)
        return interval(values, float(table.true_positives[rows].mean()), num_groups)

    for label, name in enumerate(table.classes):
        rows = [of_bin[table.labels[of_bin] == label] for of_bin in bins]
        out[name] = {
            "edges": [k / CALIBRATION_BINS for k in range(CALIBRATION_BINS + 1)],
            "num": [len(of_bin) for of_bin in rows],
            "mean_score": [float(table.scores[r].mean()) if len(r) else None for r in rows],
            "precision": [float(table.true_positives[r].mean()) if len(r) else None for r in rows],
        }
        if len(drawn):
            where = [groups[table.detection_cases[r]] for r in rows]
            sums = [np.bincount(at, values, minlength=num_groups) for at, r in zip(where, rows, strict=True)
                    for values in (table.true_positives[r], None)]  # fmt: skip
            drawn_sums = (drawn @ np.stack(sums, axis=1)).T.reshape(len(rows), 2, -1)
            out[name]["precision/ci95"] = [share(r, *own) if len(r) else None
                                           for r, own in zip(rows, drawn_sums, strict=True)]  # fmt: skip
    return out
