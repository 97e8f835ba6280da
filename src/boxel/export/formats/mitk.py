"""MITK ROI, version 2: `CASE.json` in index coordinates x, y, z.

MITK draws an ROI from the outer face of voxel `Min` to the outer face of voxel `Max`, so `Max` is the last voxel:
our upper corner minus one. `Transform` is a 4 x 4 matrix whose rows are the steps along x, y and z, then the origin,
as nnDetection 2.0 writes it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from boxel.config import read_json
from boxel.export.entries import Entry, begins_with, case_files, collect, rounded, write_records
from boxel.export.prediction import DatasetInfo, Prediction
from boxel.export.registry import register_export
from boxel.types import Geometry

FORMAT = "MITK ROI"


def write(out: Path, predictions: Sequence[Prediction]) -> list[Path]:
    """Write `out/CASE.json` for each case; a 2D image is a volume of one slice. The geometry must be known."""
    return write_records(out, predictions, ".json", _record)


def read(path: Path, info: DatasetInfo) -> list[Prediction]:
    """Detections of each case from its MITK ROI file, or from a folder of such files.

    The geometry is that of the data set where known, because MITK writes a 2D image as a volume of one slice.

    Raises:
        ValueError: not a MITK ROI file of version 2.
    """
    cases = {}
    for name, file in case_files(path, ".json").items():
        record = read_json(file)
        if record.get("FileFormat") != FORMAT or record.get("Version") != 2:
            raise ValueError(f"{file}: not a MITK ROI file of version 2; write it with Boxel or nnDetection 2.0")
        case = record.get("Name", name)
        try:
            geometry = info.geometries.get(case) or _geometry(record["Geometry"])
            cases[case] = [_entry(roi, len(geometry.shape)) for roi in record["ROIs"]], geometry
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{file}: not the ROIs of detections ({error}); see docs/how_to/export.md") from None
    return collect(path, cases, info.classes)


def detect(path: Path) -> bool:
    """Whether a JSON file there names this format."""
    return begins_with(path, ".json", f'"{FORMAT}"')


def _record(prediction: Prediction) -> dict[str, Any]:
    geometry = prediction.geometry
    d = len(geometry.shape)
    transform = np.eye(4)
    transform[:d, :d] = (np.asarray(geometry.direction) * geometry.spacing)[:, ::-1].T
    transform[3, :d] = geometry.origin
    spare = [0.0] * (3 - d)
    rois = []
    for number, (_, box, score, name) in enumerate(prediction.ranking, start=1):
        label = prediction.classes.index(name)
        lower, upper = box[:, ::-1]
        rois.append({
            "ID": number,
            "Min": rounded([*lower, *spare]),
            "Max": rounded([*(upper - 1), *spare]),
            "Properties": {
                "StringProperty": {"class": name},
                "FloatProperty": {"score": round(score, 6), "label": label, "lineWidth": 2},
            },
        })  # fmt: skip
    return {
        "FileFormat": FORMAT,
        "Version": 2,
        "Name": prediction.case,
        "Caption": "{class} {score}",
        "Geometry": {
            "Size": [*geometry.shape[::-1], *[1] * (3 - d)],
            "Transform": [float(value) for value in transform.ravel()],
        },
        "ROIs": rois,
    }


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


def _entry(roi: Mapping[str, Any], ndim: int) -> Entry:
    numbers = roi["Properties"]["FloatProperty"]
    name = roi["Properties"].get("StringProperty", {}).get("class", str(int(numbers.get("label", 0))))
    lower, upper = (np.array(roi[key], np.float64)[:ndim][::-1] for key in ("Min", "Max"))
    return np.stack([lower, upper + 1]), float(numbers["score"]), name


register_export("mitk", write, read, detect)
