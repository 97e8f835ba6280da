"""YOLO and MedYOLO: one text file per image, one line per object, in fractions of the image's extent.

    images/train/NAME.png  labels/train/NAME.txt    YOLO: `class x_centre y_centre width height`
    images/train/NAME.nii.gz                        MedYOLO: `class z_centre x_centre y_centre depth width height`
    images/val, images/test                         likewise; or all without these sub-folders
    data.yaml                                       optional: `names: [cell, ...]`

An image without text file shows no object, as YOLO has it. More than four numbers after the class are a polygon.
In MedYOLO x, y and z are the axes of the NIfTI file, so that x runs along the last array axis here.
"""

from pathlib import Path

import numpy as np

from boxel.data.annotations import Shape, Shapes
from boxel.data.cases import Case, Dataset
from boxel.data.formats.files import (
    images_in,
    listing,
    named_numbers,
    numbered_classes,
    numbers,
    pictures_layout,
    read_mapping,
    read_text,
)
from boxel.data.formats.options import Names, ReaderOptions
from boxel.data.problems import InputError, Report

__all__ = ["DESCRIPTION", "NAME", "Options", "detect", "read"]

NAME = "yolo"
DESCRIPTION = "YOLO and MedYOLO: images/train/NAME.png and labels/train/NAME.txt"
PARTS = ("", "train", "val", "test")


class Options(ReaderOptions):
    """`classes`: their names in order, where there is no data.yaml."""

    classes: Names = ()


def detect(path: Path) -> bool:
    texts = [file for part in PARTS for file in listing(path / "labels" / part) if file.suffix == ".txt"]
    return (path / "images").is_dir() and bool(texts)


def read(path: Path, report: Report, options: Options) -> Dataset:
    """The data set in folder `path`; problems of single cases go to `report`."""
    found: dict[str, tuple[str, Path]] = {}
    for part in PARTS:
        for stem, image in images_in(path / "images" / part).items():
            found[stem] = (part, image)
        for file in listing(path / "labels" / part):
            if file.suffix == ".txt" and file.stem not in found and file.stem != "classes":
                report(InputError(file, "annotation without image", f"add images/{part}/{file.stem}", file.stem))
    ndim, channels = pictures_layout(image for _, image in found.values())
    cases: list[Case] = []
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for stem, (part, image) in sorted(found.items()):
        text = path / "labels" / part / f"{stem}.txt"
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
    labels = {label for case in cases for label in case.labels}
    classes = options.classes or _names(path) or numbered_classes(labels, path)
    folds = None
    if parts["train"] and parts["val"]:
        folds = ({part: tuple(parts[part]) for part in PARTS[1:]},)
    return Dataset(path, path.resolve().name, ndim, classes, channels, tuple(cases), folds)


def _names(path: Path) -> tuple[str, ...]:
    for file in listing(path):
        values = read_mapping(file) if file.suffix in (".yaml", ".yml") else None
        if isinstance(values, dict) and values.get("names"):
            return tuple(name for _, name in sorted(named_numbers(values["names"])))
    return ()


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
            raise InputError(file, f"{where} is no box inside the image: {line[:60]!r}", "write fractions from 0 to 1")
        shapes.append(Shape(int(label), tuple(map(tuple, points.tolist())), frame="fraction"))
    return shapes
