"""Tables, the rows of CSV files and the like; errors name the file and the line."""

import csv
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from boxel.inputs.problems import InputError
from boxel.inputs.texts import AGAIN, Report, read_text

__all__ = ["Row", "first_row", "is_empty", "read_table"]

csv.field_size_limit(2**31 - 1)  # the text is in memory already; an outline may take more than 131,072 characters


def _lines(path: Path, report: Report | None = None, strict: bool = False) -> tuple[list[str], int, str]:
    """The lines of a table from its first row on, how many are before them, and the character between cells.

    Excel may name that character in a line of its own, `sep=;`; otherwise it is the most frequent one of the usual ones
    in the first row.
    """
    lines = read_text(path, report, strict=strict).splitlines()
    filled = [number for number, line in enumerate(lines) if line.strip()]
    named = re.fullmatch(r'"?sep=(.)"?', lines[filled[0]].strip(), re.IGNORECASE) if filled else None
    before = next(iter(filled[1:] if named else filled), len(lines))
    lines = lines[before:]
    unquoted = re.sub(r'"[^"]*"', "", lines[0] if lines else "")
    best = max(",;\t|", key=unquoted.count)
    best = best if best in unquoted else " " if " " in unquoted.strip() else ","
    return lines, before, named[1] if named else best


def first_row(path: Path) -> list[str]:
    """The cells of the first row of a table, which is its header if it has one."""
    lines, _, between = _lines(path)
    return next(csv.reader(lines[:1], delimiter=between), [])


class Row(dict[str, str]):
    """The cells of a row of a table by their columns.

    Attributes:
        line: its (last) line in the file, from 1.
        names: the columns as the table writes them, where that differs.
        commas: the columns whose decimal comma became a point.
    """

    def __init__(
        self, cells: Mapping[str, str], line: int, names: Mapping[str, str] | None = None, commas: Iterable[str] = ()
    ) -> None:
        super().__init__(cells)
        self.line, self.names, self.commas = line, names or {}, frozenset(commas)

    def number(self, column: str) -> float:
        """The finite number in a column; raises ValueError, which names the column, if there is none."""
        try:
            value = float(self.get(column, ""))
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"{column} is {self.get(column, '')[:80]!r}, not a finite number")
        return value


def read_table(
    path: Path,
    columns: Iterable[str] = (),
    report: Report | None = None,
    header: Sequence[str] = (),
    *,
    strict: bool = False,
) -> list[Row]:
    """The rows of a table whose cells are separated by commas, semicolons, tabs, bars or blanks.

    Cells lose the blanks around them. Where commas do not separate cells, decimal commas become points.

    Args:
        path: the file.
        columns: names that its header must have.
        report: called with notes on how the file was read.
        header: names of the columns of a table without header.
        strict: refuse Windows-1252.
    """
    lines, before, between = _lines(path, report, strict)
    try:
        reader = csv.DictReader(
            lines, header or None, delimiter=between, strict=True, skipinitialspace=between == " ", restval=""
        )
        present = [name.strip() for name in reader.fieldnames or ()]
        rows: list[Row] = []
        for row in reader:
            line = before + reader.line_num
            beyond = row.pop(None, ())  # type: ignore[call-overload]  # cells that no column names
            if any(cell.strip() for cell in beyond):
                problem = f"line {line} has more cells than the {len(present)} columns: {', '.join(beyond)[:80]}"
                raise InputError(path, problem, "decimal commas need another separator, or quotes around the number")
            given = {name.strip(): value.strip() for name, value in row.items()}
            decimal = {name: text.replace(",", ".") for name, text in given.items() if _has_comma(text, between)}
            cells = Row(given | decimal, line, commas=decimal)
            rows += [cells] if any(cells.values()) else []
    except csv.Error as error:
        raise InputError(path, f"it is not a table ({error})", AGAIN) from None
    twice = sorted({name for name in present if name and present.count(name) > 1})
    if twice:
        raise InputError(path, f"several columns are called {', '.join(twice)}", "give each its own name")
    missing = [name for name in columns if name not in present]
    if missing:
        raise InputError(
            path, f"there is no column {', '.join(missing)} among {', '.join(present)}"[:400], "add it to the header"
        )
    return rows


def _has_comma(text: str, between: str) -> bool:
    """Whether a cell is a number with a decimal comma."""
    return between != "," and bool(re.fullmatch(r"[+-]?\d*,\d+", text))


def is_empty(cell: str) -> bool:
    """Whether a cell of a table has no value, in the words of pandas, R and spreadsheets."""
    return cell.strip().lower() in ("", "nan", "na", "n/a", "none", "null")
