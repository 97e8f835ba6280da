"""Segmentations evaluated per class, by volume and by slice, with intervals over patients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from boxel.evaluation.bootstrap import draw_groups, in_blocks
from boxel.evaluation.case_segmentation import DISTANCES, OVERLAPS, THIRDS, CaseSegmentation, overlap_scores
from boxel.evaluation.compare import compare_evaluations, twice, twice_context
from boxel.evaluation.config import EvaluateConfig
from boxel.evaluation.evaluate import Evaluation, settings, summarise
from boxel.evaluation.overlaps import match_cases
from boxel.evaluation.panoptic import PANOPTIC, panoptic_scores
from boxel.types import Detections, Instances

SEGMENTATION = EvaluateConfig(protocol="segmentation")
WITH_OBJECT, ALL_SLICES = "slices_with_object", "slices"
SEGMENTATION_COLUMNS = (
    "case", "group", "class", "slices", "slices_with_object", "object_voxels", "predicted_voxels",
    *OVERLAPS, *DISTANCES, *(f"{name}/{WITH_OBJECT}" for name in OVERLAPS), *PANOPTIC,
)  # fmt: skip


@dataclass(frozen=True)
class SegmentationEvaluation(Evaluation):
    """The metrics of segmentations; without boxes, hence without curves and matches.

    Attributes:
        cases: the voxel counts and distances of each case of the table.
    """

    cases: tuple[CaseSegmentation, ...]

    @property
    def unit(self) -> str:
        """The unit of `sizes`."""
        return "mm" + "²³"[len(self.cases[0].spacing) - 2]

    def sizes(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """For each class the size of its objects in mm (2D: mm², 3D: mm³) and the DSC, by case with such objects."""
        counts = np.stack([case.counts.sum(axis=1) for case in self.cases])
        size = np.stack([case.annotated.sum(axis=1) * np.prod(case.spacing) for case in self.cases])
        dice = overlap_scores(counts)["DSC"]
        return {name: (size[size[:, k] > 0, k], dice[size[:, k] > 0, k]) for k, name in enumerate(self.table.classes)}


def evaluate_segmentation(
    cases: Mapping[str, CaseSegmentation],
    *,
    classes: Sequence[str],
    groups: Mapping[str, str] | None = None,
    config: EvaluateConfig = SEGMENTATION,
) -> SegmentationEvaluation:
    """DSC, IoU, precision, recall, HD95 and mean surface distance, as means over cases and over slices.

    `DSC` is the mean over cases (volumes), `DSC/slices_with_object` that over the slices in which the class is
    annotated, `DSC/slices` that over every slice with voxels in either mask; so are IoU, precision and recall.
    `DSC/slices_small`, `_medium` and `_large` are those of the thirds of the slices with the class by its area there.
    Distances are of cases. A value that is not defined is left out of the mean, and counted in `num_undefined/NAME`.
    `PQ`, `SQ` and `RQ` are those of the objects of all cases together, see `panoptic_quality`.
    `no_region` counts the cases with an annotated class that is predicted nowhere in them, `no_region/slices` such
    slices.

    Args:
        cases: the scores of each case.
        classes: class names.
        groups: group (patient) of each case; a case that is not named is its own group.
        config: the settings: number of resamples, and seed.

    Raises:
        ValueError: there are no cases.
    """
    if not cases:
        raise ValueError("there are no cases to evaluate on; the data set (or the chosen split) is empty")
    names = tuple((groups or {}).get(case, case) for case in cases)
    index = np.unique(np.array(names), return_inverse=True)[1]
    num_groups = int(index.max()) + 1
    values = _values(list(cases.values()))
    sums = {key: _by_group(*one, index, num_groups) for key, one in values.items()}
    segments = np.zeros((num_groups, len(classes), 4))
    np.add.at(segments, index, np.stack([case.segments for case in cases.values()]))

    def compute(weights: np.ndarray) -> dict[str, np.ndarray]:
        result = {}
        for key, (total, number) in sums.items():
            divisor = weights @ number
            result[key] = np.divide(weights @ total, divisor, out=np.full(divisor.shape, np.nan), where=divisor > 0)
        return result | panoptic_scores(np.tensordot(weights, segments, 1))

    metrics = _count(list(cases.values()), classes, num_groups)
    for key, (_, array, counted) in values.items():
        if not key.endswith((WITH_OBJECT, *THIRDS)):  # defined on each of these slices
            _put_counts(metrics, f"num_undefined/{key}", (counted & np.isnan(array)).sum(axis=0), classes)
    resamples = in_blocks(compute, draw_groups(num_groups, config.num_resamples, config.seed))
    present = {key: number > 0 for key, (_, number) in sums.items()}
    present |= dict.fromkeys(PANOPTIC, segments[..., 1:].sum(axis=-1) > 0)
    metrics |= summarise(compute, classes, resamples, num_groups, present)
    metrics["settings"] = settings(config)
    ndim = len(next(iter(cases.values())).spacing)
    none, nothing = dict.fromkeys(cases, Detections.empty(ndim)), dict.fromkeys(cases, Instances.empty(ndim))
    table = match_cases(none, nothing, classes=classes, iou_threshold=0.5)
    no_scores = (None,) * len(classes)
    scored = tuple(cases.values())
    return SegmentationEvaluation(metrics, (), table, names, no_scores, compute, resamples, scored, present=present)


def compare_segmentation(
    a: Mapping[str, CaseSegmentation],
    b: Mapping[str, CaseSegmentation],
    *,
    classes: Sequence[str],
    groups: Mapping[str, str] | None = None,
    config: EvaluateConfig = SEGMENTATION,
) -> dict[str, Any]:
    """The metrics of two sets of segmentations and their differences; see `boxel.evaluation.compare`."""
    alone = config.model_copy(update={"num_resamples": 0})
    doubled = twice_context({"classes": classes, "groups": groups}, a)["groups"]
    first, second, both = (
        evaluate_segmentation(cases, classes=classes, groups=of, config=alone)
        for cases, of in ((a, groups), (b, groups), (twice(a, b), doubled))
    )
    metrics = compare_evaluations(first, second, both, classes=classes, config=config)
    return {"metrics": metrics, "settings": settings(config)}


def segmentation_rows(evaluation: SegmentationEvaluation) -> list[dict[str, object]]:
    """One row per case and class; a metric that is not defined is empty."""
    rows: list[dict[str, object]] = []
    for case, group, one in zip(evaluation.table.cases, evaluation.groups, evaluation.cases, strict=True):
        slices = overlap_scores(one.counts)
        whole = overlap_scores(one.counts.sum(axis=1))
        for k, name in enumerate(evaluation.table.classes):
            chosen = one.annotated[k] > 0
            means = [slices[key][k, chosen].mean() if chosen.any() else np.nan for key in OVERLAPS]
            matched = (score[k] for score in panoptic_scores(one.segments).values())
            scores = (*(whole[key][k] for key in OVERLAPS), *one.distances[k], *means, *matched)
            sizes = (len(chosen), chosen.sum(), one.annotated[k].sum(), one.predicted[k].sum())
            shown = ("" if np.isnan(score) else round(float(score), 6) for score in scores)
            rows.append(dict(zip(SEGMENTATION_COLUMNS, (case, group, name, *map(int, sizes), *shown), strict=True)))
    return rows


def _values(cases: Sequence[CaseSegmentation]) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each metric the case `(m,)`, the value and whether it is to count `(m, k)` of what it is a mean over."""
    counts = np.concatenate([case.counts.swapaxes(0, 1) for case in cases])
    of_slice = np.repeat(np.arange(len(cases)), [case.counts.shape[1] for case in cases])
    whole = np.stack([case.counts.sum(axis=1) for case in cases])
    of_case, every = np.arange(len(cases)), np.ones(whole.shape[:2], bool)
    with_object = np.concatenate([case.annotated.T for case in cases]) > 0
    by_case, by_slice = overlap_scores(whole), overlap_scores(counts)
    distances = np.stack([case.distances for case in cases])
    return (
        {f"{name}/{WITH_OBJECT}": (of_slice, by_slice[name], with_object) for name in OVERLAPS}
        | {f"DSC/{third}": (of_slice, by_slice["DSC"], chosen) for third, chosen in _thirds(cases).items()}
        | {f"{name}/{ALL_SLICES}": (of_slice, by_slice[name], np.ones_like(with_object)) for name in OVERLAPS}
        | {name: (of_case, by_case[name], every) for name in OVERLAPS}
        | {name: (of_case, distances[..., i], every) for i, name in enumerate(DISTANCES)}
    )


