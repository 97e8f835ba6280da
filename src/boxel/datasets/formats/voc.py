"""Pascal VOC: one XML per picture.

    Annotations/NAME.xml    <object><name>cell</name><bndbox><xmin>...; pixels from 1, both ends included
    JPEGImages/NAME.jpg     the picture; other folders of images are searched too
    ImageSets/Main/         train.txt, val.txt, test.txt: names of the pictures, optional
    train/NAME.xml          beside train/NAME.jpg, also valid and test, as Roboflow exports it; or all in one folder

Pixels `xmin..xmax` become the half-open interval `[xmin - 1, xmax)`. Boxes without extent are left out and reported.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import Element

from boxel.datasets.annotations import Shape, Shapes
from boxel.datasets.cases import Case, Dataset
from boxel.datasets.declared import declared_size, flag
from boxel.datasets.formats.files import numbers, pictures_layout
from boxel.datasets.formats.options import ImageOptions, Names
from boxel.datasets.formats.registry import register_format
from boxel.datasets.lookup import IMAGE_FOLDERS, Lookup
from boxel.datasets.names import case_ids, part_named, split_of_folders, split_word
from boxel.datasets.problems import InputError, Report, Severity, some
from boxel.inputs.folders import listing
from boxel.inputs.texts import read_head, read_text, read_xml
from boxel.io import split_suffix

__all__ = ["Options", "detect", "read"]

FOLDERS = ("annotations", "annotation", "labels", "xmls", "xml")
LISTS = Path("ImageSets", "Main")
CORNERS = ("ymin", "xmin", "ymax", "xmax")


class Options(ImageOptions):
    """Settings of the reader.

    Attributes:
        classes: names of the classes in order; alphabetical if empty.
        difficult: objects marked as difficult are ignored in training and scoring ("ignore", as in VOC's evaluation),
            used like all others ("keep"), or left out ("drop").
    """

    classes: Names = ()
    difficult: Literal["ignore", "keep", "drop"] = "ignore"


def detect(path: Path) -> bool:
    return bool(_files(path))


def _files(path: Path) -> list[Path]:
    """The annotations: in the folder `Annotations`, in the folders of parts, or in `path` itself."""
    parts = [folder for folder in listing(path) if folder.is_dir() and split_word(folder.name)]
    for folders in ([_folder(path)], parts, [path]):
        files = [file for folder in folders for file in _below(folder, deep=folder != path) if _is_voc(file)]
        if files:
            return files
    return []


def _folder(path: Path) -> Path:
    """The folder of the annotations; it may be called `annotations`, `labels` or `xmls` too."""
    named = {folder.name.lower(): folder for folder in reversed(listing(path)) if folder.is_dir()}
    inside = (named[name] for name in FOLDERS if name in named and any(map(_is_voc, _below(named[name], deep=True))))
    return next(inside, path / "Annotations")


def _below(folder: Path, *, deep: bool) -> Iterator[Path]:
    for file in listing(folder):
        if file.is_dir() and deep:
            yield from _below(file, deep=True)
        elif file.suffix.lower() == ".xml" and file.is_file():
            yield file


def _is_voc(file: Path) -> bool:
    head = read_head(file, 4096).replace(b"\0", b"")  # UTF-16
    return (
        (not head and file.stat().st_size > 0)
        or file.parent.name == "Annotations"
        or bool(re.search(rb"<annotation[\s>]", head))
    )


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set in folder `path`; problems of single cases go to `report`."""
    lookup = Lookup(path, report, options.images, ("JPEGImages", *IMAGE_FOLDERS))
    base = _folder(path)
    trees: dict[Path, Element] = {}
    images: dict[Path, Path] = {}
    folders: dict[Path, str] = {}
    files = _files(path)
    for file in files:
        try:
            tree = read_xml(file)
            folders[file] = split_of_folders(file, path)
            images[file] = _image(file, tree, _place(file, path, base), lookup)
        except InputError as problem:
            report(problem.of(file.stem))
            continue
        trees[file] = tree
    lookup.report_unused()
    present = {name for tree in trees.values() for name in map(_name, tree.iter("object"))}
    classes = options.classes or tuple(sorted(present - {""}))
    cases, parts = [], {part: list[str]() for part in ("train", "val", "test")}
    ids = case_ids(list(images.values()), path)
    lists = _lists(path, {*ids, *(str(_place(file, path, base)) for file in files)}, report)
    unlisted: list[str] = []
    lists_train = any("train" in known for known in lists.values())
    for (file, tree), case in zip(trees.items(), ids, strict=True):
        try:
            annotate = Shapes(tuple(_shapes(file, tree, classes, options, report)))
            size = declared_size(tree.findtext("size/height"), tree.findtext("size/width"), file, "<size>")
        except InputError as problem:
            report(problem.of(case))
            continue
        listed = {part for name in {str(_place(file, path, base)), case} for part in lists.get(name, ())}
        if len(listed) > 1:
            several = f"{file.stem} is in the lists of {' and '.join(sorted(listed))}"
            report(InputError(path / LISTS, several, "keep it in one of them", case))
            continue
        if not listed and lists_train:
            unlisted.append(case)
            continue
        part = listed.pop() if listed else "" if lists else folders[file]
        split = "test" if part == "test" else "train"
        cases.append(Case(case, (images[file],), split=split, annotation=file, annotate=annotate, declared=size))
        if part:
            parts[part].append(case)
    if unlisted:
        unused = f"cases in no list of train, val and test are not used: {some(unlisted)}"
        report(InputError(path / LISTS, unused, "add them to a list if they should be used", severity="warning"))
    folds = ({part: tuple(ids) for part, ids in parts.items()},) if parts["train"] and parts["val"] else None
    _, channels = pictures_layout([case.channels[0] for case in cases])
    return Dataset(path, path.resolve().name, 2, classes, channels, tuple(cases), folds)


def _image(file: Path, tree: Element, place: Path, lookup: Lookup) -> Path:
    """The picture of an annotation: the one of its name, in the same folders; or the one that it names."""
    named = (tree.findtext("filename") or "").strip()
    written = [(tree.findtext("path") or "").strip(), f"{(tree.findtext('folder') or '').strip()}/{named}", named]
    written = [name for name in written if named and re.split(r"[\\/]", name)[-1] == re.split(r"[\\/]", named)[-1]]
    beside = [str(place.with_name(named)), str(place)] if Path(named).stem == file.stem else [str(place)]
    image = lookup.find(beside[0], file, *beside[1:], *written)
    if image.is_dir() and written:  # a folder of the annotation's name
        image = lookup.find(written[0], file, *written[1:])
    other = image.with_name(Path(named.replace("\\", "/")).name) if named else image
    if other.stem != image.stem and os.path.isfile(other):
        problem = f"<filename> is {named!r}, but {image.name} has the name of this file, and both exist"
        raise InputError(file, problem, "correct <filename>, or rename this file after its image")
    return image


def _place(file: Path, path: Path, base: Path) -> Path:
    """An annotation without its suffix, relative to `base`, the folder of the annotations, or to `path`."""
    return file.relative_to(base if file.is_relative_to(base) else path).with_suffix("")


def _name(node: Element) -> str:
    return (node.findtext("name") or "").strip()


def _lists(path: Path, known: set[str], report: Report) -> dict[str, set[str]]:
    """The parts of every name in the lists; a name may have the suffix of its image.

    Names without annotation are reported. That is an error only if it holds for all of them: the challenge's test lists
    came without annotations.
    """
    files = {file: part_named(file.stem) for file in listing(path / LISTS) if file.suffix == ".txt"}
    named = {file: {_listed(line, known) for line in read_text(file).splitlines() if line.strip()}
             for file, part in files.items() if part}  # fmt: skip
    severity: Severity = "warning" if set().union(*named.values()) & known else "error"
    parts: dict[str, set[str]] = defaultdict(set)
    for file, names in named.items():
        for name in names:
            parts[name].add(files[file])
        strange = sorted(names - known)
        if strange:
            problem = f"{len(strange)} of {len(names)} names have no annotation (XML), the first is {strange[0]!r}"
            fix = "correct them, add the annotations, without <object> where there is none, or remove them"
            report(InputError(file, problem, fix, severity=severity))
    return parts


def _listed(line: str, known: set[str]) -> str:
    name = re.sub(r"\s+-?[01]$", "", line.strip())  # the lists of single classes have -1, 0 or 1 after the name
    plain = split_suffix(Path(name))[0]
    return name if name in known or plain not in known else plain


def _shapes(file: Path, tree: Element, classes: tuple[str, ...], options: Options, report: Report) -> list[Shape]:
    shapes: list[Shape] = []
    for number, node in enumerate(tree.iter("object"), start=1):
        name, box = _name(node), node.find("bndbox")
        if not name:
            raise InputError(file, f"object {number} has no <name>", "write its class, as in <name>cell</name>")
        if name not in classes:
            raise InputError(
                file, f"unknown class {name!r}", f"use one of {', '.join(classes)}, or add it to the classes"
            )
        difficult = flag(node.findtext("difficult"), file, f"<difficult> of object {number} ({name})")
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
