"""MITK ROI, version 2: `CASE.json` in index coordinates x, y, z.

MITK draws an ROI from the outer face of voxel `Min` to the outer face of voxel `Max`, so `Max` is the last voxel:
our upper corner less one. `Transform` is a 4 x 4 matrix whose rows are the steps along x, y and z, then the origin,
as nnDetection 2.0 writes it.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from boxel.config import read_json, write_text
from boxel.export.formats import Prediction, Predictions, case_file, collect
from boxel.types import Geometry


def write_mitk(out: Path, predictions: Sequence[Prediction]) -> list[Path]:
    """Write `out/CASE.json` for each case. A 2D image is a volume of one slice.

    Raises:
        ValueError: a case without geometry.
    """
    paths = []
    for prediction in predictions:
        geometry = prediction.geometry
        d = len(geometry.shape)
        transform = np.eye(4)
        transform[:d, :d] = (np.asarray(geometry.direction) * geometry.spacing)[:, ::-1].T
        transform[3, :d] = geometry.origin
        rois = []
        for number, (_, box, score, name) in enumerate(prediction.ranking, start=1):
            label = prediction.classes.index(name)
            lower, upper = box[:, ::-1]
            spare = [0.0] * (3 - d)
            rois.append({
                "ID": number,
                "Min": _rounded([*lower, *spare]),
                "Max": _rounded([*(upper - 1), *spare]),
                "Properties": {
                    "StringProperty": {"class": name},
                    "FloatProperty": {"score": round(score, 6), "label": label, "lineWidth": 2},
                },
            })  # fmt: skip
        record = {
            "FileFormat": "MITK ROI",
            "Version": 2,
            "Name": prediction.case,
            "Caption": "{class} {score}",
            "Geometry": {
                "Size": [*geometry.shape[::-1], *[1] * (3 - d)],
                "Transform": [float(value) for value in transform.ravel()],
            },
            "ROIs": rois,
        }
        path = case_file(out, prediction.case, ".json")
        write_text(path, json.dumps(record, indent=1) + "\n")
        paths.append(path)
    return paths


def read_mitk(path: Path, classes: Sequence[str] = (), geometries: Mapping[str, Geometry] | None = None) -> Predictions:
    """Detections of each case from its MITK ROI file, or from a folder of such files.

    The file describes a volume, also where the image was 2D; `geometries` tell which cases are.

    Raises:
        ValueError: not a MITK ROI file of version 2.
    """
    path, found = Path(path), {}
    grids: dict[str, Geometry] = {}
    known = dict(geometries or {})
    for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
        record = read_json(file)
        if record.get("FileFormat") != "MITK ROI" or record.get("Version") != 2:
            raise ValueError(f"{file}: not a MITK ROI file of version 2; write it with Boxel or nnDetection 2.0")
        case = record.get("Name", file.stem)
        try:
            grids[case] = known.get(case) or _geometry(record["Geometry"])
            found[case] = [_entry(roi, len(grids[case].shape)) for roi in record["ROIs"]]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{file}: not the ROIs of detections ({error}); see docs/how_to/export.md") from None
    if not found:
        raise ValueError(f"{path}: no MITK ROI files (*.json) there")
    return collect(path, found, classes, grids)


def _geometry(record: Mapping[str, Any]) -> Geometry:
    transform = np.array(record["Transform"], np.float64).reshape(4, 4)
    steps, origin = transform[:3, :3][::-1].T, transform[3, :3]
    spacing = np.linalg.norm(steps, axis=0)
    return Geometry(
        tuple(map(int, record["Size"][::-1])),
        tuple(spacing.tolist()),
        tuple(origin.tolist()),
        tuple(map(tuple, (steps / spacing).tolist())),
    )


def _entry(roi: Mapping[str, Any], ndim: int) -> tuple[np.ndarray, float, str]:
    numbers = roi["Properties"]["FloatProperty"]
    name = roi["Properties"].get("StringProperty", {}).get("class", str(int(numbers.get("label", 0))))
    lower, upper = (np.array(roi[key], np.float64)[:ndim][::-1] for key in ("Min", "Max"))
    return np.stack([lower, upper + 1]), float(numbers["score"]), name


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(float(value), 4) + 0.0 for value in values]