def _thirds(cases: Sequence[CaseSegmentation]) -> dict[str, np.ndarray]:
    """For each third by area in mm², which slices `(m, k)` belong to it; equal areas are in one third."""
    area = np.concatenate([case.annotated.T * np.prod(case.spacing[-2:]) for case in cases])
    present = np.where(area > 0, area, np.nan)
    present[:, np.isnan(present).all(axis=0)] = 0  # a class without any object
    # Without interpolation, so that a set and its double, which a comparison evaluates, have the same thirds.
    first, second = np.nanquantile(present, [1 / 3, 2 / 3], axis=0, method="inverted_cdf")
    parts = (area <= first, (first < area) & (area <= second), second < area)
    return {name: (area > 0) & part for name, part in zip(THIRDS, parts, strict=True)}


def _by_group(
    case_of: np.ndarray, values: np.ndarray, counted: np.ndarray, index: np.ndarray, num_groups: int
) -> tuple[np.ndarray, np.ndarray]:
    """`(g, k)` sum and number of the defined values of each group."""
    present = counted & ~np.isnan(values)
    total, number = (np.zeros((num_groups, values.shape[1])) for _ in range(2))
    np.add.at(total, index[case_of], np.where(present, values, 0.0))
    np.add.at(number, index[case_of], present)
    return total, number


def _count(cases: Sequence[CaseSegmentation], classes: Sequence[str], num_groups: int) -> dict[str, Any]:
    """The numbers of cases, slices, objects and of what was annotated but not predicted."""
    metrics: dict[str, Any] = {"num_images": len(cases), "num_groups": num_groups}
    metrics["num_slices"] = sum(case.counts.shape[1] for case in cases)
    pairs = [(case.annotated > 0, case.predicted > 0) for case in cases]
    numbers: dict[str, list[Any]] = {
        "num_objects": [case.num_objects for case in cases],
        "num_cases_with_object": [true.any(axis=1) for true, _ in pairs],
        f"num_{WITH_OBJECT}": [true.sum(axis=1) for true, _ in pairs],
        "no_region": [true.any(axis=1) & ~mine.any(axis=1) for true, mine in pairs],
        f"no_region/{ALL_SLICES}": [(true & ~mine).sum(axis=1) for true, mine in pairs],
    }
    for key, each in numbers.items():
        _put_counts(metrics, key, np.stack(each).sum(axis=0), classes)
    metrics["absent_classes"] = [name for name in classes if not metrics[f"num_cases_with_object/{name}"]]
    return metrics


def _put_counts(metrics: dict[str, Any], key: str, counts: np.ndarray, classes: Sequence[str]) -> None:
    """Add a number per class, and their sum."""
    metrics[key] = int(counts.sum())
    metrics |= {f"{key}/{name}": int(number) for name, number in zip(classes, counts, strict=True)}
