"""Tables of boxes or of points with a diameter, one row per object, such as LUNA16's.

    annotations.csv            seriesuid,coordX,coordY,coordZ,diameter_mm (LPS mm, LUNA16)
                               file,x1,y1,x2,y2[,z1,z2][,label] (half-open voxels, `--option unit=mm` for LPS mm),
                               or file,x,y[,z],width,height[,depth]; without header file,x1,y1,x2,y2,label
    train.csv, test.csv        or one table per part of a split
    annotations_excluded.csv   LUNA16's irrelevant findings, which are ignored objects
    seriesuids.csv             all series, including those without objects (LUNA16), no header
    SERIES.mhd, SERIES/ ...    the images, in any folder below

Column names may differ in case and underscores; semicolons, tabs and decimal commas are understood. A row without
numbers is an image without objects. Without images only the table is checked. Images of two axes may be DICOM files.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator

from boxel.datasets.annotations import Shape, Shapes, ball
from boxel.datasets.cases import Case, Dataset
from boxel.datasets.formats.files import channel_names, numbers, pictures_layout
from boxel.datasets.formats.options import ImageOptions, Names
from boxel.datasets.formats.radiographs import RadiographOpener
from boxel.datasets.formats.registry import register_format
from boxel.datasets.formats.table_boxes import check_thousands, label_of, shape_of
from boxel.datasets.formats.table_columns import (
    BALL,
    CASE,
    GROUP,
    LABEL,
    SUFFIXES,
    first_of,
    head,
    identity,
    is_negative,
    is_table,
    positions,
    read_rows,
    why_no_table,
)
from boxel.datasets.formats.table_images import Name, images_of
from boxel.datasets.formats.table_values import (
    CROWD,
    IGNORED,
    Crowds,
    declared_size,
    flagged,
    group_column,
    of_reader,
    one_value,
    parts_of,
    report_predictions,
    size_columns,
)
from boxel.datasets.lookup import DICOM, root_of
from boxel.datasets.names import case_ids, split_of_folders, split_word
from boxel.datasets.problems import InputError, Report, some
from boxel.inputs.folders import listing
from boxel.inputs.tables import Row, first_row, is_empty, read_table
from boxel.inputs.texts import read_text
from boxel.io import has_geometry, split_suffix

__all__ = ["Options", "detect", "read"]

DESCRIPTION = "CSV of boxes (file,x1,y1,x2,y2) or balls in mm (seriesuid,coordX,coordY,coordZ,diameter_mm)"
LUNA = ("seriesuid", "coordX", "coordY", "coordZ", "diameter_mm")
META = "meta.csv"  # belongs to label maps, see `pairs`


class Options(ImageOptions):
    """Settings of the reader.

    Attributes:
        table: file name, if there are several tables; `annotations.csv` if empty.
        columns: names of the columns of a table without header.
        unit: unit of boxes: voxels (half-open) or LPS mm. Points with a diameter are in LPS mm.
        classes: names of the classes in order; if empty, the values in the label column, or one class `object`.
        modality: name of the image channel, such as CT.
        reader: use the boxes of this reader only, where several readers annotated the images.
    """

    table: str = ""
    columns: Names = ()
    unit: Literal["voxel", "mm"] = "voxel"
    classes: Names = ()
    modality: str = ""
    reader: Annotated[str, BeforeValidator(str)] = ""  # also a number


def detect(path: Path) -> bool:
    return bool(_tables(path))


def _tables(path: Path) -> list[Path]:
    files = [path] if path.is_file() else [file for file in listing(path) if file.name != META]
    return [file for file in files if is_table(file)]


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set in folder (or table) `path`; problems of single cases go to `report`."""
    folder = root_of(path)
    tables = [folder / options.table] if options.table else _tables(path)
    if not tables and path.is_dir():
        problem = next(
            (why for file in listing(path) if file.suffix in SUFFIXES and (why := why_no_table(file))),
            "there is no table",
        )
        raise InputError(path, problem, f"rename the columns, or add a table: {DESCRIPTION}")
    table = next((file for file in tables if file.stem == "annotations"), tables[0] if tables else path)
    used = _parts(tables) or [table] if table.stem != "annotations" else [table]
    table = used[0]
    unused = [file for file in tables if file not in used and file.stem != "annotations_excluded"]
    rows_of = {file: read_rows(file, report, options.columns) for file in used}
    if unused:
        _refuse_versions(rows_of, unused)
        problem = f"this table is used, not {some(file.name for file in unused)}"
        report(InputError(table, problem, "choose with --option table=NAME", severity="note"))
    rows_of = {file: _of_reader(own, file, report, options) for file, own in rows_of.items()}
    rows = [row for own in rows_of.values() for row in own]
    names = list(rows[0]) if rows else head(first_row(table))
    columns = positions(names)
    if columns is None:
        problem = why_no_table(table) or f"there are no boxes or points in the columns {', '.join(names)}"[:200]
        raise InputError(table, problem, f"use {DESCRIPTION}")
    of_case, of_label, of_group = first_of(rows, CASE), first_of(rows, LABEL), group_column(rows)
    for file, own in rows_of.items():
        if own and set(own[0]) != set(names):
            problem = f"the columns are not those of {table.name}: {some(set(own[0]) ^ set(names))} only in one"
            raise InputError(file, problem, "give both the same columns, or choose with --option table=NAME")
        of_file = split_word(file.stem) if len(used) > 1 else ""
        for row, part in zip(own, parts_of(own, file, report), strict=True):
            row["split"] = part or of_file
    of_case = of_case or of_group or first_of(rows, GROUP)  # one image per patient
    mm = columns not in BALL and (options.unit == "mm" or columns[0].endswith("mm"))
    size = size_columns(rows, columns, table, report)
    for file, own in rows_of.items():
        check_thousands(own, columns, file)
        report_predictions(own, file, report)
    for row in rows:
        row |= {column: identity(row[column]) for column in (of_label, of_group) if column and column != of_case}
    boxed = [row for row in rows if not is_negative(row, columns)]  # "no finding" of the others is no class
    labels = {row[of_label] for row in boxed if not is_empty(row[of_label])} if of_label else {"object"}
    known = options.classes or tuple(sorted(labels)) or ("object",)
    objects: dict[Name, _Objects] = defaultdict(_Objects)
    for file, row in ((file, row) for file, own in rows_of.items() for row in own):
        name = row[of_case]
        entry = objects[name, file]
        entry.rows.append(row)
        entry.crowds |= flagged(row, CROWD, file)
        if is_negative(row, columns):
            continue
        label = label_of(row[of_label], known, file, row.line) if of_label else 0
        shape = shape_of(row, columns, label, file, mm=mm)
        if shape is None:
            problem = f"line {row.line}: the object has no extent and is left out"
            report(InputError(file, problem, "correct it, or remove the line", name, "warning"))
            continue
        entry.shapes.append(replace(shape, ignore=flagged(row, (*CROWD, *IGNORED), file)))
    for name in _series(folder) if columns in BALL else ():
        objects[name, table]
    _ignore_excluded(folder, columns in BALL, objects, table)
    lines_of = {key: entry.rows for key, entry in objects.items()}
    images = images_of(folder, lines_of, report, options.images, subset=columns in BALL)
    names_of: dict[Path, list[Name]] = defaultdict(list)
    for key in objects:
        if key in images:
            names_of[images[key]].append(key)
    hint = "" if mm or columns in BALL else "are these mm? try --option unit=mm"
    cases = []
    named = [image.with_suffix("") if image.suffix.lower() in DICOM else image for image in names_of]
    for (image, keys), case in zip(names_of.items(), case_ids(named, folder), strict=True):
        table = keys[0][1]
        lines = [row for key in keys for row in objects[key].rows]
        part = one_value(lines, "split", table, case)
        part = part or (split_of_folders(image, folder) if image.is_relative_to(folder) else "")
        split = "test" if part == "test" else "train"
        shapes = tuple(shape for key in keys for shape in objects[key].shapes)
        annotator = Crowds if any(objects[key].crowds for key in keys) else Shapes
        opener = RadiographOpener() if len(columns) == 4 and image.suffix.lower() in DICOM else None
        cases.append(Case(case, (image,) if image.exists() else (), opener=opener,
                          group=one_value(lines, of_group, table, case),
                          split=split, annotation=table,
                          annotate=annotator(shapes, hint=hint),
                          declared=declared_size(lines, size, table, case)))  # fmt: skip
    cases.sort(key=lambda case: case.id)
    pictured = [case.channels[0] for case in cases if case.channels]
    ndim, channels = (2, channel_names(1)) if cases and cases[0].opener else pictures_layout(pictured)
    if pictured and columns not in BALL and len(columns) // 2 != ndim:
        problem = f"the boxes are of {len(columns) // 2} axes ({', '.join(columns)}), but the images of {ndim}"
        fix = "add the columns of z: z1 and z2, or z and depth" if ndim == 3 else "use images of 3 axes, or boxes of 2"
        raise InputError(table, problem, fix)
    if mm and pictured and not any(map(has_geometry, pictured)):
        problem = f"the boxes are in mm, but {pictured[0].name} stores no voxel size"
        raise InputError(table, problem, "write the boxes in pixels, or use images with a voxel size, such as NIfTI")
    ndim = ndim if pictured else 3 if columns in BALL else len(columns) // 2
    channels = (options.modality,) if options.modality else channels
    return Dataset(path, folder.resolve().name, ndim, known, channels, tuple(cases))


