"""What predictions and annotations must satisfy before they can be compared; errors name the case."""

from collections.abc import Mapping, Sequence

import numpy as np

from boxel.evaluation.box_table import BoxTable
from boxel.types import Detections, Instances
from boxel.wording import counted, counted_of


def check_cases(predictions: Mapping[str, Detections], ground_truth: Mapping[str, Instances]) -> int:
    """Every case needs predictions of the rank of its objects, and none may be foreign; returns the rank."""
    if not ground_truth:
        raise ValueError("there are no cases to evaluate on; the data set (or the chosen split) is empty")
    missing = [case for case in ground_truth if case not in predictions]
    if missing:
        number = counted_of(len(missing), len(ground_truth), "case", "has", "have")
        raise ValueError(
            f"case {missing[0]!r} has no predictions ({number} none); "
            "predict it, or write a file with an empty list of detections if nothing was detected"
        )
    unknown = [case for case in predictions if case not in ground_truth]
    if unknown:
        raise ValueError(
            f"case {unknown[0]!r} has predictions but is not in the data set "
            f"({counted(len(unknown), 'such case')}); remove them or evaluate on the data set (or split) they belong to"
        )
    first = next(iter(ground_truth.values())).boxes.shape[-1]
    for case, objects in ground_truth.items():
        detected, rank = predictions[case].boxes.shape[-1], objects.boxes.shape[-1]
        if detected != rank:
            raise ValueError(
                f"case {case!r}: detections have {detected} axes, its objects {rank}; merge slices into volumes first"
            )
        if rank != first:
            raise ValueError(f"case {case!r}: objects have {rank} axes, those before {first}; evaluate them separately")
    return first


def check_extra(name: str, extra: Mapping[str, Instances], cases: Sequence[str], ndim: int, num_classes: int) -> None:
    """Ignored objects or regions: of known cases, of the rank of the others, labels -1 or a class."""
    known = set(cases)
    for case, objects in extra.items():
        if case not in known:
            raise ValueError(f"{name}: case {case!r} is not in the data set; remove it or correct its name")
        if objects.boxes.shape[-1] != ndim:
            raise ValueError(f"{name}: case {case!r} has boxes of {objects.boxes.shape[-1]} axes, the others {ndim}")
        labels = np.asarray(objects.labels)
        if ((labels < -1) | (labels >= num_classes)).any():
            raise ValueError(f"{name}: case {case!r}: labels must be -1 (any class) or 0..{num_classes - 1}")


def check_objects(cases: Sequence[str], objects: BoxTable, num_classes: int) -> None:
    """Labels among the classes, unique ids, finite boxes."""

    def refuse(wrong: np.ndarray, problem: str) -> None:
        if wrong.any():
            raise ValueError(f"case {cases[objects.cases[wrong.argmax()]]!r}: {problem}")

    labels = objects.labels
    refuse(
        (labels < 0) | (labels >= num_classes),
        f"an object has class index outside 0..{num_classes - 1}; check its annotation",
    )
    order = np.lexsort((objects.values, objects.cases))
    same = np.diff(objects.cases[order]) == 0
    repeated = np.zeros(len(order), bool)
    repeated[order[1:]] = same & (np.diff(objects.values[order]) == 0)
    refuse(repeated, "two objects share an id; ids must be unique within a case")
    refuse(~np.isfinite(objects.boxes).all(axis=(1, 2)), "an object's box is not finite; check its annotation")


def check_detections(cases: Sequence[str], detected: BoxTable, num_classes: int, max_score: float) -> None:
    """Labels among the classes, scores in 0..`max_score`, finite boxes."""

    def refuse(wrong: np.ndarray, problem: str) -> None:
        if wrong.any():
            raise ValueError(f"case {cases[detected.cases[wrong.argmax()]]!r}: {problem}")

    refuse(
        (detected.labels < 0) | (detected.labels >= num_classes),
        f"a detection has class index outside 0..{num_classes - 1}; check the class list",
    )
    refuse(
        ~((detected.values >= 0) & (detected.values <= max_score)),
        "scores must lie in 0..1; apply a sigmoid or softmax to raw outputs first",
    )
    refuse(~np.isfinite(detected.boxes).all(axis=(1, 2)), "a detection's box is not finite")
