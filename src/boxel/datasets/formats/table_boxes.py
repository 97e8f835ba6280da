"""Boxes and balls from the rows of a table, and numbers that cannot be positions in voxels."""

import itertools
import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from boxel.datasets.annotations import Shape, ball
from boxel.datasets.formats.table_columns import BALL, is_negative
from boxel.datasets.problems import InputError
from boxel.inputs.tables import Row, is_empty

__all__ = ["check_thousands", "corners_of", "label_of", "shape_of"]

_THOUSANDS = re.compile(r"[1-9]\d{0,2}(\.\d{3})+")  # as in German: 1.100 is one thousand one hundred
_GROUPED = re.compile(r"\d{1,3}([.,' ]\d{3})+([.,]\d+)?")  # such as 1.100,5, which is no number here
FEW, SMALL, LARGE = 3, 10, 100  # so many small numbers with points in a column of large ones without are thousands


def label_of(value: str, known: tuple[str, ...], table: Path, line: int) -> int:
    """The index of a class that is given by its name or number."""
    if is_empty(value):
        problem = f"line {line}: the object has no class (empty, nan or none)"
        raise InputError(table, problem, "write its class, or remove the line")
    if value not in known and not (value.isdecimal() and len(value) < 10 and int(value) < len(known)):
        raise InputError(table, f"line {line}: the class {value!r} is unknown", f"use one of {', '.join(known)}")
    return known.index(value) if value in known else int(value)


def shape_of(row: Row, columns: Sequence[str], label: int, table: Path, *, mm: bool) -> Shape | None:
    """The ball or box of a row, in array order; None if it has no extent.

    Raises:
        InputError: a position is not a number, or the box is given in fractions of the image.
    """
    values = _numbers(row, columns, table)
    if columns in BALL:
        return ball(label, values[:3], values[3]) if values[3] > 0 else None
    if not mm and all(0 <= value <= 1 for value in values) and not all(value.is_integer() for value in values):
        problem = f"line {row.line}: the box lies between 0 and 1, as if in fractions of the image"
        raise InputError(table, problem, "write pixels: multiply x by the width and y by the height of the image")
    corners = _corners(values, columns)
    if not (corners[0] < corners[1]).all():
        return None
    if mm:
        return Shape(label, tuple(itertools.product(*corners.T.tolist())), frame="world")
    return Shape(label, tuple(map(tuple, corners[:, ::-1].tolist())))


def _numbers(row: Row, columns: Sequence[str], table: Path) -> tuple[float, ...]:
    for column in columns:
        cell, name = row[column], row.names.get(column, column)
        if is_empty(cell):
            fix = "write this number, or leave all cells of the box empty if the image has no object"
            raise InputError(table, f"line {row.line}: {name} is missing", fix)
        try:
            finite = math.isfinite(float(cell))
        except ValueError:
            finite = False
        if not finite:
            fix = "correct it; leave the cells of the box empty for an image without objects"
            fix = "write it without points or blanks between thousands" if _GROUPED.fullmatch(cell) else fix
            raise InputError(table, f"line {row.line}: {name} is {cell[:80]!r}, which is not a number", fix)
    return tuple(float(row[column]) for column in columns)


def corners_of(row: Row, columns: Sequence[str], table: Path) -> np.ndarray:
    """Lower and upper corner `(2, d)` of the box of a row, in x, y[, z].

    Raises:
        InputError: a position is not a number.
    """
    return _corners(_numbers(row, columns, table), columns)


def _corners(values: Sequence[float], columns: Sequence[str]) -> np.ndarray:
    """The same from the values of the columns: two corners, or a corner or centre and the sides."""
    corners = np.array(values).reshape(2, -1)
    if columns[0].startswith("c"):
        corners[0] -= corners[1] / 2
    if not columns[-1].startswith(("x", "y", "z")):
        corners[1] += corners[0]
    return corners


def check_thousands(rows: Sequence[Row], columns: Sequence[str], table: Path) -> None:
    """Refuse points between thousands, such as 1.100 for 1100, which would be read as decimals.

    Decimal commas beside them give them away. In a table whose other positions are whole numbers below 1000, boxes do
    that are narrower than a voxel otherwise, and small numbers among large ones.

    Raises:
        InputError: names the line.
    """
    boxed = [row for row in rows if not is_negative(row, columns)]
    cells = [(row, column, row[column]) for row in boxed for column in columns]
    dotted = [cell for cell in cells if _THOUSANDS.fullmatch(cell[2]) and cell[1] not in cell[0].commas]
    others = [cell[2] for cell in cells if not _THOUSANDS.fullmatch(cell[2])]
    if any(row.commas & set(columns) for row in boxed):
        suspect = dotted
    elif others and all(re.fullmatch(r"\d{1,3}", cell) for cell in others):
        suspect = [cell for cell in dotted if _needs_thousands(cell[0], columns)] or _small_among_large(cells, dotted)
    else:
        return
    for row, column, cell in suspect:
        problem = f"line {row.line}: {row.names.get(column, column)} is {cell}, whose point seems to mean thousands"
        fix = f"write {cell.replace('.', '')}; if it is a decimal, write all numbers with decimals"
        raise InputError(table, problem, fix)


def _needs_thousands(row: Row, columns: Sequence[str]) -> bool:
    """Whether the box of a row is a voxel wide only if points are between thousands."""
    read, meant = ([float(row[column].replace(".", by)) for column in columns] for by in (".", ""))
    least = [np.subtract(*_corners(values, columns)[::-1]).min() for values in (read, meant)]
    return bool(least[0] < 1 <= least[1])


def _small_among_large(
    cells: Sequence[tuple[Row, str, str]], dotted: Sequence[tuple[Row, str, str]]
) -> list[tuple[Row, str, str]]:
    """The numbers with points of the columns where these are all small, and others are large."""
    chosen = []
    for column in dict.fromkeys(column for _, column, _ in dotted):
        mine = [cell for cell in dotted if cell[1] == column]
        most = max((float(cell[2]) for cell in cells if cell[1] == column and cell not in mine), default=0.0)
        if len(mine) >= FEW and most > LARGE and all(float(cell[2]) < SMALL for cell in mine):
            chosen += mine
    return chosen
