"""MITK ROI, version 2: `CASE.json` in index coordinates x, y, z.

MITK draws an ROI from the outer face of voxel `Min` to the outer face of voxel `Max`, so `Max` is the last voxel:
our upper corner minus one. `Transform` is a 4 x 4 matrix whose rows are the steps along x, y and z, then the origin,
as nnDetection 2.0 writes it.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NotRequired

import numpy as np
from typing_extensions import TypedDict

from boxel.export.entries import (
    SEE,
    Entry,
    Position,
    begins_with,
    case_files,
    collect,
    entries_of,
    numbered,
    refuse_twice,
    rounded,
    write_records,
)
from boxel.export.prediction import DatasetInfo, Prediction
from boxel.export.registry import register_export
from boxel.inputs.json_values import Finite, Whole, exactly
from boxel.inputs.problems import InputError
from boxel.inputs.texts import read_json
from boxel.types import Geometry

FORMAT = "MITK ROI"


class _Geometry(TypedDict):
    Size: Annotated[list[Whole], exactly(3)]
    Transform: Annotated[list[Finite], exactly(16)]


class _Properties(TypedDict):
    FloatProperty: dict[str, Finite]
    StringProperty: NotRequired[dict[str, str]]


class _Region(TypedDict):
    Min: Position
    Max: Position
    Properties: _Properties


class _File(TypedDict):
    FileFormat: str
    Version: int
    Name: NotRequired[str]
    Geometry: _Geometry
    ROIs: list[_Region]


def write(out: Path, predictions: Sequence[Prediction]) -> list[Path]:
    """Write `out/CASE.json` for each case; a 2D image is a volume of one slice. The geometry must be known."""
    return write_records(out, predictions, ".json", _record)


def read(path: Path, info: DatasetInfo) -> list[Prediction]:
    """Detections of each case from its MITK ROI file, or from a folder of such files.

    The geometry is that of the data set where known, because MITK writes a 2D image as a volume of one slice.

    Raises:
        ValueError: not a MITK ROI file of version 2; names the file and the place in it.
    """
    cases: dict[str, tuple[list[Entry], Geometry, Path]] = {}
    for name, file in case_files(path, ".json").items():
        record = read_json(file, _File, SEE)
        if record["FileFormat"] != FORMAT or record["Version"] != 2:
            raise ValueError(f"{file}: not a MITK ROI file of version 2; write it with Boxel or nnDetection 2.0")
        case = record.get("Name", name)
        geometry = info.geometries.get(case) or _geometry(record["Geometry"], file)
        ndim = len(geometry.shape)
        refuse_twice(case, cases, file)
        cases[case] = entries_of(file, numbered("ROIs", record["ROIs"]), partial(_entry, ndim=ndim)), geometry, file
    return collect(cases, info.classes)


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


def _geometry(record: _Geometry, file: Path) -> Geometry:
    transform = np.array(record["Transform"], np.float64).reshape(4, 4)
    steps, origin = transform[:3, :3][::-1].T, transform[3, :3]
    spacing = np.linalg.norm(steps, axis=0)
    if not spacing.all():
        raise InputError(file, "Geometry.Transform has a step of length 0", SEE)
    return Geometry(
        tuple(map(int, record["Size"][::-1])),
        tuple(spacing.tolist()),
        tuple(origin.tolist()),
        tuple(map(tuple, (steps / spacing).tolist())),
    )


def _entry(roi: _Region, ndim: int) -> tuple[np.ndarray, float, str]:
    numbers = roi["Properties"]["FloatProperty"]
    name = roi["Properties"].get("StringProperty", {}).get("class", str(int(numbers.get("label", 0))))
    lower, upper = (np.array(corner)[:ndim][::-1] for corner in (roi["Min"], roi["Max"]))
    return np.stack([lower, upper + 1]), numbers["score"], name


register_export("mitk", write, read, detect, for_viewers=True)
