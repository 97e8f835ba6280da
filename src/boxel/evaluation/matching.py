"""Which detection found which object: computed once, read by every figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from boxel.evaluation.checks import check_cases, check_detections, check_truth
from boxel.types import Detections, Instances

Rule = Literal["greedy", "mdt"]

_PAIRS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class MatchTable:
    """All detections and all objects of a data set, matched at one IoU threshold.

    Detections are in descending score; equal scores keep the order of the cases and of the detections within.
    Objects keep the order of the cases and of the instances within.

    Attributes:
        cases: every case, negative ones included; `..._cases` below index it.
        classes: names; `labels` and `object_labels` index it.
        iou_threshold: least IoU of a match (with rule "mdt": IoU must exceed it).
        rule: how detections and objects were paired, see `Overlaps.match`.
        detection_cases: `(n,)` case of each detection.
        indices: `(n,)` position of each detection within its case.
        labels: `(n,)` class index.
        scores: `(n,)` float64.
        ious: `(n,)` IoU with the matched object; without a match the highest with any object of the class, 0
            if none.
        matches: `(n,)` row of the matched object, -1 for a false positive.
        object_cases: `(m,)` case of each object.
        object_labels: `(m,)` class index.
        object_ids: `(m,)` id within the case.
        object_sizes: `(m,)` volume of the box in voxels.
        object_scores: `(m,)` score of the detection that found it, nan when missed.
    """

    cases: tuple[str, ...]
    classes: tuple[str, ...]
    iou_threshold: float
    rule: Rule
    detection_cases: np.ndarray
    indices: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    ious: np.ndarray
    matches: np.ndarray
    object_cases: np.ndarray
    object_labels: np.ndarray
    object_ids: np.ndarray
    object_sizes: np.ndarray
    object_scores: np.ndarray

    @property
    def hits(self) -> np.ndarray:
        """`(n,)` bool: the detection found an object."""
        return self.matches >= 0


@dataclass(frozen=True)
class Overlaps:
    """Every same-class pair of detection and object that overlaps; match it at as many thresholds as wanted.

    Attributes:
        table: the detections and objects, unmatched.
        pair_rows: `(p,)` detection of each pair, ascending; within a detection the highest IoU first.
        pair_objects: `(p,)` object of each pair.
        pair_ious: `(p,)` its IoU, above 0.
    """

    table: MatchTable
    pair_rows: np.ndarray
    pair_objects: np.ndarray
    pair_ious: np.ndarray

    def match(self, iou_threshold: float, rule: Rule = "greedy") -> MatchTable:
        """Pair detections with objects of their class and case.

        "greedy" (COCO): in descending score, each detection takes the free object with which its IoU is
        highest, if that reaches the threshold. "mdt" (the Retina U-Net paper's toolkit): each detection looks
        only at the object with which its IoU is highest and must exceed the threshold; the highest score of
        an object is its hit, the others are false positives.

        Raises:
            ValueError: threshold outside (0, 1] or unknown rule.
        """
        if not 0 < iou_threshold <= 1:
            raise ValueError(f"iou_threshold must be above 0 and at most 1, got {iou_threshold}")
        if rule not in ("greedy", "mdt"):
            raise ValueError(f"matching rule must be 'greedy' or 'mdt', got {rule!r}")
        base, good = self.table, self.pair_ious >= iou_threshold
        if rule == "mdt":
            good = self.pair_ious > iou_threshold
        pair = self._assign(good, max_rounds=1 if rule == "mdt" else None)

        matches, ious = base.matches.copy(), base.ious.copy()
        rows, objects = self.pair_rows[pair], self.pair_objects[pair]
        matches[rows], ious[rows] = objects, self.pair_ious[pair]
        object_scores = base.object_scores.copy()
        object_scores[objects] = base.scores[rows]
        return replace(
            base,
            iou_threshold=float(iou_threshold),
            rule=rule,
            matches=matches,
            ious=ious,
            object_scores=object_scores,
        )

    def _assign(self, good: np.ndarray, max_rounds: int | None) -> np.ndarray:
        """The chosen pairs: detections propose, best object first; an object keeps its highest-scored suitor.

        Rounds of proposals end in the one stable matching, which is the same as going through the detections
        one by one in descending score (all objects rank the detections alike), but every round is vectorised
        over the data set.
        """
        num_rows, num_objects = len(self.table.scores), len(self.table.object_ids)
        pointer = np.searchsorted(self.pair_rows, np.arange(num_rows))
        end = pointer + np.bincount(self.pair_rows[good], minlength=num_rows)  # good pairs come first
        suitor = np.full(num_objects, num_rows)
        rows = np.flatnonzero(pointer < end)
        rounds = 0
        while len(rows) and rounds != max_rounds:
            before = suitor.copy()
            np.minimum.at(suitor, self.pair_objects[pointer[rows]], rows)
            displaced = before[(before != suitor) & (before < num_rows)]
            refused = rows[suitor[self.pair_objects[pointer[rows]]] != rows]
            rows = np.concatenate([refused, displaced])
            pointer[rows] += 1
            rows = rows[pointer[rows] < end[rows]]
            rounds += 1
        return pointer[suitor[suitor < num_rows]]


def match_cases(
    predictions: Mapping[str, Detections],
    truths: Mapping[str, Instances],
    *,
    classes: Sequence[str],
    iou_threshold: float,
    rule: Rule = "greedy",
) -> MatchTable:
    """The detections of every case matched with its objects; see `find_overlaps` and `Overlaps.match`."""
    return find_overlaps(predictions, truths, classes=classes).match(iou_threshold, rule)


def find_overlaps(
    predictions: Mapping[str, Detections], truths: Mapping[str, Instances], *, classes: Sequence[str]
) -> Overlaps:
    """IoU of every detection with every object of its class and case.

    Args:
        predictions: the detections of each case, in the voxels of its original image; an empty set where
            nothing was found.
        truths: the objects of each case; an empty set for a negative case. Their order is the order of the
            cases.
        classes: class names.

    Raises:
        ValueError: a case without predictions or unknown to the data set, labels outside the classes,
            repeated ids, boxes that are not finite or of another rank, scores outside 0..1; the message names
            the case.
    """
    check_cases(predictions, truths)
    cases = tuple(truths)
    for case in cases:
        check_truth(case, truths[case], len(classes))
        check_detections(case, predictions[case], len(classes), truths[case].boxes.shape[-1])
    objects = [truths[case] for case in cases]
    found = [predictions[case] for case in cases]

    scores = _join([d.scores for d in found], np.float64)
    order = np.argsort(-scores, kind="stable")
    rows = _join([d.labels for d in found], np.int64)[order]
    row_cases = np.repeat(np.arange(len(cases)), [len(d) for d in found])[order]
    indices = _join([np.arange(len(d)) for d in found], np.int64)[order]
    boxes = _join([d.boxes for d in found], np.float64)[order]
    object_cases = np.repeat(np.arange(len(cases)), [len(i) for i in objects])
    object_labels = _join([i.labels for i in objects], np.int64)
    object_boxes = _join([i.boxes for i in objects], np.float64)

    pairs = _pairs(row_cases * len(classes) + rows, boxes, object_cases * len(classes) + object_labels, object_boxes)
    best = np.zeros(len(order))
    np.maximum.at(best, pairs[0], pairs[2])
    table = MatchTable(
        cases=cases,
        classes=tuple(classes),
        iou_threshold=float("nan"),
        rule="greedy",
        detection_cases=row_cases,
        indices=indices,
        labels=rows,
        scores=scores[order],
        ious=best,
        matches=np.full(len(order), -1),
        object_cases=object_cases,
        object_labels=object_labels,
        object_ids=_join([i.ids for i in objects], np.int64),
        object_sizes=np.prod(np.clip(object_boxes[:, 1] - object_boxes[:, 0], 0, None), axis=-1),
        object_scores=np.full(len(object_cases), np.nan),
    )
    return Overlaps(table, *pairs)


def _join(parts: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.asarray(part) for part in parts]).astype(dtype) if parts else np.zeros(0, dtype)


def _pairs(
    keys: np.ndarray, boxes: np.ndarray, object_keys: np.ndarray, object_boxes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, objects and IoUs of the overlapping pairs with equal keys, by row, then descending IoU."""
    order = np.argsort(object_keys, kind="stable")
    first = np.searchsorted(object_keys[order], keys, "left")
    counts = np.searchsorted(object_keys[order], keys, "right") - first
    blocks = np.searchsorted(np.cumsum(counts), np.arange(_PAIRS_AT_ONCE, counts.sum(), _PAIRS_AT_ONCE))
    parts = []
    for block in np.split(np.arange(len(keys)), blocks):
        rows = np.repeat(block, counts[block])
        step = np.arange(len(rows)) - np.repeat(np.cumsum(counts[block]) - counts[block], counts[block])
        objects = order[first[rows] + step]
        ious = _paired_iou(boxes[rows], object_boxes[objects])
        parts.append([values[ious > 0] for values in (rows, objects, ious)])
    rows, objects, ious = (np.concatenate(values) for values in zip(*parts, strict=True))
    order = np.lexsort((objects, -ious, rows))
    return rows[order], objects[order], ious[order]


def _paired_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """IoU of row `i` of `a (p, 2, d)` with row `i` of `b`: pairs need no loop over the cases."""
    extent = np.minimum(a[:, 1], b[:, 1]) - np.maximum(a[:, 0], b[:, 0])
    inter = np.prod(np.clip(extent, 0, None), axis=-1)
    volumes = [np.prod(np.clip(x[:, 1] - x[:, 0], 0, None), axis=-1) for x in (a, b)]
    union = volumes[0] + volumes[1] - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)
