"""NIfTI: label maps of the detections, numbered by falling score, and `CASE_boxes.json` about the numbers.

File names and keys are nnDetection's (`CASE_boxes.nii.gz`, `{"1": {"score", "label", "box"}}`, boxes in its
convention); fractions of a voxel are kept and the class name is added. Detections that overlap go into further maps,
`CASE_boxes_2.nii.gz` and so on, so that each is whole; `"map"` says which map holds a number. A segmentation is
written as it is, into `CASE_seg.nii.gz`.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NotRequired

import numpy as np
from typing_extensions import TypedDict

from boxel.export.entries import SEE, box_of, case_files, class_of, collect, entries_of, holds, row_of
from boxel.export.painting import paint
from boxel.export.prediction import DatasetInfo, Prediction
from boxel.export.registry import register_export
from boxel.files import write_text
from boxel.inputs.json_values import Finite, Whole
from boxel.inputs.texts import read_json
from boxel.io import read_geometry, write_label_map
from boxel.output_folder import case_file

_Entry = TypedDict(
    "_Entry", {"score": Finite, "label": NotRequired[Whole], "class": NotRequired[str], "box": list[Finite]}
)
SUFFIX, MAP_SUFFIX = "_boxes.json", "_boxes.nii.gz"


def write(out: Path, predictions: Sequence[Prediction]) -> list[Path]:
    """Write `out/CASE_boxes.nii.gz` (and `_2`, `_3` ... where detections overlap) and `out/CASE_boxes.json`.

    Of a case with a segmentation, also `out/CASE_seg.nii.gz`.

    Raises:
        ValueError: a case without geometry; see `Prediction.read_label_map`.
    """
    return [path for prediction in predictions for path in _write_case(out, prediction)]


def _write_case(out: Path, prediction: Prediction) -> list[Path]:
    geometry = prediction.geometry
    maps, where = paint(prediction)
    entries = {}
    for number, (_, box, score, name) in enumerate(prediction.ranking, start=1):
        entries[number] = {
            "score": round(score, 6),
            "label": prediction.classes.index(name),
            "class": name,
            "box": row_of(box, "nndetection"),
            "map": where[number - 1] + 1,
        }
    paths = [case_file(out, prediction.case, SUFFIX)]
    for number, label_map in enumerate(maps, start=1):
        suffix = MAP_SUFFIX if number == 1 else f"_boxes_{number}.nii.gz"
        paths.append(case_file(out, prediction.case, suffix))
        write_label_map(paths[-1], label_map, geometry)
    labels = prediction.read_label_map()
    if labels is not None:
        paths.append(case_file(out, prediction.case, "_seg.nii.gz"))
        write_label_map(paths[-1], labels, geometry)
    write_text(paths[0], json.dumps(entries, indent=1) + "\n")
    return paths


def read(path: Path, info: DatasetInfo) -> list[Prediction]:
    """Detections of each case from its `_boxes.json` (ours or nnDetection's), or from a folder of such files.

    The geometry is that of the label map beside it, or else the data set's. Without class names in the file and in
    `info.classes`, a class is called by its number.

    Raises:
        ValueError: names the file and the rule.
    """
    cases, classes = {}, info.classes
    for case, file in case_files(path, SUFFIX).items():
        label_map = file.with_name(case + MAP_SUFFIX)
        geometry = read_geometry(label_map) if label_map.exists() else info.geometries.get(case)
        record = read_json(file, dict[str, _Entry], SEE)
        cases[case] = entries_of(file, record.items(), partial(_entry, classes=classes)), geometry, file
    return collect(cases, classes)


def _entry(entry: _Entry, classes: Sequence[str]) -> tuple[np.ndarray, float, str]:
    name = entry.get("class") or class_of(entry["label"], classes)
    return box_of(entry["box"], "nndetection"), entry["score"], name


def detect(path: Path) -> bool:
    """Whether there are JSON files of boxes."""
    return holds(path, f"*{SUFFIX}")


register_export("nifti", write, read, detect, for_viewers=True)
