"""Panoptic quality against numbers worked by hand and a slow independent implementation."""

import numpy as np
import pytest

from boxel.evaluation import evaluate_segmentation, panoptic_quality
from boxel.evaluation.case_segmentation import score_case
from boxel.evaluation.config import EvaluateConfig
from boxel.evaluation.panoptic import match_components
from boxel.evaluation.segmentation import compare_segmentation, segmentation_rows


def reference(predicted, expected, predicted_labels, expected_labels, num_classes, void):
    """PQ, SQ and RQ per class, segment by segment, as in section 4 of the paper."""
    table = np.full((3, num_classes), np.nan)
    for k in range(num_classes):
        mine = [predicted == 1 + i for i in np.flatnonzero(predicted_labels == k) if (predicted == 1 + i).any()]
        true = [(expected == 1 + i) & ~void for i in np.flatnonzero(expected_labels == k)]
        true = [one for one in true if one.any()]
        ious = [[(a & b).sum() / ((a & ~void) | b).sum() if (a & ~void).any() else 0.0 for b in true] for a in mine]
        hits = [(i, iou) for i, row in enumerate(ious) for iou in row if iou > 0.5]
        matched = {i for i, _ in hits}
        extra = sum(i not in matched and (a & void).sum() <= a.sum() / 2 for i, a in enumerate(mine))
        lost = len(true) - len(hits)
        if hits or extra or lost:
            total = len(hits) + extra / 2 + lost / 2
            overlap = sum(iou for _, iou in hits)
            table[:, k] = overlap / total, overlap / len(hits) if hits else 0.0, len(hits) / total
    return table


def blocks(rng, ndim, shift):
    """A map of numbered blocks with some left out, moved, and grown over."""
    segments = np.zeros((12,) * ndim, np.int64)
    for number in range(1, 9):
        lower = rng.integers(0, 9, ndim)
        segments[tuple(slice(a, a + rng.integers(2, 6)) for a in lower)] = number
    return segments if not shift else np.roll(segments, shift, axis=-1)


@pytest.mark.parametrize("hidden", [0, 0.2, 0.6])
def test_it_equals_a_slow_implementation(hidden, ndim, rng):
    matches = 0
    for trial in range(30):
        expected = blocks(rng, ndim, 0)
        predicted = np.where(rng.random(expected.shape) < 0.1, 0, np.roll(expected, trial % 2, axis=0))
        true = rng.integers(0, 2, 8)
        mine = np.where(rng.random(8) < 0.2, 1 - true, true)
        void = rng.random(expected.shape) < hidden
        quality = panoptic_quality(predicted, expected, mine, true, classes=["x", "y"], void=void)
        table = reference(predicted, expected, mine, true, 2, void)
        for name, row in zip(("PQ", "SQ", "RQ"), table, strict=True):
            found = [quality[f"{name}/x"], quality[f"{name}/y"]]
            np.testing.assert_allclose(found, row)
            assert quality[name] == pytest.approx(np.nanmean(row))
        matches += int((table[2] > 0).sum())
    assert matches > 20


def test_a_worked_example(ndim):
    """Of class x an IoU of 3/4, and one of 1; one missed. Of y nothing matches: an extra and a missed segment."""
    shape = (1,) * (ndim - 1) + (16,)
    expected = np.array([1, 1, 1, 1, 0, 2, 2, 0, 3, 3, 0, 4, 4, 4, 0, 0]).reshape(shape)
    predicted = np.array([1, 1, 1, 0, 0, 2, 2, 0, 0, 0, 0, 3, 0, 0, 0, 0]).reshape(shape)
    quality = panoptic_quality(predicted, expected, [0, 0, 1], [0, 0, 0, 1], classes=["x", "y", "z"])
    assert quality["SQ/x"] == (0.75 + 1) / 2
    assert quality["RQ/x"] == pytest.approx(2 / 2.5)
    assert quality["PQ/x"] == pytest.approx(1.75 / 2.5)
    assert (quality["PQ/y"], quality["SQ/y"], quality["RQ/y"]) == (0, 0, 0)
    assert np.isnan(quality["PQ/z"])
    assert quality["PQ"] == pytest.approx(1.75 / 2.5 / 2)


