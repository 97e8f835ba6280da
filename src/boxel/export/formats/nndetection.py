"""nnDetection's predictions `CASE_boxes.pkl`, read only; its `CASE_boxes.json` is the format `nifti`."""

from pathlib import Path
from typing import Any

import numpy as np

from boxel.export.boxel_json import geometry_from
from boxel.export.entries import Entry, case_files, collect, holds
from boxel.export.prediction import DatasetInfo, Prediction
from boxel.export.registry import register_export
from boxel.io.pickles import read_pickle
from boxel.types import Geometry

SUFFIX = "_boxes.pkl"


def read(path: Path, info: DatasetInfo) -> list[Prediction]:
    """Detections of each case from its pickle, or from a folder of such files; a pickle of anything else is not run.

    Without class names, a class is called by its number.

    Raises:
        ValueError: names the file and what is wrong with it.
    """
    cases = {}
    for case, file in case_files(path, SUFFIX).items():
        record = read_pickle(file)
        if not isinstance(record, dict) or not {"pred_boxes", "pred_scores", "pred_labels"} <= record.keys():
            raise ValueError(f"{file}: must hold pred_boxes, pred_scores and pred_labels; is it one of nnDetection's?")
        if record.get("restore") is False:
            raise ValueError(f"{file}: boxes on the resampled image (restore is False); predict with restore")
        geometry = _geometry(file, record) or info.geometries.get(case)
        cases[case] = _entries(file, record, info.classes, geometry), geometry, file
    return collect(cases, info.classes)


def _entries(file: Path, record: dict[str, Any], classes: tuple[str, ...], geometry: Geometry | None) -> list[Entry]:
    from boxel.ops import convert

    try:
        boxes = np.asarray(record["pred_boxes"], np.float64)
        scores = np.asarray(record["pred_scores"], np.float64).ravel()
        labels = np.asarray(record["pred_labels"], np.float64).ravel()
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: boxes, scores and labels must be numbers ({error})") from None
    if not len(scores):
        return []
    columns = 2 * len(geometry.shape) if geometry else boxes.shape[-1] // 2 * 2
    if boxes.shape != (len(scores), columns) or len(labels) != len(scores):
        raise ValueError(f"{file}: {len(scores)} scores and {len(labels)} labels for boxes of shape {boxes.shape}")
    if not ((scores >= 0) & (scores <= 1)).all() or not np.isfinite(boxes).all():
        raise ValueError(f"{file}: scores must lie in 0..1 and boxes be finite")
    names = dict(enumerate(classes)) or {int(label): str(int(label)) for label in labels}
    if not np.isin(labels, list(names)).all():
        raise ValueError(
            f"{file}: labels must be the numbers of the classes {', '.join(classes)}, got {np.unique(labels)}"
        )
    corners = np.asarray(convert(boxes, "nndetection", "boxel"))  # type: ignore[arg-type]
    rows = zip(corners, scores, labels, strict=True)
    return [Entry(box, float(score), names[int(label)], str(file)) for box, score, label in rows]


def _geometry(file: Path, record: dict[str, Any]) -> Geometry | None:
    """ITK's numbers are in the order x, y, z."""
    keys = ("original_size_of_raw_data", "itk_spacing", "itk_origin", "itk_direction")
    if any(record.get(key) is None for key in keys):
        return None
    try:
        shape, spacing, origin, direction = (np.asarray(record[key], np.float64).ravel() for key in keys)
        rows = direction.reshape(len(shape), len(shape))[:, ::-1]
    except (ArithmeticError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: {', '.join(keys)} must be the numbers of one grid ({error})") from None
    values = {"shape": shape, "spacing": spacing[::-1], "origin": origin, "direction": rows}
    return geometry_from({key: value.tolist() for key, value in values.items()}, len(shape), file)


def detect(path: Path) -> bool:
    """Whether there are pickles of boxes."""
    return holds(path, f"*{SUFFIX}")


register_export("nndetection", read=read, detect=detect)
