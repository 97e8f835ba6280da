"""VinDr-CXR: DICOM radiographs, and boxes by several radiologists in a table.

    annotations/annotations_train.csv    image_id,rad_id,class_name,x_min,y_min,x_max,y_max: three radiologists an image
    annotations/annotations_test.csv     the consensus, without rad_id
    train/IMAGE.dicom, test/IMAGE.dicom
    train.csv                            Kaggle's table: image_id,class_name,class_id,rad_id,x_min,...

"No finding" means that a radiologist marked nothing. The boxes of one class that overlap are one finding: its corners
are the medians over the radiologists who marked it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import NonNegativeInt

from boxel.datasets.annotations import Shape, Shapes
from boxel.datasets.cases import Case, Dataset
from boxel.datasets.formats.files import numbers
from boxel.datasets.formats.options import Names, ReaderOptions
from boxel.datasets.formats.radiographs import RadiographOpener, corners, find_radiographs, the_radiograph
from boxel.datasets.formats.registry import register_format
from boxel.datasets.formats.table_columns import identity
from boxel.datasets.formats.table_values import parts_by_case
from boxel.datasets.formats.text_kinds import has_columns, texts_of_kind
from boxel.datasets.names import split_word
from boxel.datasets.problems import InputError, Report
from boxel.inputs.folders import listing
from boxel.inputs.tables import Row, is_empty, read_table
from boxel.ranges import ZeroToOne

__all__ = ["Options", "detect", "fuse_boxes", "read"]

COLUMNS = ("image_id", "class_name", "x_min", "y_min", "x_max", "y_max")
DESCRIPTION = "VinDr-CXR: a CSV with image_id,class_name,x_min,y_min,x_max,y_max and DICOM images"
NEGATIVE = "no finding"
_has_boxes = has_columns(*COLUMNS)


class Options(ReaderOptions):
    """How the boxes of radiologists become objects.

    Attributes:
        classes: names of the classes in order; alphabetical if empty.
        min_raters: findings marked by fewer radiologists are left out, where the table says who marked them.
        iou: boxes of one class that overlap by this are one finding.
    """

    classes: Names = ()
    min_raters: NonNegativeInt = 1
    iou: ZeroToOne = 0.4


class Box(NamedTuple):
    """One radiologist's box `(2, d)` of a finding; `rater` is empty in a consensus."""

    name: str
    rater: str
    box: np.ndarray


def detect(path: Path) -> bool:
    return bool(_tables(path))


