"""YOLO and MedYOLO: one text file per image, one line per object, in fractions of the image's extent.

    images/train/NAME.png  labels/train/NAME.txt    YOLO: `class x_centre y_centre width height`
    images/train/NAME.nii.gz                        MedYOLO: `class z_centre x_centre y_centre depth width height`
    images/val, images/test                         further parts; or no sub-folders at all
    train/images, train/labels, valid/images ...    the folders the other way round, as in Roboflow's exports
    data.yaml                                       optional: `names: [cell, ...]`; `train`, `val`, `test`: folders,
                                                    or text files that list images
    labels/classes.txt                              optional: the name of a class per line, if there is no data.yaml

The folders may have folders in them, alike for images and labels. As in YOLO, an image without text file has no
objects, but if no image of a part has one, their folder is missing. More than five numbers after the class are a
polygon (or the corners of a turned box), or with `kpt_shape` in data.yaml a box and key points.
In MedYOLO x, y and z are the axes of the NIfTI file, so that x runs along the last array axis here.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from boxel.datasets.annotations import Shapes
from boxel.datasets.cases import Case, Dataset
from boxel.datasets.formats.files import (
    class_names,
    listing,
    named_numbers,
    pictures_layout,
    read_mapping,
    read_text,
)
from boxel.datasets.formats.options import Names, ReaderOptions
from boxel.datasets.formats.registry import register_format
from boxel.datasets.formats.yolo_lines import is_annotation, key_points, shapes_of
from boxel.datasets.lookup import MASKS, Lookup, images_below
from boxel.datasets.names import case_ids, split_word, words
from boxel.datasets.problems import InputError, Report, Severity, some
from boxel.io import split_suffix
from boxel.wording import counted

__all__ = ["Options", "detect", "read"]

PARTS = ("", "train", "val", "test")


class Options(ReaderOptions):
    """Settings of the reader.

    Attributes:
        classes: names of the classes in order, instead of those in data.yaml or classes.txt.
        lines: what the numbers after the class are: the centre and size of a box, the corners of a polygon, or a box
            and key points, which are not used. "auto" takes more than five numbers for key points if data.yaml has
            `kpt_shape`, and otherwise for a polygon if data.yaml exists or these lines differ in length.
    """

    classes: Names = ()
    lines: Literal["auto", "boxes", "polygons", "keypoints"] = "auto"


class _Part(NamedTuple):
    """Images of one part of a split, and the folder of their annotations, whose paths are alike."""

    name: str
    images: Path
    labels: Path
    files: Sequence[Path]
    listed: bool = False  # the images are named one by one

    def text(self, image: Path) -> Path:
        """The annotation of an image; its suffix may be in capitals."""
        relative = image.relative_to(self.images)
        plain = self.labels / relative.with_name(f"{split_suffix(image)[0]}.txt")
        return next((text for text in (plain, plain.with_suffix(".TXT")) if text.exists()), plain)


def detect(path: Path) -> bool:
    try:
        parts = _parts(path, lambda problem: None)
    except ValueError:  # a YAML of another kind, or a damaged one, which `read` reports
        parts = _usual(path)
    return any(True for part in parts for _ in _texts(part.labels))


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
    chosen = _parts(path, report)
    for place in sorted(chosen, key=lambda place: -len(place.images.parts)):  # parts before `images`
        known = {image: part for part, image, _ in found}
        _report_twice(place, known, path, report)
        masks = set() if place.listed else _masks(place)
        mine = [(place.name, image, place.text(image)) for image in place.files if image not in {*known, *masks}]
        found += mine
        texts |= set(_texts(place.labels))
        whole = not any(text.exists() for _, _, text in mine)
        folders: dict[tuple[Path, Path], list[Path]] = defaultdict(list)  # of images, and of their annotations
        for _, image, text in mine:
            folders[(place.images, place.labels) if whole else (image.parent, text.parent)].append(text)
        for (images, annotations), expected in folders.items():
            if not any(text.exists() for text in expected):
                absent = f"no annotation for any of the {len(expected)} images in {images}"
                fix = f"add {expected[0].name} and the others, or an empty file for an image without objects"
                report(InputError(annotations, absent, fix))
    _report_others(path, chosen, {image: text for _, image, text in found}, texts, report)
    ids = case_ids([image for _, image, _ in found], path)
    owners: dict[Path, Path] = {}
    for (_, image, text), case in zip(found, ids, strict=True):
        if owners.setdefault(text, image) != image:
            fix = "rename one of the images, and its annotation"
            report(InputError(text, f"both {owners[text].name} and {image.name} have this annotation", fix, case))
    ndim, channels = pictures_layout(image for _, image, _ in found)
    heads = _heads(path)
    points = key_points(path, [text for _, _, text in found], ndim, heads, options.lines)
    cases: list[Case] = []
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    for case, (part, image, text) in sorted(zip(ids, found, strict=True)):
        try:
            annotate = Shapes(tuple(shapes_of(text, ndim, points, options.lines)) if text.exists() else ())
        except InputError as problem:
            report(problem.of(case))
            continue
        annotation = text if text.exists() else None
        cases.append(
            Case(case, (image,), split="test" if part == "test" else "train", annotation=annotation, annotate=annotate)
        )
        parts[part].append(case)
    labels = {label for case in cases for label in case.labels}
    names = None if options.classes else _names(path, heads, [place.labels for place in chosen])
    classes = class_names(options.classes, names, labels, path)
    folds = None
    if parts["train"] and parts["val"]:
        folds = ({part: tuple(parts[part]) for part in PARTS[1:]},)
        if parts[""]:
            number = counted(len(parts[""]), "image is", "images are")
            apart = f"{number} in no part of the split and not used: {some(parts[''])}"
            report(InputError(path, apart, "move them to the folder of a part", severity="warning"))
    return Dataset(path, path.resolve().name, ndim, classes, channels, tuple(cases), folds)


def _report_others(
    path: Path, chosen: Sequence[_Part], used: Mapping[Path, Path], texts: set[Path], report: Report
) -> None:
    """Say which images lie in the usual folders but in no chosen part, and which of `texts` belong to no image."""
    places = [(image, place.text(image)) for place in (*chosen, *_usual(path)) for image in images_below(place.images)]
    masks = {mask for place in (*chosen, *_usual(path)) for mask in _masks(place)} - set(used)
    if masks:
        problem = f"{counted(len(masks), 'image is a mask', 'images are masks')} and not used: {some(map(str, masks))}"
        report(InputError(path, problem, "add a text file to each that is an image", severity="note"))
    unused = sorted({str(image) for image, _ in places if image not in used and image not in masks})
    if unused:
        problem = (
            f"{counted(len(unused), 'image is', 'images are')} in no part of the split and not used: {some(unused)}"
        )
        report(InputError(path, problem, "add them to a part in data.yaml", severity="warning"))
    for file in sorted(texts - set(used.values()) - {text for _, text in places}):
        if is_annotation(file):
            report(InputError(file, "the annotation has no image", f"add an image named {file.stem}", file.stem))


def _report_twice(place: _Part, known: Mapping[Path, str], path: Path, report: Report) -> None:
    """Say which images of a part are also in another one, of `known`, which keeps them."""
    twice = [image for image in place.files if known.get(image, "") not in ("", place.name)] if place.name else []
    if not twice:
        return
    other, whole = known[twice[0]], len(twice) == len(place.files)
    problem = f"{len(twice)} of {len(place.files)} images of {place.name} are also in {other}, such as {twice[0]}"
    severity: Severity = "error" if (place.listed and not whole) or "test" in (place.name, other) else "warning"
    if severity == "warning":
        problem += f"; they are used for {other} only"
    report(InputError(path, problem, "give each part its own images in data.yaml", severity=severity))


def _names(path: Path, heads: Sequence[Mapping[str, Any]], folders: Sequence[Path]) -> Any:
    """The names of the classes in data.yaml, or in the classes.txt that LabelImg and Label Studio write.

    Raises:
        InputError: two of these files contradict each other.
    """
    named = [values["names"] for values in heads if values.get("names")][:1]
    places = {place for folder in folders for place in (folder, *folder.parents) if place.is_relative_to(path)}
    for file in sorted(place / "classes.txt" for place in {*places, path}):
        lines = [line.strip() for line in read_text(file).splitlines()] if file.is_file() else []
        while lines and not lines[-1]:
            lines.pop()
        if not lines:
            continue
        if named and dict(named_numbers(named[0])) != dict(enumerate(lines)):
            problem = f"its classes {', '.join(lines)[:200]} are not those of the others: {str(named[0])[:200]}"
            raise InputError(file, problem, "correct data.yaml or this file, or use --option classes=FIRST,SECOND")
        named.append(lines)
    return named[0] if named else None


def _parts(path: Path, report: Report) -> list[_Part]:
    """The parts that a data.yaml names, and where it names none that exists those in the usual folders."""
    heads, usual = _heads(path), _usual(path)
    entries = {part: next((values[part] for values in heads if values.get(part)), None) for part in PARTS[1:]}
    chosen: list[_Part] = []
    for part, named in entries.items():
        for entry in map(str, named if isinstance(named, list) else [named] if named else []):
            mine = _named(path, part, entry, heads, report)
            instead = [] if mine else [other for other in usual if other.name == part]
            if not mine:
                problem = f"{entry!r}, which data.yaml names for {part}, does not exist"
                problem += f"; {instead[0].images.relative_to(path)} is used" if instead else ""
                severity: Severity = "warning" if instead or part == "test" else "error"
                report(InputError(path, problem, "correct the path", severity=severity))
            chosen += [new for new in mine or instead if new not in chosen]
    return chosen or usual


def _named(path: Path, part: str, entry: str, heads: Sequence[Mapping[str, Any]], report: Report) -> list[_Part]:
    """The images of a folder, or of a text file that lists them; empty if there is neither."""
    roots = [path / str(values.get("path") or "") for values in heads]
    inside = re.sub(r"^(\.\./)+", "", entry.replace("\\", "/"))  # Roboflow writes ../train/images for train/images
    places = [path / inside, *(root / entry for root in roots), path / entry]
    folder = next((Path(os.path.normpath(place)) for place in places if place.is_dir()), None)
    if folder:
        inner = _inside(folder, "images")
        folder = inner if "images" not in map(str.lower, folder.parts) and inner.is_dir() else folder
        return [_Part(part, folder, _labels(folder), images_below(folder))]
    file = next((place for place in places if place.is_file()), None)
    lookup = Lookup(path, report)
    files: dict[Path, list[Path]] = defaultdict(list)
    for line in filter(str.strip, read_text(file).splitlines()) if file else ():
        try:
            image = lookup.find(line, file or path)
        except InputError as problem:
            report(problem)
            continue
        files[image.parent].append(image)
    return [_Part(part, folder, _labels(folder), images, True) for folder, images in files.items()]


def _masks(place: _Part) -> set[Path]:
    """The images without annotation in a folder for masks, or named after another image and what they are."""
    images = images_below(place.images)
    stems = {image.with_name(split_suffix(image)[0]) for image in images}

    def is_mask(image: Path) -> bool:
        name = split_suffix(image)[0]
        start, _, last = re.sub(r"[-. ]", "_", name).rpartition("_")
        inner = image.relative_to(place.images).parts[:-1]
        named = bool(start) and last.lower() in MASKS and image.with_name(name[: len(start)]) in stems
        return named or any(MASKS & set(words(folder)) for folder in inner)

    return {image for image in images if is_mask(image) and not place.text(image).exists()}


def _labels(images: Path) -> Path:
    """The folder of the annotations: the last `images` in the path replaced, or else that of the images."""
    names = [name.lower() for name in images.parts[::-1]]
    if "images" not in names:
        return images
    depth = names.index("images")
    folder = images.parents[depth]
    for name in ("labels", *images.parts[len(images.parts) - depth :]):
        folder = _inside(folder, name)
    return folder


def _inside(folder: Path, name: str) -> Path:
    """The folder of a name in another, if there is none that of the name in other case."""
    alike = [inner for inner in listing(folder) if inner.name.lower() == name.lower() and inner.is_dir()]
    return folder / name if len(alike) != 1 or (folder / name).is_dir() else alike[0]


def _usual(path: Path) -> list[_Part]:
    """The parts in folders such as `images/train` or `train/images`, and all images without such a folder."""
    images = _inside(path, "images")
    folders = [folder for folder in listing(images) if folder.is_dir() and split_word(folder.name)]
    folders += [_inside(folder, "images") for folder in listing(path) if split_word(folder.name)]
    named = [(split_word(folder.name) or split_word(folder.parent.name), folder) for folder in folders]
    return [
        _Part(part, folder, _labels(path / folder.relative_to(path)), images_below(folder))
        for part, folder in [*named, ("", images)]
        if folder.is_dir()
    ]


def _heads(path: Path) -> list[dict[str, Any]]:
    files = [file for file in listing(path) if file.suffix in (".yaml", ".yml")]
    return [values for file in files if isinstance(values := read_mapping(file), dict)]


register_format(
    "yolo", detect, read, "YOLO and MedYOLO: images/train/NAME.png and labels/train/NAME.txt", Options, order=80
)
