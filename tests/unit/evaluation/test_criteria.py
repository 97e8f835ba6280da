"""Which detection finds which object under each criterion and rule."""

import itertools

import numpy as np
import pytest

from boxel.evaluation import Criterion, find_overlaps
from boxel.evaluation.assignment import assign
from boxel.evaluation.masks import LabelMap, ProbabilityGrids, overlap_masks
from boxel.types import Detections, Instances
from tests.settings import evaluate


def line(lower, upper, ndim):
    """A box that spans lower..upper on the first axis and 0..10 on the others."""
    return [[lower] + [0] * (ndim - 1), [upper] + [10] * (ndim - 1)]


def instances(boxes, ndim, labels=None, first=1):
    n = len(boxes)
    array = np.array(boxes, np.float32).reshape(n, 2, ndim)
    return Instances(array, np.array(labels or [0] * n), np.arange(first, first + n), np.ones(n, bool))


def detections(boxes, scores, ndim, labels=None):
    array = np.array(boxes, np.float32).reshape(len(boxes), 2, ndim)
    return Detections(array, np.array(scores, np.float32), np.array(labels or [0] * len(boxes)))


def overlaps(detected, truth, classes=("x",), **options):
    return find_overlaps({"a": detected}, {"a": truth}, classes=classes, **options)


def test_centre_distance_is_below_the_radius_in_mm(ndim):
    truth, detected = instances([line(0, 10, ndim)], ndim), detections([line(3, 13, ndim)], [0.5], ndim)
    criterion = Criterion("centre_distance", spacings={"a": (2.0,) + (1.0,) * (ndim - 1)})
    pairs = overlaps(detected, truth, criterion=criterion)
    assert [pairs.match(radius).true_positives.tolist() for radius in (5.9, 6.0, 6.1)] == [[False], [False], [True]]
    in_voxels = overlaps(detected, truth, criterion=Criterion("centre_distance"))
    assert in_voxels.match(3.1).true_positives.all()


def test_the_nearest_object_is_preferred(ndim):
    truth = instances([line(0, 10, ndim), line(4, 14, ndim)], ndim)
    detected = detections([line(3, 13, ndim)], [0.5], ndim)
    assert overlaps(detected, truth, criterion=Criterion("centre_distance")).match(9).matches.tolist() == [1]


def test_relative_distance_is_in_radii_of_the_object(ndim):
    truth = instances([line(0, 10, ndim)], ndim)
    detected = detections([line(4.9, 14.9, ndim), line(5, 15, ndim)], [0.5, 0.4], ndim)
    table = overlaps(detected, truth, criterion=Criterion("relative_distance")).match(1.0)
    assert table.true_positives.tolist() == [True, False]


def test_optimal_assignment_finds_more_than_greedy(ndim):
    # The first detection prefers the only object that the second can have.
    truth = instances([line(0, 10, ndim), line(8, 18, ndim)], ndim)
    detected = detections([line(3, 13, ndim), line(0, 9, ndim)], [0.9, 0.8], ndim)
    pairs = overlaps(detected, truth)
    assert pairs.match(0.2).matches.tolist() == [0, -1]
    assert pairs.match(0.2, "optimal").matches.tolist() == [1, 0]


def test_assignment_is_the_best_of_all(rng):
    for _ in range(60):
        n, m = rng.integers(1, 6, 2)
        present = np.argwhere(rng.random((n, m)) < 0.6)
        values = rng.random(len(present))
        chosen = assign(present[:, 0], present[:, 1], values)
        pairs = present[chosen]
        assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == len(pairs)
        best = (0, 0.0)
        table = {tuple(pair): value for pair, value in zip(present.tolist(), values, strict=True)}
        for size in range(min(n, m) + 1):
            for rows in itertools.permutations(range(n), size):
                for columns in itertools.combinations(range(m), size):
                    if all(pair in table for pair in zip(rows, columns, strict=True)):
                        best = max(best, (size, sum(table[p] for p in zip(rows, columns, strict=True))))
        assert (len(chosen), values[chosen].sum()) == (best[0], pytest.approx(best[1]))


def test_an_ignored_object_is_neither_hit_nor_miss(ndim):
    truth = instances([line(0, 10, ndim)], ndim)
    difficult = {"a": instances([line(40, 50, ndim)], ndim, first=7)}
    detected = detections([line(0, 10, ndim), line(40, 50, ndim), line(41, 51, ndim), line(80, 90, ndim)],
                       [0.9, 0.8, 0.7, 0.6], ndim)  # fmt: skip
    table = overlaps(detected, truth, ignored=difficult).match(0.5)
    assert table.true_positives.tolist() == [True, False, False, False]
    assert table.ignored.tolist() == [False, True, True, False]
    assert table.false_positives.tolist() == [False, False, False, True]
    metrics = evaluate({"a": detected}, {"a": truth}, classes=["x"], ignored=difficult, num_resamples=0).metrics
    assert (metrics["num_objects"], metrics["num_ignored_detections"]) == (1, 2)
    assert metrics["precision@0.50/x"] == metrics["recall@0.50/x"] == 1


