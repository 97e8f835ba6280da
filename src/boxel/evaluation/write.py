"""The evaluation as files."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from boxel.escaping import csv_lines
from boxel.evaluation.evaluate import Evaluation
from boxel.evaluation.segmentation import SEGMENTATION_COLUMNS, SegmentationEvaluation, segmentation_rows
from boxel.files import write_text
from boxel.pseudonyms import pseudonyms

CASE_COLUMNS = (
    "case", "group", "class", "num_objects", "num_detections", "max_score",
    "score_threshold", "true_positives", "false_positives", "false_negatives",
)  # fmt: skip
OBJECT_COLUMNS = (
    "case",
    "group",
    "class",
    "outcome",
    "score",
    "iou",
    "detection",
    "object_id",
    "object_size",
    "detection_size",
)

CONFUSION_COLUMNS = ("annotated", "detected", "count")


def write_evaluation(out: Path, evaluation: Evaluation, *, keep_identifiers: bool = False) -> None:
    """Write `metrics.json`, `per_case.csv` and, of boxes, `per_object.csv` and `confusion.csv` into the folder `out`.

    Args:
        out: the folder.
        evaluation: what to write.
        keep_identifiers: groups (patients) keep their names in the tables; otherwise they get pseudonyms.
    """
    out = Path(out)
    own = list(zip(evaluation.table.cases, evaluation.groups, strict=True))
    named = [group for case, group in own if group != case]  # a case may be its own group
    names = pseudonyms(named, out, "its tables", keep=keep_identifiers)
    groups = tuple(group if group == case else names[group] for case, group in own)
    evaluation = replace(evaluation, groups=groups)
    if isinstance(evaluation, SegmentationEvaluation):
        write_text(out / "per_case.csv", _csv(SEGMENTATION_COLUMNS, segmentation_rows(evaluation)))
    else:
        write_text(out / "per_case.csv", csv_lines(chain([CASE_COLUMNS], _of_cases(evaluation))))
        write_text(out / "per_object.csv", csv_lines(chain([OBJECT_COLUMNS], _of_objects(evaluation))))
        if evaluation.confused is not None:
            write_text(out / "confusion.csv", _csv(CONFUSION_COLUMNS, confusion_rows(evaluation)))
    write_text(out / "metrics.json", json.dumps(evaluation.metrics, indent=2, allow_nan=False) + "\n")


def case_rows(evaluation: Evaluation) -> list[dict[str, object]]:
    """One row per case and class: true positives and errors of the detections from the `score_threshold` upwards.

    `max_score` is that of the detections that are not ignored; of a patient it makes the patient's score. The
    threshold is the one with the highest F1 at the lowest IoU threshold; without any true positive every detection
    counts.
    """
    return [dict(zip(CASE_COLUMNS, values, strict=True)) for values in _of_cases(evaluation)]


def _of_cases(evaluation: Evaluation) -> Iterator[tuple[object, ...]]:
    table, shape = evaluation.table, (len(evaluation.table.cases), len(evaluation.table.classes))
    thresholds = np.array([0.0 if t is None else t for t in evaluation.score_thresholds])
    kept = table.scores >= thresholds[table.labels]

    def count(cases: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return np.bincount(cases * shape[1] + labels, minlength=shape[0] * shape[1]).reshape(shape)

    objects = count(*(values[~table.object_ignored] for values in (table.object_cases, table.object_labels)))
    detections = count(table.detection_cases, table.labels)
    reached = table.detected & (table.object_scores >= thresholds[table.object_labels])
    true_positives = count(*(values[reached] for values in (table.object_cases, table.object_labels)))
    false = count(*(values[kept & table.false_positives] for values in (table.detection_cases, table.labels)))
    highest = np.zeros(shape)
    counted = ~table.ignored
    np.maximum.at(highest, (table.detection_cases[counted], table.labels[counted]), table.scores[counted])
    scores, limits = [_rounded(row) for row in highest], _rounded(thresholds)
    counts = (array.tolist() for array in (objects, detections, true_positives, false))
    for case, group, best, *numbers in zip(table.cases, evaluation.groups, scores, *counts, strict=True):
        for name, score, limit, m, n, hits, errors in zip(table.classes, best, limits, *numbers, strict=True):
            yield case, group, name, m, n, score if n else "", limit, hits, errors, m - hits


def object_rows(evaluation: Evaluation) -> list[dict[str, object]]:
    """One row per detection ("tp", "fp" or "ignored", at any score) and per object without one ("fn"), by case.

    A detection that matched several objects (by LUNA16's rule) has a row for each.

    `iou` of a false positive is its highest with any object of its class; `detection` counts the case's
    detections from 0 in the order of the prediction file.
    """
    return [dict(zip(OBJECT_COLUMNS, values, strict=True)) for values in _of_objects(evaluation)]


def _of_objects(evaluation: Evaluation) -> Iterator[tuple[object, ...]]:
    table = evaluation.table
    rows: list[tuple[Any, ...]] = []
    object_ids, object_sizes = table.object_ids.tolist(), _rounded(table.object_sizes)
    case_of = table.detection_cases
    order = np.argsort(case_of, kind="stable")
    whole = (values[order].tolist() for values in (case_of, table.labels, table.matches, table.ignored, table.indices))
    rounded = (_rounded(values[order]) for values in (table.scores, table.ious, table.detection_sizes))
    for case, label, match, ignored, index, score, iou, size in zip(*whole, *rounded, strict=True):
        detected = (object_ids[match], object_sizes[match]) if match >= 0 else ("", "")
        outcome = "ignored" if ignored else "tp" if match >= 0 else "fp"
        rows.append((case, label, outcome, score, iou, index, *detected, size))
    # By LUNA16's rule a detection may match several objects; `matches` names one of them.
    for match in np.setdiff1d(np.flatnonzero(table.detected), table.matches):
        row = table.object_matches[match]
        numbers = (_round(table.scores[row]), _round(table.ious[row]), table.indices[row], table.object_ids[match])
        sizes = (_round(table.object_sizes[match]), _round(table.detection_sizes[row]))
        rows.append((case_of[row], table.labels[row], "tp", *numbers, *sizes))
    missed = np.flatnonzero(~table.detected & ~table.object_ignored)
    columns = (table.object_cases[missed], table.object_labels[missed], missed)
    for case, label, row in zip(*(column.tolist() for column in columns), strict=True):
        rows.append((case, label, "fn", "", "", "", object_ids[row], object_sizes[row], ""))
    rows.sort(key=lambda row: row[0])
    for case, label, *rest in rows:
        yield table.cases[case], evaluation.groups[case], table.classes[label], *rest


def confusion_rows(evaluation: Evaluation) -> list[dict[str, object]]:
    """One row per class of objects and class of the detections that matched them, where there are any.

    Unmatched detections are of the object "background", unmatched objects are "missed".
    """
    names, pairs = evaluation.table.classes, evaluation.confused
    found, numbers = np.unique(np.zeros((0, 2), int) if pairs is None else pairs, axis=0, return_counts=True)
    annotated, detected = (*names, "background"), (*names, "missed")
    return [
        dict(zip(CONFUSION_COLUMNS, (annotated[row], detected[column], number), strict=True))
        for (row, column), number in zip(found.tolist(), numbers.tolist(), strict=True)
    ]


def _round(value: float) -> float:
    return round(float(value), 6)


def _rounded(values: np.ndarray) -> list[float]:
    return [round(value, 6) for value in values.tolist()]


def _csv(columns: tuple[str, ...], rows: list[dict[str, object]]) -> str:
    return csv_lines([columns, *([row.get(column, "") for column in columns] for row in rows)])
