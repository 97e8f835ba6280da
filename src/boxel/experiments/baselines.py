"""What the size of a box alone says about its class: the floor that a detector has to beat, and strata of like size.

Sizes are diameters: the longest side of a box, in mm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from boxel.api.evaluation_inputs import read_evaluation_inputs
from boxel.datasets.cases import Dataset, read_case_image
from boxel.evaluation import Evaluation, evaluate
from boxel.evaluation.evaluate import Context
from boxel.types import Detections, Instances

__all__ = ["SizeClassifier", "box_diameters", "classify_by_size", "fit_size_classifier", "split_by_diameter"]

RIDGE = 1e-3  # penalty of the slope, which is infinite where the classes do not overlap
STEPS = 50


@dataclass(frozen=True)
class SizeClassifier:
    """A logistic regression of the second of two classes on the logarithm of the diameter.

    Attributes:
        intercept: log odds of class 1 at `centre`.
        slope: change of the log odds per unit of the logarithm.
        centre: mean logarithm of the diameters (mm) of the training objects.
    """

    intercept: float
    slope: float
    centre: float

    def __call__(self, diameters: np.ndarray) -> np.ndarray:
        """The probability `(n,)` of class 1 for diameters `(n,)` in mm."""
        logits = self.intercept + self.slope * (np.log(diameters) - self.centre)
        return 0.5 * (1 + np.tanh(0.5 * logits))


def box_diameters(boxes: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """The longest side `(n,)` in mm of boxes `(n, 2, d)` in voxels of `spacing` (mm per array axis).

    Example:
        >>> box_diameters(np.array([[[0, 0], [4, 10]]]), (2.0, 0.5)).tolist()
        [8.0]
    """
    boxes = np.asarray(boxes, np.float64)
    return ((boxes[:, 1] - boxes[:, 0]) * np.asarray(spacing)).max(axis=1, initial=0)


def fit_size_classifier(diameters: np.ndarray, labels: np.ndarray) -> SizeClassifier:
    """Fit a logistic regression to training objects.

    Args:
        diameters: `(n,)` mm, above 0.
        labels: `(n,)` of 0 and 1.

    Raises:
        ValueError: other labels than 0 and 1, only one of them, or a diameter that is not above 0.
    """
    diameters, labels = np.asarray(diameters, np.float64), np.asarray(labels)
    if set(np.unique(labels).tolist()) != {0, 1}:
        raise ValueError(
            f"labels are {np.unique(labels).tolist()}; a classifier of sizes has two classes: give both 0 and 1"
        )
    if not (np.isfinite(diameters) & (diameters > 0)).all():
        raise ValueError(f"a diameter is {diameters.min():g} mm; give finite diameters above 0")
    logs = np.log(diameters)
    centre = float(logs.mean())
    design = np.stack([np.ones(len(logs)), logs - centre], axis=1)
    penalty = np.diag([0.0, RIDGE])
    weights = np.zeros(2)
    for _ in range(STEPS):  # Newton's method
        chances = 0.5 * (1 + np.tanh(0.5 * design @ weights))
        gradient = design.T @ (labels - chances) - penalty @ weights
        curvature = (design * (chances * (1 - chances))[:, None]).T @ design + penalty
        weights = weights + np.clip(np.linalg.solve(curvature, gradient), -2, 2)
    return SizeClassifier(float(weights[0]), float(weights[1]), centre)


def classify_by_size(
    objects: Detections | Instances, spacing: Sequence[float], classifier: SizeClassifier
) -> Detections:
    """Each box once per class, with the probability of the class given its size; the given labels are not used.

    Args:
        objects: detections, whose scores are multiplied by the probability, or ground truth, whose score is 1.
        spacing: mm per voxel, per array axis.
        classifier: of the training objects.
    """
    scores = objects.scores if isinstance(objects, Detections) else np.ones(len(objects), np.float32)
    boxes = np.asarray(objects.boxes, np.float32)
    upper = classifier(np.maximum(box_diameters(boxes, spacing), 1e-6))
    labels = np.repeat([0, 1], len(boxes))
    geometry = objects.geometry if isinstance(objects, Detections) else None
    weighted = np.concatenate([scores * (1 - upper), scores * upper]).astype(np.float32)
    return Detections(np.concatenate([boxes, boxes]), weighted, labels, geometry)


def split_by_diameter(
    ground_truth: Mapping[str, Instances], spacings: Mapping[str, Sequence[float]], lower: float, upper: float
) -> tuple[dict[str, Instances], dict[str, Instances]]:
    """The objects whose diameter is in `lower..upper` mm (both included), and the others, to ignore: by case.

    Both are arguments of `boxel.evaluation.evaluate`, as `ground_truth` and `ignored`.

    Raises:
        ValueError: `lower` is above `upper`, or a case has no spacing.
    """
    if lower > upper:
        raise ValueError(f"the stratum is {lower:g} to {upper:g} mm; give the lower bound first")
    missing = sorted(ground_truth.keys() - spacings.keys())
    if missing:
        raise ValueError(f"no spacing for case {missing[0]!r}; give that of every case")
    kept, ignored = {}, {}
    for case, objects in ground_truth.items():
        diameters = box_diameters(objects.boxes, spacings[case])
        inside = (diameters >= lower) & (diameters <= upper)
        kept[case], ignored[case] = objects[inside], objects[~inside]
    return kept, ignored


def evaluate_stratum(predictions: Path, dataset: Dataset, lower: float, upper: float) -> Evaluation:
    """The metrics of predictions in a folder where only objects of `lower..upper` mm count and others are ignored."""
    inputs = read_evaluation_inputs(predictions, dataset)
    spacings = {case: read_case_image(dataset[case], dataset).geometry.spacing for case in inputs.ground_truth}
    kept, others = split_by_diameter(inputs.ground_truth, spacings, lower, upper)
    ignored = dict(inputs.context.get("ignored") or {})
    joined = {case: Instances.concatenate([ignored[case], own]) if case in ignored else own
              for case, own in others.items()}  # fmt: skip
    context: Context = {**inputs.context, "ignored": joined}
    return evaluate(inputs.detections, kept, criterion=inputs.criterion, **context)
