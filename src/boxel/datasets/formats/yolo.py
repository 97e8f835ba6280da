"""YOLO and MedYOLO: one text file per image, one line per object, in fractions of the image's extent.

    images/train/NAME.png  labels/train/NAME.txt    YOLO: `class x_centre y_centre width height`
    images/train/NAME.nii.gz                        MedYOLO: `class z_centre x_centre y_centre depth width height`
    images/val, images/test                         further parts; or no sub-folders at all
    train/images, train/labels, valid/images ...    the folders the other way round, as in Roboflow's exports
    data.yaml                                       optional: `names: [cell, ...]`; `train`, `val`, `test`: folders

The folders may have folders in them, alike for images and labels. As in YOLO, an image without text file has no
objects, but if no image of a part has one, their folder is missing. More than five numbers after the class are a
polygon, or with `kpt_shape` in data.yaml a box and key points.
In MedYOLO x, y and z are the axes of the NIfTI file, so that x runs along the last array axis here.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from boxel.datasets.annotations import Shape, Shapes
from boxel.datasets.cases import Case, Dataset
from boxel.datasets.formats.files import (
    class_names,
    listing,
    numbers,
    pictures_layout,
    read_mapping,
    read_text,
)
from boxel.datasets.formats.options import Names, ReaderOptions
from boxel.datasets.formats.registry import register_format
from boxel.datasets.lookup import case_ids, images_below
from boxel.datasets.problems import InputError, Report
from boxel.io import split_suffix

__all__ = ["Options", "detect", "read"]

PARTS = ("", "train", "val", "test")
NAMES = {"valid": "val", "validation": "val"}


class Options(ReaderOptions):
    """Settings of the reader.

    Attributes:
        classes: names of the classes in order, if there is no data.yaml.
        lines: what the numbers after the class are: the centre and size of a box, the corners of a polygon, or a box
            and key points, which are not used. "auto" takes more than five numbers for key points if data.yaml has
            `kpt_shape`, and otherwise for a polygon if data.yaml exists or the lines differ in length.
    """

    classes: Names = ()
    lines: Literal["auto", "boxes", "polygons", "keypoints"] = "auto"


def detect(path: Path) -> bool:
    try:
        folders = _folders(path)
    except ValueError:  # a YAML of another kind, or a damaged one, which `read` reports
        folders = _usual(path)
    return any(True for _, _, labels in folders for _ in _texts(labels))


def _texts(folder: Path) -> Iterator[Path]:
    """The annotations in a folder and in those below."""
    for path in listing(folder):
        if path.is_dir():
            yield from _texts(path)
        elif path.suffix.lower() == ".txt" and path.stem != "classes":
            yield path


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set in folder `path`; problems of single cases go to `report`."""
    found: list[tuple[str, Path, Path]] = []  # part, image, text
    texts: set[Path] = set()
    for part, images, labels in sorted(_folders(path), key=lambda entry: -len(entry[1].parts)):  # parts before `images`
        known = {image for _, image, _ in found}
        inside = [image for image in images_below(images) if image not in known]
        mine = [(part, image, labels / image.relative_to(images).with_name(f"{_stem(image)}.txt")) for image in inside]
        found += mine
        texts |= set(_texts(labels))
        if mine and not any(text.exists() for _, _, text in mine):
            problem = f"no annotation for any of the {len(mine)} images in {images}"
            fix = f"add {mine[0][2].name} and the others, or an empty file for an image without objects"
            report(InputError(labels, problem, fix, severity="warning" if labels.is_dir() else "error"))
    for file in sorted(texts - {text for _, _, text in found}):
        if _is_annotation(file):
            report(InputError(file, "annotation without image", f"add an image named {file.stem}", file.stem))
    ids = case_ids([image for _, image, _ in found], path)
    owners: dict[Path, Path] = {}
    for (_, image, text), case in zip(found, ids, strict=True):
        if owners.setdefault(text, image) != image:
            fix = "rename one of the images, and its annotation"
            report(InputError(text, f"both {owners[text].name} and {image.name} have this annotation", fix, case))
    ndim, channels = pictures_layout(image for _, image, _ in found)
    key_points = _key_points(path, [text for _, _, text in found], ndim, options)
    cases: list[Case] = []
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for case, (part, image, text) in sorted(zip(ids, found, strict=True)):
        try:
            annotate = Shapes(tuple(_shapes(text, ndim, key_points, options)) if text.exists() else ())
        except InputError as problem:
            report(problem.of(case))
            continue
        annotation = text if text.exists() else None
        cases.append(
            Case(case, (image,), split="test" if part == "test" else "train", annotation=annotation, annotate=annotate)
        )
        parts[part].append(case)
    used = {label for case in cases for label in case.labels}
    names = next((values["names"] for values in _heads(path) if values.get("names")), None)
    classes = class_names(options.classes, names, used, path)
    folds = None
    if parts["train"] and parts["val"]:
        folds = ({part: tuple(parts[part]) for part in PARTS[1:]},)
    return Dataset(path, path.resolve().name, ndim, classes, channels, tuple(cases), folds)


def _stem(image: Path) -> str:
    return split_suffix(image)[0]


def _is_annotation(file: Path) -> bool:
    """Whether a text file has numbers only, unlike a note that somebody left."""
    try:
        return all(numbers(line.split(), file, "") for line in read_text(file).splitlines() if line.strip())
    except ValueError:
        return False


def _key_points(path: Path, texts: Sequence[Path], ndim: int, options: Options) -> bool:
    """Whether long lines are boxes with key points.

    Raises:
        InputError: they may be that or polygons, and nothing decides.
    """
    heads = _heads(path)
    if options.lines != "auto" or heads or ndim == 3:
        return options.lines == "keypoints" or (
            options.lines == "auto" and any("kpt_shape" in values for values in heads)
        )
    lines = [(text, line) for text in texts if text.exists() for line in read_text(text).splitlines()]
    long = [(text, line) for text, line in lines if len(line.split()) > 6]
    if long and len({len(line.split()) for _, line in long}) == 1 and len(long) > 1:
        problem = (
            f"{len(long[0][1].split()) - 1} numbers after the class in every line: polygons, or boxes and key points"
        )
        fix = "say which, by --option lines=polygons or lines=keypoints, or by a data.yaml"
        raise InputError(long[0][0], problem, fix)
    return False


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


def _shapes(file: Path, ndim: int, key_points: bool, options: Options) -> list[Shape]:
    shapes = []
    for line_number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"line {line_number}"
        label, *values = numbers(line.split(), file, where)
        if label < 0 or label != int(label) or len(values) < 2 * ndim:
            rule = "class and 4 fractions (2D), or class and 6 (3D)"
            raise InputError(file, f"{where} is {line[:60]!r}", f"write {rule}")
        if ndim == 2 and len(values) > 5 and not key_points and options.lines != "boxes":
            if len(values) % 2:
                problem = f"{where} has {len(values)} numbers after the class, which is no polygon"
                fix = "key points need kpt_shape in data.yaml, or --option lines=keypoints"
                raise InputError(file, problem, fix)
            points = np.array(values).reshape(-1, 2)[:, ::-1]
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
