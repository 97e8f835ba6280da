"""Operating points, calibration and guarantees from the matches of validation cases."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from pydantic import NonNegativeInt, PositiveFloat, model_validator

from boxel.config import Config
from boxel.evaluation.grouped_matches import CALIBRATION_BINS
from boxel.evaluation.overlaps import match_cases
from boxel.operating_points import (
    BEST_F1,
    FP_PER_IMAGE,
    Calibration,
    OperatingPoint,
    OperatingPoints,
    at_rate,
    logits_of,
)
from boxel.ranges import ZeroToOne
from boxel.types import Detections, Instances
from boxel.wording import counted

# True and false positives of a class from which its scores are calibrated.
FEWEST = 20
STEP = 1e-6  # by which a threshold keeps clear of the score that it must exclude, or include


class ClassMatches(Config):
    """Of one class, the detections of all images, and the objects.

    Attributes:
        images: of each detection.
        scores: of each detection, as the network gives them.
        hits: whether each detection is a true positive.
        objects: of each image, how many there are.
    """

    images: tuple[NonNegativeInt, ...]
    scores: tuple[ZeroToOne, ...]
    hits: tuple[bool, ...]
    objects: tuple[NonNegativeInt, ...]


class ValidationMatches(Config):
    """What the detections of validation images matched.

    Attributes:
        patients: the number of the patient of each image.
        classes: by name, in the order of the labels.
        iou_threshold: of the matching.
    """

    patients: tuple[NonNegativeInt, ...]
    classes: dict[str, ClassMatches]
    iou_threshold: PositiveFloat

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name, one in self.classes.items():
            if not len(one.images) == len(one.scores) == len(one.hits):
                raise ValueError(f"classes.{name}: images, scores and hits must have a value for each detection")
            if len(one.objects) != len(self.patients) or max(one.images, default=-1) >= len(self.patients):
                raise ValueError(f"classes.{name}: objects and images must be those of {len(self.patients)} images")
        return self

    @classmethod
    def of(
        cls,
        detections: Mapping[str, Detections],
        ground_truth: Mapping[str, Instances],
        classes: Sequence[str],
        iou_threshold: float,
        groups: Mapping[str, str],
    ) -> Self:
        """Match the detections with the objects, as `boxel evaluate` does."""
        table = match_cases(detections, ground_truth, classes=classes, iou_threshold=iou_threshold)
        matches = {}
        for label, name in enumerate(classes):
            rows = table.labels == label
            cases = table.object_cases[table.object_labels == label]
            matches[name] = ClassMatches(
                images=table.detection_cases[rows].tolist(),
                scores=table.scores[rows].tolist(),
                hits=table.true_positives[rows].tolist(),
                objects=np.bincount(cases, minlength=len(table.cases)).tolist(),
            )
        patients = np.unique([groups[case] for case in table.cases], return_inverse=True)[1]
        return cls(patients=patients.tolist(), classes=matches, iou_threshold=iou_threshold)

    def to_json(self) -> str:
        """JSON in one line."""
        return json.dumps(self.to_dict()) + "\n"

    def operating_points(self, *, calibrate: bool = True) -> OperatingPoints:
        """The points of each class; that of the highest F1 is applied.

        Args:
            calibrate: the scores of classes with enough detections are calibrated; the thresholds are in such scores.
        """
        calibration = {name: fit for name, one in self.classes.items() if calibrate and (fit := fit_calibration(one))}
        points = {name: _points(one, calibration.get(name)) for name, one in self.classes.items()}
        return OperatingPoints(
            applied={name: of_class[BEST_F1] for name, of_class in points.items()},
            points=points,
            calibration=calibration,
            iou_threshold=self.iou_threshold,
            num_images=len(self.patients),
        )

    def guaranteed(self, points: OperatingPoints, guarantee: str, confidence: float) -> OperatingPoints:
        """The points with one threshold for all classes, which holds a bound in so many new patients.

        `fp=K`: at most K false positives in every image of a patient; `missed=S`: at most the share S of the objects
        missed in a patient with objects. If patients are exchangeable, a new one keeps the bound with a probability of
        at least `confidence`: conformal risk control (Angelopoulos et al. 2022, arXiv 2208.02814, theorem 1) of the
        loss that is 1 where the bound is exceeded.

        Args:
            points: of these matches.
            guarantee: the bound.
            confidence: between 0 and 1.

        Raises:
            ValueError: it is no such bound; there are too few patients, or no threshold holds it.
        """
        kind, limit = parse_guarantee(guarantee)
        if not 0 < confidence < 1:
            raise ValueError(f"--confidence {confidence:g}: must be above 0 and below 1, such as 0.9")
        scores = {name: _scores(one, points.calibration.get(name)) for name, one in self.classes.items()}
        turning = self._most_false(scores, int(limit)) if kind == "fp" else self._least_found(scores, limit)
        who = "validation patients" + ("" if kind == "fp" else " with objects")
        share = round(1 - confidence, 12)
        allowed = math.floor(round(share * (len(turning) + 1), 9)) - 1  # patients that may exceed the bound
        if allowed < 0:
            raise ValueError(
                f"--guarantee {guarantee} with --confidence {confidence:g} needs at least "
                f"{math.ceil(round(1 / share, 9)) - 1} {who}, and this run has {len(turning)}; lower the confidence, "
                "or train with more validation cases (a smaller number of folds)"
            )
        limiting = np.sort(turning)[::-1][allowed] if kind == "fp" else np.sort(turning)[allowed]
        if kind == "missed" and limiting < 0:
            raise ValueError(
                f"--guarantee {guarantee} with --confidence {confidence:g}: even with all detections, "
                f"{int((turning < 0).sum())} of {len(turning)} {who} exceed it; allow more, or train a better detector"
            )
        least = limiting + STEP if kind == "fp" else limiting - STEP
        least = float(np.clip(least, 0, 1)) if np.isfinite(limiting) else 0.0
        applied = {name: _point_at(one, scores[name], least) for name, one in self.classes.items()}
        false = counted(int(limit), "false positive") + " in each image"
        bound = false if kind == "fp" else f"{100 * limit:g} % of the objects missed"
        return points.apply(applied, f"at most {bound}, in {100 * confidence:g} % of the patients")

    def _most_false(self, scores: Mapping[str, np.ndarray], most: int) -> np.ndarray:
        """Of each patient the highest threshold at which an image has more than `most` false positives; -inf: none."""
        false: list[list[float]] = [[] for _ in self.patients]
        for name, one in self.classes.items():
            for image, score, hit in zip(one.images, scores[name].tolist(), one.hits, strict=True):
                if not hit:
                    false[image].append(score)
        turning = np.full(max(self.patients, default=-1) + 1, -np.inf)
        for patient, of_image in zip(self.patients, false, strict=True):
            if len(of_image) > most:
                turning[patient] = max(turning[patient], sorted(of_image, reverse=True)[most])
        return turning

    def _least_found(self, scores: Mapping[str, np.ndarray], share: float) -> np.ndarray:
        """Of each patient with objects the highest threshold at which at most `share` are missed; -1: none."""
        found: list[list[float]] = [[] for _ in range(max(self.patients, default=-1) + 1)]
        for name, one in self.classes.items():
            missed = np.array(one.objects)
            for image, score, hit in zip(one.images, scores[name].tolist(), one.hits, strict=True):
                if hit:
                    missed[image] -= 1
                    found[self.patients[image]].append(score)
            for patient, number in zip(self.patients, missed.tolist(), strict=True):
                found[patient] += [-1.0] * number
        return np.array([sorted(own)[math.floor(share * len(own) + 1e-9)] for own in found if own])


def parse_guarantee(text: str) -> tuple[str, float]:
    """The kind of a bound, `fp` or `missed`, and its limit; raises ValueError if it is none."""
    kind, _, value = text.partition("=")
    try:
        limit = float(value)
    except ValueError:
        limit = math.nan
    whole = kind == "fp" and limit >= 0 and limit.is_integer()
    if not whole and not (kind == "missed" and 0 <= limit < 1):
        raise ValueError(
            f"--guarantee {text}: must be fp=K, at most K false positives in an image, or missed=S, at most the share "
            "S of the objects of a patient, such as fp=1 or missed=0.1"
        )
    return kind, limit


def fit_calibration(matches: ClassMatches) -> Calibration | None:
    """The calibration of a class; None if it has fewer than `FEWEST` true or false positives.

    Of the curves that rise, the most probable one (Platt 1999, with his targets slightly inside 0 and 1).
    """
    from scipy.optimize import minimize

    scores, hits = np.array(matches.scores), np.array(matches.hits, bool)
    right, wrong = int(hits.sum()), int((~hits).sum())
    if min(right, wrong) < FEWEST:
        return None
    targets = np.where(hits, (right + 1) / (right + 2), 1 / (wrong + 2))

    logits = logits_of(scores)

    def loss(parameters: np.ndarray) -> float:
        values = math.exp(parameters[0]) * logits + parameters[1]
        return float((np.logaddexp(0, values) - targets * values).mean())

    log_slope, offset = minimize(loss, np.zeros(2), method="Nelder-Mead").x.tolist()
    fit = Calibration(slope=round(math.exp(np.clip(log_slope, -4, 4)), 6), offset=round(offset, 6))
    errors = {"ece_before": _calibration_error(scores, hits), "ece_after": _calibration_error(fit.of(scores), hits)}
    return fit.model_copy(update=errors)


def _calibration_error(scores: np.ndarray, hits: np.ndarray) -> float:
    """Expected calibration error in ten equal ranges of the score."""
    bins = np.minimum((scores * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return round(float(np.abs(np.bincount(bins, scores - hits)).sum() / len(scores)), 6)


def _scores(matches: ClassMatches, calibration: Calibration | None) -> np.ndarray:
    scores = np.array(matches.scores, np.float32)
    return (calibration.of(scores) if calibration else scores).astype(np.float64)


def _points(matches: ClassMatches, calibration: Calibration | None) -> dict[str, OperatingPoint]:
    """The points of a class by their names; a threshold is half-way between the scores that it parts."""
    scores, hits = _scores(matches, calibration), np.array(matches.hits, bool)
    levels = np.unique(scores)[::-1]
    middles = (np.append(1.0, levels) + np.append(levels, 0.0)) / 2  # above all scores, ..., below all
    order = np.argsort(-scores, kind="stable")
    kept = np.searchsorted(-scores[order], -middles, side="right")
    found = np.append(0, np.cumsum(hits[order]))[kept]
    total, num_images = sum(matches.objects), len(matches.objects)
    rates = (kept - found) / num_images
    best = int(np.argmax(2 * found / np.maximum(kept + total, 1)))

    def point(place: int) -> OperatingPoint:
        sensitivity = round(float(found[place] / total), 6) if total else None
        return OperatingPoint(score=round(float(middles[place]), 8), sensitivity=sensitivity,
                              fp_per_image=round(float(rates[place]), 6))  # fmt: skip

    everything = point(-1).model_copy(update={"score": 0.0})
    named = {BEST_F1: point(best) if found[best] else everything}
    return named | {at_rate(rate): point(int(np.searchsorted(rates, rate, side="right")) - 1) for rate in FP_PER_IMAGE}


def _point_at(matches: ClassMatches, scores: np.ndarray, least: float) -> OperatingPoint:
    """What is expected of a class from a threshold upwards."""
    hits, above, total = np.array(matches.hits, bool), scores >= least, sum(matches.objects)
    return OperatingPoint(
        score=least,
        sensitivity=float((above & hits).sum() / total) if total else None,
        fp_per_image=float((above & ~hits).sum() / len(matches.objects)),
    )
