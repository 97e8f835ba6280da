"""Grand Challenge: `CASE.boxes.json` ("Multiple 2D bounding boxes") and `CASE.points.json` ("Multiple points"), in mm.

The platform knows no boxes of volumes. The 2D box is drawn in the plane (rows and columns) through the middle of a
detection; what it cannot say, the extent across the plane, is in the Boxel JSON `CASE.json` that is written too.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from boxel.config import read_json, write_text
from boxel.export.boxel_json import write_boxel
from boxel.export.formats import Prediction, Predictions, case_file, collect
from boxel.export.world import box_around, box_corners, geometry_of, in_space
from boxel.types import Geometry

BOXES, POINTS = ".boxes.json", ".points.json"
VERSION = {"major": 1, "minor": 0}


def write_grand_challenge(out: Path, predictions: Sequence[Prediction]) -> list[Path]:
    """Write `out/CASE.boxes.json`, `out/CASE.points.json` and `out/CASE.json` for each case.

    Raises:
        ValueError: a case without geometry.
    """
    paths = []
    for prediction in predictions:
        geometry = prediction.geometry
        boxes, points = [], []
        for _, box, score, name in prediction.ranking:
            middle = box.mean(axis=0)
            # The four corners in order around the box, at the middle of the leading axes.
            plane = box_corners(box[:, -2:])[[0, 1, 3, 2]]
            corners = np.concatenate([np.broadcast_to(middle[:-2], (4, len(middle) - 2)), plane], axis=1)
            probability = round(score, 6)
            boxes.append({"name": name, "corners": _mm(corners, geometry), "probability": probability})
            points.append({"name": name, "point": _mm(middle[None], geometry)[0], "probability": probability})
        for suffix, record in (
            (BOXES, {"name": "Detections", "type": "Multiple 2D bounding boxes", "boxes": boxes, "version": VERSION}),
            (POINTS, {"name": "Detections", "type": "Multiple points", "points": points, "version": VERSION}),
        ):
            paths.append(case_file(out, prediction.case, suffix))
            write_text(paths[-1], json.dumps(record, indent=1) + "\n")
    return paths + write_boxel(out, predictions)


def read_grand_challenge(
    path: Path, classes: Sequence[str] = (), geometries: Mapping[str, Geometry] | None = None
) -> Predictions:
    """Detections of each case from its `.boxes.json`, or from a folder of such files; no other file is looked at.

    Across the plane a box of a volume gets one voxel around the middle.

    Raises:
        ValueError: not such a file, or a case whose geometry is not in `geometries`.
    """
    path, found, grids = Path(path), {}, dict(geometries or {})
    for file in sorted(path.glob(f"*{BOXES}")) if path.is_dir() else [path]:
        case, record = file.name.removesuffix(BOXES), read_json(file)
        geometry = geometry_of(case, file, grids)
        thick = np.array([0.5] * (len(geometry.shape) - 2) + [0.0, 0.0])
        try:
            found[case] = [
                (box_around(np.array(entry["corners"]), geometry) + np.stack([-thick, thick]),
                 float(entry["probability"]), str(entry["name"]))
                for entry in record["boxes"]
            ]  # fmt: skip
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f'{file}: no "Multiple 2D bounding boxes" with probabilities ({error})') from None
    if not found:
        raise ValueError(f"{path}: no *{BOXES} files there")
    return collect(path, found, classes, grids)


def _mm(points: np.ndarray, geometry: Geometry) -> list[list[float]]:
    return [[round(float(value), 5) + 0.0 for value in point] for point in in_space(geometry.to_world(points))]
