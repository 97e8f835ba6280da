"""From detections and objects to every figure: match once per IoU threshold, derive the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from boxel.evaluation.average_precision import (
    Interpolation,
    RankedHits,
    average_precision,
    curve_average,
    precision_recall,
)
from boxel.evaluation.bootstrap import bootstrap_average_precision, interval, mean_of_present
from boxel.evaluation.froc import FALSE_POSITIVE_RATES, sensitivity_at
from boxel.evaluation.matching import MatchTable, Rule, find_overlaps
from boxel.evaluation.patient import auroc, patient_scores
from boxel.types import Detections, Instances

IOU_THRESHOLDS = (0.10, 0.15, 0.20, 0.25, 0.30, 0.35, 0.40, 0.45, 0.50)


@dataclass(frozen=True)
class Curve:
    """One class at one IoU threshold; a point per distinct score, in descending score.

    Attributes:
        kind: "precision_recall" (x recall, y precision) or "froc" (x false positives per image, y
            sensitivity).
        iou_threshold: of the matching.
        name: the class.
        x: `(t,)`.
        y: `(t,)`.
        scores: `(t,)` the score threshold of each point.
    """

    kind: Literal["precision_recall", "froc"]
    iou_threshold: float
    name: str
    x: np.ndarray
    y: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """The figures of a set of predictions.

    Attributes:
        metrics: by name, ready for JSON; None where a figure is not defined. `AP@0.10` is the mean over the
            classes that occur, `AP@0.10/nodule` that of a class, `.../ci95` its 95 % interval. "settings"
            says how they were made.
        curves: precision-recall and FROC of each class that occurs, at the lowest and the highest IoU
            threshold.
        table: the matches at the lowest IoU threshold.
        groups: name of the group (patient) of each case of the table.
        score_thresholds: for each class the score with the highest F1 at the lowest IoU threshold; None
            without hits.
    """

    metrics: dict[str, Any]
    curves: tuple[Curve, ...]
    table: MatchTable
    groups: tuple[str, ...]
    score_thresholds: tuple[float | None, ...]

    def outcome(self, case: str) -> tuple[np.ndarray, np.ndarray]:
        """Of one case: which detections `(n,)` are hits, which objects `(m,)` were found, in their own order.

        An object counts as found if its detection reaches the score threshold of the class.
        """
        table, position = self.table, self.table.cases.index(case)
        rows = np.flatnonzero(table.detection_cases == position)
        hits = table.hits[rows[np.argsort(table.indices[rows])]]
        thresholds = np.array([0.0 if t is None else t for t in self.score_thresholds])
        objects = table.object_cases == position
        return hits, table.object_scores[objects] >= thresholds[table.object_labels[objects]]


def evaluate(
    predictions: Mapping[str, Detections],
    truths: Mapping[str, Instances],
    *,
    classes: Sequence[str],
    iou_thresholds: Sequence[float] = IOU_THRESHOLDS,
    groups: Mapping[str, str] | None = None,
    interpolation: Interpolation = "101",
    rule: Rule = "greedy",
    num_resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Judge predictions.

    Object level: average precision at each IoU threshold, and at the lowest and the highest one also FROC
    (false positives per image of the class, negative images counted), precision, recall and F1 at the score
    where F1 is highest (chosen on these very data, hence optimistic) and mean IoU of the matched pairs.
    Patient level: average precision ("step") and AUROC of the highest score per group. Values over all
    classes are means over the classes that occur; a class without objects is listed in `absent_classes` and
    has None.

    "101" is the default interpolation because COCO, the Retina U-Net paper and nnDetection report it. With
    few objects it is coarse and slightly generous (half the objects found without a false positive give
    51/101): "area" is exact.

    Args:
        predictions: detections per case; every case needs an entry, an empty one where nothing was found.
        truths: objects per case, empty for a negative case.
        classes: class names.
        iou_thresholds: ascending or not, each in (0, 1].
        groups: group (patient) of each case; a case that is not named is its own group.
        interpolation: of the average precision on object level.
        rule: of the matching, see `Overlaps.match`.
        num_resamples: bootstrap resamples of the groups for the intervals; 0 for none.
        seed: of the bootstrap.

    Raises:
        ValueError: see `find_overlaps`; repeated or missing thresholds.
    """
    thresholds = sorted(float(t) for t in iou_thresholds)
    if not thresholds or len({f"{t:.2f}" for t in thresholds}) < len(thresholds):
        raise ValueError(f"iou_thresholds must be different numbers (two decimals count), got {list(iou_thresholds)}")
    if repeated := {name for name in classes if list(classes).count(name) > 1}:
        raise ValueError(f"class names must be unique, repeated: {', '.join(sorted(repeated))}")
    overlaps = find_overlaps(predictions, truths, classes=classes)
    group_names = tuple((groups or {}).get(case, case) for case in truths)
    group_index = np.unique(np.array(group_names), return_inverse=True)[1]

    figures = _Figures(tuple(classes))
    _count(figures, overlaps.table, int(group_index.max()) + 1)
    curves: list[Curve] = []
    for threshold in thresholds:
        table = overlaps.match(threshold, rule)
        figures.add_average_precision(table, interpolation)
        if threshold in (thresholds[0], thresholds[-1]):
            curves += figures.add_operating_points(table)
            if num_resamples:
                values = bootstrap_average_precision(table, group_index, interpolation, num_resamples, seed)
                figures.add_intervals(f"AP@{threshold:.2f}", values)
    figures.add_mean_average_precision(thresholds)
    headline = overlaps.match(thresholds[0], rule)
    figures.add_patient_level(headline, group_index)
    figures.metrics["settings"] = {
        "iou_thresholds": thresholds, "interpolation": interpolation, "rule": rule,
        "num_resamples": num_resamples, "seed": seed,
    }  # fmt: skip
    key = f"score_threshold@{thresholds[0]:.2f}"
    operating = tuple(figures.metrics[f"{key}/{name}"] for name in classes)
    return Evaluation(figures.metrics, tuple(curves), headline, group_names, operating)


