"""Pascal VOC: one XML per picture.

    Annotations/NAME.xml    <object><name>cell</name><bndbox><xmin>...; pixels from 1, both ends included
    JPEGImages/NAME.jpg     the picture, in any folder beside Annotations
    ImageSets/Main/         train.txt, val.txt, test.txt: names of the pictures, optional

Pixels `xmin..xmax` become the half-open interval `[xmin - 1, xmax)`. Boxes without extent are left out and reported.
"""

from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import Element

from boxel.datasets.annotations import Shape, Shapes
from boxel.datasets.cases import Case, Dataset
from boxel.datasets.formats.files import images_in, listing, numbers, pictures_layout, read_text, read_xml
from boxel.datasets.formats.options import Names, ReaderOptions
from boxel.datasets.formats.registry import register_format
from boxel.datasets.problems import InputError, Report

__all__ = ["Options", "detect", "read"]

CORNERS = ("ymin", "xmin", "ymax", "xmax")


class Options(ReaderOptions):
    """Settings of the reader.

    Attributes:
        classes: names of the classes in order; alphabetical if empty.
        difficult: objects marked as difficult are ignored in training and scoring ("ignore", as in VOC's evaluation),
            used like all others ("keep"), or left out ("drop").
    """

    classes: Names = ()
    difficult: Literal["ignore", "keep", "drop"] = "ignore"


def detect(path: Path) -> bool:
    return any(file.suffix == ".xml" for file in listing(path / "Annotations"))


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set in folder `path`; problems of single cases go to `report`."""
    files = [file for file in listing(path / "Annotations") if file.suffix == ".xml"]
    images = {}
    for folder in listing(path):
        images.update(images_in(folder) if folder.name not in ("Annotations", "ImageSets") else {})
    trees = {}
    for file in files:
        try:
            trees[file] = read_xml(file)
        except InputError as problem:
            report(problem.of(file.stem))
    present = {name for tree in trees.values() for name in map(_name, tree.iter("object"))}
    classes = options.classes or tuple(sorted(present))
    parts = {part: _set(path, part) for part in ("train", "val", "test")}
    cases = []
    for file, tree in trees.items():
        stem = Path(tree.findtext("filename") or file.stem).stem
        image = images.get(file.stem) or images.get(stem)
        try:
            if image is None:
                raise InputError(
                    file, "annotation without image", f"add JPEGImages/{file.stem}.jpg, or remove it", file.stem
                )
            annotate = Shapes(tuple(_shapes(file, tree, classes, options, report)))
            split = "test" if file.stem in parts["test"] else "train"
            cases.append(Case(file.stem, (image,), split=split, annotation=file, annotate=annotate))
        except InputError as problem:
            report(problem.of(file.stem))
    folds = None
    ids = {case.id for case in cases}
    if parts["train"] and parts["val"]:
        folds = ({part: tuple(name for name in names if name in ids) for part, names in parts.items()},)
    _, channels = pictures_layout([case.channels[0] for case in cases])
    return Dataset(path, path.resolve().name, 2, classes, channels, tuple(cases), folds)


def _name(node: Element) -> str:
    return (node.findtext("name") or "").strip()


def _set(path: Path, part: str) -> list[str]:
    file = path / "ImageSets" / "Main" / f"{part}.txt"
    return [line.split()[0] for line in read_text(file).splitlines() if line.strip()] if file.exists() else []


def _shapes(file: Path, tree: Element, classes: tuple[str, ...], options: Options, report: Report) -> list[Shape]:
    shapes: list[Shape] = []
    for node in tree.iter("object"):
        name, box = _name(node), node.find("bndbox")
        if name not in classes:
            raise InputError(
                file, f"unknown class {name!r}", f"use one of {', '.join(classes)}, or add it to the classes"
            )
        difficult = (node.findtext("difficult") or "0").strip() == "1"
        if difficult and options.difficult == "drop":
            continue
        values = [box.findtext(key) if box is not None else None for key in CORNERS]
        y0, x0, y1, x1 = numbers(values, file, f"<bndbox> of object {len(shapes) + 1} ({name})")
        if y1 <= y0 or x1 <= x0:
            problem = f"box x {x0:g} to {x1:g}, y {y0:g} to {y1:g} of {name} has no extent; the object is left out"
            report(InputError(file, problem, "draw the box again, or remove the object", file.stem, "warning"))
            continue
        ignore = difficult and options.difficult == "ignore"
        shapes.append(Shape(classes.index(name), ((y0 - 1, x0 - 1), (y1, x1)), ignore=ignore))
    return shapes


register_format("voc", detect, read, "Pascal VOC: Annotations/NAME.xml and JPEGImages/NAME.jpg", Options, order=50)
