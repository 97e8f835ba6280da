"""Paired comparison of two sets of predictions."""

import numpy as np
import pytest

from boxel.evaluation import Criterion
from boxel.evaluation.masks import MaskOverlap
from boxel.types import Detections, Instances
from tests.settings import compare, evaluate


def cohort(rng, ndim, sensitivity, num_cases=60, hard=None):
    """A case each with one object; detected with the given probability, else a false positive; `hard` cases never."""
    box = np.array([[[0.0] * ndim, [10.0] * ndim]])
    ground_truth, predictions = {}, {}
    for case in range(num_cases):
        ground_truth[f"c{case:03}"] = Instances(box, np.zeros(1, int), np.ones(1, int), np.zeros(1, bool))
        is_detected = rng.random() < sensitivity and (hard is None or not hard[case])
        score = rng.uniform(0.5, 1) if is_detected else rng.uniform(0, 0.7)
        predictions[f"c{case:03}"] = Detections(box + (0 if is_detected else 50), np.array([score]), np.zeros(1, int))
    return predictions, ground_truth


def test_a_better_set_is_told_from_a_worse_one(rng, ndim):
    worse, ground_truth = cohort(rng, ndim, 0.4)
    better, _ = cohort(rng, ndim, 0.95)
    result = compare(worse, better, ground_truth, classes=["x"], iou_thresholds=[0.1, 0.5], num_resamples=200)
    metric = result["metrics"]["AP@0.10"]
    assert metric["a"] == evaluate(worse, ground_truth, classes=["x"], num_resamples=0).metrics["AP@0.10"]
    assert metric["difference"] == metric["b"] - metric["a"]
    low, high = metric["ci95"]
    assert 0 < low < metric["difference"] < high
    assert metric["p"] == pytest.approx(1 / 201)
    assert result["settings"]["seed"] == 0


def test_a_set_does_not_differ_from_itself(rng, ndim):
    detections, ground_truth = cohort(rng, ndim, 0.6)
    metrics = compare(detections, detections, ground_truth, classes=["x", "absent"], num_resamples=50)["metrics"]
    for name, metric in metrics.items():
        if name.endswith("/absent"):
            assert metric == {"a": None, "b": None, "difference": None, "ci95": None, "p": None}
        elif metric["a"] is not None:
            assert (metric["difference"], metric["ci95"], metric["p"]) == (0, [0, 0], 1)


def test_pairing_sees_what_unpaired_intervals_hide(rng):
    """Both fail on the hard cases; of the others the second finds a few more."""
    hard = rng.random(200) < 0.5
    a, ground_truth = cohort(np.random.default_rng(1), 2, 0.7, 200, hard)
    b = dict(a)
    for case in [case for case in a if a[case].boxes[0, 0, 0] == 50 and not hard[int(case[1:])]][:12]:
        b[case] = Detections(ground_truth[case].boxes, np.array([0.8]), np.zeros(1, int))
    metric = compare(a, b, ground_truth, classes=["x"], iou_thresholds=[0.5], num_resamples=300)["metrics"]["AR@0.50"]
    settings = {"classes": ["x"], "iou_thresholds": [0.5], "num_resamples": 300}
    alone = [evaluate(detections, ground_truth, **settings).metrics["AR@0.50/ci95"] for detections in (a, b)]
    assert metric["difference"] == pytest.approx(12 / 200)
    assert metric["ci95"][0] > 0
    assert metric["p"] < 0.01
    assert alone[0][1] > alone[1][0]  # the intervals themselves overlap


def test_equal_detectors_are_seldom_called_different(rng):
    p_values = []
    for _ in range(60):
        a, ground_truth = cohort(rng, 2, 0.6, 30)
        b, _ = cohort(rng, 2, 0.6, 30)
        result = compare(a, b, ground_truth, classes=["x"], iou_thresholds=[0.5], num_resamples=60)
        p_values.append(result["metrics"]["AP@0.50"]["p"])
    # 5 % of 60 is 3; ten or more would happen to one run in a thousand.
    assert np.sum(np.array(p_values) <= 0.05) < 10
    assert np.mean(p_values) > 0.35


def test_images_of_a_patient_change_sides_together(rng):
    a, ground_truth = cohort(rng, 2, 0.2)
    b, _ = cohort(rng, 2, 0.9)
    groups = {case: "first" if case < "c030" else "second" for case in ground_truth}
    result = compare(a, b, ground_truth, classes=["x"], iou_thresholds=[0.5], groups=groups, num_resamples=200)
    assert result["metrics"]["AP@0.50"]["p"] > 0.3  # two patients: half of the exchanges are the data or its mirror


def test_nothing_is_compared_without_draws(rng):
    a, ground_truth = cohort(rng, 2, 0.2, 3)
    with pytest.raises(ValueError, match="num_resamples"):
        compare(a, a, ground_truth, classes=["x"], num_resamples=0)


def test_masks_are_compared_each_set_with_its_own(ndim):
    """The boxes of both are right; the masks of the first fill a quarter of the objects'."""
    box = np.array([[[0.0] * ndim, [4.0] * ndim]])
    ground_truth, detections, overlaps = {}, {}, ({}, {})
    for case in range(12):
        name = f"c{case}"
        ground_truth[name] = Instances(box, np.zeros(1, int), np.array([5]), np.ones(1, bool))
        detections[name] = Detections(box, np.array([0.5 + case / 100]), np.zeros(1, int))
        for share, masks in zip((0.25, 1.0), overlaps, strict=True):
            voxels = np.array([100 * share])
            masks[name] = MaskOverlap(voxels[None], voxels, np.array([100]), np.array([5]))
    criterion = Criterion("mask_iou", masks=overlaps[0])
    options = {"classes": ["x"], "iou_thresholds": [0.2, 0.5], "num_resamples": 50}
    metrics = compare(detections, detections, ground_truth, criterion=criterion, masks_of_b=overlaps[1], **options)[
        "metrics"
    ]
    assert [metrics["AP@0.20"][side] for side in "ab"] == pytest.approx([1, 1])
    assert [metrics["AP@0.50"][side] for side in "ab"] == pytest.approx([0, 1])
    assert metrics["AP@0.50"]["p"] < 0.05
    assert (metrics["mean_iou@0.20"]["a"], metrics["mean_iou@0.20"]["b"]) == (0.25, 1)
    with pytest.raises(ValueError, match="one set of predictions only"):
        compare(detections, detections, ground_truth, criterion=criterion, **options)


def test_what_is_ignored_is_ignored_in_both_sets(ndim):
    box = np.array([[[0.0] * ndim, [4.0] * ndim]])
    ground_truth = {name: Instances(box, np.zeros(1, int), np.ones(1, int), np.zeros(1, bool)) for name in "pqr"}
    a = {name: Detections(np.concatenate([box, box + 20]), np.array([0.5, 0.9]), np.zeros(2, int)) for name in "pqr"}
    region = {name: Instances(box + 20, np.array([-1]), np.ones(1, int), np.zeros(1, bool)) for name in "pqr"}
    options = {"classes": ["x"], "iou_thresholds": [0.5], "num_resamples": 20, "operating_points": [0.4]}
    metrics = [compare(a, a, ground_truth, regions=regions, **options)["metrics"] for regions in (None, region)]
    assert [metric["precision@0.50/score=0.4"]["a"] for metric in metrics] == [0.5, 1]
    assert metrics[1]["AP@0.50"]["a"] == 1
