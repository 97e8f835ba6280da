import csv
import json

import numpy as np
import pytest

from boxel.evaluation import average_precision, write_evaluation
from boxel.evaluation.patient import auroc
from boxel.types import Detections, Instances
from tests.settings import evaluate
from tests.unit.evaluation.sensitivity import sensitivity_at

CLASSES = ("nodule", "cyst", "unicorn")


def cube(corner, ndim, size=10.0):
    return [[corner] * ndim, [corner + size] * ndim]


def truth(ndim, *objects):
    """Objects given as (class, corner)."""
    boxes = np.array([cube(corner, ndim) for _, corner in objects], np.float32).reshape(-1, 2, ndim)
    labels = np.array([CLASSES.index(name) for name, _ in objects], np.int64)
    return Instances(boxes, labels, np.arange(1, len(objects) + 1), np.zeros(len(objects), bool))


def detections(ndim, *objects):
    """Detections given as (class, corner, score)."""
    boxes = np.array([cube(corner, ndim) for _, corner, _ in objects], np.float32).reshape(-1, 2, ndim)
    labels = np.array([CLASSES.index(name) for name, *_ in objects], np.int64)
    return Detections(boxes, np.array([score for *_, score in objects], np.float32), labels)


@pytest.fixture
def example(ndim):
    ground_truth = {
        "a": truth(ndim, ("nodule", 0), ("nodule", 40)),
        "b": truth(ndim, ("cyst", 0)),
        "c": truth(ndim),
        "d": truth(ndim, ("nodule", 80)),
    }
    predictions = {
        "a": detections(ndim, ("nodule", 0, 0.9), ("nodule", 70, 0.6)),
        "b": detections(ndim, ("cyst", 1, 0.8), ("nodule", 0, 0.3)),
        "c": detections(ndim),
        "d": detections(ndim, ("nodule", 80, 0.7)),
    }
    return predictions, ground_truth


def test_every_figure_of_a_small_example(example):
    metrics = evaluate(*example, classes=CLASSES, num_resamples=50).metrics
    assert metrics["num_images"] == 4
    assert metrics["num_objects"] == 4
    assert metrics["num_objects/nodule"] == 3
    assert metrics["num_detections"] == 5
    # Nodules: true positives 0.9 and 0.7, false 0.6 and 0.3, one false negative: 67 of 101 recalls reach precision 1.
    assert metrics["AP@0.10/nodule"] == pytest.approx(67 / 101)
    assert metrics["AP@0.10/cyst"] == pytest.approx(1)
    assert metrics["AP@0.10"] == pytest.approx((67 / 101 + 1) / 2)
    assert metrics["precision@0.10/nodule"] == 1
    assert metrics["recall@0.10/nodule"] == pytest.approx(2 / 3)
    assert metrics["F1@0.10/nodule"] == pytest.approx(0.8)
    assert metrics["score_threshold@0.10/nodule"] == pytest.approx(0.7)
    assert metrics["sensitivity@0.10/fp=0.125/nodule"] == pytest.approx(2 / 3)
    assert metrics["mean_iou@0.10/nodule"] == 1
    # Patients: a and d have nodules and score highest; b (0.3) and c (0) have none.
    assert metrics["patient_AP/nodule"] == metrics["patient_AUROC/nodule"] == 1
    low, high = metrics["AP@0.10/ci95"]
    assert 0 <= low <= metrics["AP@0.10"] <= high <= 1


def test_a_class_without_objects_is_said_to_be_absent_and_does_not_count(example):
    predictions, ground_truth = example
    metrics = evaluate(predictions, ground_truth, classes=CLASSES, num_resamples=50).metrics
    assert metrics["absent_classes"] == ["unicorn"]
    for key in ("AP@0.10", "mAP@0.10:0.50", "FROC@0.10", "sensitivity@0.50/fp=1", "F1@0.10", "patient_AP"):
        assert metrics[f"{key}/unicorn"] is None
    without = evaluate(predictions, ground_truth, classes=CLASSES[:2], num_resamples=50).metrics
    assert metrics["AP@0.10"] == without["AP@0.10"]
    assert metrics["AP@0.10/ci95"] == without["AP@0.10/ci95"]


def test_false_detections_of_an_absent_class_are_listed_but_have_no_average_precision(example):
    predictions, ground_truth = example
    ndim = predictions["c"].boxes.shape[-1]
    predictions["c"] = detections(ndim, ("unicorn", 0, 0.99))
    metrics = evaluate(predictions, ground_truth, classes=CLASSES, num_resamples=0).metrics
    assert metrics["num_detections/unicorn"] == 1
    assert metrics["AP@0.10/unicorn"] is None


