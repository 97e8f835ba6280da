"""Every pair of detection and object of a data set that may match."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from boxel.evaluation.box_table import BoxTable, rank_in_group
from boxel.evaluation.checks import check_cases, check_detections, check_extra, check_objects
from boxel.evaluation.criteria import Criterion, box_sizes, measure
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
    for pair in _candidates(detected, targets, 0 if across_classes else len(classes)):
        measured = measure(criterion, detected, targets, *pair, is_region[pair[1]], cases)
        parts.append([array[measured[1] > least] for array in (*pair, *measured)])
    rows, columns, ious, values = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    order = np.lexsort((columns, -values, uncounted[columns], rows))
    rows, columns, ious, values = rows[order], columns[order], ious[order], values[order]
    best = np.zeros(len(detected.cases))
    counted = ~uncounted[columns]
    np.maximum.at(best, rows[counted], ious[counted])
    table = MatchTable(
        cases=cases,
        classes=tuple(classes),
        iou_threshold=float("nan"),
        rule="greedy",
        detection_cases=detected.cases,
        indices=detected.indices,
        labels=detected.labels,
        scores=detected.values,
        ious=best,
        matches=np.full(len(best), -1),
        ignored=np.zeros(len(best), bool),
        detection_sizes=box_sizes(detected.boxes),
        object_cases=targets.cases,
        object_labels=targets.labels,
        object_ids=targets.values.astype(np.int64),
        object_sizes=box_sizes(targets.boxes),
        object_scores=np.full(len(targets.cases), np.nan),
        object_matches=np.full(len(targets.cases), -1),
        object_ignored=uncounted,
    )
    return Overlaps(
        table, rows, columns, ious, values, absorbs=uncounted, is_region=is_region, is_distance=criterion.is_distance
    )


def _candidates(detected: BoxTable, targets: BoxTable, num_classes: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of `detected` and of `targets` in the same case and class (with 0 classes: of any), some pairs at a time."""
    keys, target_keys = (
        rows.cases * max(num_classes, 1) + (rows.labels if num_classes else 0) for rows in (detected, targets)
    )
    order = np.argsort(target_keys, kind="stable")
    first = np.searchsorted(target_keys[order], keys, "left")
    counts = np.searchsorted(target_keys[order], keys, "right") - first
    blocks = np.searchsorted(np.cumsum(counts), np.arange(_PAIRS_AT_ONCE, counts.sum(), _PAIRS_AT_ONCE))
    for block in np.split(np.arange(len(keys)), blocks):
        rows = np.repeat(block, counts[block])
        step = np.arange(len(rows)) - np.repeat(np.cumsum(counts[block]) - counts[block], counts[block])
        yield rows, order[first[rows] + step]
