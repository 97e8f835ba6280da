"""Intervals of single metrics; how often they cover the true value is measured in test_coverage.py."""

from statistics import NormalDist

import numpy as np
import pytest

from boxel.evaluation.bootstrap import interval
from boxel.types import Detections, Instances
from tests.settings import evaluate


@pytest.mark.parametrize(
    ("num_groups", "quantile"), [(5, 2.7764), (10, 2.2622), (30, 2.0452), (100, 1.9842), (100_001, 1.9600)]
)
def test_the_reach_is_students_quantile_of_the_tables(num_groups, quantile):
    _, upper = interval(np.linspace(0, 1, 1001), 0.5, num_groups, corrected=False)
    expanded = NormalDist().inv_cdf(upper)  # the values are uniform: a quantile is its own probability
    assert expanded == pytest.approx(quantile * (num_groups / (num_groups - 1)) ** 0.5, abs=1e-4)


def test_few_patients_get_wider_intervals():
    values = np.linspace(0, 1, 1001)
    widths = [high - low for low, high in (interval(values, 0.5, n) for n in (5, 20, 100, 10_000))]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == pytest.approx(0.95, abs=0.001)


def test_one_patient_says_nothing_about_others():
    assert interval(np.full(100, 0.5), 0.5, num_groups=1) is None


def cohort(ndim, num_cases=40):
    """An object each, detected with falling scores; every third case has a false positive of a score in between."""
    box = np.array([[[0.0] * ndim, [10.0] * ndim]])
    ground_truth, predictions = {}, {}
    for case in range(num_cases):
        ground_truth[f"c{case:02}"] = Instances(box, np.zeros(1, int), np.ones(1, int), np.zeros(1, bool))
        boxes, scores = [box], [0.9 - case / 100]
        if case % 3 == 0:
            boxes, scores = [*boxes, box + 50], [*scores, 0.505 + case / 200]
        predictions[f"c{case:02}"] = Detections(np.concatenate(boxes), np.array(scores), np.zeros(len(scores), int))
    return predictions, ground_truth


def test_the_point_of_the_highest_f1_is_chosen_in_every_resample(ndim):
    """Held fixed, the interval of the recall there would have no width: that score finds every object."""
    metrics = evaluate(*cohort(ndim), classes=["x"], iou_thresholds=[0.5], num_resamples=200).metrics
    low, high = metrics["score_threshold@0.50/ci95"]
    assert low <= metrics["score_threshold@0.50"] <= high
    assert low < high
    assert metrics["precision@0.50/ci95"][0] < metrics["precision@0.50"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"num_resamples": -1}, "resamples"), ({"seed": -1}, "seed"), ({"operating_points": [1.5]}, "operating_points"),
        ({"size_limits": [-3.0]}, "greater than 0"), ({"size_limits": [5.0, 5.0]}, "different"),
        ({"iou_thresholds": [2.0]}, "at most 1"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        evaluate(*cohort(2, 4), classes=["x"], **settings)


def test_every_figure_that_is_defined_has_an_interval(ndim):
    metrics = evaluate(*cohort(ndim), classes=["x", "absent"], num_resamples=20).metrics
    names = [key for key, value in metrics.items() if isinstance(value, float) and "/absent" not in key]
    assert len(names) > 60
    assert not [key for key in names if not metrics.get(f"{key}/ci95")]
    bins = metrics["calibration@0.50"]["x"]
    assert [interval is None for interval in bins["precision/ci95"]] == [number == 0 for number in bins["num"]]
    confusion = metrics["confusion@0.10"]
    for counts, ends in zip(confusion["counts"], confusion["ci95"], strict=True):
        assert all(low <= count <= high for count, (low, high) in zip(counts, ends, strict=True))
