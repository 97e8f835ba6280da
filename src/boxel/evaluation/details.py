"""Tables behind single figures: confusion of classes, size of the boxes, reliability of the scores."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from boxel.evaluation.figures import CALIBRATION_BINS, calibration_bins, size_ratios
from boxel.evaluation.matching import MatchTable, Overlaps, Rule


def size_strata(
    overlaps: Overlaps, limits: Sequence[float] | None, iou_threshold: float, rule: Rule
) -> tuple[list[float], dict[str, MatchTable]]:
    """The limits used, and the matches among objects of each range of sizes, by a name such as "27..125".

    Objects of other sizes are ignored, and so are detections of other sizes that find nothing (as in COCO).

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
    overlaps: Overlaps, iou_threshold: float, score_thresholds: Sequence[float | None]
) -> dict[str, Any]:
    """Objects (rows) against the class of the detection that found them (columns), regardless of class.

    The last row, "background", counts detections that found nothing, the last column, "missed", objects that
    none found. Only detections from the score threshold of their class upwards take part, all where it is None.

    Args:
        overlaps: of `find_overlaps(..., across_classes=True)`.
        iou_threshold: of the greedy matching.
        score_thresholds: of each class.
    """
    table = overlaps.table
    least = np.array([0.0 if score is None else score for score in score_thresholds])
    matched = overlaps.above(least[table.labels]).match(iou_threshold)
    size, hits = len(table.classes) + 1, matched.hits
    missed = ~matched.found & ~matched.object_ignored
    cells = [
        matched.object_labels[matched.matches[hits]] * size + matched.labels[hits],
        (size - 1) * size + matched.labels[matched.false_positives],
        matched.object_labels[missed] * size + size - 1,
    ]
    counts = np.bincount(np.concatenate(cells), minlength=size * size).reshape(size, size)
    names = list(table.classes)
    return {"rows": [*names, "background"], "columns": [*names, "missed"], "counts": counts.tolist()}


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
    figures = {"mean": values.mean(), "median": np.median(values), "min": values.min(), "max": values.max()}
    return {"num": len(values), "share": len(values) / total} | {key: float(v) for key, v in figures.items()}


def calibration_curves(table: MatchTable) -> dict[str, Any]:
    """For each class and each of ten equal ranges of the score: detections, their mean score, the share of hits."""
    bins, out = calibration_bins(table), {}
    for label, name in enumerate(table.classes):
        rows = [of_bin[table.labels[of_bin] == label] for of_bin in bins]
        out[name] = {
            "edges": [k / CALIBRATION_BINS for k in range(CALIBRATION_BINS + 1)],
            "num": [len(of_bin) for of_bin in rows],
            "mean_score": [float(table.scores[r].mean()) if len(r) else None for r in rows],
            "precision": [float(table.hits[r].mean()) if len(r) else None for r in rows],
        }
    return out
