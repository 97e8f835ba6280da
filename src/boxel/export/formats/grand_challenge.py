"""Grand Challenge: `CASE.boxes.json` ("Multiple 2D bounding boxes") and `CASE.points.json` ("Multiple points"), in mm.

The platform has no boxes in volumes. The 2D box lies in the plane (rows and columns) through the centre of a
detection; its extent across the plane is only in the Boxel JSON `CASE.json`, which is written too.
"""

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from typing_extensions import TypedDict

from boxel.export.entries import SEE, Position, case_files, collect, entries_of, holds, numbered, rounded, write_records
from boxel.export.formats import boxel
from boxel.export.prediction import DatasetInfo, Prediction
from boxel.export.registry import register_export
from boxel.export.world import box_around, box_corners, in_space
from boxel.inputs.json_values import Finite, exactly
from boxel.inputs.texts import read_json
from boxel.types import Geometry


class _Box(TypedDict):
    name: str
    corners: Annotated[list[Position], exactly(4)]
    probability: Finite


class _File(TypedDict):
    boxes: list[_Box]


BOXES, POINTS = ".boxes.json", ".points.json"
VERSION = {"major": 1, "minor": 0}


def write(out: Path, predictions: Sequence[Prediction]) -> list[Path]:
    """Write `out/CASE.boxes.json`, `out/CASE.points.json` and `out/CASE.json`; the geometry must be known."""
    boxes = write_records(out, predictions, BOXES, _boxes)
    points = write_records(out, predictions, POINTS, _points)
    return boxes + points + boxel.write(out, predictions)


def read(path: Path, info: DatasetInfo) -> list[Prediction]:
    """Detections of each case from its `.boxes.json`, or from a folder of such files; other files are not opened.

    Raises:
        ValueError: not such a file, or a case of unknown geometry.
    """
    cases = {}
    for case, file in case_files(path, BOXES).items():
        geometry, boxes = info.geometry(case, file), read_json(file, _File, SEE)["boxes"]
        leading = len(geometry.shape) - 2
        if leading and boxes:
            warnings.warn(
                f"{file}: boxes of this format lie in one plane, so those of case {case!r} are one voxel thick; the "
                f"whole boxes are in {case}.json if Boxel wrote this folder",
                stacklevel=2,
            )
        thick = np.array([0.5] * leading + [0.0, 0.0])
        build = partial(_entry, geometry=geometry, margin=np.stack([-thick, thick]))
        cases[case] = entries_of(file, numbered("boxes", boxes), build), geometry, file
    return collect(cases, info.classes)


def _entry(box: _Box, geometry: Geometry, margin: np.ndarray) -> tuple[np.ndarray, float, str]:
    return box_around(np.array(box["corners"]), geometry) + margin, box["probability"], box["name"]


def detect(path: Path) -> bool:
    """Whether there are files of boxes."""
    return holds(path, f"*{BOXES}")


def _boxes(prediction: Prediction) -> dict[str, Any]:
    boxes, geometry = [], prediction.geometry
    for _, box, score, name in prediction.ranking:
        # The four corners in order around the box, at the middle of the leading axes.
        plane = box_corners(box[:, -2:])[[0, 1, 3, 2]]
        middle = np.broadcast_to(box.mean(axis=0)[:-2], (4, box.shape[1] - 2))
        corners = _mm(np.concatenate([middle, plane], axis=1), geometry)
        boxes.append({"name": name, "corners": corners, "probability": round(score, 6)})
    return {"name": "Detections", "type": "Multiple 2D bounding boxes", "boxes": boxes, "version": VERSION}


def _points(prediction: Prediction) -> dict[str, Any]:
    points, geometry = [], prediction.geometry
    for _, box, score, name in prediction.ranking:
        [centre] = _mm(box.mean(axis=0)[None], geometry)
        points.append({"name": name, "point": centre, "probability": round(score, 6)})
    return {"name": "Detections", "type": "Multiple points", "points": points, "version": VERSION}


def _mm(points: np.ndarray, geometry: Geometry) -> list[list[float]]:
    return [rounded(point, 5) for point in in_space(geometry.to_world(points))]


register_export("grand-challenge", write, read, detect, flat=True)
