"""COCO: one JSON with `images`, `annotations` (box `[x, y, width, height]`, polygons or RLE) and `categories`.

    annotations.json, instances_train2017.json, annotations/*.json ... or the file itself
    pictures           in the JSON's folder or in any folder below it, under their `file_name`

Crowds (`iscrowd`) are ignored regions. A file whose name contains "test" holds the test cases, one whose name contains
"val" the validation cases.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from boxel.datasets.cases import Case, Dataset
from boxel.datasets.formats.files import listing, numbers, pictures_layout, read_mapping, read_text
from boxel.datasets.formats.registry import register_format
from boxel.datasets.polygons import CocoMasks, CocoObject
from boxel.datasets.problems import InputError, Report

__all__ = ["detect", "read"]

DESCRIPTION = 'COCO: a JSON with "images", "annotations" and "categories"'
KEYS = ("images", "annotations", "categories")


def detect(path: Path) -> bool:
    return bool(_files(path))


def _files(path: Path) -> list[Path]:
    places = [path] if path.is_file() else [*listing(path), *listing(path / "annotations")]
    return [file for file in places if file.suffix == ".json" and file.is_file() and _is_coco(file)]


def _is_coco(file: Path) -> bool:
    try:
        text = read_text(file)
    except ValueError:
        return False
    return text.lstrip()[:1] == "{" and all(f'"{key}"' in text for key in KEYS)


def read(path: Path, report: Report) -> Dataset:
    """Open the data set in folder (or file) `path`; problems of single cases go to `report`."""
    files = _files(path) or [path]
    if files == [path] and path.is_dir():
        raise InputError(path, "no COCO file", f"add one: {DESCRIPTION.partition(': ')[2]}")
    folder = path if path.is_dir() else path.parent
    contents = {file: _content(file) for file in files}
    names: dict[int, str] = {}
    for file, values in contents.items():
        for entry in values["categories"]:
            if not isinstance(entry, dict) or not isinstance(entry.get("id"), int) or "name" not in entry:
                raise InputError(file, f"category {str(entry)[:80]}", 'write {"id": 1, "name": "cell"}')
            names[entry["id"]] = str(entry["name"])
    numbers_of = {number: label for label, number in enumerate(sorted(names))}
    where = {file.name: file for file in folder.rglob("*") if file.is_file() and file.suffix != ".json"}
    cases, parts = [], defaultdict(list)
    for file, values in contents.items():
        part = next((part for part in ("test", "val") if part in file.stem), "train")
        for case in _cases(file, values, folder, where, numbers_of, part, report):
            cases.append(case)
            parts[part].append(case.id)
    folds = ({part: tuple(ids) for part, ids in parts.items()},) if parts["train"] and parts["val"] else None
    ndim, channels = pictures_layout(case.channels[0] for case in cases)
    classes = tuple(names[number] for number in sorted(names))
    return Dataset(path, folder.resolve().name, ndim, classes, channels, tuple(cases), folds)


def _content(file: Path) -> Mapping[str, Any]:
    values = read_mapping(file)
    for key in KEYS:
        if not isinstance(values, dict) or not isinstance(values.get(key), list):
            raise InputError(file, f'"{key}" is not a list', f"a COCO file has the lists {', '.join(KEYS)}")
    return values


def _cases(
    file: Path,
    values: Mapping[str, Any],
    folder: Path,
    where: Mapping[str, Path],
    labels: Mapping[int, int],
    part: str,
    report: Report,
) -> Iterable[Case]:
    objects_of = defaultdict(list)
    for entry in values["annotations"]:
        image_id = entry.get("image_id") if isinstance(entry, dict) else None
        objects_of[image_id if isinstance(image_id, int | str) else None].append(entry)
    for entry in values["images"]:
        name = str(entry.get("file_name", "")) if isinstance(entry, dict) else ""
        case = Path(name).stem
        image = folder / name if name and (folder / name).is_file() else where.get(Path(name).name)
        try:
            if image is None:
                raise InputError(file, f"image {name!r} does not exist", f"add it to {folder}")
            if not isinstance(entry.get("id"), int | str):
                raise InputError(file, f"image {name!r} has the id {str(entry.get('id'))[:80]}", "write a whole number")
            objects = [
                made for e in objects_of.pop(entry["id"], []) if (made := _object(file, case, e, labels, report))
            ]
            split = "test" if part == "test" else "train"
            yield Case(case, (image,), split=split, annotation=file, annotate=CocoMasks(tuple(objects)))
        except InputError as problem:
            report(problem.of(case))
    if objects_of:
        count = sum(map(len, objects_of.values()))
        report(
            InputError(
                file,
                f"{count} annotations refer to images that are not listed",
                "list the images or remove them",
                "",
                "warning",
            )
        )


def _object(
    file: Path, case: str, entry: Mapping[str, Any], labels: Mapping[int, int], report: Report
) -> CocoObject | None:
    number = entry.get("id")
    category = entry.get("category_id")
    if not isinstance(category, int) or category not in labels:
        raise InputError(file, f"object {number}: unknown category {str(category)[:80]}", "add it to categories")
    drawn = entry.get("segmentation") or ()
    if not isinstance(drawn, dict | list | tuple):
        raise InputError(file, f"object {number}: segmentation {str(drawn)[:80]}", "write polygons or run lengths")
    rle: tuple[Any, ...] = ()
    polygons: tuple[tuple[float, ...], ...] = ()
    if isinstance(drawn, dict):
        counts = drawn.get("counts")
        rle = (counts if isinstance(counts, str) else numbers(counts, file, f"counts of object {number}"),)
        rle += (tuple(map(int, numbers(drawn.get("size"), file, f"size of object {number}", 2))),)
    else:
        polygons = tuple(numbers(polygon, file, f"polygon of object {number}") for polygon in drawn)
        if any(len(polygon) % 2 or len(polygon) < 6 for polygon in polygons):
            raise InputError(
                file, f"object {number}: a polygon has an odd number of coordinates, or fewer than 6", "draw it again"
            )
    if entry.get("bbox") is None and not drawn:
        raise InputError(
            file, f"object {number} has neither bbox nor segmentation", 'write "bbox": [x, y, width, height]'
        )
    box = None if entry.get("bbox") is None else numbers(entry["bbox"], file, f"bbox of object {number}", 4)
    if box is not None and not drawn and (box[2] <= 0 or box[3] <= 0):
        problem = f"bbox {list(box)} of object {number} has no extent; the object is left out"
        report(InputError(file, problem, "draw the box again, or remove the object", case, "warning"))
        return None
    area = None if entry.get("area") is None else numbers([entry["area"]], file, f"area of object {number}")[0]
    return CocoObject(labels[category], box, polygons, rle, bool(entry.get("iscrowd")), area)


register_format("coco", detect, read, DESCRIPTION, order=60)
