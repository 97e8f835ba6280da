"""Score thresholds from validation cases: operating points, calibration, and what a guarantee keeps."""

import numpy as np
import pytest

from boxel.evaluation.operating_points import ClassMatches, ValidationMatches, fit_calibration
from boxel.operating_points import Calibration, OperatingPoint, OperatingPoints, Shown, logits_of
from boxel.types import Detections, Instances
from tests.settings import evaluate


def matches_of(*images, objects=None):
    """One class; an image is a list of scores, negative ones those of false positives."""
    scores = [score for image in images for score in image]
    return ClassMatches(
        images=[number for number, image in enumerate(images) for _ in image],
        scores=np.abs(scores).tolist(),
        hits=[score > 0 for score in scores],
        objects=objects or [sum(score > 0 for score in image) for image in images],
    )


def validation(one, patients=None):
    return ValidationMatches(
        patients=patients or tuple(range(len(one.objects))), classes={"lesion": one}, iou_threshold=0.1
    )


def test_points_are_between_the_scores_that_they_part():
    one = matches_of([0.9, -0.8, 0.6], [0.7, -0.4, -0.2], objects=[3, 1])  # one object is not found at all
    points = validation(one).operating_points(calibrate=False).points["lesion"]
    found = {name: (round(point.score, 6), point.sensitivity, point.fp_per_image) for name, point in points.items()}
    best = (0.5, 0.75, 0.5)  # 0.9, 0.8, 0.7 and 0.6 are above
    assert found.pop("f1") == best
    assert found == {
        "fp=0.125": (0.85, 0.25, 0), "fp=0.25": (0.85, 0.25, 0), "fp=0.5": best, "fp=1": (0.3, 0.75, 1),
        "fp=2": (0.1, 0.75, 1.5), "fp=4": (0.1, 0.75, 1.5), "fp=8": (0.1, 0.75, 1.5),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("one", "best"),
    [
        (matches_of([-0.8], [], objects=[0, 0]), OperatingPoint(score=0, sensitivity=None, fp_per_image=0.5)),
        (matches_of([-0.8], [], objects=[2, 0]), OperatingPoint(score=0, sensitivity=0, fp_per_image=0.5)),
        (matches_of([], objects=[1]), OperatingPoint(score=0, sensitivity=0, fp_per_image=0)),
    ],
)
def test_all_detections_of_a_class_are_above_where_none_was_right(one, best):
    assert validation(one).operating_points().points["lesion"]["f1"] == best


def random_cases(ndim, rng, number=60):
    """Six objects, and as many detections with scores that are too low by two in logits."""
    truth, detections = {}, {}
    for case in map(str, range(number)):
        lower = rng.uniform(0, 900, (6, ndim)).astype(np.float32)
        boxes, labels = np.stack([lower, lower + 10], axis=1), np.array([0, 0, 0, 1, 1, 1])
        truth[case] = Instances(boxes, labels, np.arange(1, 7), np.zeros(6, bool))
        probability = rng.uniform(0.02, 0.98, 6)
        is_right = (rng.random(6) < probability)[:, None, None]
        scores = 1 / (1 + np.exp(2) * (1 / probability - 1))
        detections[case] = Detections(np.where(is_right, boxes, boxes + 2000), scores.astype(np.float32), labels)
    return detections, truth


def test_calibration_lowers_the_error_and_leaves_the_order_and_ap_of_each_class(ndim, rng):
    detections, truth = random_cases(ndim, rng)
    classes = ("benign", "malignant")
    groups = {case: case for case in truth}
    measured = ValidationMatches.of(detections, truth, classes, 0.1, groups)
    points = measured.operating_points()
    assert points.calibration.keys() == set(classes)
    calibrated = {case: points.calibrated(one) for case, one in detections.items()}
    before, after = (evaluate(d, truth, classes=classes, num_resamples=0).metrics for d in (detections, calibrated))
    for name in classes:
        assert after[f"AP@0.10/{name}"] == before[f"AP@0.10/{name}"]
        assert after[f"ECE@0.10/{name}"] < 0.5 * before[f"ECE@0.10/{name}"]
        fit = points.calibration[name]
        assert fit.ece_before == pytest.approx(before[f"ECE@0.10/{name}"], abs=1e-5)
        assert fit.ece_after == pytest.approx(after[f"ECE@0.10/{name}"], abs=1e-5)
    # The thresholds are in calibrated scores, and what is expected above them is found there.
    kept = {case: points.above(one) for case, one in calibrated.items()}
    again = ValidationMatches.of(kept, truth, classes, 0.1, groups).classes["benign"]
    best = points.applied["benign"]
    assert sum(again.hits) / sum(again.objects) == pytest.approx(best.sensitivity, abs=1e-6)
    assert (len(again.hits) - sum(again.hits)) / 60 == pytest.approx(best.fp_per_image, abs=1e-6)
    plain = measured.operating_points(calibrate=False)
    assert plain.calibrated(detections["0"]) is detections["0"]
    assert plain.applied["benign"].sensitivity == best.sensitivity


