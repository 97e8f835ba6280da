"""Boxel's own metrics, registered as those of users are."""

import numpy as np

from boxel.evaluation.average_precision import score_thresholds
from boxel.evaluation.registry import WeightedMatches, register_metric


def ranking(matches: WeightedMatches) -> dict[str, np.ndarray]:
    """AP and AR; at the thresholds reported in full also FROC, sensitivities, and the point of the highest F1."""
    return matches.grouped.curves(matches.weights, matches.config.interpolation, froc=matches.is_end)


def localisation(matches: WeightedMatches) -> dict[str, np.ndarray]:
    """Mean IoU of the matched pairs and of all objects, and size ratios of the pairs."""
    return matches.grouped.localisation(matches.weights)


def calibration_error(matches: WeightedMatches) -> np.ndarray:
    """Expected calibration error."""
    return matches.grouped.calibration_error(matches.weights)


def operating_points(matches: WeightedMatches) -> dict[str, np.ndarray]:
    """Precision, recall, F1 and mean IoU at the score thresholds of the settings."""
    values: dict[str, np.ndarray] = {}
    for score in matches.config.operating_points:
        thresholds = score_thresholds(np.full(matches.grouped.num_classes, score))
        point = matches.grouped.operating_point(matches.weights, thresholds)
        values |= {f"{name}/score={score:g}": array for name, array in point.items()}
    return values


def patient_level(matches: WeightedMatches) -> dict[str, np.ndarray]:
    """Average precision and AUROC of the highest score of each patient."""
    return matches.grouped.patient_level(matches.weights)


register_metric(
    "ranking",
    ranking,
    higher_is_better=("AP", "mAP", "AR", "mAR", "FROC", "sensitivity", "precision", "recall", "F1"),
)
register_metric("localisation", localisation, when="ends", higher_is_better=("mean_iou", "mean_iou_objects"))
register_metric("ECE", calibration_error, when="ends")
register_metric("operating_points", operating_points, when="ends")
register_metric("patient_level", patient_level, when="once", higher_is_better=("patient_AP", "patient_AUROC"))
