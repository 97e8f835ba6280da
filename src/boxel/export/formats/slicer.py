"""3D Slicer: `CASE.mrk.json`, one ROI markup per detection, aligned with the voxel grid.

The format is markups schema 1.0.3 of 3D Slicer. A file that Slicer saved again no longer has what Boxel added (case
and geometry); it is then read with the geometry of the image.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NotRequired

import numpy as np
from typing_extensions import TypedDict

from boxel.export.boxel_json import geometry_from
from boxel.export.entries import (
    SEE,
    Entry,
    OfBoxel,
    Position,
    case_files,
    collect,
    entries_of,
    holds,
    numbered,
    refuse_twice,
    rounded,
    write_records,
)
from boxel.export.prediction import DatasetInfo, Prediction
from boxel.export.registry import register_export
from boxel.export.world import box_around, box_corners, in_space
from boxel.inputs.json_values import Finite, exactly
from boxel.inputs.texts import read_json
from boxel.types import Geometry


class _Point(TypedDict):
    label: str
    description: str
    position: NotRequired[Position]


class _Markup(TypedDict):
    """Of the type ROI; others have other keys."""

    type: str
    center: NotRequired[Position]
    orientation: NotRequired[Annotated[list[Finite], exactly(9)]]
    size: NotRequired[Position]
    coordinateSystem: NotRequired[str]
    controlPoints: NotRequired[list[_Point]]


class _File(TypedDict):
    markups: list[_Markup]
    boxel: NotRequired[OfBoxel]


SUFFIX = ".mrk.json"
SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
# The colours of Okabe and Ito, one per class.
COLOURS = ((0.90, 0.62, 0.0), (0.34, 0.71, 0.91), (0.0, 0.62, 0.45), (0.94, 0.89, 0.26), (0.84, 0.37, 0.0))


def write(out: Path, predictions: Sequence[Prediction]) -> list[Path]:
    """Write `out/CASE.mrk.json` for each case; the geometry must be known."""
    return write_records(out, predictions, SUFFIX, _record)


def read(path: Path, info: DatasetInfo) -> list[Prediction]:
    """Detections of each case from its `.mrk.json`, or from a folder of such files.

    Raises:
        ValueError: no ROI boxes, or a case whose geometry is not known.
    """
    cases: dict[str, tuple[list[Entry], Geometry, Path]] = {}
    classes = info.classes
    for name, file in case_files(path, SUFFIX).items():
        record = read_json(file, _File, SEE)
        ours, case = record.get("boxel"), name
        if ours:
            case, classes = ours["case"], classes or tuple(ours["classes"])
            geometry = geometry_from(ours["geometry"], len(ours["geometry"]["shape"]), file)
        else:
            geometry = info.geometry(case, file)
        boxes = [(place, markup) for place, markup in numbered("markups", record["markups"]) if markup["type"] == "ROI"]
        refuse_twice(case, cases, file)
        cases[case] = entries_of(file, boxes, partial(_entry, geometry=geometry)), geometry, file
    return collect(cases, classes)


def detect(path: Path) -> bool:
    """Whether there are markup files."""
    return holds(path, f"*{SUFFIX}")


def _record(prediction: Prediction) -> dict[str, Any]:
    geometry = prediction.geometry
    d = len(geometry.shape)
    orientation = np.eye(3)
    orientation[:d, :d] = np.asarray(geometry.direction)[:, ::-1]
    orientation[:, -1] *= np.sign(np.linalg.det(orientation))  # a rotation; a box has no handedness
    markups = [
        _markup(number, prediction, box, score, name, orientation)
        for number, (_, box, score, name) in enumerate(prediction.ranking, start=1)
    ]
    ours = {"case": prediction.case, "classes": list(prediction.classes), "geometry": vars(geometry)}
    return {"@schema": SCHEMA, "markups": markups, "boxel": ours}


def _markup(
    number: int, prediction: Prediction, box: np.ndarray, score: float, name: str, orientation: np.ndarray
) -> dict[str, Any]:
    geometry = prediction.geometry
    centre = rounded(in_space(geometry.to_world(box.mean(axis=0)[None]))[0], 5)
    size = ((box[1] - box[0]) * geometry.spacing)[::-1]
    return {
        "type": "ROI",
        "roiType": "Box",
        "name": f"{name} {score:.2f}",
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "center": centre,
        "orientation": [float(value) for value in orientation.ravel()],
        "size": rounded(np.append(size, [1.0] * (3 - len(size))), 5),
        "controlPoints": [{"id": str(number), "label": name, "description": f"score {score:.6f}", "position": centre}],
        "display": {
            "selectedColor": COLOURS[prediction.classes.index(name) % len(COLOURS)],
            "fillVisibility": False,
            "handlesInteractive": False,
        },
    }


def _entry(markup: _Markup, geometry: Geometry) -> tuple[np.ndarray, float, str]:
    point = markup["controlPoints"][0]
    centre = np.array(markup.get("center", point["position"]), np.float64)
    turn, half = np.array(markup["orientation"]).reshape(3, 3), np.array(markup["size"]) / 2
    if markup.get("coordinateSystem", "LPS") == "RAS":
        centre, turn = centre * (-1, -1, 1), turn * np.array([[-1], [-1], [1]])
    corners = centre + box_corners(np.stack([-half, half])) @ turn.T
    return box_around(corners, geometry), float(point["description"].split()[-1]), point["label"]


register_export("slicer", write, read, detect, for_viewers=True)
