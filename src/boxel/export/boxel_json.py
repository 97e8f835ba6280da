"""Boxel JSON: the canonical file of the detections of one image.

Each detection carries its box twice: as corners in the voxels of the image (array-axis order, continuous,
half-open: voxel `i` covers `[i, i + 1)`) and, where the image has a position or a spacing, as centre (LPS
`x, y[, z]`) and size along the array axes in mm. `detections.schema.json` next to this file is the JSON Schema.
"""

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from boxel.export.boxel_checks import Checker, is_integer, read_columns, read_geometry, read_masks
from boxel.export.entries import rounded
from boxel.export.mask_text import mask_to_text
from boxel.export.prediction import Prediction, in_mm
from boxel.files import write_text
from boxel.inputs.texts import read_json
from boxel.operating_points import OperatingPoints
from boxel.output_folder import list_files
from boxel.types import Detections, Geometry

FORMAT = "boxel-detections"
VERSION = 2  # 1: without operating points and warnings
DECIMALS, FINE = 6, 8  # of scores; calibrated ones may lie close together

_KEYS = (
    "format", "version", "case", "ndim", "classes", "images", "geometry", "detections", "extra", "capped",
    "operating_points", "warnings",
)  # fmt: skip


def write_detections(
    path: Path,
    detections: Detections,
    case_id: str,
    classes: Sequence[str],
    *,
    image_files: Sequence[str | Path] = (),
    extra: Mapping[str, Any] | None = None,
    operating_points: OperatingPoints | None = None,
    warnings: Sequence[str] = (),
) -> None:
    """Write the detections of one image by falling score; the file appears whole or not at all.

    Args:
        path: the file to write.
        detections: numpy arrays or CPU tensors, boxes in voxels of the original image; they may be empty.
        case_id: the name of the case.
        classes: class names, indexed by the labels.
        image_files: the files that the image was read from.
        extra: other JSON-ready values to keep with the result.
        operating_points: the score thresholds; each detection then says whether it is above that of its class.
        warnings: what whoever reads the detections must know.

    Raises:
        ValueError: a score outside 0..1, an inverted or infinite box, a label outside the classes.
    """
    boxes = np.asarray(detections.boxes, dtype=np.float64)
    scores = np.asarray(detections.scores, dtype=np.float64)
    labels = np.asarray(detections.labels)
    _check_values(boxes, scores, labels, len(classes), f"detections of case {case_id!r}")
    geometry = detections.geometry
    world = _world(boxes, geometry) if geometry is not None and in_mm(geometry, image_files) else {}
    decimals = FINE if operating_points and operating_points.calibration else DECIMALS
    rows, scores = np.argsort(-scores, kind="stable"), np.round(scores, decimals)
    above = None if operating_points is None else operating_points.is_above(scores, labels)
    entries = []
    for row in rows:
        label = int(labels[row])
        entry = {"label": label, "class": classes[label], "score": float(scores[row]),
                 "lower": rounded(boxes[row, 0]), "upper": rounded(boxes[row, 1])}  # fmt: skip
        if above is not None:
            entry["above"] = bool(above[row])
        entry |= {key: rounded(values[row]) for key, values in world.items()}
        entries.append(entry if detections.masks is None else entry | {"mask": mask_to_text(detections.masks[row])})
    record = {
        "format": FORMAT,
        "version": VERSION if operating_points or warnings else 1,
        "case": case_id,
        "ndim": int(boxes.shape[-1]),
        "classes": list(classes),
        "images": [str(file) for file in image_files],
        "geometry": None if geometry is None else vars(geometry),
        "extra": dict(extra or {}),
    }
    if detections.capped:
        record["capped"] = True
    if warnings:
        record["warnings"] = list(warnings)
    # One line per detection: small enough to read, to grep and to compare.
    head = json.dumps(record, indent=2, allow_nan=False).removesuffix("\n}")
    if operating_points:
        head += f',\n  "operating_points": {json.dumps(operating_points.to_dict(), allow_nan=False)}'
    lines = ",\n    ".join(json.dumps(entry, allow_nan=False) for entry in entries)
    body = f"[\n    {lines}\n  ]" if entries else "[]"
    write_text(path, f'{head},\n  "detections": {body}\n}}\n')


def read_detections(path: Path) -> tuple[str, Detections, tuple[str, ...]]:
    """The case, its detections and the class names of a Boxel JSON file.

    Raises:
        ValueError: names the file, the key and the rule.
    """
    prediction = read_prediction(path)
    return prediction.case, prediction.detections, prediction.classes