def test_a_data_set_without_any_object_has_no_metrics_and_no_errors(ndim):
    metrics = evaluate({"a": detections(ndim)}, {"a": truth(ndim)}, classes=CLASSES).metrics
    assert metrics["AP@0.10"] is None
    assert metrics["AP@0.10/ci95"] is None
    assert metrics["absent_classes"] == list(CLASSES)
    json.dumps(metrics, allow_nan=False)


def test_mean_average_precision_is_the_mean_over_the_thresholds(example):
    metrics = evaluate(*example, classes=CLASSES, iou_thresholds=(0.3, 0.5, 0.9), num_resamples=0).metrics
    values = [metrics[f"AP@{iou:.2f}/cyst"] for iou in (0.3, 0.5, 0.9)]
    assert values[0] == 1
    assert values[-1] == 0  # shifted by a voxel
    assert metrics["mAP@0.30:0.90/cyst"] == pytest.approx(np.mean(values))


def sensitivities(positives, negatives, num_instances, num_images, **options):
    counts = np.array([positives], float), np.array([negatives], float)
    return sensitivity_at(*counts, np.array([num_instances]), np.array([num_images]), **options)[0].tolist()


def test_negative_images_count_in_the_false_positive_rate():
    positives, negatives = [1, 1, 2], [0, 1, 1]
    assert sensitivities(positives, negatives, 4, 2, rates=(0.25, 0.5)) == [0.25, 0.5]
    assert sensitivities(positives, negatives, 4, 8, rates=(0.125,)) == [0.5]


def test_sensitivity_is_zero_where_the_best_detection_is_false():
    assert sensitivities([0, 1], [3, 3], 1, 1, rates=(1, 2, 3)) == [0, 0, 1]


def test_sensitivity_may_be_read_between_the_operating_points():
    assert sensitivities([0, 1], [0, 4], 1, 1, rates=(1, 2, 8), interpolate=True) == [0.25, 0.5, 1]


def test_patients_with_several_images_are_judged_by_their_highest_score(ndim):
    ground_truth = {"a1": truth(ndim, ("nodule", 0)), "a2": truth(ndim), "b1": truth(ndim), "b2": truth(ndim)}
    predictions = {
        "a1": detections(ndim), "a2": detections(ndim, ("nodule", 50, 0.9)),
        "b1": detections(ndim, ("nodule", 50, 0.6)), "b2": detections(ndim, ("nodule", 50, 0.1)),
    }  # fmt: skip
    groups = {case: case[0] for case in ground_truth}
    metrics = evaluate(predictions, ground_truth, classes=["nodule"], groups=groups, num_resamples=0).metrics
    assert metrics["num_groups"] == 2
    assert metrics["patient_AUROC"] == 1
    single = evaluate(predictions, ground_truth, classes=["nodule"], num_resamples=0).metrics
    assert single["patient_AUROC"] == 0  # image by image, the only positive one has no detection


def test_ties_count_half_in_the_auroc():
    assert auroc(np.array([[1.0]]), np.array([[2.0]])).tolist() == [0.5]
    assert np.isnan(auroc(np.array([[1.0, 2.0]]), np.array([[0.0, 0.0]]))).all()


def test_average_precision_does_not_depend_on_the_order_of_equal_scores():
    true_positives = np.array([True, False, True, False])
    values = {average_precision(np.full(4, 0.5), true_positives[order], 2) for order in ([0, 1, 2, 3], [1, 3, 0, 2])}
    assert values == {0.5}


def test_the_interval_is_reproducible_and_narrows_with_more_patients():
    generator = np.random.default_rng(0)

    def width(count, seed):
        ground_truth = {f"{i}": truth(2, ("nodule", 0)) for i in range(count)}
        predictions = {
            case: detections(2, ("nodule", 0 if generator.random() < 0.6 else 50, float(generator.random())))
            for case in ground_truth
        }
        low, high = evaluate(predictions, ground_truth, classes=["nodule"], seed=seed).metrics["AP@0.10/ci95"]
        again = evaluate(predictions, ground_truth, classes=["nodule"], seed=seed).metrics["AP@0.10/ci95"]
        assert again == [low, high]
        return high - low

    assert width(40, 0) > 1.5 * width(400, 0)


def test_images_of_one_patient_are_drawn_together():
    ground_truth = {f"{p}{i}": truth(2, ("nodule", 0)) for p in "ab" for i in range(20)}
    predictions = {case: detections(2, ("nodule", 0 if case[0] == "a" else 50, 0.5)) for case in ground_truth}
    groups = {case: case[0] for case in ground_truth}
    grouped = evaluate(predictions, ground_truth, classes=["nodule"], groups=groups).metrics["AP@0.10/ci95"]
    alone = evaluate(predictions, ground_truth, classes=["nodule"]).metrics["AP@0.10/ci95"]
    assert grouped == [0, 1]  # both patients twice the good or twice the bad one happen
    assert alone[1] - alone[0] < 0.6


