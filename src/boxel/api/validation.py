"""Validation: the metrics of a model on the validation cases while it is trained, one of which ranks checkpoints."""

import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from boxel.api.detector import Detector
from boxel.config import did_you_mean
from boxel.datasets.split import draw_cases
from boxel.evaluation import IOU_THRESHOLDS, EvaluateConfig, evaluate
from boxel.evaluation.registry import is_higher_better
from boxel.models.base import Model
from boxel.preparation.store import Store
from boxel.recipes import Experiment
from boxel.training.config import LAST
from boxel.types import Detections, Instances, Split, Task

REPORTED = ("AP@0.10", "AP@0.50", "mAP@0.10:0.50")


def make_validation(
    store: Store, ids: Sequence[str], task: Task, experiment: Experiment
) -> Callable[[Model], dict[str, float]]:
    """A function that returns the metrics of a model on the cases `ids`, `train.select_by` among them.

    The network sees each tile once, without mirrored views, at the scale nearest to 1. A metric that is
    not defined counts as 0.

    Raises:
        ValueError: `train.select_by` is not a metric, or not one to maximise.
    """
    ground_truth = {case: store.meta(case).original_instances for case in ids}
    select_by = experiment.train.select_by
    if select_by == LAST:
        select_by = REPORTED[0]
    else:
        check_metric(select_by, ground_truth, task.classes)
    once = {"views": "identity", "scales": (min(experiment.predict.scales, key=lambda s: abs(math.log(s))),)}
    look = experiment.predict.model_copy(update={**once, "masks": False, "segmentation": False})

    def validate(model: Model) -> dict[str, float]:
        detector = Detector(task, [model], look, experiment.consolidate, device=next(model.parameters()).device)
        detections = predict_stored(detector, store, ids)
        metrics = compute(detections, ground_truth, task.classes, select_by)
        return {name: metrics[name] or 0.0 for name in dict.fromkeys((*REPORTED, select_by))}

    if ids:
        return validate
    logging.getLogger("boxel").warning("no validation cases: the newest checkpoint counts as the best")
    return lambda model: {}


def validation_ids(store: Store, split: Split, experiment: Experiment) -> list[str]:
    """The cases of a fold that a training validates on: at most `train.validation_cases`, see `draw_cases`."""
    if experiment.train.validation_cases is None:
        return list(split.val)
    metas = {case: store.meta(case) for case in split.val}
    labels = {case: meta.instances.labels.tolist() for case, meta in metas.items()}
    groups = {case: meta.group or case for case, meta in metas.items()}
    return draw_cases(labels, groups, experiment.train.validation_cases, experiment.seed)


def predict_stored(detector: Detector, store: Store, ids: Sequence[str]) -> dict[str, Detections]:
    """The detections of prepared cases, in original voxels."""
    detections = {}
    for case in ids:
        meta = store.meta(case)
        image, _ = store.read(case)
        raw = detector.predict_prepared(image)
        detections[case] = detector.finish(raw, meta.shape, meta.original)
    return detections


def check_metric(name: str, ground_truth: Mapping[str, Instances], classes: Sequence[str]) -> None:
    """Raise ValueError unless the metric can rank checkpoints; warn where these cases do not define it.

    The metrics of perfect detections say which metrics there are.
    """
    perfect = {
        case: Detections(objects.boxes, np.ones(len(objects), np.float32), objects.labels)
        for case, objects in ground_truth.items()
    }
    if not perfect:
        return
    metrics = compute(perfect, ground_truth, classes, name)
    if not is_ranking(name, metrics):
        near = evaluate(perfect, ground_truth, classes=classes, config=config_of(name, (0.10,))).metrics
        known = {key for key in (*near, *REPORTED) if is_ranking(key, near | metrics)}
        hint = did_you_mean(name, (key for key in known if key.rpartition("/")[2] not in classes))
        why = "does not grow as detections improve" if name in metrics else "is not a metric of the evaluation"
        raise ValueError(
            f"train.select_by={name!r} {why}{hint}; also at other IoU thresholds, and with /CLASS; or {LAST}"
        )
    if metrics[name] is None:
        logging.getLogger("boxel").warning(
            f"train.select_by={name!r} is not defined on the validation cases: the newest checkpoint counts as the best"
        )


def is_ranking(name: str, metrics: Mapping[str, Any]) -> bool:
    """Whether a metric is a number of which more is better."""
    number = name in metrics and (metrics[name] is None or isinstance(metrics[name], float))
    return number and is_higher_better(name)


def compute(
    detections: Mapping[str, Detections], ground_truth: Mapping[str, Instances], classes: Sequence[str], name: str
) -> dict[str, Any]:
    """The default metrics, and those at the thresholds in the name of a metric, such as "F1@0.30"."""
    metrics: dict[str, Any] = {}
    for config in (EvaluateConfig(num_resamples=0), config_of(name)):
        if name not in metrics:
            metrics |= evaluate(detections, ground_truth, classes=classes, config=config).metrics
    return metrics


def config_of(name: str, iou_thresholds: Sequence[float] = IOU_THRESHOLDS) -> EvaluateConfig:
    """The settings that compute a metric: `AP@0.30`, `mAP@0.20:0.40`, `F1@0.10/score=0.5`.

    Args:
        iou_thresholds: where the name has none.
    """
    settings: dict[str, Any] = {"iou_thresholds": iou_thresholds, "num_resamples": 0}
    if match := re.search(r"@(0?\.\d+)(?::(0?\.\d+))?", name):
        first, last = float(match[1]), float(match[2] or match[1])
        if 0 < first <= last:
            settings["iou_thresholds"] = [round(t, 4) for t in np.arange(first, last + 1e-6, 0.05).tolist()]
    if match := re.search(r"/score=(0?\.\d+|[01])", name):
        settings["operating_points"] = [float(match[1])]
    return EvaluateConfig.from_dict(settings, f"train.select_by={name}")
