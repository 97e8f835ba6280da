"""Tables of boxes or of points with a diameter, one row per object, such as LUNA16's.

    annotations.csv            seriesuid,coordX,coordY,coordZ,diameter_mm (LPS mm, LUNA16)
                               file,x1,y1,x2,y2[,z1,z2][,label] (half-open voxels, `--option unit=mm` for LPS mm)
    annotations_excluded.csv   LUNA16's irrelevant findings, which are ignored objects
    seriesuids.csv             all series, including those without objects (LUNA16), no header
    SERIES.mhd, SERIES/ ...    the images, in any folder below

Column names may differ in case and underscores. Without images only the table is checked.
"""

import itertools
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from boxel.datasets.annotations import Shape, Shapes, ball
from boxel.datasets.cases import Case, Dataset
from boxel.datasets.formats.files import listing, numbers, pictures_layout, read_table, read_text
from boxel.datasets.formats.options import Names, ReaderOptions
from boxel.datasets.formats.registry import register_format
from boxel.datasets.problems import InputError, Report
from boxel.io import split_suffix

__all__ = ["Options", "detect", "read"]

DESCRIPTION = "CSV of boxes (file,x1,y1,x2,y2) or balls in mm (seriesuid,coordX,coordY,coordZ,diameter_mm)"
CASE = ("seriesuid", "filename", "file", "image", "imageid", "case", "caseid", "id", "path", "name")
LABEL = ("label", "class", "classname", "category", "coarselesiontype")
GROUP = ("patient", "patientid", "group", "subject")
SPLIT = ("split", "subset")
BOX = (("x1", "y1", "z1", "x2", "y2", "z2"), ("xmin", "ymin", "zmin", "xmax", "ymax", "zmax"))
LUNA = ("seriesuid", "coordX", "coordY", "coordZ", "diameter_mm")
BALL = (("coordx", "coordy", "coordz", "diametermm"), ("x", "y", "z", "diameter"), ("x", "y", "z", "diametermm"))


class Options(ReaderOptions):
    """Settings of the reader.

    Attributes:
        table: file name, if there are several tables; `annotations.csv` if empty.
        unit: unit of boxes: voxels (half-open) or LPS mm. Points with a diameter are in LPS mm.
        classes: names of the classes in order; if empty, the values in the label column, or one class `object`.
        modality: name of the image channel, such as CT.
    """

    table: str = ""
    unit: Literal["voxel", "mm"] = "voxel"
    classes: Names = ()
    modality: str = ""


def detect(path: Path) -> bool:
    return bool(_tables(path))


def _tables(path: Path) -> list[Path]:
    files = [path] if path.is_file() else listing(path)
    return [file for file in files if file.suffix in (".csv", ".tsv") and _columns(_head(file)) is not None]


