"""Precision-recall curves and average precision."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Interpolation = Literal["101", "11", "area", "step"]


@dataclass(frozen=True)
class RankedHits:
    """Detections of one class in descending score, ready to be read at every threshold, also with weights.

    Equal scores are one operating point: no threshold can separate them, and the result does not depend on
    their order.

    Attributes:
        hits: `(n,)` bool.
        ends: `(t,)` index of the last detection of each distinct score.
        thresholds: `(t,)` the distinct scores, descending.
    """

    hits: np.ndarray
    ends: np.ndarray
    thresholds: np.ndarray

    @classmethod
    def sort(cls, scores: np.ndarray, hits: np.ndarray) -> tuple["RankedHits", np.ndarray]:
        """The ranked hits, and the `(n,)` order that was applied."""
        scores = np.asarray(scores, dtype=np.float64)
        order = np.argsort(-scores, kind="stable")
        ranked = scores[order]
        ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.zeros(0, int)
        return cls(np.asarray(hits, dtype=bool)[order], ends, ranked[ends]), order

    def counts(self, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """`(t,)` true and false positives at each threshold; a detection of weight 2 counts twice."""
        weights = np.ones(len(self.hits)) if weights is None else weights
        hits = np.cumsum(weights * self.hits)[self.ends]
        return hits, np.cumsum(weights)[self.ends] - hits


def average_precision(
    scores: np.ndarray, hits: np.ndarray, num_instances: float, interpolation: Interpolation = "101"
) -> float | None:
    """Average precision of one class.

    Args:
        scores: `(n,)` of the detections; any order.
        hits: `(n,)` bool, whether each found an object.
        num_instances: annotated objects.
        interpolation: "101" and "11": mean of the precision envelope at recalls 0, 0.01, ..., 1 (COCO) or 0,
            0.1, ..., 1 (VOC 2007); "area": the area under the envelope (VOC 2010); "step": the area under the
            raw steps, without envelope (as in scikit-learn).

    Returns:
        0..1, or None where there is no object to be found.
    """
    ranked, _ = RankedHits.sort(scores, hits)
    return curve_average(*ranked.counts(), num_instances, interpolation)


def curve_average(
    true_positives: np.ndarray,
    false_positives: np.ndarray,
    num_instances: float,
    interpolation: Interpolation,
) -> float | None:
    """Average precision from the counts at descending thresholds; see `average_precision`."""
    if interpolation not in ("101", "11", "area", "step"):
        raise ValueError(f"interpolation must be '101', '11', 'area' or 'step', got {interpolation!r}")
    if num_instances <= 0:
        return None
    precision, recall = precision_recall(true_positives, false_positives, num_instances)
    if interpolation == "step":
        return float(np.sum(np.diff(recall, prepend=0.0) * precision))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if interpolation == "area":
        return float(np.sum(np.diff(recall, prepend=0.0) * envelope))
    points = np.linspace(0, 1, int(interpolation))
    # A recall that equals a point must reach it: 0.7 and 7/10 differ in the last bit.
    reached = np.searchsorted(recall, points - 1e-12)
    return float(np.append(envelope, 0.0)[reached].mean())


def precision_recall(
    true_positives: np.ndarray, false_positives: np.ndarray, num_instances: float
) -> tuple[np.ndarray, np.ndarray]:
    """`(t,)` precision (0 where nothing was detected) and recall from the counts at each threshold."""
    found = true_positives + false_positives
    precision = np.divide(true_positives, found, out=np.zeros(len(found)), where=found > 0)
    return precision, true_positives / num_instances
