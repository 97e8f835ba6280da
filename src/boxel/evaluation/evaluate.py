"""From detections and objects to every metric: match once per threshold, derive the rest."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Required, TypedDict

import numpy as np

from boxel.evaluation.average_precision import precision_recall
from boxel.evaluation.bootstrap import draw_groups, in_blocks, interval, leave_out, mean_of_present
from boxel.evaluation.config import EvaluateConfig
from boxel.evaluation.criteria import Criterion
from boxel.evaluation.details import calibration_curves, confusion_matrix, size_ratio_table, size_strata
from boxel.evaluation.grouped_matches import GroupedMatches
from boxel.evaluation.matching import MatchTable
from boxel.evaluation.overlaps import find_overlaps
from boxel.evaluation.registry import compute_metrics
from boxel.evaluation.summary import summary
from boxel.types import Detections, Instances

Compute = Callable[[np.ndarray], Mapping[str, np.ndarray]]


class Context(TypedDict, total=False):
    """What there is to know about the cases besides their objects: arguments of `evaluate`."""

    classes: Required[Sequence[str]]
    groups: Mapping[str, str] | None
    ignored: Mapping[str, Instances] | None
    regions: Mapping[str, Instances] | None


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
    """The metrics of a set of predictions.

    Attributes:
        metrics: by name, ready for JSON; None where a metric is not defined. `AP@0.10` is the mean over the
            classes that occur, `AP@0.10/nodule` that of a class, `.../ci95` its 95 % interval. "settings"
            says how they were made.
        curves: precision-recall and FROC of each class that occurs, at the lowest and the highest
            threshold.
        table: the matches at the lowest threshold.
        groups: name of the group (patient) of each case of the table.
        score_thresholds: for each class the score with the highest F1 at the lowest threshold; None
            without true positives.
        compute: the metrics `(r, k)` by name, for weights `(r, g)` of the groups in alphabetical order.
        resamples: what `compute` gave for the bootstrap resamples that the intervals come from.
        present: which groups `(g, k)` a metric has a value in, by name; a metric that is not named: all.
        confused: as of `confusion_matrix`; None where it is not computed.
    """

    metrics: dict[str, Any]
    curves: tuple[Curve, ...]
    table: MatchTable
    groups: tuple[str, ...]
    score_thresholds: tuple[float | None, ...]
    compute: Compute
    resamples: Mapping[str, np.ndarray]
    present: Mapping[str, np.ndarray] = field(default_factory=dict, kw_only=True)
    confused: np.ndarray | None = field(default=None, kw_only=True)

    def __str__(self) -> str:
        return summary(self.metrics)

    def scores(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """For each class the scores of its true positives and of its false positives."""
        table = self.table

        def of(label: int, rows: np.ndarray) -> np.ndarray:
            return table.scores[rows & (table.labels == label)]

        return {
            name: (of(k, table.true_positives), of(k, table.false_positives)) for k, name in enumerate(table.classes)
        }

    def outcome(self, case: str) -> tuple[np.ndarray, np.ndarray]:
        """Of one case, in their own order: which detections `(n,)` are true positives, which objects `(m,)` detected.

        An object counts as detected if its detection reaches the score threshold of the class.
        """
        table, position = self.table, self.table.cases.index(case)
        rows = np.flatnonzero(table.detection_cases == position)
        true_positives = table.true_positives[rows[np.argsort(table.indices[rows])]]
        thresholds = np.array([0.0 if t is None else t for t in self.score_thresholds])
        objects = (table.object_cases == position) & ~table.object_ignored
        return true_positives, table.object_scores[objects] >= thresholds[table.object_labels[objects]]


def evaluate(
    predictions: Mapping[str, Detections],
    ground_truth: Mapping[str, Instances],
    *,
    classes: Sequence[str],
    config: EvaluateConfig = EvaluateConfig(),  # noqa: B008 (frozen)
    criterion: Criterion | None = None,
    groups: Mapping[str, str] | None = None,
    ignored: Mapping[str, Instances] | None = None,
    regions: Mapping[str, Instances] | None = None,
) -> Evaluation:
    """Compute the metrics of predictions.

    Object level: average precision and highest recall at each threshold and their means over thresholds, and at the
    lowest and the highest one also FROC (false positives per image of the class, negative images counted), precision,
    recall and F1 at the score where F1 is highest (chosen on these data, hence optimistic), mean IoU and median
    size ratio of the matched pairs, calibration error, and average precision by size of the object. Patient level:
    average precision ("step") and AUROC of the highest score per group. Metrics of users: `register_metric`. Values
    over all classes are means over the classes that occur; a class without objects is listed in `absent_classes` and
    has None.

    Args:
        predictions: detections per case; every case needs an entry, an empty one where nothing was detected.
        ground_truth: objects per case, empty for a negative case.
        classes: class names.
        config: the settings.
        criterion: the spacings and masks that `config.criterion` needs; its kind must be that one.
        groups: group (patient) of each case; a case that is not named is its own group.
        ignored: ignored objects, see `find_overlaps`.
        regions: ignored regions: boxes in which detections do not count.

    Raises:
        ValueError: see `find_overlaps`; repeated class names; a protocol with a function of its own.
    """
    if config.protocol != "boxel":
        raise ValueError(f"protocol {config.protocol} has a function of its own: evaluate_{config.protocol}")
    if repeated := {name for name, number in Counter(classes).items() if number > 1}:
        raise ValueError(f"class names must be unique, repeated: {', '.join(sorted(repeated))}")
    criterion = criterion or Criterion(config.criterion)
    if criterion.kind != config.criterion:
        raise ValueError(f"criterion {criterion.kind!r} is given, but the settings ask for {config.criterion!r}")
    thresholds = config.iou_thresholds
    lowest, highest = thresholds[0], thresholds[-1]

    any_classes = find_overlaps(
        predictions, ground_truth, classes=classes, criterion=criterion, ignored=ignored, regions=regions,
        farthest=highest, across_classes=True,
    )  # fmt: skip
    overlaps = any_classes.of_equal_classes()
    group_names = tuple((groups or {}).get(case, case) for case in ground_truth)
    index = np.unique(np.array(group_names), return_inverse=True)[1]
    per_threshold = {t: GroupedMatches(overlaps.match(t, config.rule), index) for t in thresholds}
    headline = per_threshold[lowest]
    limits, strata = size_strata(overlaps, config.size_limits, lowest, config.rule)
    by_size = {name: GroupedMatches(table, index) for name, table in strata.items()}

    def compute(weights: np.ndarray) -> dict[str, np.ndarray]:
        values: dict[str, np.ndarray] = {}
        once: dict[str, np.ndarray] = {}
        for name, threshold, array in compute_metrics(per_threshold, weights, config):
            (once if threshold is None else values)[name if threshold is None else _at(name, threshold)] = array
        if len(thresholds) > 1:
            for key in ("AP", "AR"):
                values[f"m{key}@{lowest:.2f}:{highest:.2f}"] = np.mean(
                    [values[_at(key, t)] for t in thresholds], axis=0
                )
        for name, matches in by_size.items():
            curves = matches.curves(weights, config.interpolation, froc=False)
            values |= {_at(f"{key}/size={name}", lowest): value for key, value in curves.items()}
        return values | once

    table = headline.table
    metrics = count(table, headline.num_groups)
    drawn = draw_groups(headline.num_groups, config.num_resamples, config.seed)
    resamples = in_blocks(compute, drawn)
    metrics |= summarise(compute, classes, resamples, headline.num_groups)
    for t in config.reported:
        metrics[_at("size_ratios", t)] = size_ratio_table(per_threshold[t].table)
        metrics[_at("calibration", t)] = calibration_curves(per_threshold[t].table, index, drawn)
    operating = best_scores(headline)
    confusion, confused = confusion_matrix(any_classes, lowest, operating, index, drawn)
    metrics[_at("confusion", lowest)] = confusion
    metrics["settings"] = settings(config) | {"size_limits": limits}
    curves = tuple(curve for t in config.reported for curve in make_curves(per_threshold[t]))
    return Evaluation(metrics, curves, table, group_names, operating, compute, resamples, confused=confused)


def settings(config: EvaluateConfig) -> dict[str, Any]:
    """The settings that `metrics.json` records; those that a protocol fixes are left out."""
    values = config.to_dict()
    if config.protocol == "boxel":
        return {key: value for key, value in values.items() if key != "protocol"}
    return {key: values[key] for key in ("protocol", "num_resamples", "seed")}


def summarise(
    compute: Compute,
    classes: Sequence[str],
    resampled: Mapping[str, np.ndarray],
    num_groups: int,
    present: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Each metric of the data set itself with its intervals from the values `(r, k)` of the resamples, by name.

    Args:
        present: which groups `(g, k)` a metric has a value in, where not in all: only those count for its interval.
    """
    metrics: dict[str, Any] = {}
    left_out = in_blocks(compute, leave_out(num_groups)) if resampled else {}
    for key, values in compute(np.ones((1, num_groups))).items():
        put(metrics, key, values, classes)
        if key in resampled:
            how: dict[str, Any] = {"corrected": is_smooth(key)}
            every, *each = num_present(None if present is None else present[key], num_groups, len(classes))
            drawn_mean, left_out_mean = (mean_of_present(part[key]) for part in (resampled, left_out))
            metrics[f"{key}/ci95"] = interval(drawn_mean, mean_of_present(values)[0], every, left_out_mean, **how)
            for k, (name, number) in enumerate(zip(classes, each, strict=True)):
                metrics[f"{key}/{name}/ci95"] = interval(
                    resampled[key][:, k], values[0, k], number, left_out[key][:, k], **how
                )
    return metrics


