"""The class from the size of the box alone, and strata of objects of like size."""

import csv

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from boxel.evaluation import evaluate
from boxel.experiments.baselines import box_diameters, classify_by_size, fit_size_classifier, split_by_diameter
from boxel.types import Detections, Instances


def objects(ndim, *sides, label=0):
    """Boxes whose sides are all 1 voxel, but for the last axis."""
    boxes = np.zeros((len(sides), 2, ndim), np.float32)
    boxes[:, 1] = 1
    boxes[:, 1, -1] = sides
    n = len(sides)
    return Instances(boxes, np.full(n, label), np.arange(1, n + 1), np.zeros(n, bool))


def test_the_diameter_is_the_longest_side_in_mm(ndim):
    spacing = (5.0, 2.0, 0.5)[-ndim:]
    assert box_diameters(objects(ndim, 4, 20).boxes, spacing).tolist() == [spacing[0], 10.0]
    assert box_diameters(Instances.empty(ndim).boxes, spacing).shape == (0,)


def test_the_classifier_is_the_logistic_regression_of_the_logarithm(rng):
    diameters = rng.uniform(3, 30, 300)
    labels = (rng.random(300) < 1 / (1 + np.exp(-2 * (np.log(diameters) - 2)))).astype(int)
    reference = LogisticRegression(C=1e6, tol=1e-8).fit(np.log(diameters)[:, None], labels)
    at = np.array([3.0, 8.0, 25.0])
    expected = reference.predict_proba(np.log(at)[:, None])[:, 1]
    np.testing.assert_allclose(fit_size_classifier(diameters, labels)(at), expected, atol=1e-3)


def test_classes_that_do_not_overlap_are_told_apart_without_overflow():
    chances = fit_size_classifier(np.array([3.0, 4, 20, 30]), np.array([0, 0, 1, 1]))(np.array([1e-6, 3.0, 30, 1e6]))
    assert np.isfinite(chances).all()
    assert (chances[:2] < 0.01).all()
    assert (chances[2:] > 0.99).all()


@pytest.mark.parametrize(
    ("diameters", "labels", "message"),
    [
        ([3.0, 4], [1, 1], r"labels are \[1\]"),
        ([3.0, 4, 5], [0, 1, 2], r"labels are \[0, 1, 2\]"),
        ([0.0, 4], [0, 1], r"a diameter is 0 mm"),
    ],
)
def test_training_objects_need_two_classes_and_a_size(diameters, labels, message):
    with pytest.raises(ValueError, match=message):
        fit_size_classifier(np.array(diameters), np.array(labels))


def test_each_box_gets_both_classes_whatever_its_label(ndim):
    classifier = fit_size_classifier(np.array([2.0, 4, 16, 32, 4, 16]), np.array([0, 0, 1, 1, 1, 0]))
    spacing = (1.0,) * ndim
    exact = classify_by_size(objects(ndim, 2, 32, label=1), spacing, classifier)
    assert exact.labels.tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(exact.scores[:2] + exact.scores[2:], 1, rtol=1e-6)
    assert exact.scores[0] > exact.scores[2]
    assert exact.scores[1] < exact.scores[3]
    half = Detections(exact.boxes[:2], np.array([0.5, 0.5], np.float32), np.array([0, 0]))
    np.testing.assert_allclose(classify_by_size(half, spacing, classifier).scores, exact.scores / 2, rtol=1e-6)
    assert len(classify_by_size(Detections.empty(ndim), spacing, classifier)) == 0


def test_objects_outside_the_stratum_neither_count_nor_make_false_positives(ndim):
    ground_truth, spacing = {"a": objects(ndim, 3, 4, 8, 16, 17)}, {"a": (0.5,) * ndim}
    ground_truth["a"].boxes[:, :, 0] += 3 * np.arange(5)[:, None]  # apart
    kept, ignored = split_by_diameter(ground_truth, spacing, 2, 8)
    assert (kept["a"].ids.tolist(), ignored["a"].ids.tolist()) == ([2, 3, 4], [1, 5])
    detections = {"a": Detections(ground_truth["a"].boxes, np.full(5, 0.9, np.float32), np.zeros(5, np.int64))}
    result = evaluate(detections, kept, classes=["nodule"], ignored=ignored)
    assert result.metrics["AP@0.10"] == 1
    assert result.table.true_positives.sum() == 3
    with pytest.raises(ValueError, match=r"8 to 2 mm; give the lower bound first"):
        split_by_diameter(ground_truth, spacing, 8, 2)
    with pytest.raises(ValueError, match=r"no spacing for case 'a'"):
        split_by_diameter(ground_truth, {}, 2, 8)


@pytest.mark.data
@pytest.mark.parametrize(
    ("column", "bound", "stratum", "count", "expected"),
    [
        ("Diagnosis_value", 1, (0, 100), 796, 0.91),
        ("Malignancy_value", 3, (0, 100), 796, 0.69),
        ("Malignancy_value", 3, (6, 12), 333, 0.55),
    ],
)
def test_how_much_the_diameter_says_about_real_nodules(data, column, bound, stratum, count, expected):
    with (data / "lidc_nodules" / "meta.csv").open() as file:
        rows = list(csv.DictReader(file))
    diameters = np.array([float(row["diameter_mm"]) for row in rows])  # LUNA16's, of the table
    labels = np.array([int(float(row[column]) >= bound) for row in rows])
    inside = (diameters >= stratum[0]) & (diameters <= stratum[1])
    assert inside.sum() == count
    chances = fit_size_classifier(diameters, labels)(diameters)
    assert roc_auc_score(labels[inside], chances[inside]) == pytest.approx(expected, abs=0.02)
