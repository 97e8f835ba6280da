"""Operating points: which detections are shown, by score thresholds that were measured on validation cases.

Prediction files, from which metrics are computed, have every detection. Files that people look at have those that reach
the threshold of their class.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator

from boxel.config import Config
from boxel.ranges import ZeroToOne
from boxel.types import Detections
from boxel.wording import counted

OTHERWISE = (
    "the score thresholds and the calibration were measured with other settings; what is expected above may differ"
)
BEST_F1, GIVEN, ALL = "f1", "min_score", "all"  # rules
FP_PER_IMAGE = (0.125, 0.25, 0.5, 1, 2, 4, 8)
# The share of the original score in a calibrated one: scores that the curve takes to nearly 1 stay in order.
KEPT = 0.02
EXTREME = 1e-7


def _false_positives(number: float) -> str:
    return f"{number:.3g} false positive{'' if number == 1 else 's'}"


def at_rate(fp_per_image: float) -> str:
    """The name of the point with so many false positives per image."""
    return f"fp={fp_per_image:g}"


def logits_of(scores: np.ndarray) -> np.ndarray:
    """The logits of `scores (n,)`, also of 0 and 1."""
    clipped = np.clip(np.asarray(scores, np.float64), EXTREME, 1 - EXTREME)
    return np.asarray(np.log(clipped / (1 - clipped)))


class OperatingPoint(Config):
    """A score threshold of a class, and what is expected above it.

    Attributes:
        score: detections with this score or a higher one are above.
        sensitivity: the share of the objects that was detected; None if not known.
        fp_per_image: false positives of the class per image; None if not known.
    """

    score: ZeroToOne
    sensitivity: ZeroToOne | None = None
    fp_per_image: NonNegativeFloat | None = None

    def __str__(self) -> str:
        if self.sensitivity is None and self.fp_per_image is None:
            return f"score {self.score:.3f}"
        found = "no object to detect" if self.sensitivity is None else f"sensitivity {self.sensitivity:.2f}"
        return f"score {self.score:.3f} ({found}, {_false_positives(self.fp_per_image or 0)} per image)"


class Calibration(Config):
    """How a score becomes the probability that a detection is right: `sigmoid(slope * logit(score) + offset)`.

    Attributes:
        slope, offset: of the curve (Platt 1999; a temperature of 1 / slope).
        ece_before, ece_after: expected calibration error on the validation cases, which is optimistic after.
    """

    slope: PositiveFloat
    offset: float
    ece_before: ZeroToOne = 0.0
    ece_after: ZeroToOne = 0.0

    def of(self, scores: np.ndarray) -> np.ndarray:
        """The calibrated `scores (n,)` float32, in the same order: a fiftieth of the score itself remains in them."""
        logits = self.slope * logits_of(scores) + self.offset
        probability = np.exp(-np.logaddexp(0, -logits))
        return ((1 - KEPT) * probability + KEPT * np.asarray(scores, np.float64)).astype(np.float32)


@dataclass(frozen=True)
class Shown:
    """Which detections are shown: by default those above the threshold with the highest F1.

    Attributes:
        min_score: those with this score.
        fp_per_image: those above the threshold with so many false positives per image; one of `FP_PER_IMAGE`.
        keep_all: all of them.
        guarantee: such as `fp=1` or `missed=0.1`, see `ValidationMatches.guaranteed`.
        confidence: of the guarantee.
    """

    min_score: float | None = None
    fp_per_image: float | None = None
    keep_all: bool = False
    guarantee: str = ""
    confidence: float | None = None

    def __post_init__(self) -> None:
        chosen = [name for name in self.to_dict() if name != "--confidence"]
        if len(chosen) > 1:
            raise ValueError(f"{' and '.join(chosen)} both choose which detections are shown; give one of them")
        if self.min_score is not None and not 0 <= self.min_score <= 1:
            raise ValueError(f"--min-score {self.min_score:g}: must be in 0 to 1, as scores are")
        if self.fp_per_image is not None and self.fp_per_image not in FP_PER_IMAGE:
            known = ", ".join(f"{rate:g}" for rate in FP_PER_IMAGE)
            raise ValueError(f"--fp-per-image {self.fp_per_image:g}: must be one of {known}")
        if self.confidence is not None and not self.guarantee:
            raise ValueError("--confidence has no effect without --guarantee; leave it out, or add --guarantee fp=1")

    def to_dict(self) -> dict[str, Any]:
        """What was given, by the names that users know; empty for the default."""
        given = {"--min-score": self.min_score, "--fp-per-image": self.fp_per_image, "--all": self.keep_all or None,
                 "--guarantee": self.guarantee or None, "--confidence": self.confidence}  # fmt: skip
        return {name: value for name, value in given.items() if value is not None}


class OperatingPoints(Config):
    """The operating points of a run, and the one that is applied.

    Attributes:
        applied: the point of each class, in the order of the labels.
        rule: how it was chosen: `f1`, `fp=1`, `min_score`, `all`, or a guarantee in words.
        points: of each class by their names, `f1` and `fp=0.125` to `fp=8`; empty where none were measured.
        calibration: of each class whose scores are calibrated.
        iou_threshold: from which a detection was a true positive.
        num_images: validation images that they were measured on.
    """

    applied: dict[str, OperatingPoint]
    rule: str = BEST_F1
    points: dict[str, dict[str, OperatingPoint]] = {}
    calibration: dict[str, Calibration] = {}
    iou_threshold: PositiveFloat | None = None
    num_images: NonNegativeInt = 0

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.points and [*self.points] != [*self.applied]:
            raise ValueError("points must name the classes of applied, in their order")
        if unknown := self.calibration.keys() - self.applied.keys():
            raise ValueError(f"calibration.{min(unknown)}: no such class in applied")
        return self

    @classmethod
    def unknown(cls, classes: Iterable[str]) -> Self:
        """Those of a detector of which none were measured: all detections are above."""
        return cls(applied={name: OperatingPoint(score=0) for name in classes}, rule=ALL)

    def choose(self, shown: Shown) -> Self:
        """The same with another point applied; a guarantee is applied by `apply`.

        Raises:
            ValueError: the points that are asked for were not measured.
        """
        if shown.keep_all or shown.min_score is not None:
            point = OperatingPoint(score=shown.min_score or 0)
            return self.apply(dict.fromkeys(self.applied, point), ALL if shown.keep_all else GIVEN)
        if shown.fp_per_image is None:
            return self
        rule = at_rate(shown.fp_per_image)
        if not self.points or any(rule not in of_class for of_class in self.points.values()):
            raise ValueError(
                "--fp-per-image: no thresholds were measured for these predictions; measure them with "
                "`boxel thresholds RUN` and predict again, or give --min-score"
            )
        return self.apply({name: points[rule] for name, points in self.points.items()}, rule)

    def apply(self, applied: Mapping[str, OperatingPoint], rule: str) -> Self:
        """The same with these points applied."""
        return self.model_copy(update={"applied": dict(applied), "rule": rule})

    def is_above(self, scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """`(n,)` bool: which detections reach the threshold of their class."""
        least = np.array([point.score for point in self.applied.values()])
        return np.asarray(scores, np.float64) >= least[np.asarray(labels)]

    def above(self, detections: Detections, **shown: Any) -> Detections:
        """The detections that reach the threshold of their class; of another point, such as `fp_per_image=1`."""
        points = self.choose(Shown(**shown))
        return detections[points.is_above(detections.scores, detections.labels)]

    def calibrated(self, detections: Detections) -> Detections:
        """The detections with calibrated scores, by falling score; their order within a class does not change."""
        if not self.calibration:
            return detections
        scores = np.array(detections.scores, np.float32)
        for label, name in enumerate(self.applied):
            if name in self.calibration:
                rows = np.asarray(detections.labels) == label
                scores[rows] = self.calibration[name].of(scores[rows])
        detections = replace(detections, scores=scores)
        return detections[np.argsort(-scores, kind="stable")]

    def __str__(self) -> str:
        """Which detections are shown, in a few words."""
        if self.rule == ALL:
            return "all detections" if self.points else "all detections, as no score thresholds are known"
        names = {at_rate(rate): f"{_false_positives(rate)} per image" for rate in FP_PER_IMAGE}
        how = {BEST_F1: "the highest F1", **names}.get(self.rule, self.rule)
        each = {name: str(point) for name, point in self.applied.items()}
        alike = len(set(each.values())) == 1
        from_scores = [f"from {next(iter(each.values()))}"] if alike else [f"of {k} from {v}" for k, v in each.items()]
        said = f"detections {', '.join(from_scores)}"
        if self.rule == GIVEN:
            return f"{said}, as given"
        where = f", measured on {counted(self.num_images, 'validation image')}" if self.num_images else ""
        return f"{said}, the threshold{'' if alike else 's'} of {how}{where}"
