"""The tables of the page: headline metrics, classes, sizes, confusion; a cell is a text with its interval."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from boxel.operating_points import BEST_F1, OperatingPoints
from boxel.reporting.charts import shown_classes

ABSENT = "\N{EN DASH}"


def cards(metrics: Mapping[str, Any], ends: Sequence[float]) -> list[dict[str, str]]:
    """The headline metrics that exist: name, value, interval, meaning.

    Patient-level metrics are undefined unless some patients have objects and some have none.
    """
    wanted = [(f"AP@{iou:.2f}", f"average precision, IoU ≥ {iou:.2f}") for iou in ends]
    wanted += [(key, "mean over IoU thresholds") for key in metrics if key.startswith("mAP@") and "/" not in key]
    wanted += [(f"FROC@{iou:.2f}", "mean sensitivity at 1/8 … 8 false positives per image") for iou in ends[:1]]
    wanted += [
        ("patient_AP", "average precision per patient"),
        ("patient_AUROC", "area under the ROC curve, per patient"),
    ]
    wanted += [
        ("num_images", "images evaluated"),
        ("num_objects", "annotated objects"),
        ("num_detections", "with any score"),
    ]
    return [
        _card(metrics, key, meaning)
        for key, meaning in wanted
        if key in metrics and (metrics[key] is not None or "patient" not in key)
    ]


def segmentation_cards(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    return [_card(metrics, "DSC", "overlap of the segmentations, mean over cases")]


def _card(metrics: Mapping[str, Any], key: str, meaning: str) -> dict[str, str]:
    return {
        "name": key.replace("_", " ").removeprefix("num "),
        "value": _value(metrics[key]),
        "interval": _interval(metrics.get(f"{key}/ci95")),
        "meaning": meaning,
    }


def class_table(metrics: Mapping[str, Any], ends: Sequence[float]) -> dict[str, list]:
    """One row per class, one column per metric that some class has."""
    names = [key.removeprefix("num_objects/") for key in metrics if key.startswith("num_objects/")]
    columns = [("num_objects", "objects"), ("num_detections", "detections")]
    columns += [(f"AP@{iou:.2f}", f"AP@{iou:.2f}") for iou in ends]
    for iou in ends[:1]:
        columns += [(f"{key}@{iou:.2f}", key) for key in ("FROC", "precision", "recall", "F1")]
        columns += [(f"score_threshold@{iou:.2f}", "threshold"), (f"mean_iou@{iou:.2f}", "mean IoU")]
        columns += [(f"ECE@{iou:.2f}", "calibration error")]
    columns += [("patient_AP", "patient AP"), ("patient_AUROC", "patient AUROC")]
    columns = [(key, title) for key, title in columns if any(metrics.get(f"{key}/{n}") is not None for n in names)]
    rows = []
    for name in names:
        keys = [f"{key}/{name}" for key, _ in columns]
        cells = [(_value(metrics.get(key)), _interval(metrics.get(f"{key}/ci95"))) for key in keys]
        rows.append((name, cells))
    return {"columns": [title for _, title in columns], "rows": rows}


def points_table(points: OperatingPoints | None) -> dict[str, list]:
    """One row per class and operating point that was measured on validation images; none where none was.

    The calibration error is a column where scores of a class are calibrated.
    """
    fits = points.calibration if points else {}
    errors = {name: f"{fit.ece_before:.3f} before, {fit.ece_after:.3f} after" for name, fit in fits.items()}
    rows = []
    for name, of_class in points.points.items() if points else ():
        for key, point in of_class.items():
            best = key == BEST_F1
            what = "highest F1" if best else f"FP ≤ {key.removeprefix('fp=')}"
            error = [errors.get(name, ABSENT) if best else ""] if errors else []
            values = map(_value, (point.score, point.sensitivity, point.fp_per_image))
            rows.append((name, [(text, "") for text in (what, *values, *error)]))
    columns = ["point", "score threshold", "sensitivity", "false positives per image"]
    return {"columns": columns + ["calibration error"] * bool(errors), "rows": rows}


def segmentation_table(metrics: Mapping[str, Any]) -> dict[str, list]:
    """One row per class, below their mean, from the metrics of segmentations."""
    names = [key.removeprefix("num_cases_with_object/") for key in metrics if key.startswith("num_cases_with_object/")]
    columns = [
        ("num_cases_with_object", "cases with it"),
        *((key, key) for key in ("DSC", "IoU", "precision", "recall")),
    ]
    columns += [("HD95", "HD95 (mm)"), ("mean_surface_distance", "mean surface distance (mm)")]
    if metrics.get("num_slices", 0) > metrics.get("num_images", 0):
        columns.append(("DSC/slices_with_object", "DSC of slices with it"))
    rows = []
    for name, ending in [("mean", "")] * (len(names) > 1) + [(name, f"/{name}") for name in names]:
        keys = [f"{key}{ending}" for key, _ in columns]
        cells = [(_value(metrics.get(key)), _interval(metrics.get(f"{key}/ci95"))) for key in keys]
        rows.append((name, cells))
    return {"columns": [title for _, title in columns], "rows": rows}


def size_table(metrics: Mapping[str, Any], ends: Sequence[float]) -> dict[str, list]:
    """One row per size range, from metrics such as `AP@0.10/size=27..125`, with the AP of each class."""
    lowest = f"AP@{ends[0]:.2f}" if ends else ""
    keys = [key for key in metrics if re.fullmatch(rf"{re.escape(lowest)}/size=[^/]+", key)]
    names = shown_classes(metrics)
    names = names if len(names) > 1 else []
    rows = []
    for key in keys:
        lower, _, upper = key.partition("size=")[2].partition("..")
        place = f"{_size(lower)} to {_size(upper)}" if upper != "inf" else f"from {_size(lower)}"
        columns = [key, key.replace("AP@", "AR@"), *(f"{key}/{name}" for name in names)]
        rows.append((place, [(_value(metrics.get(k)), _interval(metrics.get(f"{k}/ci95"))) for k in columns]))
    titles = [lowest, lowest.replace("AP", "AR"), *(f"AP {name}" for name in names)] if keys else []
    return {"columns": titles, "rows": rows}


def _size(text: str) -> str:
    return f"{float(text):,.0f}"


def confusion_table(metrics: Mapping[str, Any], ends: Sequence[float]) -> dict[str, Any] | None:
    """Counts of `confusion@...` with their share of the row, which shades the cell; None without it."""
    confusion = metrics.get(f"confusion@{ends[0]:.2f}") if ends else None
    if not confusion:
        return None
    rows = []
    for name, counts in zip(confusion["rows"], confusion["counts"], strict=True):
        total = max(sum(counts), 1)
        rows.append((name, [(f"{count:,}", round(count / total, 3)) for count in counts]))
    rows[-1][1][-1] = ("", 0.0)  # true negatives are not counted
    other = any(name.startswith("other (") for name in confusion["rows"][-2:-1])
    return {"columns": confusion["columns"], "rows": rows, "iou": f"{ends[0]:.2f}", "other": other}


_RULES = {
    "greedy": "greedily in order of descending score (COCO)",
    "optimal": "by optimal assignment",
    "mdt": "by highest overlap only",
    "luna16": "by the rule of LUNA16",
}
_INTERPOLATIONS = {
    "101": "the mean at 101 recalls (COCO)",
    "11": "the mean at 11 recalls (VOC 2007)",
    "area": "the area under the envelope (VOC 2010)",
    "step": "the area under the steps",
    "report": "the area under the steps at 11 score thresholds",
}


def notes(metrics: Mapping[str, Any]) -> list[str]:
    settings = metrics.get("settings", {})
    notes = []
    if absent := metrics.get("absent_classes"):
        notes.append(f"No annotated objects of class {', '.join(absent)}: its metrics are undefined ({ABSENT}).")
    if settings:
        notes.append(
            f"Detections are matched {_RULES[settings['rule']]}; average precision is "
            f"{_INTERPOLATIONS[settings['interpolation']]}. Precision, recall and F1 are at the score threshold "
            "with the highest F1 on these images, which is optimistic."
        )
        if settings["num_resamples"]:
            unit = "images" if metrics["num_groups"] == metrics.get("num_images") else "patients"
            notes.append(
                f"In brackets: 95 % confidence intervals from {settings['num_resamples']} bootstrap resamples of "
                f"{metrics['num_groups']} {unit} (seed {settings['seed']})."
            )
    return notes


def _value(value: Any) -> str:
    if value is None:
        return ABSENT
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _interval(value: Any) -> str:
    return f"[{value[0]:.3f}, {value[1]:.3f}]" if value else ""
