"""Sizes, confusion, calibration, and that the compiled metrics equal the plain ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxel.evaluation import find_overlaps
from boxel.evaluation.average_precision import INTERPOLATIONS, average_precision, curve_average
from boxel.evaluation.grouped_matches import GroupedMatches
from boxel.types import Detections, Instances
from tests.settings import evaluate
from tests.unit.evaluation.sensitivity import sensitivity_at


def cubes(sides, ndim, gap=100.0):
    """Cubes of some sides, each at a corner of its own."""
    lower = np.repeat(np.arange(len(sides))[:, None] * gap, ndim, axis=1)
    return np.stack([lower, lower + np.array(sides, float).reshape(-1, 1)], axis=1)


def metrics_of(detected, truth, **options):
    """Boxes, scores and labels of detections; boxes and labels of objects; of one case."""
    boxes, scores, labels = detected
    predictions = {"a": Detections(boxes, np.array(scores, float), np.array(labels))}
    objects = Instances(truth[0], np.array(truth[1]), np.arange(1, len(truth[0]) + 1), np.zeros(len(truth[0]), bool))
    return evaluate(predictions, {"a": objects}, classes=("x", "y"), num_resamples=0, **options).metrics


def test_metrics_by_size_leave_other_sizes_out(ndim):
    truth = cubes([4, 4, 10, 10], ndim)
    detected = truth[[0, 2, 3]], [0.9, 0.8, 0.7], [0, 0, 0]
    metrics = metrics_of(detected, (truth, [0] * 4), size_limits=[5.0**ndim], interpolation="area")
    small, large = f"AP@0.10/size=0..{5**ndim}", f"AP@0.10/size={5**ndim}..inf"
    assert (metrics[small], metrics[large]) == (0.5, 1)
    assert metrics[f"AR@0.10/size=0..{5**ndim}/x"] == 0.5
    assert metrics["settings"]["size_limits"] == [5**ndim]


def test_sizes_are_split_into_thirds_unless_told_otherwise(ndim):
    truth = cubes([2, 3, 4, 5, 6, 7], ndim)
    metrics = metrics_of((truth, [0.5] * 6, [0] * 6), (truth, [0] * 6))
    assert len([key for key in metrics if key.startswith("AP@0.10/size=") and key.count("/") == 1]) == 3
    assert len(metrics["settings"]["size_limits"]) == 2


def test_size_ratios_are_described_as_in_the_benchmarking_report(ndim):
    truth = cubes([10, 10, 10, 10], ndim)
    # One axis longer or shorter: volumes 1.2, 1.5, 0.9 and 1 times the object's.
    detected = truth.copy()
    detected[:, 1, 0] = detected[:, 0, 0] + [12, 15, 9, 10]
    metrics = metrics_of((detected, [0.9, 0.8, 0.7, 0.6], [0] * 4), (truth, [0] * 4))
    table = metrics["size_ratios@0.10"]["x"]
    assert table["bigger"] == {"num": 3, "share": 0.75, "mean": pytest.approx(3.7 / 3), "median": pytest.approx(1.2),
                               "min": pytest.approx(1), "max": pytest.approx(1.5)}  # fmt: skip
    assert table["smaller"]["min"] == pytest.approx(0.9)
    assert metrics["size_ratio@0.10/x"] == pytest.approx(1.1)  # the median
    assert metrics["size_ratios@0.10"]["y"]["all"] is None


def test_the_confusion_matrix_has_missed_objects_and_background(ndim):
    truth = cubes([10, 10, 10], ndim)
    elsewhere = cubes([10], ndim) + 1000
    # An x detected as x, an x detected as y, an undetected y; a y on the background; a weak x that does not take part.
    boxes = np.concatenate([truth[:2], elsewhere, elsewhere])
    metrics = metrics_of((boxes, [0.9, 0.8, 0.8, 0.1], [0, 1, 1, 0]), (truth, [0, 0, 1]))
    assert metrics["confusion@0.10"] == {
        "rows": ["x", "y", "background"], "columns": ["x", "y", "missed"],
        "counts": [[1, 1, 0], [0, 0, 1], [0, 1, 0]],
    }  # fmt: skip


def test_calibration_compares_the_score_with_the_share_of_hits(ndim):
    truth = cubes([10] * 4, ndim)
    boxes = np.concatenate([truth[:3], truth[3:] + 1000])
    metrics = metrics_of((boxes, [0.85, 0.85, 0.85, 0.85], [0] * 4), (truth, [0] * 4))
    assert metrics["ECE@0.10/x"] == pytest.approx(0.1)
    assert metrics["ECE@0.10/y"] is None
    curve = metrics["calibration@0.10"]["x"]
    assert (curve["num"][8], curve["precision"][8]) == (4, 0.75)
    assert curve["mean_score"][:8] == [None] * 8


def test_operating_points_of_the_users_choice(ndim):
    truth = cubes([10, 10], ndim)
    boxes = np.concatenate([truth, truth[:1] + 1000])
    metrics = metrics_of((boxes, [0.9, 0.2, 0.6], [0, 0, 0]), (truth, [0, 0]), operating_points=[0.5])
    assert (metrics["precision@0.10/score=0.5"], metrics["recall@0.10/score=0.5"]) == (0.5, 0.5)


def test_recall_averages_over_thresholds_like_precision(ndim):
    truth, detected = cubes([10, 10], ndim), cubes([10, 10], ndim)
    detected[1, 1, 0] = detected[1, 0, 0] + 4  # IoU 0.4
    metrics = metrics_of((detected, [0.9, 0.8], [0, 0]), (truth, [0, 0]), iou_thresholds=[0.3, 0.5])
    assert (metrics["AR@0.30"], metrics["AR@0.50"], metrics["mAR@0.30:0.50"]) == (1, 0.5, 0.75)


def test_average_precision_of_the_benchmarking_report_has_eleven_score_thresholds(ndim):
    """Of three objects: from 0.9 upwards 1 of 1, from 0.8 2 of 3, from 0.3 3 of 5. The steps between do not count."""
    scores, found = [0.9, 0.88, 0.81, 0.39, 0.3], [True, False, True, False, True]
    by_hand = 1 / 3 * 1 + 1 / 3 * 2 / 3 + 1 / 3 * 3 / 5
    assert average_precision(scores, found, 3, "report") == pytest.approx(by_hand)
    scores = [0.84, 0.88, 0.81, 0.39, 0.36]  # the first hit now shares its threshold with the false positive
    assert average_precision(scores, found, 3, "report") == pytest.approx(2 / 3 * 2 / 3 + 1 / 3 * 3 / 5)
    assert average_precision(scores, found, 3, "step") == pytest.approx(1 / 3 * (1 / 2 + 2 / 3 + 3 / 5))
    truth = cubes([10, 10, 10], ndim)
    boxes = np.concatenate([truth[:2], truth[2:], truth[:2] + 5000.0])
    detected = boxes, [0.84, 0.81, 0.36, 0.88, 0.39], [0] * 5
    metrics = metrics_of(detected, (truth, [0] * 3), interpolation="report")
    assert metrics["AP@0.10"] == pytest.approx(2 / 3 * 2 / 3 + 1 / 3 * 3 / 5)


def test_a_score_in_float32_reaches_the_threshold_of_its_number(ndim):
    """In float32, 0.9 and 0.7 are below 0.9 and 0.7."""
    truth = cubes([10, 10], ndim)
    for dtype in (np.float32, np.float64):
        scores = np.array([0.9, 0.85, 0.7, 0.65], dtype)
        assert average_precision(scores, [True, False, True, False], 2, "report") == pytest.approx(
            1 / 2 + 1 / 2 * 2 / 3
        )
        found = {"a": Detections(truth, np.array([0.9, 0.7], dtype), np.zeros(2, int))}
        objects = {"a": Instances(truth, np.zeros(2, int), np.arange(2), np.zeros(2, bool))}
        config = {"operating_points": [0.9], "num_resamples": 0, "iou_thresholds": [0.1]}
        assert evaluate(found, objects, classes=["x"], **config).metrics["recall@0.10/score=0.9"] == 0.5


def test_mean_iou_is_of_hits_of_all_objects_and_of_detections_from_a_score(ndim):
    """Two of four objects are found, with IoU 1 and 0.5; a false positive has a high score."""
    truth = cubes([10, 10, 10, 10], ndim)
    boxes = np.concatenate([truth[:2], truth[:1] + 5000.0])
    boxes[1, 1, 0] -= 5
    metrics = metrics_of((boxes, [0.9, 0.2, 0.8], [0] * 3), (truth, [0] * 4), operating_points=[0.1, 0.25])
    assert metrics["mean_iou@0.10"] == 0.75
    assert metrics["mean_iou_objects@0.10"] == 1.5 / 4
    assert metrics["mean_iou@0.10/score=0.1"] == 1.5 / 3
    assert metrics["mean_iou@0.10/score=0.25"] == 1 / 2


@given(
    seed=st.integers(0, 2**32 - 1), interpolation=st.sampled_from(INTERPOLATIONS), between=st.booleans(),
    scale=st.sampled_from([1.0, 300.0, 0.3]),
)  # fmt: skip
def test_compiled_metrics_equal_the_plain_ones(seed, interpolation, between, scale):
    """Small counts are summed as bytes, other weights as floats."""
    rng = np.random.default_rng(seed)
    ground_truth, predictions = {}, {}
    for case in "abcde":
        n, m = rng.integers(0, 5, 2)
        truth = cubes(rng.integers(5, 9, n), 2, gap=6.0)
        ground_truth[case] = Instances(truth, np.zeros(n, int), np.arange(n), np.zeros(n, bool))
        detected = cubes(rng.integers(5, 9, m), 2, gap=6.0) + rng.integers(0, 4)
        predictions[case] = Detections(detected, rng.integers(0, 5, m) / 5, np.zeros(m, int))
    table = find_overlaps(predictions, ground_truth, classes=["x"]).match(0.3)
    grouped = GroupedMatches(table, np.arange(5))
    weights = rng.integers(0, 4, (40, 5)) * scale
    weights[0] = 0
    curves = grouped.curves(weights, interpolation, froc=True, between=between)
    (ranking,) = grouped.rankings
    counts, objects = ranking.counts(weights), weights @ ranking.objects
    at_points = ranking.at_tenths().counts(weights) if interpolation == "report" else counts
    np.testing.assert_allclose(curves["AP"][:, 0], curve_average(*at_points, objects, interpolation))
    rates = sensitivity_at(*counts, objects, weights.sum(axis=1), interpolate=between)
    np.testing.assert_allclose(curves["FROC"][:, 0], rates.mean(axis=1))
    np.testing.assert_allclose(curves["sensitivity/fp=2"][:, 0], rates[:, 4])
