"""`RUN/operating_points.json`: the operating points of a run, and the matches that they come from."""

import json
from pathlib import Path
from typing import Any, TypeVar

from boxel.config import Config
from boxel.evaluation.operating_points import ValidationMatches
from boxel.operating_points import OperatingPoints, Shown
from boxel.preparation.store import Store
from boxel.preparation.training_images import FILE as TRAINING_IMAGES
from boxel.preparation.training_images import TrainingImages
from boxel.recipes import Experiment

FILE = "operating_points.json"
CONFIDENCE = 0.9
UNKNOWN = "no score thresholds are known: all detections are shown; `boxel thresholds RUN` measures them"
NO_CASES = "no validation cases, and therefore no score thresholds: all detections are shown"
# Settings of prediction that change no score, or that may be changed afterwards.
_NO_EFFECT = ("masks", "segmentation", "batch_size", "memory", "tile_voxels", "precision", "calibrate")


Record = TypeVar("Record", bound=Config)


class RunPoints(Config):
    """What the file holds.

    Attributes:
        weights: the fingerprint of the weights that they were measured with.
        settings: of prediction and consolidation.
        points: in calibrated scores, for those who read the file.
        matches: from which all else follows.
    """

    weights: str
    settings: dict[str, Any]
    points: OperatingPoints
    matches: ValidationMatches

    def to_json(self) -> str:
        """Indented JSON with the matches in one line."""
        values = self.to_dict()
        matches = json.dumps(values.pop("matches"))
        return f'{json.dumps(values, indent=2)[:-2]},\n  "matches": {matches}\n}}\n'

    def chosen(self, shown: Shown, *, calibrate: bool) -> OperatingPoints:
        """The points with those applied that are asked for; raises ValueError where they cannot be."""
        points = self.points if calibrate else self.matches.operating_points(calibrate=False)
        if shown.guarantee:
            return self.matches.guaranteed(
                points, shown.guarantee, CONFIDENCE if shown.confidence is None else shown.confidence
            )
        return points.choose(shown)

    def changes(self, weights: str, experiment: Experiment) -> list[str]:
        """What a detector has, of weights and settings, that the points were not measured with."""
        now = relevant_settings(experiment)
        return [name for name in now if self.settings.get(name) != now[name]] + ["weights"] * (weights != self.weights)


def read_points(run: Path, classes: tuple[str, ...]) -> RunPoints | None:
    """The operating points of a run on these classes; None if none were measured.

    Raises:
        ValueError: the file is damaged, or has other classes.
    """
    stored = _read(RunPoints, run, FILE)
    if stored and {tuple(stored.points.applied), tuple(stored.matches.classes)} != {classes}:
        raise ValueError(f"{run / FILE}: its classes are not {', '.join(classes)}, those of the run; {_again(run)}")
    return stored


def read_training_images(run: Path) -> TrainingImages | None:
    """What the training images of a run were like; None if that was not recorded.

    Raises:
        ValueError: the file is damaged.
    """
    return _read(TrainingImages, run, TRAINING_IMAGES)


def write_training_images(run: Path, store: Store) -> None:
    """Record what the training images of a run are like."""
    TrainingImages.of(store.fingerprint, store.task.normalisation).save(run / TRAINING_IMAGES)


def _read(kind: type[Record], run: Path, name: str) -> Record | None:
    try:
        return kind.load(run / name) if (run / name).exists() else None
    except ValueError as error:
        raise ValueError(f"{error}; {_again(run)}") from None


def _again(run: Path) -> str:
    return f"`boxel thresholds {run}` writes it again"


def points_without(run: Path, classes: tuple[str, ...], shown: Shown) -> OperatingPoints | None:
    """What is asked for of a run of which no points were measured; None if nothing is.

    Raises:
        ValueError: it needs points that were measured.
    """
    if shown.guarantee or shown.fp_per_image is not None:
        name = next(iter(shown.to_dict()))
        raise ValueError(f"{run}: {name} needs score thresholds; measure them with `boxel thresholds {run}`")
    return OperatingPoints.unknown(classes).choose(shown) if shown.to_dict() else None


def relevant_settings(experiment: Experiment) -> dict[str, Any]:
    """The settings that scores depend on, by their dotted keys."""
    predict = {f"predict.{name}": value for name, value in experiment.predict.to_dict().items()
               if name not in _NO_EFFECT}  # fmt: skip
    return predict | {f"consolidate.{name}": value for name, value in experiment.consolidate.to_dict().items()}
