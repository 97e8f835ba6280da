"""Pascal VOC's matching and average precision, against numbers by hand and the devkit's procedure written anew."""

import numpy as np
import pytest

from boxel.evaluation import average_precision, find_overlaps, match_cases
from boxel.types import Detections, Instances


def line(lower, upper, ndim=2):
    """A box that spans lower..upper on the first axis and 0..10 on the others."""
    return [[lower] + [0] * (ndim - 1), [upper] + [10] * (ndim - 1)]


def instances(boxes, ndim=2):
    n = len(boxes)
    array = np.array(boxes, np.float32).reshape(n, 2, ndim)
    return Instances(array, np.zeros(n, np.int64), np.arange(1, n + 1), np.zeros(n, bool))


def detections(boxes, scores, ndim=2):
    array = np.array(boxes, np.float32).reshape(len(boxes), 2, ndim)
    return Detections(array, np.array(scores, np.float32), np.zeros(len(boxes), np.int64))


def match(detected, truth, threshold=0.5, **extra):
    extra = {name: {"a": one} for name, one in extra.items()}
    return find_overlaps({"a": detected}, {"a": truth}, classes=["x"], **extra).match(threshold, "voc")


def test_a_detection_never_takes_its_second_best_object(ndim):
    """Both detections overlap both objects, and the first one most: 0.8 is a false positive."""
    truth = instances([line(0, 10, ndim), line(2, 12, ndim)], ndim)
    detected = detections([line(0, 10, ndim), line(0, 10.5, ndim)], [0.9, 0.8], ndim)
    assert match(detected, truth).true_positives.tolist() == [True, False]
    greedy = match_cases({"a": detected}, {"a": truth}, classes=["x"], iou_threshold=0.5)
    assert greedy.true_positives.tolist() == [True, True]


def test_the_threshold_itself_matches(ndim):
    """The devkit asks for at least half; the other rule that looks at one object asks for more."""
    truth, detected = instances([line(0, 10, ndim)], ndim), detections([line(0, 5, ndim)], [1.0], ndim)
    assert match(detected, truth).true_positives.tolist() == [True]
    assert match(detected, truth, 0.51).false_positives.tolist() == [True]


def test_a_difficult_object_that_is_overlapped_most_takes_any_number_of_detections(ndim):
    """The IoU with the object that counts is above the threshold, but that with the difficult one is higher."""
    truth, difficult = instances([line(0, 10, ndim)], ndim), instances([line(3, 13, ndim)], ndim)
    detected = detections([line(2.5, 12.5, ndim), line(3, 13, ndim), line(1, 11, ndim)], [0.9, 0.8, 0.7], ndim)
    table = match(detected, truth, ignored=difficult)
    assert table.ignored.tolist() == [True, True, False]
    assert table.true_positives.tolist() == [False, False, True]


def test_a_region_ignores_only_what_overlaps_no_object(ndim):
    truth, region = instances([line(0, 10, ndim)], ndim), instances([line(0, 40, ndim)], ndim)
    detected = detections([line(1, 10, ndim), line(20, 30, ndim)], [0.9, 0.8], ndim)
    table = match(detected, truth, regions=region)
    assert (table.true_positives.tolist(), table.ignored.tolist()) == ([True, False], [False, True])


def test_average_precision_by_hand():
    """Two images, three objects; in descending score: hit, duplicate, hit, miss. Recalls 1/3 and 2/3."""
    ground_truth = {"a": instances([line(0, 10), line(30, 40)]), "b": instances([line(0, 10)])}
    predictions = {
        "a": detections([line(0, 10), line(1, 11)], [0.9, 0.8]),
        "b": detections([line(0, 9), line(50, 60)], [0.7, 0.6]),
    }
    table = match_cases(predictions, ground_truth, classes=["x"], iou_threshold=0.5, rule="voc")
    assert table.true_positives.tolist() == [True, False, True, False]
    found = [average_precision(table.scores, table.true_positives, 3, how) for how in ("11", "area")]
    assert found == pytest.approx([(4 * 1 + 3 * 2 / 3) / 11, 1 / 3 + 2 / 9])


def overlap(a, b):
    inside = [max(0.0, min(a[1][k], b[1][k]) - max(a[0][k], b[0][k])) for k in range(len(a[0]))]
    volumes = [np.prod([upper - lower for lower, upper in zip(*box, strict=True)]) for box in (a, b)]
    return np.prod(inside) / (sum(volumes) - np.prod(inside))


def devkit(detected, objects, threshold):
    """One detection after the other: -1 ignored, 0 false positive, 1 true positive.

    Args:
        detected: (score, image, box).
        objects: per image (box, difficult).
    """
    used, outcome = set(), []
    for _, image, box in sorted(detected, key=lambda one: -one[0]):
        overlaps = [overlap(box, other) for other, _ in objects[image]]
        best = int(np.argmax(overlaps)) if overlaps else -1
        if best < 0 or overlaps[best] < threshold:
            outcome.append(0)
        elif objects[image][best][1]:
            outcome.append(-1)
        else:
            outcome.append(int((image, best) not in used))
            used.add((image, best))
    return outcome


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5])
def test_random_sets_equal_the_procedure_of_the_devkit(threshold, ndim, rng):
    def boxes(n):
        lower = rng.integers(0, 20, (n, ndim)).astype(np.float32)
        return np.stack([lower, lower + rng.integers(6, 20, (n, ndim))], axis=1)

    seen = set()
    for _ in range(40):
        truth = {case: (boxes(rng.integers(0, 6)), boxes(rng.integers(0, 3))) for case in "ab"}
        scores = rng.permutation(40) / 40
        found = {case: boxes(20) for case in "ab"}
        listed = [(scores[i], case, box) for i, (case, box) in enumerate((c, b) for c in "ab" for b in found[c])]
        objects = {c: [(b, False) for b in counted] + [(b, True) for b in hard] for c, (counted, hard) in truth.items()}
        table = find_overlaps(
            {case: detections(found[case], scores[k * 20 : k * 20 + 20], ndim) for k, case in enumerate("ab")},
            {case: instances(counted, ndim) for case, (counted, _) in truth.items()},
            classes=["x"],
            ignored={case: instances(hard, ndim) for case, (_, hard) in truth.items()},
        ).match(threshold, "voc")
        outcome = np.where(table.ignored, -1, table.true_positives).tolist()
        assert outcome == devkit(listed, objects, threshold)
        seen |= set(outcome)
    assert seen == {-1, 0, 1}
