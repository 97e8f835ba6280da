"""Which detection matches which object: computed once, read by every metric."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from boxel.evaluation.assignment import assign

Rule = Literal["greedy", "optimal", "mdt", "luna16", "voc"]
RULES = get_args(Rule)


@dataclass(frozen=True)
class MatchTable:
    """All detections and all objects of a data set, matched at one threshold.

    Detections are in descending score; equal scores keep the order of the cases and of the detections within.
    Objects keep the order of the cases and of the instances within; ignored ones come last.

    Attributes:
        cases: every case, negative ones included; `..._cases` below index it.
        classes: names; `labels` and `object_labels` index it.
        iou_threshold: least overlap of a match, or the radius, see `Criterion`.
        rule: how detections and objects were paired, see `Overlaps.match`.
        detection_cases: `(n,)` case of each detection.
        indices: `(n,)` position of each detection within its case.
        labels: `(n,)` class index.
        scores: `(n,)` float64.
        ious: `(n,)` IoU (or the criterion's overlap) with the matched object; without a match the highest with
            any object of the class, 0 if none.
        matches: `(n,)` row of the matched object, -1 without one.
        ignored: `(n,)` bool, neither a true positive nor a false positive.
        detection_sizes: `(n,)` volume of the box in voxels.
        object_cases: `(m,)` case of each object.
        object_labels: `(m,)` class index.
        object_ids: `(m,)` id within the case.
        object_sizes: `(m,)` volume of the box in voxels.
        object_scores: `(m,)` score of the detection that matched it, nan without one.
        object_matches: `(m,)` row of that detection, -1 without one.
        object_ignored: `(m,)` bool, excluded from the metrics.
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
    ignored: np.ndarray
    detection_sizes: np.ndarray
    object_cases: np.ndarray
    object_labels: np.ndarray
    object_ids: np.ndarray
    object_sizes: np.ndarray
    object_scores: np.ndarray
    object_matches: np.ndarray
    object_ignored: np.ndarray

    @property
    def true_positives(self) -> np.ndarray:
        """`(n,)` bool: the detection matched an object that counts."""
        return (self.matches >= 0) & ~self.ignored

    @property
    def false_positives(self) -> np.ndarray:
        """`(n,)` bool: the detection matched no object and is not ignored."""
        return (self.matches < 0) & ~self.ignored

    @property
    def detected(self) -> np.ndarray:
        """`(m,)` bool: the object counts, and a detection matched it."""
        return ~np.isnan(self.object_scores) & ~self.object_ignored

    def found_by(self, rows: np.ndarray) -> "MatchTable":
        """The same, with the objects matched by the detections `rows (m,)`; a row beyond the last means by none."""
        detected = rows < len(self.scores)
        scores = np.full(len(rows), np.nan)
        scores[detected] = self.scores[rows[detected]]
        return replace(self, object_scores=scores, object_matches=np.where(detected, rows, -1))


@dataclass(frozen=True)
class Overlaps:
    """Every pair of detection and object that may match; match it at as many thresholds as wanted.

    Attributes:
        table: the detections and objects, unmatched; its `ignored` marks detections that are ignored unless they
            match an object.
        pair_rows: `(p,)` detection of each pair, ascending; within a detection objects that count come before
            ignored ones, then the best first.
        pair_objects: `(p,)` object of each pair.
        pair_ious: `(p,)` its overlap.
        pair_values: `(p,)` what the threshold is compared with, higher is better: the overlap or minus the distance.
        absorbs: `(m,)` bool, an object that ignores any number of detections.
        is_region: `(m,)` bool, an ignored region.
        is_distance: thresholds are radii.
    """

    table: MatchTable
    pair_rows: np.ndarray
    pair_objects: np.ndarray
    pair_ious: np.ndarray
    pair_values: np.ndarray
    absorbs: np.ndarray
    is_region: np.ndarray
    is_distance: bool = False

    def match(self, iou_threshold: float, rule: Rule = "greedy") -> MatchTable:
        """Pair detections with objects of their class and case.

        "greedy" (COCO): in descending score, each detection takes the best free object that reaches the threshold.
        "optimal": as many pairs as possible, among these the highest total overlap; blind to the scores.
        "mdt" (the Retina U-Net paper's toolkit): each detection looks only at its best object and must exceed the
        threshold; the highest score of an object is its true positive, the others are false positives. "luna16": every
        detection that reaches the threshold detects an object; the highest score counts, the others are ignored.
        "voc" (Pascal VOC): each detection looks only at the object that it overlaps most, ignored ones among them, and
        must reach the threshold; further detections of an object that counts are false positives.

        Under the other rules ignored objects are matched after the others, and their detections do not count.

        Raises:
            ValueError: threshold outside (0, 1], or not above 0 for a distance; unknown rule.
        """
        if not iou_threshold > 0 or (iou_threshold > 1 and not self.is_distance):
            allowed = "above 0" if self.is_distance else "above 0 and at most 1"
            raise ValueError(f"iou_threshold must be {allowed}, got {iou_threshold}")
        if rule not in RULES:
            raise ValueError(f"matching rule must be one of {', '.join(RULES)}, got {rule!r}")
        limit = -iou_threshold if self.is_distance else iou_threshold
        beyond = self.is_distance or rule == "mdt"
        good = np.flatnonzero(self.pair_values > limit if beyond else self.pair_values >= limit)
        base = self.table
        if rule == "luna16":
            return self._match_all(good, replace(base, iou_threshold=float(iou_threshold), rule=rule))
        if rule == "optimal":
            pair = self._assign_optimally(good)
        else:
            good = self._best_only(good) if rule == "voc" else good
            pair = self._assign_by_score(good, max_rounds=1 if rule == "mdt" else None)
        matches, ious, ignored = base.matches.copy(), base.ious.copy(), base.ignored.copy()
        rows, objects = self.pair_rows[pair], self.pair_objects[pair]
        matches[rows], ious[rows], ignored[rows] = objects, self.pair_ious[pair], base.object_ignored[objects]
        first = np.full(len(self.absorbs), len(base.scores))
        np.minimum.at(first, objects, rows)  # rows are in descending score
        return replace(
            base,
            iou_threshold=float(iou_threshold),
            rule=rule,
            matches=matches,
            ious=ious,
            ignored=ignored,
        ).found_by(first)

    def within(self, lower: float, upper: float) -> "Overlaps":
        """The same with objects outside `lower <= size < upper` ignored, and unmatched detections of those sizes."""
        table = self.table
        outside = (table.object_sizes < lower) | (table.object_sizes >= upper)
        neutral = (table.detection_sizes < lower) | (table.detection_sizes >= upper)
        table = replace(table, object_ignored=table.object_ignored | outside, ignored=table.ignored | neutral)
        # Within a detection the pairs keep their order, those with ignored objects move to the end.
        order = np.lexsort((table.object_ignored[self.pair_objects], self.pair_rows))
        return replace(self, table=table)._choose(order)

    def above(self, scores: np.ndarray) -> "Overlaps":
        """The same with only the detections taking part whose score reaches `scores (n,)`; the others are ignored."""
        kept = self.table.scores >= scores
        table = replace(self.table, ignored=self.table.ignored | ~kept)
        return replace(self, table=table)._choose(np.flatnonzero(kept[self.pair_rows]))

    def of_equal_classes(self) -> "Overlaps":
        """The same without pairs of a detection and an object of another class."""
        table = self.table
        chosen = self._choose(np.flatnonzero(table.labels[self.pair_rows] == table.object_labels[self.pair_objects]))
        return replace(chosen, table=chosen.with_best_ious())

    def with_best_ious(self) -> MatchTable:
        """The table, with the highest overlap of each detection with any object that counts."""
        best, counted = np.zeros(len(self.table.scores)), ~self.absorbs[self.pair_objects]
        np.maximum.at(best, self.pair_rows[counted], self.pair_ious[counted])
        return replace(self.table, ious=best)

    def _choose(self, order: np.ndarray) -> "Overlaps":
        names = ("pair_rows", "pair_objects", "pair_ious", "pair_values")
        return replace(self, **{name: getattr(self, name)[order] for name in names})

    def _best_only(self, good: np.ndarray) -> np.ndarray:
        """The pair of each detection with the highest overlap, whether the object counts or not, before any region."""
        is_region = self.is_region[self.pair_objects[good]]
        good = good[np.lexsort((-self.pair_values[good], is_region, self.pair_rows[good]))]
        return good[np.unique(self.pair_rows[good], return_index=True)[1]]

    def _assign_by_score(self, good: np.ndarray, max_rounds: int | None) -> np.ndarray:
        """The chosen pairs: detections propose, best object first; an object keeps its highest-scored suitor.

        Rounds of proposals end in the one stable matching, which is the same as going through the detections
        one by one in descending score (all objects rank the detections alike), but every round is vectorised
        over the data set.
        """
        num_rows = len(self.table.scores)
        objects_of, absorbs = self.pair_objects[good], self.absorbs[self.pair_objects[good]]
        counts = np.bincount(self.pair_rows[good], minlength=num_rows)
        end = np.cumsum(counts)
        pointer = end - counts
        suitor = np.full(len(self.absorbs), num_rows)
        rows = np.flatnonzero(counts)
        rounds = 0
        while len(rows) and rounds != max_rounds:
            before = suitor.copy()
            proposers = rows[~absorbs[pointer[rows]]]
            wanted = objects_of[pointer[proposers]]
            np.minimum.at(suitor, wanted, proposers)
            displaced = before[(before != suitor) & (before < num_rows)]
            rows = np.concatenate([proposers[suitor[wanted] != proposers], displaced])
            pointer[rows] += 1
            rows = rows[pointer[rows] < end[rows]]
            rounds += 1
        kept = np.flatnonzero(pointer < end)
        chosen = pointer[kept]
        return good[chosen[absorbs[chosen] | (suitor[objects_of[chosen]] == kept)]]

    def _assign_optimally(self, good: np.ndarray) -> np.ndarray:
        counted = good[~self.table.object_ignored[self.pair_objects[good]]]
        chosen = counted[assign(self.pair_rows[counted], self.pair_objects[counted], self.pair_values[counted])]
        rest = good[self.table.object_ignored[self.pair_objects[good]]]
        rest = rest[~np.isin(self.pair_rows[rest], self.pair_rows[chosen])]
        return np.concatenate([chosen, rest[np.unique(self.pair_rows[rest], return_index=True)[1]]])

    def _match_all(self, good: np.ndarray, base: MatchTable) -> MatchTable:
        rows, objects = self.pair_rows[good], self.pair_objects[good]
        best = np.full(len(self.absorbs), len(base.scores))
        np.minimum.at(best, objects, rows)  # rows are in descending score
        matches, ious, ignored = base.matches.copy(), base.ious.copy(), base.ignored.copy()
        winning = (best[objects] == rows) & ~base.object_ignored[objects]
        for chosen in (np.arange(len(good))[::-1], np.flatnonzero(winning)[::-1]):  # the last assignment stays
            matches[rows[chosen]], ious[rows[chosen]] = objects[chosen], self.pair_ious[good[chosen]]
        ignored[rows] = True
        ignored[rows[winning]] = False
        return replace(base, matches=matches, ious=ious, ignored=ignored).found_by(best)
