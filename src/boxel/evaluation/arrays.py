"""Detections and ground truth given as arrays: what `boxel.evaluate` takes besides folders."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from boxel.columns import check_objects
from boxel.types import Detections, Instances

Cases = Mapping[str, Any] | Sequence[Any]


def read_arrays(ground_truth: Cases, *sets: Cases) -> tuple[dict[str, Instances], list[dict[str, Detections]]]:
    """Objects and detections of each case, from `Instances` and `Detections` or from mappings of arrays.

    Arrays are lists, numpy or torch. A case without predictions has no detections. The images of lists are named "0",
    "1", ...

    Args:
        ground_truth: per case "boxes" and "labels"; every case, negative ones included.
        sets: one or more sets of predictions: per case "boxes" `(n, 2, d)`, "scores" `(n,)` and "labels" `(n,)`.

    Raises:
        ValueError: names the case and what is wrong with it.
    """
    known, *predicted = _by_case(ground_truth, *sets)
    if unknown := sorted({case for one in predicted for case in one} - known.keys()):
        raise ValueError(
            f"case {unknown[0]!r} is predicted, but the ground truth does not have it; add it, with empty boxes if it "
            "has no objects"
        )
    objects = {case: _objects(case, given) for case, given in known.items()}
    detections = [{case: _detections(case, given) for case, given in one.items()} for one in predicted]
    records = [*objects.values(), *(detected for one in detections for detected in one.values())]
    ndim = next((int(record.boxes.shape[-1]) for record in records if len(record)), 1)
    # An empty list says nothing about the number of axes.
    no_objects, no_detections = Instances.empty(ndim), Detections.empty(ndim)
    return (
        {case: one or no_objects for case, one in objects.items()},
        [{case: one.get(case) or no_detections for case in objects} for one in detections],
    )


def _by_case(*given: Cases) -> list[Mapping[str, Any]]:
    mappings = [one for one in given if isinstance(one, Mapping)]
    if len(mappings) == len(given):
        return mappings
    if mappings:
        raise ValueError("give mappings by case for both predictions and ground truth, or lists of images for both")
    if len(lengths := {len(one) for one in given}) > 1:
        numbers = " and ".join(map(str, sorted(lengths)))
        raise ValueError(
            f"predictions and ground truth must list the same images in the same order, got {numbers} images"
        )
    return [{str(image): value for image, value in enumerate(one)} for one in given]


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
    try:
        check_objects(boxes, columns[-1])
    except ValueError as error:
        raise ValueError(f"case {case!r}: {error}") from None
    for name, column in zip(names[1:-1], columns[1:-1], strict=True):
        if column.shape != (len(boxes),):
            raise ValueError(f"case {case!r}: {name} must have shape ({len(boxes)},), one per box, got {column.shape}")
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
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if values.is_floating_point() and values.element_size() < np.float32().itemsize:
            values = values.float()  # numpy has no bfloat16
    return np.asarray(values)
