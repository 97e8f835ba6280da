"""COCO results: `results.json` as pycocotools loads it, and `images.json`, which says what its numbers mean.

Boxes are x, y, width, height, and in volumes x, y, z, width, height, depth. Images and categories are numbered from 1.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from boxel.config import read_json, write_text
from boxel.export.entries import Entry, box_of, collect, holds, row_of
from boxel.export.prediction import DatasetInfo, Prediction
from boxel.export.registry import register_export

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
    results = read_json(path)
    try:
        known = _numbering(path, {result["image_id"] for result in results}, info)
        names = {entry["id"]: entry["name"] for entry in known["categories"]}
        cases = {entry["id"]: entry.get("case", Path(entry["file_name"]).stem) for entry in known["images"]}
        entries: dict[str, list[Entry]] = {case: [] for case in cases.values()}
        for result in results:
            box = box_of(result["bbox"], "coco")
            entries[cases[result["image_id"]]].append((box, float(result["score"]), names[result["category_id"]]))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: no COCO results of these images: {error} is missing") from None
    ndim = sum(key in ("width", "height", "depth") for key in (known["images"] or [{}])[0])
    located = {case: (rows, info.geometries.get(case)) for case, rows in entries.items()}
    return collect(path, located, info.classes or list(names.values()), ndim)


def _numbering(results: Path, wanted: set[Any], info: DatasetInfo) -> dict[str, Any]:
    """The COCO data set that the numbers of results refer to: `images.json` beside them, or the data set's own."""
    beside = results.with_name(IMAGES)
    if not beside.exists():
        own = [read_json(file) for file in info.annotation_files if file.suffix == ".json"]
        own = [record for record in own if isinstance(record, dict) and "images" in record]
        for record in own:
            if wanted <= {image["id"] for image in record["images"]}:
                return record
        if own:
            return own[0]
    return read_json(beside)


def detect(path: Path) -> bool:
    """Whether there is a file `results.json`."""
    return holds(path, RESULTS)


register_export("coco", write, read, detect)
