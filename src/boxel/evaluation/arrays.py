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
        return given.map(_array)
    boxes, scores, labels = _columns(case, given, ("boxes", "scores", "labels"))
    return Detections(boxes, scores.astype(np.float32), labels.astype(np.int64))


def _objects(case: str, given: Any) -> Instances:
    if isinstance(given, Instances):
        return given.map(_array)
    boxes, labels = _columns(case, given, ("boxes", "labels"))
    count = len(boxes)
    return Instances(boxes, labels.astype(np.int64), np.arange(1, count + 1), np.zeros(count, bool))


def _columns(case: str, given: Any, names: tuple[str, ...]) -> list[np.ndarray]:
    if not isinstance(given, Mapping) or set(given) != set(names):
        what = sorted(given) if isinstance(given, Mapping) else type(given).__name__
        raise ValueError(f"case {case!r}: must be a mapping with {', '.join(names)}, got {what}")
    columns = [_numbers(f"case {case!r}: {name}", given[name]) for name in names]
    boxes = columns[0].astype(np.float32)
    if not boxes.size:
        boxes = np.zeros((0, 2, boxes.shape[-1]), np.float32)
    if tuple(boxes.shape[1:-1]) != (2,):
        raise ValueError(
            f"case {case!r}: boxes must have shape (n, 2, ndim), lower and upper corner in array order, "
            f"got {boxes.shape}"
        )
    if (boxes[:, 0] > boxes[:, 1]).any():
        raise ValueError(f"case {case!r}: boxes must have the lower corner first, got an upper corner below it")
    for name, column in zip(names[1:], columns[1:], strict=True):
        if column.shape != (len(boxes),):
            raise ValueError(f"case {case!r}: {name} must have shape ({len(boxes)},), one per box, got {column.shape}")
        if name == "labels" and column.size and column.dtype.kind not in "iu":
            raise ValueError(f"case {case!r}: labels must be class indices (integers), got {column.dtype}")
    return [boxes, *columns[1:]]


def _numbers(what: str, values: Any) -> np.ndarray:
    try:
        array = _array(values)
    except ValueError as error:  # lists of different lengths
        raise ValueError(f"{what} must be an array: {error}") from None
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{what} must be numbers, got {array.dtype}")
    return array


def _array(values: Any) -> np.ndarray:
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def _ndim(cases: list[Any]) -> int:
    """The number of axes of the first boxes that have some."""
    for given in cases:
        boxes = given.boxes if isinstance(given, Detections | Instances) else _array(given["boxes"])
        if len(boxes):
            return int(boxes.shape[-1])
    return 1
