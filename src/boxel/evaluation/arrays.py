"""Detections and ground truth given as arrays: what `boxel.evaluate` takes besides folders."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from boxel.types import Detections, Instances


def read_arrays(
    predictions: Mapping[str, Any], ground_truth: Mapping[str, Any]
) -> tuple[dict[str, Detections], dict[str, Instances]]:
    """Detections and objects of each case, from `Detections` and `Instances` or from mappings of arrays.

    Arrays are lists, numpy or torch. A case without predictions has no detections.

    Args:
        predictions: per case "boxes" `(n, 2, d)`, "scores" `(n,)` and "labels" `(n,)`.
        ground_truth: per case "boxes" and "labels"; every case, negative ones included.

    Raises:
        ValueError: names the case and what is wrong with it.
    """
    if unknown := sorted(predictions.keys() - ground_truth.keys()):
        raise ValueError(
            f"case {unknown[0]!r} is predicted, but the ground truth does not have it; add it, with empty boxes if it "
            "has no objects"
        )
    objects = {case: _objects(case, given) for case, given in ground_truth.items()}
    ndim = _ndim([*ground_truth.values(), *predictions.values()])
    detections = {
        case: _detections(case, predictions[case]) if case in predictions else Detections.empty(ndim)
        for case in objects
    }
    for case in objects:  # an empty list says nothing about the number of axes
        if not len(objects[case]):
            objects[case] = Instances.empty(ndim)
        if not len(detections[case]):
            detections[case] = Detections.empty(ndim)
    return detections, objects


def name_classes(detections: Iterable[Detections], objects: Iterable[Instances]) -> tuple[str, ...]:
    """Names for labels without names: "0", "1", ... up to the highest label."""
    labels = [np.asarray(one.labels) for one in detections] + [np.asarray(one.labels) for one in objects]
    highest = max((int(part.max()) for part in labels if len(part)), default=0)
    return tuple(map(str, range(highest + 1)))


def _detections(case: str, given: Any) -> Detections:
    if isinstance(given, Detections):
        return given.map(np.asarray)
    boxes, scores, labels = _columns(case, given, ("boxes", "scores", "labels"))
    return Detections(boxes, scores.astype(np.float32), labels.astype(np.int64))


def _objects(case: str, given: Any) -> Instances:
    if isinstance(given, Instances):
        return given.map(np.asarray)
    boxes, labels = _columns(case, given, ("boxes", "labels"))
    count = len(boxes)
    return Instances(boxes, labels.astype(np.int64), np.arange(1, count + 1), np.zeros(count, bool))


def _columns(case: str, given: Any, names: tuple[str, ...]) -> list[np.ndarray]:
    if not isinstance(given, Mapping) or set(given) != set(names):
        what = sorted(given) if isinstance(given, Mapping) else type(given).__name__
        raise ValueError(f"case {case!r}: must be a mapping with {', '.join(names)}, got {what}")
    boxes = np.asarray(given["boxes"], np.float32)
    if not boxes.size:
        boxes = np.zeros((0, 2, boxes.shape[-1]), np.float32)
    if tuple(boxes.shape[1:-1]) != (2,):
        raise ValueError(
            f"case {case!r}: boxes must have shape (n, 2, ndim), lower and upper corner in array order, "
            f"got {boxes.shape}"
        )
    columns = [boxes, *(np.asarray(given[name]) for name in names[1:])]
    for name, column in zip(names[1:], columns[1:], strict=True):
        if column.shape != (len(boxes),):
            raise ValueError(f"case {case!r}: {name} must have shape ({len(boxes)},), one per box, got {column.shape}")
    return columns


def _ndim(cases: list[Any]) -> int:
    """The number of axes of the first boxes that have some."""
    for given in cases:
        boxes = given.boxes if isinstance(given, Detections | Instances) else np.asarray(given["boxes"])
        if len(boxes):
            return int(boxes.shape[-1])
    return 1
