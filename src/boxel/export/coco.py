"""COCO results: `results.json` as pycocotools loads it, and `images.json`, which says what its numbers mean.

Boxes are x, y, width, height; those of volumes go on in the same way: x, y, z, width, height, depth. Images and
categories count from 1.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from boxel.config import read_json, write_text
from boxel.export.formats import Prediction, Predictions, box_of, collect, row_of
from boxel.types import Geometry

RESULTS, IMAGES = "results.json", "images.json"


def write_coco(out: Path, predictions: Sequence[Prediction]) -> list[Path]:
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


def read_coco(
    path: Path,
    classes: Sequence[str] = (),
    geometries: Mapping[str, Geometry] | None = None,
    images: Path | None = None,
) -> Predictions:
    """Detections of each image from COCO results.

    Args:
        path: the results, or the folder that holds them as `results.json`.
        classes: class names in the order of the labels; empty: those of the categories.
        geometries: of each case, where known.
        images: the COCO data set whose numbers the results use; `images.json` beside them unless given.

    Raises:
        ValueError: not COCO results, or an image or category that `images` does not have.
    """
    path = Path(path) / RESULTS if Path(path).is_dir() else Path(path)
    results, known = read_json(path), read_json(images or path.with_name(IMAGES))
    try:
        names = {entry["id"]: entry["name"] for entry in known["categories"]}
        cases = {entry["id"]: entry.get("case", Path(entry["file_name"]).stem) for entry in known["images"]}
        found: dict[str, list[tuple[np.ndarray, float, str]]] = {case: [] for case in cases.values()}
        for result in results:
            box = box_of(result["bbox"], "coco")
            found[cases[result["image_id"]]].append((box, float(result["score"]), names[result["category_id"]]))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: no COCO results of these images: {error} is missing") from None
    ndim = sum(key in ("width", "height", "depth") for key in (known["images"] or [{}])[0])
    return collect(path, found, classes or list(names.values()), dict(geometries or {}), ndim)
