"""Average precision against numbers worked by hand, published ones and a slow independent implementation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxel.evaluation import average_precision, match_cases
from boxel.evaluation.average_precision import Ranking
from boxel.evaluation.patient import auroc
from boxel.types import Detections, Instances
from tests.settings import evaluate


def square(lower, upper):
    return [[lower, lower], [upper, upper]]


def instances(*boxes):
    n = len(boxes)
    array = np.array(boxes, np.float32).reshape(n, 2, 2)
    return Instances(array, np.zeros(n, np.int64), np.arange(1, n + 1), np.zeros(n, bool))


def detections(*scored):
    boxes = np.array([box for _, box in scored], np.float32).reshape(-1, 2, 2)
    return Detections(boxes, np.array([s for s, _ in scored], np.float32), np.zeros(len(scored), np.int64))


# Four patients: computed with the published toolkit of the Retina U-Net paper.
TRUTHS = {
    "P1": instances(square(0, 10), square(20, 30)),
    "P2": instances(),
    "P3": instances(square(0, 10)),
    "P4": instances(),
}
PREDICTIONS = {
    "P1": detections((0.9, square(0, 10)), (0.8, square(1, 10)), (0.7, square(50, 60)), (0.6, square(20, 30))),
    "P2": detections((0.95, square(0, 10))),
    "P3": detections(),
    "P4": detections(),
}


def test_the_paper_toolkits_object_and_patient_metrics_are_reproduced():
    metrics = evaluate(PREDICTIONS, TRUTHS, classes=["tumour"], iou_thresholds=[0.1], rule="mdt").metrics
    assert metrics["AP@0.10"] == pytest.approx((34 * 0.5 + 33 * 0.4) / 101)
    assert metrics["AP@0.10"] == pytest.approx(0.29901, abs=5e-6)
    assert metrics["patient_AP"] == pytest.approx(0.5)


def test_the_paper_toolkits_mean_of_per_patient_average_precision_is_reproduced():
    table = match_cases(PREDICTIONS, TRUTHS, classes=["tumour"], iou_threshold=0.1, rule="mdt")
    values = []
    for case in range(len(table.cases)):
        rows, num_objects = table.detection_cases == case, (table.object_cases == case).sum()
        if rows.any() or num_objects:
            values.append(average_precision(table.scores[rows], table.true_positives[rows], num_objects) or 0.0)
    assert np.mean(values) == pytest.approx(0.25083, abs=5e-6)


@pytest.mark.parametrize(("rule", "expected"), [("mdt", 51 / 101), ("greedy", 1.0)])
def test_a_second_detection_of_two_overlapping_objects_is_lost_by_the_old_rule_only(rule, expected):
    def rows(lower, upper):
        return [[lower, 0], [upper, 10]]

    ground_truth = {"a": instances(rows(0, 10), rows(6, 16))}
    predictions = {"a": detections((0.9, rows(1, 11)), (0.8, rows(2, 12)))}
    table = match_cases(predictions, ground_truth, classes=["x"], iou_threshold=0.1, rule=rule)
    assert average_precision(table.scores, table.true_positives, 2) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("interpolation", "expected"),
    [
        ("area", 0.25 * 1 + 0.25 * 2 / 3),
        ("11", (3 * 1 + 3 * 2 / 3) / 11),  # recalls 0, .1, .2 at precision 1; .3, .4, .5 at 2/3
        ("101", (26 * 1 + 25 * 2 / 3) / 101),  # recalls 0 ... .25, then .26 ... .50
        ("step", 0.25 * 1 + 0.25 * 2 / 3),
    ],
)
def test_hand_computed_values(interpolation, expected):
    value = average_precision([0.9, 0.8, 0.7], [True, False, True], 4, interpolation)
    assert value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("interpolation", "expected"), [("step", 0.5 * 0.5 + 0.5 * 2 / 3), ("area", 2 / 3), ("101", 2 / 3)]
)
def test_the_envelope_lifts_precision_to_what_a_higher_recall_reaches(interpolation, expected):
    assert average_precision([3, 2, 1], [False, True, True], 2, interpolation) == pytest.approx(expected)


@pytest.mark.parametrize("interpolation", ["101", "11", "area", "step"])
@pytest.mark.parametrize("count", [3, 7, 20, 49])
def test_where_everything_is_found_first_the_average_is_one_to_the_last_bit(interpolation, count):
    ground_truth = {"P": instances(*(square(20 * k, 20 * k + 10) for k in range(count)))}
    detected = {"P": detections(*(((count - k) / (count + 1), square(20 * k, 20 * k + 10)) for k in range(count)))}
    metrics = evaluate(detected, ground_truth, classes=["x"], interpolation=interpolation, num_resamples=20).metrics
    assert metrics["AP@0.10"] == metrics["mAP@0.10:0.50"] == 1.0
    assert metrics["AP@0.10/ci95"] is None  # one patient


def test_a_recall_on_a_sampling_point_reaches_it():
    # 7 of 10 objects: the 71 recalls 0 ... 0.70 have precision 1; 0.7 and 7 * 0.1 differ in the last bit.
    assert average_precision(np.arange(7), np.ones(7, bool), 10) == pytest.approx(71 / 101)
    assert average_precision(np.arange(7), np.ones(7, bool), 10, "11") == pytest.approx(8 / 11)


def test_scikit_learns_documented_examples_of_patient_metrics():
    ground_truth, scores = np.array([False, False, True, True]), np.array([0.1, 0.4, 0.35, 0.8])
    assert average_precision(scores, ground_truth, 2, "step") == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    ranking = Ranking.sort(scores, ground_truth, np.zeros(4, int), np.array([2.0]))
    assert auroc(*ranking.counts(np.ones((1, 1)))) == pytest.approx([0.75])


def slow_average_precision(ground_truth, predictions, label, iou_threshold):
    """COCO's greedy matching and 101 recalls, one Python loop per definition."""
    ranked = sorted(
        ((float(p.scores[k]), case, k) for case, p in predictions.items() for k in range(len(p))
         if p.labels[k] == label), key=lambda item: -item[0],
    )  # fmt: skip
    taken, true_positives = set(), []
    for _, case, k in ranked:
        best, best_iou = None, 0.0
        for j in range(len(ground_truth[case])):
            if ground_truth[case].labels[j] != label or (case, j) in taken:
                continue
            inter = volume = other = 1.0
            for low, up, l2, u2 in zip(*predictions[case].boxes[k], *ground_truth[case].boxes[j], strict=True):
                inter *= max(0.0, min(float(up), float(u2)) - max(float(low), float(l2)))
                volume *= float(up) - float(low)
                other *= float(u2) - float(l2)
            iou = inter / (volume + other - inter)
            if iou >= iou_threshold and iou > best_iou:
                best, best_iou = j, iou
        true_positives.append(best is not None)
        if best is not None:
            taken.add((case, best))
    total = sum(int((t.labels == label).sum()) for t in ground_truth.values())
    if not total:
        return None
    points = [
        (sum(true_positives[: k + 1]) / total, sum(true_positives[: k + 1]) / (k + 1))
        for k in range(len(true_positives))
    ]
    wanted = [k / 100 for k in range(101)]
    return sum(max((p for r, p in points if r >= w - 1e-12), default=0.0) for w in wanted) / 101


