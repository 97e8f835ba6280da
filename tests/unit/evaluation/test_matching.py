import numpy as np
import pytest

from boxel.evaluation import find_overlaps, match_cases
from boxel.types import Detections, Instances


def line(lower, upper, ndim):
    """A box that spans lower..upper on the first axis and 0..10 on the others."""
    return [[lower] + [0] * (ndim - 1), [upper] + [10] * (ndim - 1)]


def instances(boxes, ndim, labels=None, ids=None):
    n = len(boxes)
    array = np.array(boxes, np.float32).reshape(n, 2, ndim)
    return Instances(array, np.array(labels or [0] * n, np.int64), np.array(ids or range(1, n + 1), np.int64),
                     np.zeros(n, bool))  # fmt: skip


def detections(boxes, scores, ndim, labels=None):
    n = len(boxes)
    array = np.array(boxes, np.float32).reshape(n, 2, ndim)
    return Detections(array, np.array(scores, np.float32), np.array(labels or [0] * n, np.int64))


def test_a_detection_takes_the_free_object_it_overlaps_most(ndim):
    truth = instances([line(0, 10, ndim), line(4, 14, ndim)], ndim, ids=[7, 9])
    detected = detections([line(3, 13, ndim), line(4, 14, ndim), line(0, 10, ndim)], [0.5, 0.9, 0.1], ndim)
    table = match_cases({"a": detected}, {"a": truth}, classes=["x"], iou_threshold=0.1)
    assert table.indices.tolist() == [1, 0, 2]  # descending score
    assert table.object_ids[table.matches[:2]].tolist() == [9, 7]  # 0.5 prefers id 9, which is taken
    assert table.matches[2] == -1
    assert table.ious[0] == 1
    assert table.ious[1] == pytest.approx(7 / 13)
    assert table.ious[2] == 1  # a duplicate: no match, but a perfect overlap
    assert table.object_scores == pytest.approx([0.5, 0.9])


def test_a_weaker_detection_gives_way_and_takes_its_next_object(ndim):
    truth = instances([line(0, 10, ndim), line(8, 18, ndim), line(16, 26, ndim)], ndim)
    detected = detections([line(0, 10, ndim), line(3, 13, ndim), line(9, 19, ndim)], [0.9, 0.8, 0.7], ndim)
    table = match_cases({"a": detected}, {"a": truth}, classes=["x"], iou_threshold=0.1)
    # 0.8 prefers the first object, which 0.9 has, and takes the second; 0.7 prefers that and gets the third.
    assert table.matches.tolist() == [0, 1, 2]


def test_the_threshold_itself_matches_except_with_the_old_rule(ndim):
    truth, detected = instances([line(0, 10, ndim)], ndim), detections([line(0, 5, ndim)], [1.0], ndim)
    overlaps = find_overlaps({"a": detected}, {"a": truth}, classes=["x"])
    assert overlaps.match(0.5).true_positives.tolist() == [True]
    assert overlaps.match(0.5, "mdt").true_positives.tolist() == [False]
    assert overlaps.match(0.51).true_positives.tolist() == [False]


def test_classes_and_cases_do_not_mix(ndim):
    box = line(0, 10, ndim)
    ground_truth = {"a": instances([box], ndim, labels=[1]), "b": instances([box], ndim, labels=[0])}
    predictions = {"a": detections([box], [0.9], ndim, labels=[0]), "b": detections([], [], ndim)}
    table = match_cases(predictions, ground_truth, classes=["x", "y"], iou_threshold=0.1)
    assert table.true_positives.tolist() == [False]
    assert np.isnan(table.object_scores).all()


def test_equal_scores_are_served_in_their_order(ndim):
    truth = instances([line(0, 10, ndim)], ndim)
    detected = detections([line(1, 11, ndim), line(0, 10, ndim)], [0.5, 0.5], ndim)
    table = match_cases({"a": detected}, {"a": truth}, classes=["x"], iou_threshold=0.1)
    assert table.indices.tolist() == [0, 1]
    assert table.true_positives.tolist() == [True, False]


def test_cases_without_objects_and_without_detections_stay_in_the_table(ndim):
    nothing = instances([], ndim)
    table = match_cases({"a": Detections.empty(ndim)}, {"a": nothing}, classes=["x"], iou_threshold=0.1)
    assert table.cases == ("a",)
    assert len(table.scores) == len(table.object_ids) == 0


def test_sizes_are_box_volumes_in_voxels(ndim):
    truth = instances([line(0, 4, ndim)], ndim)
    table = match_cases({"a": Detections.empty(ndim)}, {"a": truth}, classes=["x"], iou_threshold=0.1)
    assert table.object_sizes.tolist() == [4 * 10 ** (ndim - 1)]


def test_boxes_without_volume_match_nothing(ndim):
    point = np.zeros((1, 2, ndim), np.float32)
    truth = Instances(point, np.zeros(1, np.int64), np.ones(1, np.int64), np.zeros(1, bool))
    detected = Detections(point, np.ones(1, np.float32), np.zeros(1, np.int64))
    assert not match_cases({"a": detected}, {"a": truth}, classes=["x"], iou_threshold=0.1).true_positives.any()


BOX = [[0, 0], [4, 4]]


@pytest.mark.parametrize(
    ("predictions", "ground_truth", "words"),
    [
        ({}, {}, "no cases"),
        ({}, {"c1": instances([], 2)}, "case 'c1' has no predictions.*empty list"),
        (
            {"c1": Detections.empty(2), "c2": Detections.empty(2)},
            {"c1": instances([], 2)},
            "case 'c2'.*not in the data set",
        ),
        ({"c1": Detections.empty(3)}, {"c1": instances([], 2)}, "'c1'.*3 axes.*2"),
        ({"c1": detections([BOX], [1.2], 2)}, {"c1": instances([], 2)}, "'c1'.*0..1"),
        ({"c1": detections([BOX], [np.nan], 2)}, {"c1": instances([], 2)}, "'c1'.*0..1"),
        ({"c1": detections([BOX], [0.5], 2, [3])}, {"c1": instances([], 2)}, "'c1'.*class index"),
        ({"c1": detections([[[0, 0], [np.inf, 1]]], [0.5], 2)}, {"c1": instances([], 2)}, "'c1'.*finite"),
        ({"c1": Detections.empty(2)}, {"c1": instances([BOX, BOX], 2, ids=[1, 1])}, "'c1'.*share an id"),
        ({"c1": Detections.empty(2)}, {"c1": instances([BOX], 2, labels=[2])}, "'c1'.*class index"),
        ({"c1": Detections.empty(2)}, {"c1": instances([[[0, 0], [np.nan, 1]]], 2)}, "'c1'.*finite"),
    ],
)
def test_what_cannot_be_judged_is_refused_by_name(predictions, ground_truth, words):
    with pytest.raises(ValueError, match=words):
        match_cases(predictions, ground_truth, classes=["x"], iou_threshold=0.1)


@pytest.mark.parametrize(("threshold", "rule"), [(0.0, "greedy"), (1.5, "greedy"), (0.5, "best")])
def test_unknown_rules_and_impossible_thresholds_are_refused(threshold, rule):
    overlaps = find_overlaps({"a": Detections.empty(2)}, {"a": instances([], 2)}, classes=["x"])
    with pytest.raises(ValueError, match=r"iou_threshold|rule"):
        overlaps.match(threshold, rule)
