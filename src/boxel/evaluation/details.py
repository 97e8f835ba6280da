"""Tables behind single metrics: class confusion, box sizes, calibration of the scores."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from boxel.evaluation.bootstrap import interval
from boxel.evaluation.grouped_matches import CALIBRATION_BINS, calibration_bins, size_ratios
from boxel.evaluation.matching import MatchTable, Overlaps, Rule


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
) -> dict[str, Any]:
    """Classes of objects (rows) and of the detections that matched them (columns); the matching disregards classes.

    The last row, "background", counts unmatched detections, the last column, "missed", unmatched objects.
    Only detections from the score threshold of their class upwards take part, all where it is None.

    Args:
        overlaps: of `find_overlaps(..., across_classes=True)`.
        iou_threshold: of the greedy matching.
        score_thresholds: of each class.
        groups: `(cases,)` group index of each case.
        drawn: `(r, g)` weights of the groups in each resample, for the intervals of the counts "ci95"; may be empty.
    """
    table = overlaps.table
    least = np.array([0.0 if score is None else score for score in score_thresholds])
    matched = overlaps.above(least[table.labels]).match(iou_threshold)
    size, correct = len(table.classes) + 1, matched.true_positives
    missed = ~matched.detected & ~matched.object_ignored
    parts = [
        (
            matched.detection_cases[correct],
            matched.object_labels[matched.matches[correct]] * size + matched.labels[correct],
        ),
        (matched.detection_cases[matched.false_positives], (size - 1) * size + matched.labels[matched.false_positives]),
        (matched.object_cases[missed], matched.object_labels[missed] * size + size - 1),
    ]
    cases, cells = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    num_groups = int(groups.max()) + 1
    of_group = np.bincount(groups[cases] * size * size + cells, minlength=num_groups * size * size)
    of_group = of_group.reshape(num_groups, -1)
    counts, names = of_group.sum(axis=0), list(table.classes)
    out = {"rows": [*names, "background"], "columns": [*names, "missed"],
           "counts": counts.reshape(size, size).tolist()}  # fmt: skip
    if len(drawn):
        ends = [interval(values, count, num_groups) for values, count in zip((drawn @ of_group).T, counts, strict=True)]
        out["ci95"] = [ends[start : start + size] for start in range(0, size * size, size)]
    return out


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

    def share(rows: np.ndarray) -> list[float] | None:
        where = groups[table.detection_cases[rows]]
        true_positives, all_ = (drawn @ np.bincount(where, values, minlength=num_groups)
                      for values in (table.true_positives[rows], np.ones(len(rows))))  # fmt: skip
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
            out[name]["precision/ci95"] = [share(r) if len(r) else None for r in rows]
    return out
