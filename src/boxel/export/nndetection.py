"""nnDetection's predictions `CASE_boxes.pkl`; `boxel.export.nifti` reads its `CASE_boxes.json`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from boxel.io.pickles import read_pickle
from boxel.types import Detections, Geometry


def read_nndetection(folder: Path, classes: Sequence[str], ndim: int) -> dict[str, Detections]:
    """The detections of each case of a folder; `ndim` is the rank of the images.

    Raises:
        ValueError: names the file and what is wrong with it.
    """
    paths = {path.name.removesuffix("_boxes.pkl"): path for path in sorted(Path(folder).glob("*_boxes.pkl"))}
    return {case: _from_record(path, read_pickle(path), classes, ndim) for case, path in paths.items()}


def _from_record(path: Path, record: Any, classes: Sequence[str], ndim: int) -> Detections:
    from boxel.ops import convert

    if not isinstance(record, dict) or not {"pred_boxes", "pred_scores", "pred_labels"} <= record.keys():
        raise ValueError(f"{path}: must hold pred_boxes, pred_scores and pred_labels; is it one of nnDetection's?")
    if record.get("restore") is False:
        raise ValueError(f"{path}: boxes on the resampled image (restore is False); predict with restore")
    geometry = _geometry(record)
    try:
        boxes = np.asarray(record["pred_boxes"], np.float64)
        scores = np.asarray(record["pred_scores"], np.float64).ravel()
        labels = np.asarray(record["pred_labels"], np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: boxes, scores and labels must be numbers ({error})") from None
    if not len(scores):
        return Detections.empty(ndim, geometry)
    if boxes.shape != (len(scores), 2 * ndim) or len(labels) != len(scores):
        raise ValueError(f"{path}: {len(scores)} scores and {len(labels)} labels for boxes of shape {boxes.shape}")
    if not ((scores >= 0) & (scores <= 1)).all() or not np.isfinite(boxes).all():
        raise ValueError(f"{path}: scores must lie in 0..1 and boxes be finite")
    if not np.isin(labels, np.arange(len(classes))).all():
        raise ValueError(f"{path}: labels must be the numbers of the classes {list(classes)}, got {np.unique(labels)}")
    corners = np.asarray(convert(boxes, "nndetection", "boxel"), np.float32)  # type: ignore[arg-type]
    return Detections(corners, scores.astype(np.float32), labels.astype(np.int64), geometry)


def _geometry(record: dict[str, Any]) -> Geometry | None:
    """ITK's numbers are in the order x, y, z."""
    keys = ("original_size_of_raw_data", "itk_spacing", "itk_origin", "itk_direction")
    if any(record.get(key) is None for key in keys):
        return None
    shape, spacing, origin, direction = (np.asarray(record[key], np.float64).ravel() for key in keys)
    matrix = direction.reshape(len(shape), len(shape))[:, ::-1]
    return Geometry(tuple(map(int, shape)), tuple(spacing[::-1].tolist()), tuple(origin.tolist()),
                    tuple(map(tuple, matrix.tolist())))  # fmt: skip