def _parts(tables: Sequence[Path]) -> list[Path]:
    """The tables of the parts of a split, such as train.csv and test.csv; empty unless there are several parts."""
    named = [(split_word(file.stem), file) for file in tables if split_word(file.stem)]
    parts = {part for part, _ in named}
    if 1 < len(parts) < len(named):
        problem = f"there are several tables of one part: {some(file.name for _, file in named)}"
        raise InputError(named[0][1], problem, "keep one per part, or choose with --option table=NAME")
    return [file for _, file in named] if len(parts) > 1 else []


def _refuse_versions(rows_of: Mapping[Path, Sequence[Row]], unused: Sequence[Path]) -> None:
    """Refuse a table beside the only used one that names the same images, such as an older version of it.

    Parts of a split, and an `annotations.csv` beside tables with other columns, are chosen by their names.
    """
    if len(rows_of) > 1:
        return
    ((table, rows),) = rows_of.items()
    columns, images = _named(rows)
    for other in unused:
        try:
            others, same = _named(read_rows(other, lambda problem: None, ()))
        except InputError:
            continue  # no version of this table
        if images & same and (columns == others or table.stem != "annotations"):
            problem = f"{table.name} and {other.name} both have boxes of {some(images & same)}"
            raise InputError(table, problem, f"choose one with --option table={other.name}, or remove the other")


