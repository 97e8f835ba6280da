"""From detections and objects to every figure: match once per threshold, derive the rest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from boxel.evaluation.average_precision import Interpolation, precision_recall
from boxel.evaluation.bootstrap import draw_groups, in_blocks, interval, leave_out, mean_of_present
from boxel.evaluation.criteria import Criterion
from boxel.evaluation.details import calibration_curves, confusion_matrix, size_ratio_table, size_strata
from boxel.evaluation.figures import TableFigures
from boxel.evaluation.matching import MatchTable, Rule
from boxel.evaluation.overlaps import find_overlaps
from boxel.types import Detections, Instances

IOU_THRESHOLDS = (0.10, 0.15, 0.20, 0.25, 0.30, 0.35, 0.40, 0.45, 0.50)
Compute = Callable[[np.ndarray], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Curve:
    """One class at one threshold; a point per distinct score, in descending score.

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
        curves: precision-recall and FROC of each class that occurs, at the lowest and the highest
            threshold.
        table: the matches at the lowest threshold.
        groups: name of the group (patient) of each case of the table.
        score_thresholds: for each class the score with the highest F1 at the lowest threshold; None
            without hits.
        compute: the figures `(r, k)` by name, for weights `(r, g)` of the groups in alphabetical order.
    """

    metrics: dict[str, Any]
    curves: tuple[Curve, ...]
    table: MatchTable
    groups: tuple[str, ...]
    score_thresholds: tuple[float | None, ...]
    compute: Compute

    def scores(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """For each class the scores of its hits and of its false positives."""
        table = self.table

        def of(label: int, rows: np.ndarray) -> np.ndarray:
            return table.scores[rows & (table.labels == label)]

        return {name: (of(k, table.hits), of(k, table.false_positives)) for k, name in enumerate(table.classes)}

    def outcome(self, case: str) -> tuple[np.ndarray, np.ndarray]:
        """Of one case: which detections `(n,)` are hits, which objects `(m,)` were found, in their own order.

        An object counts as found if its detection reaches the score threshold of the class.
        """
        table, position = self.table, self.table.cases.index(case)
        rows = np.flatnonzero(table.detection_cases == position)
        hits = table.hits[rows[np.argsort(table.indices[rows])]]
        thresholds = np.array([0.0 if t is None else t for t in self.score_thresholds])
        objects = (table.object_cases == position) & ~table.object_ignored
        return hits, table.object_scores[objects] >= thresholds[table.object_labels[objects]]


def evaluate(
    predictions: Mapping[str, Detections],
    truths: Mapping[str, Instances],
    *,
    classes: Sequence[str],
    iou_thresholds: Sequence[float] = IOU_THRESHOLDS,
    criterion: Criterion | None = None,
    rule: Rule = "greedy",
    interpolation: Interpolation = "101",
    groups: Mapping[str, str] | None = None,
    ignored: Mapping[str, Instances] | None = None,
    regions: Mapping[str, Instances] | None = None,
    size_limits: Sequence[float] | None = None,
    operating_points: Sequence[float] = (),
    num_resamples: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Judge predictions.

    Object level: average precision and highest recall at each threshold and their means over thresholds, and at the
    lowest and the highest one also FROC (false positives per image of the class, negative images counted), precision,
    recall and F1 at the score where F1 is highest (chosen on these data, hence optimistic), mean IoU and median
    size ratio of the matched pairs, calibration error, and average precision by size of the object. Patient level:
    average precision ("step") and AUROC of the highest score per group. Values over all classes are means over the
    classes that occur; a class without objects is listed in `absent_classes` and has None.

    "101" is the default interpolation because COCO, the Retina U-Net paper and nnDetection report it. With
    few objects it is coarse and slightly generous (half the objects found without a false positive give
    51/101): "area" is exact.

    Args:
        predictions: detections per case; every case needs an entry, an empty one where nothing was found.
        truths: objects per case, empty for a negative case.
        classes: class names.
        iou_thresholds: of the criterion, ascending or not: overlaps in (0, 1], or radii.
        criterion: of a match; box IoU where it is None.
        rule: of the matching, see `Overlaps.match`.
        interpolation: of the average precision on object level.
        groups: group (patient) of each case; a case that is not named is its own group.
        ignored: objects that are neither hit nor miss, see `find_overlaps`.
        regions: likewise, boxes in which detections do not count.
        size_limits: volumes (voxels) between small, medium, ... objects; None: thirds of the objects.
        operating_points: scores at which precision, recall and F1 are also wanted.
        num_resamples: bootstrap resamples of the groups for the intervals; 0 for none.
        seed: of the bootstrap.

    Raises:
        ValueError: see `find_overlaps`; repeated or missing thresholds; sizes that are not above 0 or repeated;
            operating points outside 0..1.
    """
    thresholds = _check_settings(iou_thresholds, classes, size_limits or (), operating_points)
    criterion = criterion or Criterion()
    options: dict[str, Any] = {"classes": classes, "criterion": criterion, "ignored": ignored, "regions": regions}
    overlaps = find_overlaps(predictions, truths, **options, farthest=thresholds[-1])
    group_names = tuple((groups or {}).get(case, case) for case in truths)
    index = np.unique(np.array(group_names), return_inverse=True)[1]
    per_threshold = {t: TableFigures(overlaps.match(t, rule), index) for t in thresholds}
    ends = sorted({thresholds[0], thresholds[-1]})
    headline = per_threshold[thresholds[0]]
    limits, strata = size_strata(overlaps, size_limits, thresholds[0], rule)
    by_size = {name: TableFigures(table, index) for name, table in strata.items()}

    def compute(weights: np.ndarray) -> dict[str, np.ndarray]:
        values: dict[str, np.ndarray] = {}
        for t, figures in per_threshold.items():
            found = figures.curves(weights, interpolation, froc=t in ends)
            if t in ends:
                found |= figures.localisation(weights)
                found["ECE"] = figures.calibration_error(weights)
                for score in operating_points:
                    point = figures.operating_point(weights, np.full(len(classes), float(score)))
                    found |= {f"{key}/score={score:g}": value for key, value in point.items()}
            values |= {_at(key, t): value for key, value in found.items()}
        if len(thresholds) > 1:
            span = f"{thresholds[0]:.2f}:{thresholds[-1]:.2f}"
            for key in ("AP", "AR"):
                values[f"m{key}@{span}"] = np.mean([values[_at(key, t)] for t in thresholds], axis=0)
        for name, figures in by_size.items():
            found = figures.curves(weights, interpolation, froc=False)
            values |= {_at(f"{key}/size={name}", thresholds[0]): value for key, value in found.items()}
        return values | headline.patient_level(weights)

    table = headline.table
    metrics = count(table, headline.num_groups)
    drawn = draw_groups(headline.num_groups, num_resamples, seed)
    metrics |= summarise(compute, classes, drawn)
    for t in ends:
        metrics[_at("size_ratios", t)] = size_ratio_table(per_threshold[t].table)
        metrics[_at("calibration", t)] = calibration_curves(per_threshold[t].table, index, drawn)
    operating = best_scores(headline)
    across = find_overlaps(predictions, truths, **options, farthest=thresholds[-1], across_classes=True)
    metrics[_at("confusion", thresholds[0])] = confusion_matrix(across, thresholds[0], operating, index, drawn)
    metrics["settings"] = {
        "iou_thresholds": thresholds, "criterion": criterion.kind, "interpolation": interpolation, "rule": rule,
        "size_limits": limits, "operating_points": list(operating_points),
        "num_resamples": num_resamples, "seed": seed,
    }  # fmt: skip
    curves = tuple(curve for t in ends for curve in make_curves(per_threshold[t]))
    return Evaluation(metrics, curves, table, group_names, operating, compute)