def num_present(present: np.ndarray | None, num_groups: int, num_classes: int) -> list[int]:
    """How many groups have a value of a metric: of any class, and of each class."""
    if present is None:
        return [num_groups] * (1 + num_classes)
    return [int(present.any(axis=1).sum()), *present.sum(axis=0).tolist()]


def is_smooth(key: str) -> bool:
    """Whether the bias of the resamples tells that of a metric.

    Not at the point that is chosen for its F1, which jumps, and not of a sum of absolute errors.
    """
    name, at_threshold, _ = key.partition("@")
    chosen = at_threshold and name in ("precision", "recall", "score_threshold") and "score=" not in key
    return name != "ECE" and not chosen


def put(metrics: dict[str, Any], key: str, values: np.ndarray, classes: Sequence[str]) -> None:
    """Add the metric `values (1, k)`: the mean over the classes that have one, and the value of each class."""
    mean, *each = (None if np.isnan(value) else float(value) for value in (*mean_of_present(values), *values[0]))
    metrics[key] = mean
    metrics |= {f"{key}/{name}": value for name, value in zip(classes, each, strict=True)}


def make_curves(matches: GroupedMatches) -> list[Curve]:
    """Precision-recall and FROC of each class that occurs."""
    curves, threshold = [], matches.table.iou_threshold
    ones = np.ones((1, matches.num_groups))
    for name, ranking in zip(matches.table.classes, matches.rankings, strict=True):
        if ranking.objects.sum():
            true_positives, errors = ranking.counts(ones)
            precision, recall = precision_recall(true_positives, errors, ranking.objects.sum()[None])
            scores, rate = ranking.thresholds, errors[0] / len(matches.table.cases)
            curves.append(Curve("precision_recall", threshold, name, recall[0], precision[0], scores))
            curves.append(Curve("froc", threshold, name, rate, recall[0], scores))
    return curves


def _at(key: str, threshold: float) -> str:
    """The threshold after the name: "sensitivity/fp=1" becomes "sensitivity@0.10/fp=1"."""
    name, slash, rest = key.partition("/")
    return f"{name}@{threshold:.2f}{slash}{rest}"


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


def best_scores(matches: GroupedMatches) -> tuple[float | None, ...]:
    """The score with the highest F1 of each class, None without any true positive."""
    scores = matches.curves(np.ones((1, matches.num_groups)), "101", froc=True)["score_threshold"][0]
    return tuple(None if np.isnan(score) else float(score) for score in scores)