def _head(file: Path) -> list[str]:
    try:
        with file.open(encoding="utf-8-sig") as lines:
            return [_plain(name) for name in re.split(r"[,\t]", lines.readline(4000))]
    except (OSError, ValueError):
        return []


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _columns(head: list[str]) -> tuple[str, ...] | None:
    """The columns of positions; None if the table lacks them or a column that names the image."""
    if not set(head) & set(CASE):
        return None
    flat = [tuple(name for name in names if name[0] != "z") for names in BOX]
    return next((names for names in (*BALL, *BOX, *flat) if set(names) <= set(head)), None)


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set in folder (or table) `path`; problems of single cases go to `report`."""
    folder = path if path.is_dir() else path.parent
    tables = [folder / options.table] if options.table else _tables(path)
    table = next((file for file in tables if file.stem == "annotations"), tables[0] if tables else path)
    rows = [{_plain(key): value for key, value in row.items()} for row in read_table(table)]
    columns = _columns(list(rows[0]) if rows else _head(table))
    if columns is None:
        names = ", ".join(_head(table))[:200]
        raise InputError(table, f"no boxes or points in the columns {names}", f"use {DESCRIPTION}")
    of_case, of_label, of_group, of_split = (_first(rows, names) for names in (CASE, LABEL, GROUP, SPLIT))
    known = options.classes or tuple(sorted({row[of_label] for row in rows} if of_label else {"object"}))
    shapes_of: dict[str, list[Shape]] = defaultdict(list)
    info: dict[str, dict[str, str]] = {}
    for line, row in enumerate(rows, start=2):
        case = split_suffix(Path(row[of_case]))[0] or row[of_case]
        info[case] = row
        values = numbers([row[name] or "nan" for name in columns], table, f"line {line}") if row[columns[0]] else ()
        label = _label(row[of_label], known, table, line) if of_label else 0
        shape = _shape(values, label, "ball" if columns in BALL else options.unit) if values else None
        if shape is None and values:
            problem = f"line {line}: the object has no extent and is left out"
            report(InputError(table, problem, "correct it, or remove the line", case, "warning"))
        shapes_of[case] += [shape] if shape else []
    for name in _series(folder) if columns in BALL else ():
        shapes_of.setdefault(name, [])
    _ignore_excluded(folder, columns in BALL, shapes_of)
    images = _images(folder, set(shapes_of))
    if not images:
        problem = f"annotations only: none of the {len(shapes_of)} images is below {folder}"
        report(InputError(table, problem, "add them for training; the table was checked", severity="warning"))
    cases = []
    for case, shapes in sorted(shapes_of.items()):
        row = info.get(case, {})
        if images and case not in images:
            report(InputError(table, f"image {case} does not exist", f"add it to {folder}", case, "warning"))
            continue
        split = "test" if row.get(of_split, "").lower() == "test" else "train"
        files = (images[case],) if images else ()
        group = row.get(of_group, "")
        cases.append(Case(case, files, group=group, split=split, annotation=table, annotate=Shapes(tuple(shapes))))
    ndim, channels = pictures_layout(case.channels[0] for case in cases if case.channels)
    ndim = ndim if images else len(columns) // 2 if columns not in BALL else 3
    channels = (options.modality,) if options.modality else channels
    return Dataset(path, folder.resolve().name, ndim, known, channels, tuple(cases))


def _first(rows: list[dict[str, str]], names: tuple[str, ...]) -> str:
    return next((name for name in names if rows and name in rows[0]), "")


def _label(value: str, known: tuple[str, ...], table: Path, line: int) -> int:
    if value not in known and not (value.isdecimal() and int(value) < len(known)):
        raise InputError(table, f"line {line}: unknown class {value!r}", f"use one of {', '.join(known)}")
    return known.index(value) if value in known else int(value)


def _shape(values: tuple[float, ...], label: int, kind: str) -> Shape | None:
    """A ball from x, y, z, diameter, or a box from its corners in x, y[, z]; array order reverses these axes."""
    if kind == "ball":
        return ball(label, values[:3], values[3]) if values[3] > 0 else None
    corners = np.array(values).reshape(2, -1)
    if not (corners[0] < corners[1]).all():
        return None
    if kind == "mm":
        points = tuple(itertools.product(*corners.T.tolist()))
        return Shape(label, points, frame="world")
    return Shape(label, tuple(map(tuple, corners[:, ::-1].tolist())))


def _series(folder: Path) -> list[str]:
    file = folder / "seriesuids.csv"
    return [line.strip() for line in read_text(file).splitlines() if line.strip()] if file.exists() else []


def _ignore_excluded(folder: Path, balls: bool, shapes_of: dict[str, list[Shape]]) -> None:
    """Add the irrelevant findings as ignored objects; an unknown diameter is 10 mm, as in LUNA16's evaluation."""
    file = folder / "annotations_excluded.csv"
    for line, row in enumerate(read_table(file, LUNA) if balls and file.exists() else (), start=2):
        x, y, z, diameter = numbers([row[name] for name in LUNA[1:]], file, f"line {line}")
        shape = ball(0, (x, y, z), diameter if diameter > 0 else 10.0)
        shapes_of[row["seriesuid"]].append(replace(shape, ignore=True))


def _images(folder: Path, names: set[str]) -> dict[str, Path]:
    images: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        stem, suffix = split_suffix(path)
        name = path.name if path.is_dir() else stem
        if name in names and (suffix or path.is_dir()):
            images.setdefault(name, path)
    return images


register_format("table", detect, read, DESCRIPTION, Options, order=130)
