"""Every pair of detection and object of a data set that may match."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from boxel.evaluation.box_table import BoxTable, rank_in_group
from boxel.evaluation.checks import check_cases, check_detections, check_extra, check_objects
from boxel.evaluation.criteria import Criterion, box_sizes, measure, within_reach
from boxel.evaluation.matching import MatchTable, Overlaps, Rule
from boxel.types import Detections, Instances

_PAIRS_AT_ONCE = 500_000
_BOX_IOU = Criterion()


def match_cases(
    predictions: Mapping[str, Detections],
    ground_truth: Mapping[str, Instances],
    *,
    classes: Sequence[str],
    iou_threshold: float,
    rule: Rule = "greedy",
) -> MatchTable:
    """The detections of every case matched with its objects; see `find_overlaps` and `Overlaps.match`."""
    return find_overlaps(predictions, ground_truth, classes=classes).match(iou_threshold, rule)


def find_overlaps(
    predictions: Mapping[str, Detections],
    ground_truth: Mapping[str, Instances],
    *,
    classes: Sequence[str],
    criterion: Criterion = _BOX_IOU,
    ignored: Mapping[str, Instances] | None = None,
    regions: Mapping[str, Instances] | None = None,
    max_detections: int | None = None,
    max_score: float = 1.0,
    farthest: float = np.inf,
    across_classes: bool = False,
) -> Overlaps:
    """How well every detection fits every object of its class and case.

    Args:
        predictions: the detections of each case, in the voxels of its original image; an empty set where
            nothing was detected.
        ground_truth: the objects of each case; an empty set for a negative case. Their order is the order of the
            cases.
        classes: class names.
        criterion: of a match.
        ignored: ignored objects, for cases that have some (VOC's difficult objects). A detection that matches one and
            no other object does not count. Label -1 is any class.
        regions: ignored regions, of which the overlap is the share of the detection inside (COCO's crowds).
        max_score: higher ones are refused.
        max_detections: only so many of a class per case, the highest scores.
        farthest: pairs at this distance and beyond are not kept.
        across_classes: pairs of different classes too, for a confusion matrix.

    Raises:
        ValueError: a case without predictions or unknown to the data set, labels outside the classes,
            repeated ids, boxes that are not finite or of another rank, scores outside 0..1; the message names
            the case.
    """
    cases, ndim = tuple(ground_truth), check_cases(predictions, ground_truth)
    detected = BoxTable.collect([predictions[case] for case in cases], ndim)
    objects = BoxTable.collect(list(ground_truth.values()), ndim)
    check_objects(cases, objects, len(classes))
    check_detections(cases, detected, len(classes), max_score)
    detected = detected.take(np.argsort(-detected.values, kind="stable"))
    if max_detections is not None:
        detected = detected.take(rank_in_group(detected.cases * len(classes) + detected.labels) < max_detections)
    extras = []
    for name, extra in (("ignored", ignored or {}), ("regions", regions or {})):
        check_extra(name, extra, cases, ndim, len(classes))
        extras.append(BoxTable.collect([extra.get(case) for case in cases], ndim).for_every_class(len(classes)))
    targets = BoxTable.join([objects, *extras])
    uncounted = np.arange(len(targets.cases)) >= len(objects.cases)
    is_region = np.arange(len(targets.cases)) >= len(objects.cases) + len(extras[0].cases)

    least, parts = -farthest if criterion.is_distance else 0.0, []
    near = within_reach(criterion, detected, targets, cases, farthest)
    for pair in _candidates(detected, targets, near, 0 if across_classes else len(classes)):
        measured = measure(criterion, detected, targets, *pair, is_region[pair[1]], cases)
        parts.append([array[measured[1] > least] for array in (*pair, *measured)])
    rows, columns, ious, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.lexsort((columns, -values, uncounted[columns], rows))
    rows, columns, ious, values = rows[order], columns[order], ious[order], values[order]
    table = MatchTable(
        cases=cases,
        classes=tuple(classes),
        iou_threshold=float("nan"),
        rule="greedy",
        detection_cases=detected.cases,
        indices=detected.indices,
        labels=detected.labels,
        scores=detected.values,
        ious=np.zeros(len(detected.cases)),
        matches=np.full(len(detected.cases), -1),
        ignored=np.zeros(len(detected.cases), bool),
        detection_sizes=box_sizes(detected.boxes),
        object_cases=targets.cases,
        object_labels=targets.labels,
        object_ids=targets.values.astype(np.int64),
        object_sizes=box_sizes(targets.boxes),
        object_scores=np.full(len(targets.cases), np.nan),
        object_matches=np.full(len(targets.cases), -1),
        object_ignored=uncounted,
    )
    overlaps = Overlaps(
        table, rows, columns, ious, values, absorbs=uncounted, is_region=is_region, is_distance=criterion.is_distance
    )
    return replace(overlaps, table=overlaps.with_best_ious())


def _candidates(
    detected: BoxTable, targets: BoxTable, near: tuple[np.ndarray, np.ndarray], num_classes: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of `detected` and of `targets` that may match, some pairs at a time.

    They are in the same case and class (with 0 classes: of any), and the regions `near (n, 2, d)` of both meet.
    """
    from boxel.evaluation.kernels import find_meeting

    keys, target_keys = (
        rows.cases * max(num_classes, 1) + (rows.labels if num_classes else 0) for rows in (detected, targets)
    )
    regions, others = near
    axis = _sweep_axis(others)
    order = np.lexsort((others[:, 0, axis], target_keys))
    others, target_keys = others[order], target_keys[order]
    begin, end = (np.searchsorted(target_keys, keys, side) for side in ("left", "right"))
    nothing = np.zeros(0, np.int64)
    counts = find_meeting(regions, others, begin, end, axis, nothing, nothing)
    blocks = np.searchsorted(np.cumsum(counts), np.arange(_PAIRS_AT_ONCE, counts.sum(), _PAIRS_AT_ONCE))
    for block in np.split(np.arange(len(keys)), blocks):
        found = np.empty(counts[block].sum(), np.int64)
        starts = np.cumsum(counts[block]) - counts[block]
        find_meeting(regions[block], others, begin[block], end[block], axis, starts, found)
        yield np.repeat(block, counts[block]), order[found]


def _sweep_axis(boxes: np.ndarray) -> int:
    """The axis along which a box meets the fewest others: where they are spread most, in units of the longest."""
    if not len(boxes) or not np.isfinite(boxes).all():
        return 0
    longest = (boxes[:, 1] - boxes[:, 0]).max(axis=0)
    return int(np.argmax(np.ptp(boxes[:, 0], axis=0) / np.maximum(longest, np.finfo(float).tiny)))
