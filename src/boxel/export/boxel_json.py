"""Boxel JSON: the canonical file of the detections of one image.

Each detection carries its box twice: as corners in the voxels of the image (array-axis order, continuous,
half-open: voxel `i` covers `[i, i + 1)`) and, where the image has a position or a spacing, as centre (LPS
`x, y[, z]`) and size along the array axes in mm. `detections.schema.json` next to this file is the JSON Schema.
"""

import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from boxel.config import did_you_mean
from boxel.export.entries import LARGEST, rounded
from boxel.export.mask_text import mask_from_text, mask_to_text
from boxel.export.prediction import Prediction, in_mm
from boxel.files import write_text
from boxel.inputs.texts import read_json
from boxel.output_folder import list_files
from boxel.types import Detections, Geometry

FORMAT = "boxel-detections"
VERSION = 1

_KEYS = ("format", "version", "case", "ndim", "classes", "images", "geometry", "detections", "extra", "capped")
_DETECTION_KEYS = ("label", "class", "score", "lower", "upper", "centre_mm", "size_mm", "mask")


def write_detections(
    path: Path,
    detections: Detections,
    case_id: str,
    classes: Sequence[str],
    *,
    image_files: Sequence[str | Path] = (),
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write the detections of one image by falling score; the file appears whole or not at all.

    Args:
        path: the file to write.
        detections: numpy arrays or CPU tensors, boxes in voxels of the original image; they may be empty.
        case_id: the name of the case.
        classes: class names, indexed by the labels.
        image_files: the files that the image was read from.
        extra: other JSON-ready values to keep with the result.

    Raises:
        ValueError: a score outside 0..1, an inverted or infinite box, a label outside the classes.
    """
    boxes = np.asarray(detections.boxes, dtype=np.float64)
    scores = np.asarray(detections.scores, dtype=np.float64)
    labels = np.asarray(detections.labels)
    _check_values(boxes, scores, labels, len(classes), f"detections of case {case_id!r}")
    geometry = detections.geometry
    world = _world(boxes, geometry) if geometry is not None and in_mm(geometry, image_files) else {}
    entries = []
    for row in np.argsort(-scores, kind="stable"):
        label = int(labels[row])
        entry = {"label": label, "class": classes[label], "score": round(float(scores[row]), 6),
                 "lower": rounded(boxes[row, 0]), "upper": rounded(boxes[row, 1])}  # fmt: skip
        entry |= {key: rounded(values[row]) for key, values in world.items()}
        entries.append(entry if detections.masks is None else entry | {"mask": mask_to_text(detections.masks[row])})
    record = {
        "format": FORMAT,
        "version": VERSION,
        "case": case_id,
        "ndim": int(boxes.shape[-1]),
        "classes": list(classes),
        "images": [str(file) for file in image_files],
        "geometry": None if geometry is None else vars(geometry),
        "extra": dict(extra or {}),
    } | ({"capped": True} if detections.capped else {})
    # One line per detection: small enough to read, to grep and to compare.
    head = json.dumps(record, indent=2, allow_nan=False).removesuffix("\n}")
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
    check = _Checker(path)
    check.require(isinstance(record, dict), "the file", "must hold a JSON object")
    check.require(record.get("format") == FORMAT, "format", f"must be {FORMAT!r}; this is not a Boxel prediction file")
    version = record.get("version")
    check.require(_is_integer(version) and version >= 1, "version", "must be a positive integer")
    check.require(version <= VERSION, "version", f"is {version}, this Boxel reads up to {VERSION}; update Boxel")
    check.keys(record, _KEYS, optional=("extra", "images", "capped"))
    case, ndim, classes = record["case"], record["ndim"], record["classes"]
    check.require(isinstance(case, str) and case != "", "case", "must be a non-empty string")
    check.require(_is_integer(ndim) and ndim >= 1, "ndim", "must be a positive integer")
    named = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    check.require(named and len(set(classes)) == len(classes), "classes", "must be a list of different names")
    check.require(isinstance(record["detections"], list), "detections", "must be a list")
    images = record.get("images", [])
    named = isinstance(images, list) and all(isinstance(file, str) for file in images)
    check.require(named, "images", "must be a list of file names")
    capped = record.get("capped", False)
    check.require(isinstance(capped, bool), "capped", "must be true or false")
    geometry = _read_geometry(record["geometry"], ndim, check)
    for position, entry in enumerate(record["detections"]):
        _check_entry(entry, f"detections[{position}]", ndim, classes, check)
    entries = record["detections"]
    detections: Detections = Detections(
        np.array([[e["lower"], e["upper"]] for e in entries], np.float32).reshape(-1, 2, ndim),
        np.array([e["score"] for e in entries], np.float32),
        np.array([e["label"] for e in entries], np.int64),
        geometry,
        _read_masks(entries, ndim, check),
        capped,
    )
    return Prediction(
        case, detections, tuple(classes), tuple(map(Path, images)), *read_segmentation(record, path), path
    )


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
        for first, other in list(predictions.items())[:1]:
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
    geometry = _read_geometry(value, ndim, check := _Checker(path))
    check.require(geometry is not None, "geometry", "must be an object")
    return geometry  # type: ignore[return-value]


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the format."""
    return json.loads(resources.files("boxel.export").joinpath("detections.schema.json").read_text(encoding="utf-8"))


def _read_masks(entries: list[dict[str, Any]], ndim: int, check: "_Checker") -> np.ndarray | None:
    if not any("mask" in entry for entry in entries):
        return None
    masks = []
    for position, entry in enumerate(entries):
        place = f"detections[{position}].mask"
        check.require("mask" in entry, place, "is missing; all detections have masks or none")
        try:
            masks.append(mask_from_text(entry["mask"], ndim))
        except ValueError as error:
            check.require(False, place, str(error))
        check.require(masks[-1].shape == masks[0].shape, place, f"must have the cells of the first, {masks[0].shape}")
    return np.stack(masks)


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


class _Checker:
    """Raises errors that name the file and the key."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def require(self, condition: bool, key: str, rule: str) -> None:
        if not condition:
            raise ValueError(f"{self.path}: {key} {rule}")

    def keys(self, record: Mapping[str, Any], known: Sequence[str], optional: Sequence[str], place: str = "") -> None:
        for key in record:
            if key not in known:  # the hint is slow, and there are many boxes
                self.require(False, f"{place}{key}", f"is an unknown key{did_you_mean(key, known)}")
        for key in known:
            self.require(key in record or key in optional, f"{place}{key}", "is missing")


def _check_entry(entry: Any, place: str, ndim: int, classes: list[str], check: _Checker) -> None:
    check.require(isinstance(entry, dict), place, "must be an object")
    check.keys(entry, _DETECTION_KEYS, optional=("centre_mm", "size_mm", "mask"), place=f"{place}.")
    label = entry["label"]
    check.require(_is_integer(label) and 0 <= label < len(classes), f"{place}.label", "must index the classes")
    check.require(
        entry["class"] == classes[label],
        f"{place}.class",
        f"must be {classes[label]!r}, as label {label} says",
    )
    check.require(_is_number(entry["score"]) and 0 <= entry["score"] <= 1, f"{place}.score", "must be a number in 0..1")
    for key in ("lower", "upper"):
        check.require(_is_vector(entry[key], ndim), f"{place}.{key}", f"must be {ndim} finite numbers")
    ordered = all(low <= up for low, up in zip(entry["lower"], entry["upper"], strict=True))
    check.require(ordered, f"{place}.upper", "must not be below lower")


def _read_geometry(value: Any, ndim: int, check: _Checker) -> Geometry | None:
    if value is None:
        return None
    check.require(isinstance(value, dict), "geometry", "must be an object or null")
    check.keys(value, ("shape", "spacing", "origin", "direction"), optional=(), place="geometry.")
    for key in ("shape", "spacing", "origin"):
        check.require(_is_vector(value[key], ndim), f"geometry.{key}", f"must be {ndim} finite numbers")
    check.require(all(s > 0 for s in value["spacing"]), "geometry.spacing", "must be positive")
    rows = value["direction"]
    square = isinstance(rows, list) and len(rows) == ndim and all(_is_vector(row, ndim) for row in rows)
    check.require(square, "geometry.direction", f"must be {ndim} rows of {ndim} finite numbers")
    return Geometry(
        tuple(map(int, value["shape"])),
        tuple(map(float, value["spacing"])),
        tuple(map(float, value["origin"])),
        tuple(tuple(map(float, row)) for row in rows),
    )


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def _is_vector(value: Any, length: int) -> bool:
    return isinstance(value, list) and len(value) == length and all(_is_number(item) for item in value)