def test_an_object_that_counts_is_preferred_to_an_ignored_one(ndim):
    truth = instances([line(0, 10, ndim)], ndim)
    difficult = {"a": instances([line(2, 12, ndim)], ndim, first=7)}
    assert (
        overlaps(detections([line(2, 12, ndim)], [0.9], ndim), truth, ignored=difficult).match(0.3).true_positives.all()
    )


def test_inside_an_ignored_region_of_any_class_nothing_is_false(ndim):
    region = {"a": instances([line(0, 100, ndim)], ndim, labels=[-1])}
    detected = detections([line(10, 14, ndim), line(98, 108, ndim)], [0.9, 0.8], ndim, labels=[1, 0])
    table = overlaps(detected, instances([], ndim), classes=("x", "y"), regions=region).match(0.5)
    assert table.ignored.tolist() == [True, False]  # all of it inside; a fifth


@pytest.mark.parametrize("rule", ["greedy", "optimal", "mdt", "luna16", "voc"])
def test_every_rule_works_on_nothing(rule, ndim):
    table = overlaps(detections([], [], ndim), instances([], ndim)).match(0.5, rule)
    assert len(table.true_positives) == 0


def masks(ndim):
    """Two objects of 4 and 6 along the first axis; detections that have half of the first and all of the second."""
    truth = np.zeros((12,) + (2,) * (ndim - 1), np.int32)
    truth[0:4], truth[6:12] = 5, 9
    detected = np.zeros_like(truth)
    detected[2:6], detected[6:12] = 1, 2
    return truth, detected


def test_masks_are_compared_voxel_by_voxel(ndim):
    truth, detected = masks(ndim)
    overlap = overlap_masks(LabelMap(detected, np.array([1, 2])), LabelMap(truth, np.array([5, 9])))
    assert overlap.of(np.array([0, 1, 1]), np.array([5, 9, 5])).tolist() == [pytest.approx(1 / 3), 1, 0]
    assert overlap.of(np.array([0]), np.array([5]), dice=True).tolist() == [0.5]


def test_probability_grids_are_spread_over_their_boxes(ndim):
    truth, _ = masks(ndim)
    grid = np.zeros((2,) + (1,) * (ndim - 1), np.float32)
    grid[0] = 1.0  # the first half of the box
    boxes = np.array([[[0] * ndim, [8] + [2] * (ndim - 1)]], np.float32)
    overlap = overlap_masks(ProbabilityGrids(boxes, grid[None]), LabelMap(truth, np.array([5, 9])))
    assert overlap.detection_voxels.tolist() == [4 * 2 ** (ndim - 1)]
    assert overlap.of(np.array([0]), np.array([5])).tolist() == [1]


def test_masks_decide_where_boxes_would_not(ndim):
    truth, detected = masks(ndim)
    box = [[[0] * ndim, list(truth.shape)]]
    case = instances(box * 2, ndim)
    case = Instances(case.boxes, case.labels, np.array([5, 9]), case.has_mask)
    overlap = overlap_masks(LabelMap(detected, np.array([1, 2])), LabelMap(truth, np.array([5, 9])))
    for kind, expected in (("mask_iou", [False, True]), ("mask_dice", [True, True])):
        pairs = overlaps(detections(box * 2, [0.9, 0.8], ndim), case, criterion=Criterion(kind, masks={"a": overlap}))
        assert pairs.match(0.4).true_positives.tolist() == expected


def test_masks_of_another_grid_and_missing_masks_are_refused(ndim):
    truth, detected = masks(ndim)
    with pytest.raises(ValueError, match="voxel grid"):
        overlap_masks(LabelMap(detected[1:], np.array([1, 2])), LabelMap(truth, np.array([5, 9])))
    with pytest.raises(ValueError, match="needs masks"):
        Criterion("mask_iou")
    with pytest.raises(ValueError, match="criterion must be"):
        Criterion("volume")
    pair = detections([line(0, 10, ndim)], [0.5], ndim), instances([line(0, 10, ndim)], ndim)
    with pytest.raises(ValueError, match="'a' has no masks"):
        overlaps(*pair, criterion=Criterion("mask_iou", masks={}))


@pytest.mark.parametrize("name", ["ignored", "regions"])
def test_ignored_objects_of_unknown_cases_classes_or_rank_are_refused(name, ndim):
    empty = detections([], [], ndim), instances([], ndim)
    for extra, words in (
        ({"b": instances([], ndim)}, "'b' is not in the data set"),
        ({"a": instances([], ndim + 1)}, f"{ndim + 1} axes"),
        ({"a": instances([line(0, 1, ndim)], ndim, labels=[4])}, "labels must be"),
    ):
        with pytest.raises(ValueError, match=words):
            overlaps(*empty, **{name: extra})
