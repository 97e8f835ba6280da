"""The metrics that an evaluation computes: Boxel's own and those of users, registered alike."""

import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from boxel.evaluation.config import EvaluateConfig
from boxel.evaluation.grouped_matches import GroupedMatches
from boxel.evaluation.matching import MatchTable
from boxel.plugins import Registry, failed_plugin

When = Literal["all", "ends", "once"]
# Names in `metrics.json` that are not of metrics.
OTHER_NAMES = ("settings", "absent_classes", "confusion", "calibration", "size_ratios")
# What an evaluation computes itself, under any protocol, and what users therefore cannot register.
OWN_NAMES = frozenset(
    {
        *OTHER_NAMES, "AP", "mAP", "AR", "mAR", "FROC", "sensitivity", "precision", "recall", "F1", "score_threshold",
        "mean_iou", "mean_iou_objects", "size_ratio", "size_ratio_mean", "ECE", "patient_AP", "patient_AUROC", "CPM",
        "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl", "DSC", "IoU",
        "HD95", "mean_surface_distance", "no_region", "PQ", "SQ", "RQ",
    }
)  # fmt: skip
OWN_MODULE = "boxel.evaluation.metrics"


@dataclass(frozen=True)
class WeightedMatches:
    """The matches at one threshold, under many weightings of the patients: `r` resamples, `k` classes.

    Attributes:
        grouped: the matches, with the patient of each case.
        weights: `(r, g)` how much each patient counts.
        config: the settings of the evaluation.
        is_end: whether this threshold is reported in full, see `EvaluateConfig.reported`.
    """

    grouped: GroupedMatches
    weights: np.ndarray
    config: EvaluateConfig
    is_end: bool = True

    @property
    def table(self) -> MatchTable:
        """The matches: one row per detection, and one per object."""
        return self.grouped.table

    @cached_property
    def num_objects(self) -> np.ndarray:
        """`(r, k)` annotated objects of each class, without ignored ones."""
        return self.weights @ self.grouped.objects

    @cached_property
    def num_images(self) -> np.ndarray:
        """`(r, 1)` images."""
        return (self.weights @ self.grouped.images)[:, None]

    def sum_detections(self, chosen: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        """`(r, k)` number of the `chosen (n,)` detections of `table`, or the sum of their `values (n,)`."""
        return self.weights @ self.grouped.sum_detections(chosen, values)

    def sum_objects(self, chosen: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        """`(r, k)` number of the `chosen (m,)` objects of `table`, or the sum of their `values (m,)`."""
        table = self.table
        return self.weights @ self.grouped.sums(chosen, table.object_cases, table.object_labels, values)


Function = Callable[[WeightedMatches], np.ndarray | Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Metric:
    """A registered metric; see `register_metric`."""

    name: str
    function: Function
    when: When
    higher_is_better: frozenset[str] = frozenset()

    @property
    def is_added(self) -> bool:
        """Whether a user registered it."""
        return getattr(self.function, "__module__", "") != OWN_MODULE

    def compute(self, matches: WeightedMatches) -> dict[str, np.ndarray]:
        """`(r, k)` by name; nan where the metric is not defined.

        Raises:
            ValueError: the function fails, or returns an array of another shape.
        """
        shape = matches.num_objects.shape
        try:
            with np.errstate(divide="ignore", invalid="ignore"):
                result = self.function(matches)
            values = dict(result) if isinstance(result, Mapping) else {self.name: result}
            values = {name: np.asarray(array, np.float64) for name, array in values.items()}
        except Exception as error:
            if not self.is_added:
                raise
            where = failed_plugin(error) or f"{type(error).__name__}: {error}"
            raise ValueError(f"metric {self.name!r}: {where}") from error
        for name, array in values.items():
            if np.shape(array) != shape:
                raise ValueError(
                    f"metric {name!r}: its function returned an array of shape {np.shape(array)}; return one of shape "
                    f"{shape}, a row for each resample and a column for each class"
                )
        return {name: np.where(np.isfinite(array), array, np.nan) for name, array in values.items()}


_metrics: Registry[Metric] = Registry("metric")


def register_metric(
    name: str, function: Function, *, when: When = "all", higher_is_better: bool | Collection[str] = False
) -> None:
    """Add a metric to every evaluation and comparison, with values per class, intervals and tests.

    The other protocols ("coco", "luna16", "picai", "segmentation") compute their own metrics only, and warn of that.

    The function receives the matches of the whole data set (`WeightedMatches`) and returns an array of shape `(r, k)`:
    a row for each of `r` resamples of the patients, a column for each of `k` classes. Usually that is a formula of sums
    over detections and objects, which have this shape. Where it divides by 0, the metric is not defined (None).

    Args:
        name: becomes the key `NAME@0.50`, and `NAME@0.50/CLASS`.
        function: see above; it may also return several arrays by name.
        when: at "all" IoU thresholds, at those reported in full ("ends", see `EvaluateConfig.reported`), or "once",
            if the matching does not matter; the key is then the name alone.
        higher_is_better: whether `train.select_by` may name it; of several arrays, the names of those it may.

    Raises:
        ValueError: the name is taken, also by a metric of Boxel (the evaluation says so if a function returns such a
            name), or cannot be part of a key.

    Example:
        F2 counts recall more than precision; here of the detections that score at least 0.5.

        >>> import boxel, numpy as np
        >>> def f2(matches):
        ...     confident = matches.table.scores >= 0.5
        ...     true = matches.sum_detections(matches.table.true_positives & confident)
        ...     false = matches.sum_detections(matches.table.false_positives & confident)
        ...     return 5 * true / (true + 4 * matches.num_objects + false)
        >>> boxel.register_metric("F2_doctest", f2)
        >>> box = np.array([[[0, 0], [9, 9]]])
        >>> result = boxel.evaluate(
        ...     {"a": {"boxes": box, "scores": [0.9], "labels": [0]}}, {"a": {"boxes": box, "labels": [0]}}
        ... )
        >>> result.metrics["F2_doctest@0.50"]
        1.0
    """
    if not re.fullmatch(r"[A-Za-z]\w*", name) or name.startswith("num_"):
        raise ValueError(f"metric name {name!r}: use letters, digits and underscores, and do not begin with num_")
    names = frozenset([name] if higher_is_better is True else higher_is_better or ())
    metric = Metric(name, function, when, names)
    if metric.is_added and name in OWN_NAMES:
        raise ValueError(f"metric name {name!r}: Boxel computes a metric of this name itself; choose another name")
    _metrics[name] = metric


def compute_metrics(
    matches: Mapping[float, GroupedMatches], weights: np.ndarray, config: EvaluateConfig
) -> Iterator[tuple[str, float | None, np.ndarray]]:
    """Name, threshold (None where it does not matter) and values `(r, k)` of every registered metric."""
    owners: dict[str, str] = {}
    for threshold in (*matches, None):
        is_end = threshold is None or threshold in config.reported
        grouped = matches[config.iou_thresholds[0] if threshold is None else threshold]
        weighted = WeightedMatches(grouped, weights, config, is_end)
        due = ("once",) if threshold is None else ("all", "ends") if is_end else ("all",)
        for metric in _metrics.values():
            for name, values in metric.compute(weighted).items() if metric.when in due else ():
                if metric.is_added and name in OWN_NAMES:
                    raise ValueError(
                        f"metric {metric.name!r}: its function returned {name!r}, which Boxel computes itself; "
                        "choose another name"
                    )
                if owners.setdefault(name, metric.name) != metric.name:
                    raise ValueError(
                        f"metric {metric.name!r}: its function returned {name!r}, which is also a name of the metric "
                        f"{owners[name]!r}; choose another name"
                    )
                yield name, threshold, values


def is_higher_better(key: str) -> bool:
    """Whether more is better of a metric, such as "AP@0.10/nodule"."""
    name = re.split("[@/]", key)[0]
    return any(name in metric.higher_is_better for metric in _metrics.values())


def added_metrics() -> list[str]:
    """The names of the metrics that users registered."""
    return [name for name, metric in _metrics.items() if metric.is_added]


def warn_left_out(config: EvaluateConfig) -> None:
    """Warn if the protocol leaves out metrics that users registered."""
    if config.protocol != "boxel" and (names := added_metrics()):
        warnings.warn(
            f"protocol {config.protocol} computes its own metrics only, not {', '.join(names)}; "
            "leave out the protocol to compute those",
            stacklevel=3,
        )