def _count(figures: "_Figures", table: MatchTable, num_groups: int) -> None:
    objects = np.bincount(table.object_labels, minlength=len(table.classes)).tolist()
    detections = np.bincount(table.labels, minlength=len(table.classes)).tolist()
    metrics = figures.metrics
    metrics |= {"num_images": len(table.cases), "num_groups": num_groups}
    metrics |= {"num_objects": sum(objects), "num_detections": sum(detections)}
    metrics |= {f"num_objects/{name}": n for name, n in zip(table.classes, objects, strict=True)}
    metrics |= {f"num_detections/{name}": n for name, n in zip(table.classes, detections, strict=True)}
    metrics["absent_classes"] = [name for name, n in zip(table.classes, objects, strict=True) if not n]


@dataclass
class _Figures:
    """Collects the metrics under their names."""

    classes: tuple[str, ...]
    metrics: dict[str, Any] = field(default_factory=dict)

    def put(self, key: str, values: Sequence[float | None]) -> None:
        """The mean over the classes that have a value, and the value of each class."""
        present = [value for value in values if value is not None]
        self.metrics[key] = float(np.mean(present)) if present else None
        self.metrics |= {f"{key}/{name}": value for name, value in zip(self.classes, values, strict=True)}

    def add_average_precision(self, table: MatchTable, interpolation: Interpolation) -> None:
        values = [curve_average(*c.counts, c.num_objects, interpolation) for c in _by_class(table)]
        self.put(f"AP@{table.iou_threshold:.2f}", values)

    def add_mean_average_precision(self, thresholds: Sequence[float]) -> None:
        if len(thresholds) == 1:
            return
        per_class = []
        for name in self.classes:
            values = [self.metrics[f"AP@{t:.2f}/{name}"] for t in thresholds]
            per_class.append(None if None in values else float(np.mean(values)))
        self.put(f"mAP@{thresholds[0]:.2f}:{thresholds[-1]:.2f}", per_class)

    def add_intervals(self, key: str, values: np.ndarray) -> None:
        self.metrics[f"{key}/ci95"] = interval(mean_of_present(values))
        self.metrics |= {f"{key}/{n}/ci95": interval(values[:, k]) for k, n in enumerate(self.classes)}

    def add_operating_points(self, table: MatchTable) -> list[Curve]:
        """FROC, best F1 and localisation; returns the curves behind them."""
        at, num_images = f"@{table.iou_threshold:.2f}", len(table.cases)
        curves, best, rows = [], [], list(_by_class(table))
        for name, row in zip(self.classes, rows, strict=True):
            precision, recall = precision_recall(*row.counts, max(row.num_objects, 1))
            best.append(_best_f1(precision, recall, row.ranked.thresholds))
            if row.num_objects:
                fp_rate, scores = row.counts[1] / num_images, row.ranked.thresholds
                curves.append(Curve("precision_recall", table.iou_threshold, name, recall, precision, scores))
                curves.append(Curve("froc", table.iou_threshold, name, fp_rate, recall, scores))
        sensitivities = [sensitivity_at(*row.counts, row.num_objects, num_images) for row in rows]
        self.put(f"FROC{at}", [None if s is None else float(np.mean(s)) for s in sensitivities])
        for position, rate in enumerate(FALSE_POSITIVE_RATES):
            values = [None if s is None else s[position] for s in sensitivities]
            self.put(f"sensitivity{at}/fp={rate:g}", values)
        for position, name in enumerate(("precision", "recall", "F1", "score_threshold")):
            self.put(f"{name}{at}", [point[position] for point in best])
        self.put(f"mean_iou{at}", [row.mean_iou for row in rows])
        return curves

    def add_patient_level(self, table: MatchTable, group_index: np.ndarray) -> None:
        levels = [patient_scores(table, group_index, label) for label in range(len(self.classes))]
        self.put("patient_AP", [average_precision(s, t, int(t.sum()), "step") for s, t in levels])
        self.put("patient_AUROC", [auroc(s, t) for s, t in levels])


@dataclass(frozen=True)
class _ClassRows:
    ranked: RankedHits
    counts: tuple[np.ndarray, np.ndarray]
    num_objects: int
    mean_iou: float | None


def _by_class(table: MatchTable) -> list[_ClassRows]:
    rows = []
    for label in range(len(table.classes)):
        of_class = table.labels == label
        ranked, _ = RankedHits.sort(table.scores[of_class], table.hits[of_class])
        ious = table.ious[of_class & table.hits]
        num_objects = int((table.object_labels == label).sum())
        rows.append(_ClassRows(ranked, ranked.counts(), num_objects, float(ious.mean()) if len(ious) else None))
    return rows


def _best_f1(
    precision: np.ndarray, recall: np.ndarray, thresholds: np.ndarray
) -> tuple[float | None, float | None, float | None, float | None]:
    """Precision, recall, F1 and score threshold where F1 is highest, None without any hit."""
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros(len(total)), where=total > 0)
    if not len(f1) or not f1.max() > 0:
        return None, None, None, None
    best = int(f1.argmax())
    return float(precision[best]), float(recall[best]), float(f1[best]), float(thresholds[best])
