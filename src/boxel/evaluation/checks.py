"""What predictions and annotations must satisfy before they can be compared; errors name the case."""

from collections.abc import Mapping

import numpy as np

from boxel.types import Detections, Instances


def check_cases(predictions: Mapping[str, Detections], truths: Mapping[str, Instances]) -> None:
    """Every case needs predictions, and none may be foreign."""
    if not truths:
        raise ValueError("there are no cases to evaluate on; the data set (or the chosen split) is empty")
    missing = [case for case in truths if case not in predictions]
    if missing:
        raise ValueError(
            f"no predictions for case {missing[0]!r} ({len(missing)} of {len(truths)} cases lack them); "
            "predict it, or write a file with an empty list of detections if nothing was found"
        )
    unknown = [case for case in predictions if case not in truths]
    if unknown:
        raise ValueError(
            f"predictions for case {unknown[0]!r}, which the data set does not contain "
            f"({len(unknown)} such cases); remove them or evaluate on the data set (or split) they belong to"
        )


def check_truth(case: str, truth: Instances, num_classes: int) -> None:
    """Labels among the classes, unique ids, finite boxes."""
    labels, ids, boxes = np.asarray(truth.labels), np.asarray(truth.ids), np.asarray(truth.boxes)
    if len(labels) and not (labels.min() >= 0 and labels.max() < num_classes):
        raise ValueError(f"case {case!r}: an object has class index outside 0..{num_classes - 1}; check its annotation")
    if len(set(ids.tolist())) < len(ids):
        raise ValueError(f"case {case!r}: two objects share an id; ids must be unique within a case")
    if not np.isfinite(boxes).all():
        raise ValueError(f"case {case!r}: an object's box is not finite; check its annotation")


def check_detections(case: str, found: Detections, num_classes: int, ndim: int) -> None:
    """The rank of the objects, labels among the classes, scores in 0..1, finite boxes."""
    labels, scores, boxes = np.asarray(found.labels), np.asarray(found.scores), np.asarray(found.boxes)
    if boxes.shape[-1] != ndim:
        raise ValueError(
            f"case {case!r}: detections have {boxes.shape[-1]} axes, its objects {ndim}; "
            "merge slices into volumes first"
        )
    if len(labels) and not (labels.min() >= 0 and labels.max() < num_classes):
        raise ValueError(
            f"case {case!r}: a detection has class index outside 0..{num_classes - 1}; check the class list"
        )
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError(f"case {case!r}: scores must lie in 0..1; apply a sigmoid or softmax to raw outputs first")
    if not np.isfinite(boxes).all():
        raise ValueError(f"case {case!r}: a detection's box is not finite")