def _tables(path: Path) -> list[Path]:
    places = [path] if path.is_file() else [*listing(path), *listing(path / "annotations")]
    return texts_of_kind(places, (".csv",), _has_boxes)


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set in folder (or table) `path`; problems of single cases go to `report`."""
    folder = path if path.is_dir() else path.parent
    images = find_radiographs(folder, ("train", "test", "image", "dicom"))
    marked: dict[tuple[str, Path], list[Box]] = defaultdict(list)
    sizes: dict[tuple[str, Path], tuple[int, ...]] = {}
    parts: dict[tuple[str, Path], str] = {}
    for table in _tables(path):
        rows = read_table(table, COLUMNS, report)
        parts |= {(case, table): part for case, part in parts_by_case(rows, "image_id", table, report).items()}
        _check_rows(rows, table)
        for case, box, size in _boxes(rows, table):
            marked[case, table] += [box] if box else []
            sizes |= {(case, table): size} if size else {}
    names = sorted({box.name for boxes in marked.values() for box in boxes})
    classes = options.classes or tuple(names) or ("finding",)
    unknown = sorted(set(names) - set(classes))
    if unknown:
        raise InputError(
            path, f"the classes option lacks {', '.join(unknown)}", f"use {', '.join(classes)}, or add them"
        )
    cases = []
    for (case, table), boxes in marked.items():
        try:
            image = the_radiograph(images.get(case, ()), table, case)
        except InputError as error:
            report(error)
            continue
        shapes = tuple(
            Shape(classes.index(name), tuple(map(tuple, box.tolist())))
            for name, box, raters in fuse_boxes(boxes, options.iou)
            if raters >= options.min_raters or not boxes[0].rater
        )
        said = parts[case, table] or split_word(table.stem), split_word(image.parent.name)
        split = "test" if "test" in said else "train"
        annotate, opener, size = Shapes(shapes), RadiographOpener(), sizes.get((case, table))
        cases.append(
            Case(case, (image,), split=split, annotation=table, annotate=annotate, opener=opener, declared=size)
        )
    return Dataset(path, folder.resolve().name, 2, classes, ("radiograph",), tuple(cases))


def _boxes(rows: Iterable[Row], table: Path) -> Iterator[tuple[str, Box | None, tuple[int, ...] | None]]:
    """Every row's image, with its box unless nothing was found, and its size (rows, columns) where that is stated."""
    for row in rows:
        negative = row["class_name"].strip().lower() == NEGATIVE
        if negative != is_empty(row["x_min"]):
            problem = f"line {row.line}: {row['class_name']!r} has {'a' if negative else 'no'} box"
            raise InputError(table, problem, 'write "No finding" where there is no box')
        sides = [row.get(key, "") for key in ("height", "width")]
        stated = not any(map(is_empty, sides))
        size = tuple(int(side) for side in numbers(sides, table, f"line {row.line}", 2)) if stated else None
        if negative:
            yield row["image_id"], None, size
            continue
        box = corners(numbers([row[key] for key in COLUMNS[2:]], table, f"line {row.line}", 4))
        if not (box[0] < box[1]).all():
            raise InputError(table, f"line {row.line}: the box has no extent", "correct or remove it")
        yield row["image_id"], Box(row["class_name"].strip(), row.get("rad_id", ""), box), size


def _check_rows(rows: Iterable[Row], table: Path) -> None:
    """Refuse rows that contradict each other: about the id of a class, or about whether a radiologist found anything.

    Names of classes that differ in case only are one here.
    """
    known: dict[tuple[str, ...], str] = {}
    for row in rows:
        name, number = row["class_name"].strip().lower(), identity(row.get("class_id", ""))
        marked = "no finding" if name == NEGATIVE else "a finding"
        said: dict[tuple[str, ...], str] = {("image", row["image_id"], row.get("rad_id", "")): marked}
        if number:
            said |= {("class_name", name): f"class_id {number}", ("class_id", number): f"class_name {name}"}
        for key, value in said.items():
            before = known.setdefault(key, value)
            if before != value:
                problem = f"line {row.line}: {' '.join(key).strip()} has {value}, but {before} in an earlier line"
                raise InputError(table, problem, "correct or remove one of the lines")


def fuse_boxes(boxes: Sequence[Box], iou: float) -> list[tuple[str, np.ndarray, int]]:
    """The findings: class, box `(2, d)` and number of radiologists.

    Boxes of one class by different radiologists are joined, those that overlap most first; a finding has at most one
    box of each radiologist. The boxes of a consensus, which have no radiologist, stay as they are.
    """
    import torch  # not above: most readers can do without

    from boxel.ops import iou as overlaps_of

    groups = [[number] for number in range(len(boxes))]
    corners = torch.from_numpy(np.array([box.box for box in boxes], float).reshape(-1, 2, 2))
    overlaps = overlaps_of(corners, corners).numpy()
    while boxes and boxes[0].rater:
        pairs = [
            (overlaps[np.ix_(groups[i], groups[j])].min(), i, j)
            for i in range(len(groups))
            for j in range(i)
            if boxes[groups[i][0]].name == boxes[groups[j][0]].name
            and not {boxes[a].rater for a in groups[i]} & {boxes[b].rater for b in groups[j]}
        ]
        overlap, i, j = max(pairs, default=(0.0, 0, 0))
        if overlap < iou or not pairs:
            break
        groups[j] += groups.pop(i)
    return [(boxes[group[0]].name, np.median([boxes[n].box for n in group], axis=0), len(group)) for group in groups]


register_format("vindr_cxr", detect, read, DESCRIPTION, Options, order=106)