def summarise(compute: Compute, classes: Sequence[str], drawn: np.ndarray) -> dict[str, Any]:
    """Each figure of the data set itself with its intervals from the resamples `drawn (r, g)`, by name."""
    metrics: dict[str, Any] = {}
    resampled, num_groups = in_blocks(compute, drawn), drawn.shape[1]
    left_out = in_blocks(compute, leave_out(num_groups)) if resampled else {}
    for key, values in compute(np.ones((1, num_groups))).items():
        put(metrics, key, values, classes)
        if key in resampled:
            how: dict[str, Any] = {"num_groups": num_groups, "corrected": is_smooth(key)}
            drawn_mean, left_out_mean = (mean_of_present(part[key]) for part in (resampled, left_out))
            metrics[f"{key}/ci95"] = interval(drawn_mean, mean_of_present(values)[0], left_out=left_out_mean, **how)
            for k, name in enumerate(classes):
                of_class = left_out[key][:, k]
                metrics[f"{key}/{name}/ci95"] = interval(resampled[key][:, k], values[0, k], left_out=of_class, **how)
    return metrics


def is_smooth(key: str) -> bool:
    """Whether the bias of the resamples tells that of a figure.

    Not at the point that is chosen for its F1, which jumps, and not of a sum of absolute errors.
    """
    name = key.partition("@")[0].partition("/")[0]
    return name != "ECE" and (name not in ("precision", "recall", "score_threshold") or "score=" in key)