@given(
    ndim=st.sampled_from([2, 3]),
    seed=st.integers(0, 2**32 - 1),
    iou_threshold=st.sampled_from([0.1, 0.3, 0.5]),
)
@settings(max_examples=80, deadline=None)
def test_agrees_with_a_slow_independent_implementation(ndim, seed, iou_threshold):
    generator = np.random.default_rng(seed)

    def boxes(count):
        lower = generator.integers(0, 8, (count, 1, ndim))
        return np.concatenate([lower, lower + generator.integers(2, 9, (count, 1, ndim))], 1).astype(np.float32)

    # No equal scores: their order would matter to the slow one.
    distinct = iter(generator.permutation(1000).astype(np.float32) / 1000)
    ground_truth, predictions = {}, {}
    for case in "abcd":
        n, m = generator.integers(0, 15, 2)
        labels = generator.integers(0, 2, m)
        ground_truth[case] = Instances(boxes(m), labels, np.arange(m), np.zeros(m, bool))
        scores = np.array([next(distinct) for _ in range(n)], np.float32)
        predictions[case] = Detections(boxes(n), scores, generator.integers(0, 2, n))
    metrics = evaluate(
        predictions, ground_truth, classes=["a", "b"], iou_thresholds=[iou_threshold], num_resamples=0
    ).metrics
    for label, name in enumerate("ab"):
        expected = slow_average_precision(ground_truth, predictions, label, iou_threshold)
        assert metrics[f"AP@{iou_threshold:.2f}/{name}"] == (None if expected is None else pytest.approx(expected))
