"""Precision-recall curves and average precision, of one data set or of many resampled ones at once."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

Interpolation = Literal["101", "11", "area", "step", "report"]
INTERPOLATIONS = ("101", "11", "area", "step", "report")
STEPWISE = ("step", "report")  # without the precision envelope


def score_thresholds(values: npt.ArrayLike) -> np.ndarray:
    """Thresholds that a score of the same number reaches, also if it is in float32: there 0.9 is below 0.9."""
    exact = np.asarray(values, np.float64)
    return np.minimum(exact, exact.astype(np.float32))


@dataclass(frozen=True)
class Ranking:
    """Hits and false positives of one class in descending score, counted at every threshold for any weights.

    Equal scores are one operating point: no threshold can separate them, and the result does not depend on
    their order.

    Attributes:
        true_positives: `(n,)` bool.
        groups: `(n,)` group (patient) `0..g-1` of each.
        ends: `(t,)` index of the last of each distinct score.
        thresholds: `(t,)` the distinct scores, descending.
        objects: `(g,)` objects in each group.
    """

    true_positives: np.ndarray
    groups: np.ndarray
    ends: np.ndarray
    thresholds: np.ndarray
    objects: np.ndarray

    @classmethod
    def sort(cls, scores: np.ndarray, true_positives: np.ndarray, groups: np.ndarray, objects: np.ndarray) -> "Ranking":
        scores = np.asarray(scores, dtype=np.float64)
        sorted_already = (scores[1:] <= scores[:-1]).all()
        order = slice(None) if sorted_already else np.argsort(-scores, kind="stable")
        ranked = scores[order]
        ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) if len(ranked) else np.zeros(0, int)
        return cls(
            np.asarray(true_positives, dtype=bool)[order], np.asarray(groups)[order], ends, ranked[ends], objects
        )

    def at_tenths(self) -> "Ranking":
        """The same with the score thresholds 1, 0.9, ..., 0 only."""
        tenths = score_thresholds(np.arange(10, -1, -1) / 10)
        reached = np.searchsorted(-self.thresholds, -tenths, side="right")
        points = np.unique(reached[reached > 0]) - 1
        return replace(self, ends=self.ends[points], thresholds=self.thresholds[points])

    def counts(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`(r, t)` true and false positives at each threshold, each times the `weights (r, g)` of its group."""
        rows = weights[:, self.groups]
        true_positives = np.cumsum(rows * self.true_positives, axis=1)[:, self.ends]
        return true_positives, np.cumsum(rows, axis=1)[:, self.ends] - true_positives


def average_precision(
    scores: np.ndarray, true_positives: np.ndarray, num_instances: float, interpolation: Interpolation = "101"
) -> float | None:
    """Average precision of one class.

    Args:
        scores: `(n,)` of the detections; any order.
        true_positives: `(n,)` bool, whether each detected an object.
        num_instances: annotated objects.
        interpolation: "101" and "11": mean of the precision envelope at recalls 0, 0.01, ..., 1 (COCO) or 0,
            0.1, ..., 1 (VOC 2007); "area": the area under the envelope (VOC 2010); "step": the area under the
            raw steps, without envelope (as in scikit-learn); "report": the same with the score thresholds 0, 0.1, ...,
            1 only, as in the benchmarking report on DeepLesion (Pianese, section 3.3.1).

    Returns:
        0..1, or None without objects.
    """
    if num_instances <= 0:
        return None
    objects = np.array([float(num_instances)])
    ranking = Ranking.sort(scores, true_positives, np.zeros(len(scores), int), objects)
    if interpolation == "report":
        ranking = ranking.at_tenths()
    return float(curve_average(*ranking.counts(np.ones((1, 1))), objects, interpolation)[0])


def curve_average(
    true_positives: np.ndarray,
    false_positives: np.ndarray,
    num_instances: np.ndarray,
    interpolation: Interpolation,
) -> np.ndarray:
    """`(r,)` average precision from the counts `(r, t)` at descending thresholds; nan without an instance.

    Each is a sum of precisions, weighted with the share of the recalls that their threshold is the first to reach.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation must be one of {', '.join(INTERPOLATIONS)}, got {interpolation!r}")
    precision, recall = precision_recall(true_positives, false_positives, num_instances)
    if interpolation not in STEPWISE:
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # Of whole numbers, so that 1 stays 1 to the last bit.
    reached, whole = true_positives, num_instances
    if interpolation in ("101", "11"):
        whole = np.full(len(recall), int(interpolation))
        # A recall that equals a point must reach it: 0.7 and 7/10 differ in the last bit.
        reached = np.floor(recall * (int(interpolation) - 1) + 1e-9) + 1
    average = np.sum(np.diff(reached, axis=1, prepend=0.0) * precision, axis=1)
    return np.divide(average, whole, out=np.full(len(recall), np.nan), where=num_instances > 0)


def precision_recall(
    true_positives: np.ndarray, false_positives: np.ndarray, num_instances: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`(r, t)` precision (0 where nothing was detected) and recall from the counts at each threshold."""
    detected = true_positives + false_positives
    precision = np.divide(true_positives, detected, out=np.zeros(detected.shape), where=detected > 0)
    return precision, true_positives / np.where(num_instances > 0, num_instances, 1)[:, None]