def test_half_is_no_match_and_another_class_is_none():
    expected = np.array([[1, 1, 1, 1]])
    assert panoptic_quality(np.array([[1, 1, 0, 0]]), expected)["PQ"] == 0
    other = panoptic_quality(expected, expected, [1], [0], classes=["x", "y"])
    assert (other["PQ/x"], other["PQ/y"]) == (0, 0)


def test_void_voxels_count_neither_for_nor_against():
    expected, predicted = np.array([[1, 1, 0, 0, 2, 2]]), np.array([[1, 1, 1, 1, 3, 3]])
    void = np.array([[0, 0, 1, 1, 1, 1]], bool)
    assert panoptic_quality(predicted, expected, void=void)["PQ"] == 1  # 2 is void, and so is 3
    assert panoptic_quality(predicted, expected)["PQ"] < 1


def test_nothing_in_either_map_is_not_defined():
    assert np.isnan(panoptic_quality(np.zeros((3, 3), int), np.zeros((3, 3), int))["PQ"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((2, 2), int), np.ones((2, 3), int)), r"the ground truth \(2, 3\)"),
        ((np.ones((2, 2)), np.ones((2, 2), int)), "predicted must be integers"),
        ((np.full((2, 2), 3), np.ones((2, 2), int), [0, 0]), "holds the number 3; give numbers from 0 to 2"),
        ((np.full((2, 2), -1), np.ones((2, 2), int)), "holds the number -1"),
        ((np.ones((2, 2), int), np.ones((2, 2), int), [0], [1]), "expected_labels must be from 0 to 0"),
    ],
)
def test_maps_that_cannot_be_read_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        panoptic_quality(*arguments)


def test_voxels_of_a_number_that_is_no_object_are_background():
    objects = np.array([[3, 3, 0, 9, 9]])
    counts = match_components((objects == 3).astype(np.uint8), objects, np.array([3]), np.array([0]), 1)
    assert counts.tolist() == [[1, 1, 0, 0]]


def two_cases():
    """x: two objects found in a, one of two in b (components); y: one object in b, not found."""
    a, b = np.zeros((1, 12), np.int64), np.zeros((1, 12), np.int64)
    a[0, :4], a[0, 6:8], b[0, :2], b[0, 4:6], b[0, 8:10] = 7, 2, 1, 2, 3
    predicted_a, predicted_b = (a > 0).astype(np.uint8), np.zeros((1, 12), np.uint8)
    predicted_a[0, 0], predicted_b[0, :2] = 0, 1
    given = {"a": (predicted_a, a, [7, 2], [0, 0]), "b": (predicted_b, b, [1, 2, 3], [0, 0, 1])}
    return {
        name: score_case(
            mine, (objects > 0).astype(np.uint8), 2, (1.0, 1.0), None,
            match_components(mine, objects, np.array(ids), np.array(labels), 2),
        )
        for name, (mine, objects, ids, labels) in given.items()
    }  # fmt: skip


def test_an_evaluation_sums_the_objects_of_all_cases():
    config = EvaluateConfig(protocol="segmentation", num_resamples=50)
    evaluation = evaluate_segmentation(two_cases(), classes=["x", "y"], config=config)
    metrics = evaluation.metrics
    assert metrics["SQ/x"] == pytest.approx((0.75 + 1 + 1) / 3)
    assert metrics["RQ/x"] == pytest.approx(3 / 3.5)
    assert metrics["PQ/x"] == pytest.approx(2.75 / 3.5)
    assert metrics["PQ/y"] == 0
    assert metrics["PQ"] == pytest.approx(2.75 / 7)
    assert metrics["PQ/y/ci95"] is None  # one patient has the class
    assert "PQ " in str(evaluation)
    assert segmentation_rows(evaluation)[0]["PQ"] == pytest.approx(1.75 / 2)
    assert segmentation_rows(evaluation)[1]["PQ"] == ""
    drawn = evaluation.resamples["PQ"][:, 0]
    assert set(np.round(drawn, 6)) <= {0.875, round(1 / 1.5, 6), round(2.75 / 3.5, 6)}
    same = compare_segmentation(two_cases(), two_cases(), classes=["x", "y"], config=config)
    assert (same["metrics"]["PQ"]["difference"], same["metrics"]["PQ"]["p"]) == (0, 1)