def _named(rows: Sequence[Row]) -> tuple[set[str], set[str]]:
    """The columns of a table, and the names of its images."""
    of_case = first_of(rows, (*CASE, *GROUP))
    names = (row[of_case].replace("\\", "/") for row in rows)
    return set(rows[0] if rows else ()), {name.removesuffix(split_suffix(Path(name))[1]) for name in names} - {""}


@dataclass
class _Objects:
    """The rows of one image, and its objects; `crowds`: whether ignored ones are regions."""

    rows: list[Row] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)
    crowds: bool = False


def _of_reader(rows: list[Row], table: Path, report: Report, options: Options) -> list[Row]:
    of_case = first_of(rows, (*CASE, *GROUP))
    return of_reader(rows, identity(options.reader), of_case, table, report) if of_case else rows


def _series(folder: Path) -> list[str]:
    file = folder / "seriesuids.csv"
    return [line.strip() for line in read_text(file).splitlines() if line.strip()] if file.exists() else []


def _ignore_excluded(folder: Path, balls: bool, objects: dict[Name, _Objects], table: Path) -> None:
    """Add the irrelevant findings as ignored objects; an unknown diameter is 10 mm, as in LUNA16's evaluation."""
    file = folder / "annotations_excluded.csv"
    for row in read_table(file, LUNA) if balls and file.exists() else ():
        x, y, z, diameter = numbers([row[name] for name in LUNA[1:]], file, f"line {row.line}")
        shape = ball(0, (x, y, z), diameter if diameter > 0 else 10.0)
        objects[row["seriesuid"], table].shapes.append(replace(shape, ignore=True))


register_format("table", detect, read, DESCRIPTION, Options, order=118)
