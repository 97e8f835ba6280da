"""COCO results: `results.json` as pycocotools loads it, and `images.json`, which says what its numbers mean.

Boxes are x, y, width, height, and in volumes x, y, z, width, height, depth. Images and categories are numbered from 1.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NotRequired

import numpy as np
from typing_extensions import TypedDict

from boxel.export.entries import SEE, Entry, box_of, collect, entries_of, holds, numbered, row_of
from boxel.export.prediction import DatasetInfo, Prediction
from boxel.export.registry import register_export
from boxel.files import write_text
from boxel.inputs.json_values import Finite, Identity, check_shape
from boxel.inputs.problems import InputError
from boxel.inputs.texts import read_json


class _Result(TypedDict):
    image_id: Identity
    category_id: Identity
    bbox: list[Finite]
    score: Finite


class _Image(TypedDict):
    id: Identity
    file_name: str
    case: NotRequired[str]
    width: NotRequired[Any]
    height: NotRequired[Any]
    depth: NotRequired[Any]


class _Category(TypedDict):
    id: Identity
    name: str


class _Images(TypedDict):
    images: list[_Image]
    categories: list[_Category]


RESULTS, IMAGES = "results.json", "images.json"


def write(out: Path, predictions: Sequence[Prediction]) -> list[Path]:
    """Write `out/results.json` and `out/images.json` (a COCO data set without annotations)."""
    classes = predictions[0].classes if predictions else ()
    images: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for number, prediction in enumerate(predictions, start=1):
        file = prediction.image_files[0].name if prediction.image_files else prediction.case
        shape = prediction.detections.geometry.shape if prediction.detections.geometry else ()
        sizes = dict(zip(("width", "height", "depth"), shape[::-1], strict=False))
        images.append({"id": number, "case": prediction.case, "file_name": file, **sizes})
        for _, box, score, name in prediction.ranking:
            results.append({
                "image_id": number,
                "category_id": classes.index(name) + 1,
                "bbox": row_of(box, "coco"),
                "score": round(score, 6),
            })  # fmt: skip
    categories = [{"id": label, "name": name} for label, name in enumerate(classes, start=1)]
    paths = [Path(out) / RESULTS, Path(out) / IMAGES]
    lines = ",\n ".join(map(json.dumps, results))
    write_text(paths[0], f"[{lines}]\n")
    write_text(paths[1], json.dumps({"images": images, "annotations": [], "categories": categories}, indent=1) + "\n")
    return paths


def read(path: Path, info: DatasetInfo) -> list[Prediction]:
    """Detections of each image from `results.json`, or from the folder that holds it.

    Raises:
        ValueError: not COCO results, or an image or category that is not in the file that says what the numbers mean.
    """
    path = path / RESULTS if path.is_dir() else path
    results = read_json(path, list[_Result], SEE)
    known = _numbering(path, {result["image_id"] for result in results}, info)
    names = {entry["id"]: entry["name"] for entry in known["categories"]}
    cases = {entry["id"]: entry.get("case", Path(entry["file_name"]).stem) for entry in known["images"]}
    if len({*cases.values()}) < len(cases):
        raise InputError(path, "two of its images have the same name", 'name each by "case" in images.json')

    def build(result: _Result) -> tuple[np.ndarray, float, str]:
        if result["image_id"] not in cases or result["category_id"] not in names:
            raise ValueError(f"no image or no category has its id, {result['image_id']} or {result['category_id']}")
        return box_of(result["bbox"], "coco"), result["score"], names[result["category_id"]]

    entries: dict[str, list[Entry]] = {case: [] for case in cases.values()}
    for result, entry in zip(results, entries_of(path, numbered("", results), build), strict=True):
        entries[cases[result["image_id"]]].append(entry)
    ndim = sum(key in image for image in known["images"][:1] for key in ("width", "height", "depth"))
    located = {case: (rows, info.geometries.get(case), path) for case, rows in entries.items()}
    return collect(located, info.classes or list(names.values()), ndim)


def _numbering(results: Path, wanted: set[Any], info: DatasetInfo) -> _Images:
    """The COCO data set that the numbers of results refer to: `images.json` beside them, or the data set's own."""
    beside = results.with_name(IMAGES)
    if not beside.exists():
        files = [(file, read_json(file)) for file in info.annotation_files if file.suffix == ".json"]
        own = [check_shape(record, _Images, file, SEE) for file, record in files
               if isinstance(record, dict) and "images" in record]  # fmt: skip
        for record in own:
            if wanted <= {image["id"] for image in record["images"]}:
                return record
        if own:
            return own[0]
    return read_json(beside, _Images, SEE)


def detect(path: Path) -> bool:
    """Whether there is a file `results.json`."""
    return holds(path, RESULTS)


register_export("coco", write, read, detect)