def read_prediction(path: Path) -> Prediction:
    """The prediction in a Boxel JSON file.

    Raises:
        ValueError: names the file, the key and the rule.
    """
    record = read_json(path)
    check = Checker(path)
    check.require(isinstance(record, dict), "the file", "must hold a JSON object")
    check.require(record.get("format") == FORMAT, "format", f"must be {FORMAT!r}; this is not a Boxel prediction file")
    version = record.get("version")
    check.require(is_integer(version) and version >= 1, "version", "must be a positive integer")
    check.require(version <= VERSION, "version", f"is {version}, this Boxel reads up to {VERSION}; update Boxel")
    check.keys(record, _KEYS, optional=("extra", "images", "capped", "operating_points", "warnings"))
    case, ndim, classes = record["case"], record["ndim"], record["classes"]
    check.require(isinstance(case, str) and case != "", "case", "must be a non-empty string")
    check.require(is_integer(ndim) and ndim >= 1, "ndim", "must be a positive integer")
    named = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    check.require(named and len(set(classes)) == len(classes), "classes", "must be a list of different names")
    check.require(isinstance(record["detections"], list), "detections", "must be a list")
    images = record.get("images", [])
    named = isinstance(images, list) and all(isinstance(file, str) for file in images)
    check.require(named, "images", "must be a list of file names")
    capped = record.get("capped", False)
    check.require(isinstance(capped, bool), "capped", "must be true or false")
    warnings = record.get("warnings", [])
    named = isinstance(warnings, list) and all(isinstance(warning, str) for warning in warnings)
    check.require(named, "warnings", "must be a list of texts")
    points = _read_points(record, check)
    geometry = read_geometry(record["geometry"], ndim, check)
    entries = record["detections"]
    boxes, scores, labels = read_columns(entries, ndim, classes, check)
    detections: Detections = Detections(boxes, scores, labels, geometry, read_masks(entries, ndim, check), capped)
    return Prediction(
        case, detections, tuple(classes), tuple(map(Path, images)), *read_segmentation(record, path), path,
        points, tuple(warnings),
    )  # fmt: skip


def _read_points(record: Mapping[str, Any], check: Checker) -> OperatingPoints | None:
    values = record.get("operating_points")
    if values is None:
        return None
    points = OperatingPoints.from_dict(values, f"{check.path}: operating_points")
    check.require(list(points.applied) == record["classes"], "operating_points.applied", "must name the classes")
    return points


def read_predictions(folder: Path) -> list[Prediction]:
    """The predictions in the Boxel JSON files (`*.json`) of a folder, at least one.

    Raises:
        ValueError: no such file, two files of one case, or different class lists; names the files.
    """
    predictions: dict[str, Prediction] = {}
    origin: dict[str, Path] = {}
    for path in list_files(Path(folder), ".json"):
        read = read_prediction(path)
        if read.case in predictions:
            raise ValueError(
                f"{path}: case {read.case!r} was already read from {origin[read.case]}; remove one of the two files"
            )
        for first, other in islice(predictions.items(), 1):
            if read.classes != other.classes:
                raise ValueError(
                    f"{path}: classes are {', '.join(read.classes)}, but {', '.join(other.classes)} in "
                    f"{origin[first]}; predict with one model"
                )
        predictions[read.case], origin[read.case] = read, path
    if not predictions:
        raise ValueError(f"{folder}: no prediction files (*.json); name the folder that boxel predict wrote to")
    return list(predictions.values())


def segmentation_file(folder: Path, case: str) -> Path:
    """The label map of a case, in the folder of its JSON file."""
    return folder / f"{case}_seg.nii.gz"


def read_segmentation(record: Mapping[str, Any], path: Path) -> tuple[Path | None, tuple[str, ...]]:
    """The label map beside the JSON file `path`, and what its values 1, 2 ... mean; None if there is none.

    Raises:
        ValueError: `extra.segmentation` is malformed.
    """
    try:
        segmentation = (record.get("extra") or {}).get("segmentation")
        if segmentation is None:
            return None, ()
        names = sorted((int(value), str(name)) for value, name in segmentation["values"].items())
        return path.with_name(segmentation["file"]), tuple(name for value, name in names if value)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError(
            f'{path}: extra.segmentation must be {{"file": a name, "values": {{"0": "background", "1": ...}}}}; '
            "predict the case again"
        ) from None


def geometry_from(value: Any, ndim: int, path: Path) -> Geometry:
    """The geometry in a JSON file.

    Raises:
        ValueError: names the file, the key and the rule.
    """
    geometry = read_geometry(value, ndim, check := Checker(path))
    check.require(geometry is not None, "geometry", "must be an object")
    return geometry  # type: ignore[return-value]


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the format."""
    return json.loads(resources.files("boxel.export").joinpath("detections.schema.json").read_text(encoding="utf-8"))


def _world(boxes: np.ndarray, geometry: Geometry) -> dict[str, np.ndarray]:
    sizes = (boxes[:, 1] - boxes[:, 0]) * np.asarray(geometry.spacing)
    return {"centre_mm": geometry.to_world(boxes.mean(axis=1)), "size_mm": sizes}


def _check_values(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, num_classes: int, what: str) -> None:
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError(f"{what}: scores must lie in 0..1; apply a sigmoid or softmax to raw outputs first")
    if not np.isfinite(boxes).all() or (boxes[:, 1] < boxes[:, 0]).any():
        raise ValueError(f"{what}: every box must be finite with lower <= upper")
    if ((labels < 0) | (labels >= num_classes)).any():
        raise ValueError(f"{what}: labels must lie in 0..{num_classes - 1}, the positions of the {num_classes} classes")
