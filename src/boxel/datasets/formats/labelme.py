"""LabelMe: one JSON per picture, beside it or in a folder of their own.

    NAME.json    {"imagePath": "NAME.jpg", "imageHeight": 40, "imageWidth": 60, "shapes": [
                  {"label": "cell", "shape_type": "polygon", "points": [[x, y], ...], "group_id": null}]}
    train/ val/ test/    optional: folders named after the parts of a split

Polygons, circles and masks give instance masks, rectangles give boxes. Polygons with one `group_id` are one object.
Objects with the flag `difficult` or `ignore` are ignored objects.
"""

import base64
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from boxel.datasets.cases import Dataset
from boxel.datasets.declared import declared_size, flag
from boxel.datasets.formats.files import numbers
from boxel.datasets.formats.outlines import Entry, Options, Outlined, build, ellipse, left_out, too_few
from boxel.datasets.formats.registry import register_format
from boxel.datasets.formats.text_kinds import text_kind
from boxel.datasets.names import split_of_folders
from boxel.datasets.problems import InputError, Report
from boxel.inputs.folders import listing
from boxel.inputs.texts import read_mapping
from boxel.io.apart import apart
from boxel.io.pictures import read_embedded

__all__ = ["detect", "read"]

DESCRIPTION = 'LabelMe: NAME.json with "shapes" and "imagePath" for every picture'

IGNORED = ("difficult", "ignore", "ignored")


def detect(path: Path) -> bool:
    return any(True for _ in _files(path))


def _files(path: Path) -> Iterator[Path]:
    """The annotations in a folder and in those below, three deep; nothing if the first JSON is of another kind."""
    folders = [path] if path.is_dir() else []
    for _ in range(3):
        for folder in folders:
            for file in listing(folder):
                if file.suffix.lower() == ".json" and file.is_file():
                    if not _is_labelme(file):
                        break
                    yield file
        folders = [inner for folder in folders for inner in listing(folder) if inner.is_dir()]


@text_kind
def _is_labelme(text: str) -> bool:
    return all(f'"{key}"' in text for key in ("shapes", "imagePath"))


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set in folder `path`; problems of single cases go to `report`."""
    entries = []
    for file in _files(path):
        try:
            entries.append(_entry(file, path, report))
        except InputError as problem:
            report(problem.of(file.stem))
    return build(path, entries, options, report)


def _entry(file: Path, root: Path, report: Report) -> Entry:
    values = read_mapping(file, report)
    if not isinstance(values, dict) or not isinstance(values.get("shapes"), list):
        raise InputError(file, '"shapes" is not a list', 'write {"imagePath": "a.png", "shapes": []}')
    grouped: dict[Any, list[Outlined]] = defaultdict(list)
    for number, shape in enumerate(values["shapes"]):
        if not isinstance(shape, dict):
            raise InputError(file, f"shape {number} is {str(shape)[:80]}", "write an object with label and points")
        drawn = _shape(file, number, shape, report)
        if drawn:
            group = shape.get("group_id")
            alone = group is None or not drawn.outlines
            ignore = _is_ignored(file, number, shape)
            grouped[("alone", number) if alone else (group, drawn.name, ignore)].append(drawn._replace(ignore=ignore))
    objects = [
        parts[0]._replace(outlines=tuple(outline for part in parts for outline in part.outlines), box=parts[0].box)
        for parts in grouped.values()
    ]
    name = str(values.get("imagePath") or file.stem)
    declared = declared_size(values.get("imageHeight"), values.get("imageWidth"), file, name)
    return Entry(name, file, objects, declared, split_of_folders(file, root))


def _is_ignored(file: Path, number: int, shape: Mapping[str, Any]) -> bool:
    """Whether a flag or an attribute (of X-AnyLabeling) says that an object is difficult or ignored."""
    flags = shape.get("flags")
    named = {**shape, **(flags if isinstance(flags, dict) else {})}.items()
    return any(flag(value, file, f"{key} of shape {number}") for key, value in named if key.lower() in IGNORED)


def _shape(file: Path, number: int, shape: Mapping[str, Any], report: Report) -> Outlined | None:
    name, kind = str(shape.get("label") or "").strip(), shape.get("shape_type") or "polygon"
    if not name:
        raise InputError(file, f"shape {number} has no label", "name its class")
    pairs = shape.get("points")
    if not isinstance(pairs, list):
        raise InputError(file, f"shape {number} has no points", "draw it again")
    points = np.array([numbers(pair, file, f"points of shape {number}", 2) for pair in pairs]).reshape(-1, 2)
    if kind in ("point", "points", "line", "linestrip"):
        report(left_out(file, 1, kind))
        return None
    if kind == "polygon" and len(points) < 3:
        report(too_few(file, f"shape {number} ({name})", file.stem))
        return None
    if kind == "polygon":
        return Outlined(name, None, (tuple(points.ravel().tolist()),))
    if kind == "circle" and len(points) == 2:
        radius = float(np.linalg.norm(points[1] - points[0]))
        return Outlined(name, None, (ellipse(points[0, 0], points[0, 1], radius, radius),))
    if kind == "rectangle" and len(points) in (2, 4):
        (x, y), (x1, y1) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
        return Outlined(name, (x, y, x1 - x, y1 - y))
    if kind == "mask" and shape.get("mask") and len(points) == 2:
        return Outlined(name, None, _rows(_mask(file, number, shape["mask"]), points[0]))
    raise InputError(file, f"shape {number}: {len(points)} points of a {kind}", "draw it again, or export as polygons")


def _mask(file: Path, number: int, text: str) -> np.ndarray:
    try:
        return apart(file, read_embedded, base64.b64decode(text)) > 0
    except (RuntimeError, ValueError) as error:
        raise InputError(file, f"the mask of shape {number} cannot be read ({error})", "draw it again") from None


def _rows(mask: np.ndarray, corner: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """One rectangle per run of pixels in a row, which together are exactly the mask."""
    x0, y0 = np.round(corner).tolist()
    padded = np.pad(mask.astype(np.int8), ((0, 0), (1, 1)))
    starts, ends = np.argwhere(np.diff(padded, axis=1) == 1), np.argwhere(np.diff(padded, axis=1) == -1)
    return tuple(
        (x0 + a, y0 + y, x0 + b, y0 + y, x0 + b, y0 + y + 1, x0 + a, y0 + y + 1)
        for (y, a), (_, b) in zip(starts.tolist(), ends.tolist(), strict=True)
    )


register_format("labelme", detect, read, DESCRIPTION, Options, order=92)