def test_the_files_hold_the_metrics_every_case_and_every_object(example, tmp_path):
    evaluation = evaluate(*example, classes=CLASSES, num_resamples=10)
    write_evaluation(tmp_path / "out", evaluation)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics == evaluation.metrics
    assert metrics["settings"]["interpolation"] == "101"
    with (tmp_path / "out" / "per_case.csv").open() as file:
        cases = {(row["case"], row["class"]): row for row in csv.DictReader(file)}
    assert len(cases) == 4 * 3
    nodules = cases["a", "nodule"]
    counts = (nodules["true_positives"], nodules["false_positives"], nodules["false_negatives"])
    assert counts == ("1", "0", "1")  # 0.6 lies below the score threshold 0.7
    with (tmp_path / "out" / "per_object.csv").open() as file:
        rows = [(r["case"], r["outcome"], r["object_id"], r["detection"]) for r in csv.DictReader(file)]
    assert rows == [("a", "tp", "1", "0"), ("a", "fp", "", "1"), ("a", "fn", "2", ""), ("b", "tp", "1", "0"),
                    ("b", "fp", "", "1"), ("d", "tp", "1", "0")]  # fmt: skip


def test_the_outcome_of_a_case_follows_its_own_order(example):
    evaluation = evaluate(*example, classes=CLASSES, num_resamples=0)
    true_positives, objects = evaluation.outcome("a")
    assert true_positives.tolist() == [True, False]
    assert objects.tolist() == [True, False]
    assert [len(values) for values in evaluation.outcome("c")] == [0, 0]


def test_curves_end_at_the_full_recall_and_name_their_scores(example):
    curves = evaluate(*example, classes=CLASSES, num_resamples=0).curves
    assert {(c.kind, c.iou_threshold, c.name) for c in curves} == {
        (kind, iou, name) for kind in ("precision_recall", "froc") for iou in (0.1, 0.5) for name in CLASSES[:2]
    }
    froc = next(c for c in curves if c.kind == "froc" and c.name == "nodule")
    assert froc.y[-1] == pytest.approx(2 / 3)
    assert froc.x[-1] == 2 / 4
    assert froc.scores.tolist() == pytest.approx([0.9, 0.7, 0.6, 0.3])


@pytest.mark.parametrize("arguments", [{"iou_thresholds": []}, {"iou_thresholds": [0.1, 0.1]},
                                       {"classes": ["x", "x"]}, {"interpolation": "7"}])  # fmt: skip
def test_contradictory_settings_are_refused(arguments):
    settings = {"classes": ["x", "y"]} | arguments
    with pytest.raises(ValueError, match=r"iou_thresholds|unique|interpolation"):
        evaluate({"a": detections(2)}, {"a": truth(2, ("nodule", 0))}, **settings)


def test_patient_metrics_need_patients_with_and_without_objects(ndim):
    """Without the latter the average precision would always be 1."""
    ground_truth = {"a": truth(ndim, ("nodule", 0)), "b": truth(ndim, ("nodule", 40))}
    nothing = {"a": detections(ndim), "b": detections(ndim)}
    metrics = evaluate(nothing, ground_truth, classes=CLASSES, num_resamples=20).metrics
    assert metrics["patient_AP"] is metrics["patient_AUROC"] is None
    ground_truth["c"], nothing["c"] = truth(ndim), detections(ndim)
    metrics = evaluate(nothing, ground_truth, classes=CLASSES, num_resamples=20).metrics
    assert (metrics["patient_AP"], metrics["patient_AUROC"]) == pytest.approx((2 / 3, 0.5))


@pytest.mark.parametrize("chosen", [(0.1, 0.3, 0.5), (0.2, 0.35, 0.4, 0.75)])
def test_every_chosen_threshold_has_all_metrics_in_the_record_and_in_the_summary(chosen, ndim):
    box = np.array([[[0.0] * ndim, [10.0] * ndim]])
    cut = box.copy()
    cut[0, 1, 0] = 6.0  # IoU 0.6
    objects = {"a": Instances(box, np.zeros(1, int), np.ones(1, int), np.zeros(1, bool))}
    detections = {"a": Detections(cut, np.array([0.9]), np.zeros(1, int))}
    result = evaluate(detections, objects, classes=("x",), iou_thresholds=chosen, num_resamples=0)
    for threshold in chosen:
        for name in ("AP", "FROC", "precision", "recall", "F1"):
            key = f"{name}@{threshold:.2f}"
            assert result.metrics[key] == float(threshold <= 0.6)
            assert [line.split()[:2] for line in str(result).splitlines() if line.startswith(key)] == [
                [key, f"{result.metrics[key]:.3f}"]
            ]
