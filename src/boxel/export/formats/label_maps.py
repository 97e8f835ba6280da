"""Detections as label maps, read only: `CASE.nii.gz` of their numbers and `CASE.json` about the numbers.

    {"1": {"score": 0.9, "label": 0}}    "class" with a name may stand for "label"

Boxes are tight around the masks. (Detections that may overlap are written in the format `nifti`.)
"""

import re
from pathlib import Path
from typing import NotRequired

import numpy as np
from typing_extensions import TypedDict

from boxel.config import did_you_mean
from boxel.export.entries import SEE, Entry, class_of, collect
from boxel.export.prediction import DatasetInfo, Prediction
from boxel.export.registry import register_export
from boxel.inputs.folders import listing
from boxel.inputs.json_values import Finite, Whole
from boxel.inputs.problems import InputError
from boxel.inputs.texts import read_json
from boxel.io import read_label_map, split_suffix
from boxel.types import Geometry

_Entry = TypedDict("_Entry", {"score": Finite, "label": NotRequired[Whole], "class": NotRequired[str]})


def read(path: Path, info: DatasetInfo) -> list[Prediction]:
    """Detections of each case in the order of their numbers, from one label map or a folder of them.

    Without class names in the file and in `info.classes`, a class is called by its number.

    Raises:
        ValueError: no label map with a JSON file, a number that only one of the two has, a score outside 0..1, an
            unknown class.
    """
    from boxel.ops import boxes_from_label_map

    cases: dict[str, tuple[list[Entry], Geometry, Path]] = {}
    for case, (label_map, described) in _pairs(path).items():
        image, entries = read_label_map(label_map), _entries(described, info.classes)
        ids = np.array(list(entries), np.int64)
        values = np.unique(image.array)
        if differing := sorted(set(values[values > 0].tolist()) ^ set(entries)):
            raise ValueError(
                f"{described}: number {differing[0]} is not in both this file and {label_map.name}; complete it"
            )
        boxes = np.asarray(boxes_from_label_map(image.array, ids)[0])  # type: ignore[arg-type]
        rows = zip(boxes, entries.items(), strict=True)
        located = [Entry(box, *entry, f"{described}: {number}") for box, (number, entry) in rows]
        cases[case] = located, image.geometry, described
    if not cases:
        raise ValueError(f"{path}: no label map CASE.nii.gz with a file CASE.json there")
    return collect(cases, info.classes)


def read_masks(path: Path, case: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """The label map of a case, and the numbers in the order of its detections."""
    label_map, described = _pairs(path)[case]
    return [(read_label_map(label_map).array, np.array(list(_entries(described, ())), np.int64))]


def detect(path: Path) -> bool:
    """Whether there is a label map with JSON that has numbers for keys."""
    _, described = next(iter(_pairs(path).values()), (None, None))
    if described is None:
        return False
    try:
        record = read_json(described)
    except InputError:  # told when it is read
        return False
    return isinstance(record, dict) and all(key.isdigit() for key in record)


def _pairs(path: Path) -> dict[str, tuple[Path, Path]]:
    """The label map of each case and the JSON beside it."""
    pairs = {}
    for file in listing(path) if path.is_dir() else [path]:
        stem, suffix = split_suffix(file)
        described = file.with_name(f"{stem}.json")
        if suffix and described.is_file() and not stem.endswith("_boxes"):
            pairs[stem] = file, described
    return pairs


def _entries(path: Path, classes: tuple[str, ...]) -> dict[int, tuple[float, str]]:
    """Score and class name of each number, ascending."""
    record, entries = read_json(path, dict[str, _Entry], SEE), {}
    if odd := [number for number in record if not re.fullmatch(r"\d{1,10}", number, re.ASCII)]:
        raise InputError(path, f"{odd[0]!r} is no number of an object", 'write {"1": {"score": 0.9, "label": 0}}')
    for number, entry in sorted(record.items(), key=lambda item: int(item[0])):
        try:
            name = entry.get("class") or class_of(entry["label"], classes)
        except (KeyError, ValueError) as error:
            raise InputError(path, f"number {number} has no class ({error})", SEE) from None
        if classes and name not in classes:
            raise ValueError(f"{path}: number {number} has class {name!r}{did_you_mean(name, classes)}")
        if not 0 <= entry["score"] <= 1:
            raise ValueError(f"{path}: number {number} has score {entry['score']}, outside 0..1")
        entries[int(number)] = entry["score"], name
    return entries


register_export("label-maps", read=read, detect=detect, read_masks=read_masks)
