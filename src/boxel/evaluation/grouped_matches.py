"""Every metric as a function of how much each patient weighs.

With all weights 1 it is the metric of the data set; with the counts of a bootstrap draw that of a resampled one; with
0 and 1 per patient and prediction set that of a permutation. So estimate, interval and test are one computation.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from boxel.evaluation.average_precision import INTERPOLATIONS, STEPWISE, Interpolation, Ranking
from boxel.evaluation.bootstrap import rows_at_once
from boxel.evaluation.matching import MatchTable
from boxel.evaluation.patient import patient_ranking

CALIBRATION_BINS = 10
ONE_BY_ONE = 2**18  # bytes of terms from which on sums have always been made so
FALSE_POSITIVE_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # per image, of the FROC score


class GroupedMatches:
    """The metrics of one match table. Each method takes `weights (r, g)` and returns `(r, k)`, nan if not defined.

    Args:
        table: matched cases.
        groups: `(cases,)` group index `0..g-1` of each case.
    """

    def __init__(self, table: MatchTable, groups: np.ndarray) -> None:
        self.table, self.groups = table, groups
        self.num_groups = int(groups.max()) + 1
        self.num_classes = len(table.classes)
        self.images = np.bincount(groups, minlength=self.num_groups).astype(np.float64)
        self.objects = self.sums(~table.object_ignored, table.object_cases, table.object_labels)

    @cached_property
    def rankings(self) -> list[Ranking]:
        """The true positives and false positives of each class."""
        return [self._rank(label) for label in range(self.num_classes)]

    @cached_property
    def _patients(self) -> list[Ranking]:
        """The groups by their highest detection of each class."""
        return [patient_ranking(self.table, self.groups, label) for label in range(self.num_classes)]

    def sums(
        self, chosen: np.ndarray, cases: np.ndarray, labels: np.ndarray, values: np.ndarray | None = None
    ) -> np.ndarray:
        """`(g, k)` sum of `values` (1 if None) over the chosen rows of each group and class."""
        cells = self.groups[cases[chosen]] * self.num_classes + labels[chosen]
        weights = None if values is None else values[chosen]
        size = self.num_groups * self.num_classes
        return np.bincount(cells, weights, minlength=size).reshape(self.num_groups, -1).astype(np.float64)

    def sum_detections(self, chosen: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        return self.sums(chosen, self.table.detection_cases, self.table.labels, values)

    def _rank(self, label: int) -> Ranking:
        table = self.table
        counted = (table.labels == label) & ~table.ignored
        if table.rule != "luna16":
            rows = np.flatnonzero(counted)
            groups = self.groups[table.detection_cases[rows]]
            return Ranking.sort(table.scores[rows], table.true_positives[rows], groups, self.objects[:, label])
        # A detection may match several objects.
        objects = np.flatnonzero(table.detected & (table.object_labels == label))
        rows = np.flatnonzero(counted & ~table.true_positives)
        cases = np.concatenate([table.object_cases[objects], table.detection_cases[rows]])
        scores = np.concatenate([table.object_scores[objects], table.scores[rows]])
        true_positives = np.arange(len(scores)) < len(objects)
        return Ranking.sort(scores, true_positives, self.groups[cases], self.objects[:, label])

    def curves(
        self, weights: np.ndarray, interpolation: Interpolation, froc: bool, between: bool = False
    ) -> dict[str, np.ndarray]:
        """Average precision "AP", highest recall "AR", and with `froc` "FROC", "sensitivity/fp=RATE", and "precision",
        "recall" and "F1" where F1 is highest. That point is chosen for each row of the weights anew, since choosing it
        is part of what a resample repeats: with the point held fixed, intervals of precision cover 81 % instead of 95.

        Args:
            weights: of the groups.
            interpolation: of the average precision.
            froc: whether the others are wanted.
            between: the sensitivity at a rate lies on the line to the next operating point, as in the script of LUNA16;
                otherwise it is the best of the points that exist with at most this rate.
        """  # noqa: D205
        from boxel.evaluation.kernels import curve_metrics

        if interpolation not in INTERPOLATIONS:
            raise ValueError(f"interpolation must be one of {', '.join(INTERPOLATIONS)}, got {interpolation!r}")
        steps = int(interpolation) - 1 if interpolation.isdecimal() else 0
        rates = np.array(FALSE_POSITIVE_RATES if froc else ())
        shared = (weights @ self.objects, weights @ self.images, steps, interpolation not in STEPWISE)
        values = curve_metrics(weights, *_joined(self.rankings), *shared, rates, between)
        if interpolation == "report":
            tenths = [ranking.at_tenths() for ranking in self.rankings]
            values[..., 0] = curve_metrics(weights, *_joined(tenths), *shared, rates[:0], False)[..., 0]
        curves = {"AP": values[..., 0], "AR": values[..., 1]}
        if froc:
            curves["FROC"] = values[..., 6:].mean(axis=-1)
            curves |= {f"sensitivity/fp={rate:g}": values[..., 6 + k] for k, rate in enumerate(rates)}
            curves |= {"precision": values[..., 2], "recall": values[..., 3], "F1": values[..., 4]}
            curves["score_threshold"] = self._scores_at(values[..., 5])
        return curves

    def _scores_at(self, points: np.ndarray) -> np.ndarray:
        """The score at each position `(r, k)` of the rankings; nan stays."""
        scores = np.full(points.shape, np.nan)
        for label, ranking in enumerate(self.rankings):
            known = ~np.isnan(points[:, label])
            scores[known, label] = ranking.thresholds[points[known, label].astype(int)]
        return scores

    def recall(self, weights: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """The share of the objects that the `chosen (n,)` detections match."""
        return _ratio(weights @ self.sum_detections(self.table.true_positives & chosen), weights @ self.objects)

    def operating_point(self, weights: np.ndarray, thresholds: np.ndarray) -> dict[str, np.ndarray]:
        """Under "precision", "recall" and "F1" those from the scores `thresholds (k,)` upwards; nan where nan.

        "mean_iou" is the mean IoU of these detections, where a false positive counts 0 (the average IoU of Darknet).
        """
        table = self.table
        reached = table.detected & (table.object_scores >= thresholds[table.object_labels])
        true = weights @ self.sums(reached, table.object_cases, table.object_labels)
        chosen = table.scores >= thresholds[table.labels]
        false = weights @ self.sum_detections(table.false_positives & chosen)
        hits = table.true_positives & chosen
        overlap = _ratio(weights @ self.sum_detections(hits, table.ious), weights @ self.sum_detections(hits) + false)
        objects = weights @ self.objects
        undefined = np.isnan(thresholds) | ~(objects > 0)
        precision = np.where(true + false > 0, _ratio(true, true + false), 0.0)
        f1 = _ratio(2 * true, true + false + objects)
        values = {"precision": precision, "recall": _ratio(true, objects), "F1": f1, "mean_iou": overlap}
        return {key: np.where(undefined, np.nan, value) for key, value in values.items()}

    def localisation(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Of matched pairs: "mean_iou", and the median "size_ratio" and "size_ratio_mean", predicted to true volume.

        "mean_iou_objects" is the mean over all objects, where a missed one counts 0.
        """
        true_positives = weights @ self.sum_detections(self.table.true_positives)
        overlap = weights @ self.sum_detections(self.table.true_positives, self.table.ious)
        ratios = size_ratios(self.table)
        known = np.isfinite(ratios)
        mean = _ratio(weights @ self.sum_detections(known, ratios), weights @ self.sum_detections(known))
        return {
            "mean_iou": _ratio(overlap, true_positives), "mean_iou_objects": _ratio(overlap, weights @ self.objects),
            "size_ratio": self._median_ratio(weights, ratios), "size_ratio_mean": mean,
        }  # fmt: skip

    def _median_ratio(self, weights: np.ndarray, ratios: np.ndarray) -> np.ndarray:
        table, columns = self.table, []
        for label in range(self.num_classes):
            rows = np.flatnonzero(np.isfinite(ratios) & (table.labels == label))
            rows = rows[np.argsort(ratios[rows], kind="stable")]
            if not len(rows):
                columns.append(np.full(len(weights), np.nan))
                continue
            columns.append(_weighted_median(ratios[rows], weights, self.groups[table.detection_cases[rows]]))
        return np.stack(columns, axis=1)

    def calibration_error(self, weights: np.ndarray) -> np.ndarray:
        """Expected calibration error: mean difference of score and precision over ten equal ranges of the score."""
        gap = self.table.scores - self.table.true_positives
        bins = calibration_bins(self.table)
        sums = np.concatenate([self.sum_detections(of_bin, gap) for of_bin in bins], axis=1)
        error = np.abs(weights @ sums).reshape(len(weights), len(bins), -1).sum(axis=1)
        total = weights @ self.sum_detections(~self.table.ignored)
        return np.where(weights @ self.objects > 0, _ratio(error, total), np.nan)

    def patient_level(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Under "patient_AP" (step-wise) and "patient_AUROC", those of the highest score of each group.

        Both are nan unless there are groups with and without objects.
        """
        from boxel.evaluation.kernels import stepwise_terms

        average, area = [], []
        for ranking in self._patients:
            own = (ranking.true_positives, ranking.groups, ranking.ends)
            terms, pairs, positives, negatives = stepwise_terms(weights, *own)
            # Numpy adds along memory in pairs, and across it one by one: this decides the last bit of the sum.
            total = (terms.T if terms.nbytes >= ONE_BY_ONE else terms.T.copy("C")).sum(axis=1)
            precision = _ratio(total, weights @ ranking.objects)
            average.append(np.where(negatives > 0, precision, np.nan))  # without negatives it is always 1
            area.append(_ratio(pairs / 2, positives * negatives))
        return {"patient_AP": np.stack(average, axis=1), "patient_AUROC": np.stack(area, axis=1)}


def _joined(rankings: Sequence[Ranking]) -> tuple[np.ndarray, ...]:
    """True positives and groups of all classes, the ends in them, and where the ends of each class begin."""
    begin = np.cumsum([0, *(len(ranking.groups) for ranking in rankings)])
    ends = [start + ranking.ends for start, ranking in zip(begin.tolist(), rankings, strict=False)]
    true_positives, groups = (np.concatenate([getattr(ranking, name) for ranking in rankings])
                              for name in ("true_positives", "groups"))  # fmt: skip
    return true_positives, groups, np.concatenate(ends), np.cumsum([0, *map(len, ends)])


def _weighted_median(values: np.ndarray, weights: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """`(r,)` usual median, the mean of the two middle ones where their number is even, of ascending `values (n,)`.

    Value `i` counts `weights[:, groups[i]]` times; nan where all weights are 0.
    """
    medians = np.empty(len(weights))
    for start in range(0, len(weights), step := rows_at_once(len(values))):
        total = np.cumsum(weights[start : start + step, groups], axis=1)
        half = total[:, -1:] / 2
        low, high = (np.sum(side, axis=1).clip(max=len(values) - 1) for side in (total < half, total <= half))
        medians[start : start + step] = np.where(total[:, -1] > 0, (values[low] + values[high]) / 2, np.nan)
    return medians


def size_ratios(table: MatchTable) -> np.ndarray:
    """`(n,)` predicted to true box volume of the true positives; nan for others, and for objects without volume."""
    ratios = np.full(len(table.scores), np.nan)
    rows = np.flatnonzero(table.true_positives)
    true = table.object_sizes[table.matches[rows]]
    ratios[rows[true > 0]] = table.detection_sizes[rows[true > 0]] / true[true > 0]
    return ratios


def calibration_bins(table: MatchTable) -> Sequence[np.ndarray]:
    """The rows of each range of scores, ten of equal width; detections that are ignored are left out."""
    number = np.minimum((table.scores * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    number = np.where(table.ignored, -1, number)
    return [np.flatnonzero(number == k) for k in range(CALIBRATION_BINS)]


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below > 0)
