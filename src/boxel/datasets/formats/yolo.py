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

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from boxel.datasets.annotations import Shapes
from boxel.datasets.cases import Case, Dataset
from boxel.datasets.formats.files import (
    class_names,
    named_numbers,
    pictures_layout,
)
from boxel.datasets.formats.options import Names, ReaderOptions
from boxel.datasets.formats.registry import register_format
from boxel.datasets.formats.yolo_lines import is_annotation, key_points, names_in, shapes_of
from boxel.datasets.formats.yolo_parts import PARTS, Part, heads_of, masks_of, parts_of, texts_below, usual_parts
from boxel.datasets.lookup import images_below
from boxel.datasets.names import as_id, case_ids
from boxel.datasets.problems import InputError, Report, Severity, some

__all__ = ["Options", "detect", "read"]


class Options(ReaderOptions):
    """Settings of the reader.

    Attributes:
        classes: names of the classes in order, instead of those in data.yaml or classes.txt.
        lines: what the numbers after the class are: the centre and size of a box, the corners of a polygon, or a box
            and key points, which are not used. "auto" takes more than five numbers for key points if data.yaml has
            `kpt_shape`, and otherwise for a polygon if data.yaml exists or these lines differ in length. With
            "boxes", numbers after a box, such as a confidence, are not used; otherwise they are an error.
    """

    classes: Names = ()
    lines: Literal["auto", "boxes", "polygons", "keypoints"] = "auto"


def detect(path: Path) -> bool:
    try:
        parts = parts_of(path, lambda problem: None)
    except ValueError:  # a YAML of another kind, or a damaged one, which `read` reports
        parts = usual_parts(path)
    return any(True for part in parts for _ in texts_below(part.labels))


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set in folder `path`; problems of single cases go to `report`."""
    found: list[tuple[str, Path, Path]] = []  # part, image, text
    texts: set[Path] = set()
    chosen = parts_of(path, report)
    for place in sorted(chosen, key=lambda place: -len(place.images.parts)):  # parts before `images`
        known = {image: part for part, image, _ in found}
        _report_twice(place, known, path, report)
        masks = set() if place.listed else masks_of(place)
        mine = [(place.name, image, place.text(image)) for image in place.files if image not in {*known, *masks}]
        found += mine
        texts |= set(texts_below(place.labels))
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
    heads = heads_of(path)
    points = key_points(path, [text for _, _, text in found], ndim, list(heads.values()), options.lines)
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
    names = None if options.classes else _names(path, heads, [place.labels for place in chosen], report)
    classes = class_names(options.classes, names, labels, path)
    folds = None
    if parts["train"] and parts["val"]:
        folds = ({part: tuple(parts[part]) for part in PARTS[1:]},)
        if parts[""]:
            apart = f"{len(parts[''])} images are in no part of the split and are not used: {some(parts[''])}"
            report(InputError(path, apart, "move them to the folder of a part", severity="warning"))
    return Dataset(path, path.resolve().name, ndim, classes, channels, tuple(cases), folds)


def _report_others(
    path: Path, chosen: Sequence[Part], used: Mapping[Path, Path], texts: set[Path], report: Report
) -> None:
    """Say which images lie in the usual folders but in no chosen part, and which of `texts` belong to no image."""
    known = (*chosen, *usual_parts(path))
    places = [(image, place.text(image)) for place in known for image in images_below(place.images)]
    masks = {mask for place in known for mask in masks_of(place)} - set(used)
    if masks:
        problem = f"{len(masks)} images are masks, which are not used: {some(sorted(map(str, masks)))}"
        report(InputError(path, problem, "add a text file to each that is an image", severity="note"))
    unused = sorted({str(image) for image, _ in places if image not in used and image not in masks})
    if unused:
        problem = f"{len(unused)} images are in no part of the split and are not used: {some(unused)}"
        report(InputError(path, problem, "add them to a part in data.yaml", severity="warning"))
    for file in sorted(texts - set(used.values()) - {text for _, text in places}):
        if is_annotation(file):
            report(InputError(file, "annotation without image", f"add an image named {file.stem}", file.stem))


def _report_twice(place: Part, known: Mapping[Path, str], path: Path, report: Report) -> None:
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


def _names(path: Path, heads: Mapping[Path, Mapping[str, Any]], folders: Sequence[Path], report: Report) -> Any:
    """The names of the classes by number, in data.yaml or in the classes.txt that LabelImg and Label Studio write.

    Raises:
        InputError: two of these files contradict each other.
    """
    named = [(file, dict(named_numbers(values["names"]))) for file, values in heads.items() if values.get("names")]
    for file, names in named:
        declared = as_id(heads[file].get("nc"))
        if declared not in (None, len(names)):
            problem = f"nc is {declared}, but the number of names is {len(names)}"
            report(InputError(file, problem, "correct nc, or the names if some are missing", severity="warning"))
    places = {place for folder in folders for place in (folder, *folder.parents) if place.is_relative_to(path)}
    texts = (place / "classes.txt" for place in sorted({*places, path}))
    named += [(file, dict(enumerate(lines))) for file in texts if file.is_file() and (lines := names_in(file))]
    for file, names in named[1:]:
        if names != named[0][1]:
            others = ", ".join(named[0][1].values())[:200]
            problem = f"its classes {', '.join(names.values())[:200]} are not those of {named[0][0].name}: {others}"
            raise InputError(file, problem, "correct one of the two files, or use --option classes=FIRST,SECOND")
    return named[0][1] if named else None


register_format(
    "yolo", detect, read, "YOLO and MedYOLO: images/train/NAME.png and labels/train/NAME.txt", Options, order=80
)