def test_the_curve_is_that_of_a_logistic_regression_also_where_scores_part_right_from_wrong():
    """Without Platt's targets the curve would be a step: every score nearly 0 or 1."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    right, wrong = np.linspace(0.85, 0.95, 25), np.linspace(0.02, 0.2, 500)
    fit = fit_calibration(matches_of([*right, *-wrong]))
    logits = logits_of(np.concatenate([right, wrong]))[:, None]
    targets = np.repeat([26 / 27, 1 / 502], [25, 500])
    regression = linear_model.LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        np.tile(logits, (2, 1)), np.repeat([1, 0], 525), np.concatenate([targets, 1 - targets])
    )
    assert fit.slope == pytest.approx(regression.coef_[0, 0], rel=1e-3)
    assert fit.offset == pytest.approx(regression.intercept_[0], rel=1e-2, abs=1e-3)


@pytest.mark.parametrize(("slope", "offset"), [(8, 3), (0.2, -4), (1, 0)])
def test_scores_that_differ_differ_after_calibration(slope, offset):
    scores = np.linspace(0, 1, 100_001, dtype=np.float32)
    assert (np.diff(np.round(Calibration(slope=slope, offset=offset).of(scores).astype(float), 8)) > 0).all()


def test_few_detections_are_not_calibrated():
    assert validation(matches_of([0.9, -0.2] * 19)).operating_points().calibration == {}


def patients(rng, number):
    """Images with some false positives and objects, of patients that differ."""
    images, objects = [], []
    for level in rng.beta(2, 4, number):
        false = -rng.beta(2, 5, rng.poisson(4)) * (0.4 + level)
        found = rng.beta(5, 3, rng.integers(1, 6)) * (1 - level / 2)
        images.append([*np.clip(false, -0.99, -0.01), *found[found > 0.25]])
        objects.append(len(found))
    return matches_of(*images, objects=objects)


@pytest.mark.parametrize(
    ("guarantee", "is_kept"),
    [("fp=1", lambda false, found, total: false <= 1), ("missed=0.4", lambda f, found, total: found >= 0.6 * total)],
)
def test_a_guarantee_holds_for_new_patients_with_its_confidence(guarantee, is_kept):
    """Over 400 draws of 40 validation patients the share of new patients within the bound: 0.8, and hardly more."""
    rng, kept = np.random.default_rng(1), []
    for _ in range(400):
        measured = validation(patients(rng, 40))
        points = measured.guaranteed(measured.operating_points(calibrate=False), guarantee, 0.8)
        least, new = points.applied["lesion"].score, patients(rng, 25)
        above = np.array(new.scores) >= least
        for image, total in enumerate(new.objects):
            own, hits = above & (np.array(new.images) == image), np.array(new.hits)
            kept.append(is_kept((own & ~hits).sum(), (own & hits).sum(), total))
    assert 0.8 <= np.mean(kept) < 0.8 + 1 / 41 + 0.015


def test_the_images_of_a_patient_count_as_one():
    one = matches_of(*[[-0.5, -0.4]] * 4, *[[]] * 4)
    measured = validation(one, patients=(0, 0, 0, 0, 1, 2, 3, 4))
    points = measured.operating_points()
    assert measured.guaranteed(points, "fp=1", 0.6).applied["lesion"].score == 0  # one of five may exceed it
    assert measured.guaranteed(points, "fp=1", 0.8).applied["lesion"].score == pytest.approx(0.4, abs=1e-5)
    assert "at most 1 false positive" in str(measured.guaranteed(points, "fp=1", 0.8))


@pytest.mark.parametrize(
    ("guarantee", "confidence", "says"),
    [
        ("fp=1", 0.9, "needs at least 9 validation patients, and this run has 3"),
        ("missed=0.1", 0.75, "even with all detections, 1 of 3 validation patients with objects exceed it"),
        ("fp=0.5", 0.5, "must be fp=K"),
        ("fp", 0.5, "must be fp=K"),
        ("missed=1", 0.5, "must be fp=K"),
        ("fp=1", 1.0, "must be above 0 and below 1"),
    ],
)
def test_a_guarantee_that_cannot_be_given_says_what_it_needs(guarantee, confidence, says):
    measured = validation(matches_of([0.9, -0.2], [0.8], [0.7], objects=[1, 2, 1]))
    with pytest.raises(ValueError, match=says):
        measured.guaranteed(measured.operating_points(), guarantee, confidence)


@pytest.mark.parametrize(
    ("shown", "says"),
    [
        ({"min_score": 0.5, "keep_all": True}, "--min-score and --all both choose"),
        ({"min_score": 1.5}, "--min-score 1.5: must be in 0 to 1"),
        ({"fp_per_image": 3}, "--fp-per-image 3: must be one of 0.125, 0.25"),
        ({"confidence": 0.9}, "--confidence has no effect without --guarantee"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(shown, says):
    with pytest.raises(ValueError, match=says):
        Shown(**shown)


def test_another_point_is_chosen_by_its_name(ndim):
    boxes = np.zeros((3, 2, ndim), np.float32)
    detections = Detections(boxes, np.array([0.9, 0.5, 0.2], np.float32), np.array([0, 1, 0]))
    of_class = {"f1": OperatingPoint(score=0.6), "fp=1": OperatingPoint(score=0.1)}
    points = OperatingPoints(
        applied=dict.fromkeys("ab", of_class["f1"]), points=dict.fromkeys("ab", of_class), num_images=3
    )
    assert points.above(detections).scores.tolist() == pytest.approx([0.9])
    assert len(points.above(detections, fp_per_image=1)) == len(points.above(detections, keep_all=True)) == 3
    assert len(points.above(detections, min_score=0.5)) == 2
    with pytest.raises(ValueError, match="no thresholds were measured"):
        OperatingPoints.unknown("ab").above(detections, fp_per_image=1)


def test_which_detections_are_shown_is_said_in_words():
    a, b = OperatingPoint(score=0.6, sensitivity=0.9, fp_per_image=1), OperatingPoint(score=0.5, fp_per_image=2)
    points = OperatingPoints(applied={"a": a, "b": b}, num_images=3)
    assert str(points) == (
        "detections of a from score 0.600 (sensitivity 0.90, 1 false positive per image), of b from score 0.500 "
        "(no object to detect, 2 false positives per image), the thresholds of the highest F1, measured on 3 "
        "validation images"
    )
    assert str(points.choose(Shown(min_score=0.3))) == "detections from score 0.300, as given"
