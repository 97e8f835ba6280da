"""YOLO and MedYOLO: one text file per image, one line per object, in fractions of the image's extent.

    images/train/NAME.png  labels/train/NAME.txt    YOLO: `class x_centre y_centre width height`
    images/train/NAME.nii.gz                        MedYOLO: `class z_centre x_centre y_centre depth width height`
    images/val, images/test                         further parts; or no sub-folders at all
    train/images, train/labels, valid/images ...    the folders the other way round, as in Roboflow's exports
    data.yaml                                       optional: `names: [cell, ...]`; `train`, `val`, `test`: folders

As in YOLO, an image without text file has no objects. More than four numbers after the class are a polygon.
In MedYOLO x, y and z are the axes of the NIfTI file, so that x runs along the last array axis here.
"""

from pathlib import Path
from typing import Any

import numpy as np

from boxel.datasets.annotations import Shape, Shapes
from boxel.datasets.cases import Case, Dataset
from boxel.datasets.formats.files import (
    class_names,
    images_in,
    listing,
    numbers,
    pictures_layout,
    read_mapping,
    read_text,
)
from boxel.datasets.formats.options import Names, ReaderOptions
from boxel.datasets.formats.registry import register_format
from boxel.datasets.problems import InputError, Report

__all__ = ["Options", "detect", "read"]

PARTS = ("", "train", "val", "test")
NAMES = {"valid": "val", "validation": "val"}


class Options(ReaderOptions):
    """`classes`: names of the classes in order, if there is no data.yaml."""

    classes: Names = ()


def detect(path: Path) -> bool:
    try:
        folders = _folders(path)
    except ValueError:  # a YAML of another kind, or a damaged one, which `read` reports
        folders = _usual(path)
    return any(file.suffix == ".txt" for _, _, labels in folders for file in listing(labels))


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set in folder `path`; problems of single cases go to `report`."""
    files: dict[str, tuple[str, Path, Path]] = {}
    for part, images, labels in _folders(path):
        for stem, image in images_in(images).items():
            if stem in files:
                report(
                    InputError(image, f"duplicate case {stem!r}", f"{files[stem][1]} has this name: rename one", stem)
                )
            files[stem] = (part, image, labels / f"{stem}.txt")
        for file in listing(labels):
            if file.suffix == ".txt" and file.stem not in files and file.stem != "classes":
                report(InputError(file, "annotation without image", f"add {images / file.stem}", file.stem))
    ndim, channels = pictures_layout(image for _, image, _ in files.values())
    cases: list[Case] = []
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for stem, (part, image, text) in sorted(files.items()):
        try:
            annotate = Shapes(tuple(_shapes(text, ndim)) if text.exists() else ())
        except InputError as problem:
            report(problem.of(stem))
            continue
        annotation = text if text.exists() else None
        cases.append(
            Case(stem, (image,), split="test" if part == "test" else "train", annotation=annotation, annotate=annotate)
        )
        parts[part].append(stem)
    used = {label for case in cases for label in case.labels}
    names = next((values["names"] for values in _heads(path) if values.get("names")), None)
    classes = class_names(options.classes, names, used, path)
    folds = None
    if parts["train"] and parts["val"]:
        folds = ({part: tuple(parts[part]) for part in PARTS[1:]},)
    return Dataset(path, path.resolve().name, ndim, classes, channels, tuple(cases), folds)


def _folders(path: Path) -> list[tuple[str, Path, Path]]:
    """Part, images and labels: the folders that a data.yaml names, otherwise the usual ones that exist."""
    named = [
        (part, folder, folder.parents[depth] / "labels" / folder.relative_to(folder.parents[depth] / "images"))
        for part in PARTS[1:]
        for folder in _named_folders(path, part)
        for depth in [folder.parts[::-1].index("images")]
    ]
    return named or _usual(path)


def _usual(path: Path) -> list[tuple[str, Path, Path]]:
    usual = [(part, path / "images" / part, path / "labels" / part) for part in PARTS]
    usual += [(NAMES.get(part, part), path / part / "images", path / part / "labels") for part in (*PARTS[1:], *NAMES)]
    return [(part, images, labels) for part, images, labels in usual if images.is_dir()]


def _named_folders(path: Path, part: str) -> list[Path]:
    """Named folders with "images" in their path, which tells where their labels lie."""
    for values in _heads(path):
        entries = values.get(part) or []
        root = path / str(values.get("path") or "")
        folders = [
            place.resolve()
            for entry in (entries if isinstance(entries, list) else [entries])
            for place in (root / str(entry), path / str(entry))
            if place.is_dir() and "images" in place.resolve().parts
        ]
        if folders:
            return list(dict.fromkeys(folders))
    return []


def _heads(path: Path) -> list[dict[str, Any]]:
    files = [file for file in listing(path) if file.suffix in (".yaml", ".yml")]
    return [values for file in files if isinstance(values := read_mapping(file), dict)]


def _shapes(file: Path, ndim: int) -> list[Shape]:
    shapes = []
    for line_number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"line {line_number}"
        label, *values = numbers(line.split(), file, where)
        if label < 0 or label != int(label) or len(values) < 2 * ndim:
            rule = "class and 4 fractions (2D), or class and 6 (3D)"
            raise InputError(file, f"{where} is {line[:60]!r}", f"write {rule}")
        if ndim == 2 and len(values) > 5:
            points = np.array(values[: len(values) // 2 * 2]).reshape(-1, 2)[:, ::-1]
        else:
            centre, extent = np.array(values[: 2 * ndim]).reshape(2, ndim)
            order = (1, 0) if ndim == 2 else (0, 2, 1)  # x, y or z, x, y to array order
            centre, extent = centre[list(order)], extent[list(order)]
            points = np.stack([centre - extent / 2, centre + extent / 2])
        if (points < -0.5).any() or (points > 1.5).any() or not (np.ptp(points, axis=0) > 0).all():
            raise InputError(
                file, f"{where} is not a box inside the image: {line[:60]!r}", "write fractions from 0 to 1"
            )
        shapes.append(Shape(int(label), tuple(map(tuple, points.tolist())), frame="fraction"))
    return shapes


register_format(
    "yolo", detect, read, "YOLO and MedYOLO: images/train/NAME.png and labels/train/NAME.txt", Options, order=80
)
