"""What the files of drawing tools have in common: images by name, with rectangles and outlines of named classes."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from boxel.datasets.cases import Case, Dataset
from boxel.datasets.formats.files import pictures_layout, report_bare_parts
from boxel.datasets.formats.options import ImageOptions, Names
from boxel.datasets.lookup import Lookup
from boxel.datasets.names import case_ids
from boxel.datasets.polygons import CocoMasks, CocoObject, IgnoredObject
from boxel.datasets.problems import InputError, Report
from boxel.wording import counted

__all__ = ["Entry", "Options", "Outlined", "build", "ellipse", "left_out", "rectangle"]

Points = tuple[float, ...]  # x0, y0, x1, y1, ...


class Options(ImageOptions):
    """Settings of the reader.

    Attributes:
        classes: names of the classes in order; alphabetical if empty.
    """

    classes: Names = ()


class Outlined(NamedTuple):
    """An object: its class, its box `x, y, width, height` or None, and its outlines, without which it is a box.

    `ignore`: it is excluded from training and scoring.
    """

    name: str
    box: tuple[float, float, float, float] | None
    outlines: tuple[Points, ...] = ()
    ignore: bool = False


class Entry(NamedTuple):
    """An image and its objects.

    Attributes:
        image: the name of the image, as the annotation writes it.
        annotation: the file that it comes from.
        declared: rows and columns of the image that was annotated.
        part: train, val, test, or empty.
    """

    image: str
    annotation: Path
    objects: Sequence[Outlined]
    declared: tuple[int | None, ...] | None = None
    part: str = ""


def build(path: Path, entries: Iterable[Entry], options: Options, report: Report) -> Dataset:
    """The data set of the images that can be found; problems of single cases go to `report`."""
    root = path if path.is_dir() else path.parent
    lookup = Lookup(root, report, options.images)
    chosen: list[Entry] = []
    images: list[Path] = []
    for entry in entries:
        try:
            images.append(lookup.find(entry.image, entry.annotation))
            chosen.append(entry)
        except InputError as problem:
            report(problem.of(Path(entry.image).stem))
    lookup.report_unused()
    names = sorted({drawn.name for entry in chosen for drawn in entry.objects})
    classes = options.classes or tuple(names) or ("object",)
    cases, parts = [], dict[str, list[str]](train=[], val=[], test=[])
    counts: dict[str, list[int]] = defaultdict(list)
    for entry, image, case in zip(chosen, images, case_ids(images, root), strict=True):
        try:
            objects = tuple(_object(entry, drawn, classes) for drawn in entry.objects)
        except InputError as problem:
            report(problem.of(case))
            continue
        split = "test" if entry.part == "test" else "train"
        cases.append(Case(case, (image,), split=split, annotation=entry.annotation, annotate=CocoMasks(objects),
                          declared=entry.declared))  # fmt: skip
        parts[entry.part or "train"].append(case)
        counts[entry.part or "train"].append(len(objects))
    report_bare_parts(counts, root, report)
    folds = ({part: tuple(ids) for part, ids in parts.items()},) if parts["train"] and parts["val"] else None
    _, channels = pictures_layout(images)
    return Dataset(path, root.resolve().name, 2, classes, channels, tuple(cases), folds)


def _object(entry: Entry, drawn: Outlined, classes: Sequence[str]) -> CocoObject:
    if drawn.name not in classes:
        fix = f"use one of {', '.join(classes)}, or add it to --option classes=..."
        raise InputError(entry.annotation, f"unknown class {drawn.name!r}", fix)
    numbers = [*(drawn.box or ()), *(value for outline in drawn.outlines for value in outline)]
    if not np.isfinite(numbers).all() or (drawn.box and min(drawn.box[2:]) <= 0 and not drawn.outlines):
        raise InputError(entry.annotation, f"an object of class {drawn.name} has no extent", "draw it again")
    kind = IgnoredObject if drawn.ignore else CocoObject
    return kind(classes.index(drawn.name), drawn.box, drawn.outlines)


def left_out(annotation: Path, count: int, kind: str) -> InputError:
    """The warning that shapes without extent, such as points and lines, are left out."""
    extent = f"{'an' if kind[:1] in 'aeiou' else 'a'} {kind} has no extent"
    problem = f"{counted(count, 'shape')} of kind {kind} left out: {extent}"
    return InputError(annotation, problem, "draw boxes or outlines if they are objects", severity="warning")


def too_few(annotation: Path, what: str, case: str) -> InputError:
    """The warning that a polygon with fewer than three points is left out."""
    problem = f"{what} has fewer than three points; the object is left out"
    return InputError(annotation, problem, "draw it again, or remove the object", case, "warning")


def ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0) -> Points:
    """The outline of an ellipse; its first radius is turned clockwise by an angle."""
    angle, turn = np.linspace(0, 2 * np.pi, 64, endpoint=False), np.deg2rad(degrees)
    along, across = radius_x * np.cos(angle), radius_y * np.sin(angle)
    points = np.stack([x + along * np.cos(turn) - across * np.sin(turn),
                       y + along * np.sin(turn) + across * np.cos(turn)], axis=1)  # fmt: skip
    return tuple(points.ravel().tolist())


def rectangle(x: float, y: float, width: float, height: float, degrees: float, centre: Sequence[float]) -> Points:
    """The corners of a rectangle that is turned clockwise about a point."""
    corners = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]]) - centre
    turn = np.deg2rad(degrees)
    matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return tuple((corners @ matrix + centre).ravel().tolist())