def put(metrics: dict[str, Any], key: str, values: np.ndarray, classes: Sequence[str]) -> None:
    """Add the figure `values (1, k)`: the mean over the classes that have one, and the value of each class."""
    mean, *each = (None if np.isnan(value) else float(value) for value in (*mean_of_present(values), *values[0]))
    metrics[key] = mean
    metrics |= {f"{key}/{name}": value for name, value in zip(classes, each, strict=True)}


def make_curves(figures: TableFigures) -> list[Curve]:
    """Precision-recall and FROC of each class that occurs."""
    curves, threshold = [], figures.table.iou_threshold
    ones = np.ones((1, figures.num_groups))
    for name, ranking in zip(figures.table.classes, figures.rankings, strict=True):
        if ranking.objects.sum():
            hits, errors = ranking.counts(ones)
            precision, recall = precision_recall(hits, errors, ranking.objects.sum()[None])
            scores, rate = ranking.thresholds, errors[0] / len(figures.table.cases)
            curves.append(Curve("precision_recall", threshold, name, recall[0], precision[0], scores))
            curves.append(Curve("froc", threshold, name, rate, recall[0], scores))
    return curves


def _at(key: str, threshold: float) -> str:
    """The threshold after the name: "sensitivity/fp=1" becomes "sensitivity@0.10/fp=1"."""
    name, slash, rest = key.partition("/")
    return f"{name}@{threshold:.2f}{slash}{rest}"


def _check_settings(
    iou_thresholds: Sequence[float], classes: Sequence[str], sizes: Sequence[float], scores: Sequence[float]
) -> list[float]:
    if not all(size > 0 for size in sizes) or len({f"{size:g}" for size in sizes}) < len(sizes):
        raise ValueError(f"size limits must be different volumes above 0 (six digits count), got {list(sizes)}")
    if not all(0 <= score <= 1 for score in scores):
        raise ValueError(f"operating points must be scores in 0..1, got {list(scores)}")
    thresholds = sorted(float(t) for t in iou_thresholds)
    if not thresholds or len({f"{t:.2f}" for t in thresholds}) < len(thresholds):
        raise ValueError(f"iou_thresholds must be different numbers (two decimals count), got {list(iou_thresholds)}")
    if repeated := {name for name in classes if list(classes).count(name) > 1}:
        raise ValueError(f"class names must be unique, repeated: {', '.join(sorted(repeated))}")
    return thresholds


def count(table: MatchTable, num_groups: int) -> dict[str, Any]:
    objects = np.bincount(table.object_labels[~table.object_ignored], minlength=len(table.classes)).tolist()
    detections = np.bincount(table.labels, minlength=len(table.classes)).tolist()
    metrics: dict[str, Any] = {"num_images": len(table.cases), "num_groups": num_groups}
    metrics |= {"num_objects": sum(objects), "num_detections": sum(detections)}
    metrics |= {f"num_objects/{name}": n for name, n in zip(table.classes, objects, strict=True)}
    metrics |= {f"num_detections/{name}": n for name, n in zip(table.classes, detections, strict=True)}
    metrics |= {"num_ignored_detections": int(table.ignored.sum())}
    metrics["absent_classes"] = [name for name, n in zip(table.classes, objects, strict=True) if not n]
    return metrics


def best_scores(figures: TableFigures) -> tuple[float | None, ...]:
    """The score with the highest F1 of each class, None without any hit."""
    found = figures.curves(np.ones((1, figures.num_groups)), "101", froc=True)["score_threshold"][0]
    return tuple(None if np.isnan(score) else float(score) for score in found)
