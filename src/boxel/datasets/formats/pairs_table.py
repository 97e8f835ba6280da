"""The table beside images and label maps: patients and classes of the cases of `boxel.datasets.formats.pairs`."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from boxel.datasets.formats.files import numbers
from boxel.datasets.formats.table_columns import CASE, identity, plain
from boxel.datasets.formats.table_values import group_column, parts_of
from boxel.datasets.names import stem_of
from boxel.datasets.problems import InputError, Report, Severity, some
from boxel.inputs.tables import read_table
from boxel.io import split_suffix
from boxel.wording import counted

__all__ = ["classes_by_column", "rows_by_case"]


def rows_by_case(
    table: Path, images: Mapping[str, Path], columns: tuple[str, ...], report: Report
) -> dict[str, dict[str, str]]:
    """The rows of `table` by the case that they name, or the file of its image with some of its folders.

    The columns of the patient and of the part are called `patient_id` and `split`, however the table writes them.

    Raises:
        InputError: no column names the images although `columns` are needed, or rows of one case contradict each other.
    """
    rows = read_table(table, columns, report) if columns or table.exists() else []
    head = {plain(name): name for name in reversed(rows[0])} if rows else {}
    key = next((head[name] for name in ("file", "id", "case", "name", *CASE) if name in head), "")
    listed = ", ".join(rows[0])[:200] if rows else ""
    parts = parts_of(rows, table, report, folds="note")
    patient = group_column(rows)
    usual = {"patient_id": bool(patient), "split": any(parts)}
    for row, part in zip(rows, parts, strict=True):
        row["split"] = part
        row.setdefault("patient_id", row[patient] if patient else "")
    if rows and not key:
        severity: Severity = "error" if columns else "warning"
        problem = f"the table is not used: none of its columns {listed} names the images"
        report(InputError(table, problem, "call that column file or id", severity=severity))
    elif rows and not columns and not any(usual.values()):
        problem = f"nothing of the table is used: none of its columns {listed} is patient_id or split"
        fix = "choose with --option group_column=NAME or --option class_column=NAME"
        report(InputError(table, problem, fix, severity="warning"))
    names: dict[str, set[str]] = defaultdict(set)
    for case, image in images.items():
        folders = (*image.relative_to(table.parent).parts[:-1], stem_of(image))
        for name in (case, *("/".join(folders[start:]) for start in range(len(folders)))):
            names[name].add(case)
    chosen: dict[str, dict[str, str]] = {}
    unknown = []
    for row in rows if key else ():
        place = Path(row[key].replace("\\", "/"))
        mine = names[row[key]] or names[str(place.with_name(split_suffix(place)[0] or place.name))]
        mine = mine or names[identity(row[key])]
        if len(mine) > 1:
            raise InputError(table, f"{row[key]!r} may be any of {some(mine)}", "write the path with its folder")
        unknown += [] if mine else [row[key]]
        for case in mine:
            for name in (*columns, *usual):
                values = [identity(each.get(name, "")) for each in (chosen.get(case, row), row)]
                if values[0] != values[1]:
                    problem = f"line {row.line}: {name} of case {case} is {values[1]!r}, but {values[0]!r} before"
                    raise InputError(table, problem, "keep one row per case", case)
        chosen |= dict.fromkeys(mine, row)
    if unknown:
        name = "names" if len(unknown) == 1 else "name"
        problem = f"{len(unknown)} of {counted(len(rows), 'row')} {name} no case: {some(unknown)}"
        severity = "warning" if chosen else "error"
        report(InputError(table, problem, f"write names such as {some(images)}", severity=severity))
    return chosen


def classes_by_column(
    table: Path, rows: Mapping[str, Mapping[str, str]], column: str, bound: float | None = None
) -> tuple[dict[str, int], tuple[str, ...]]:
    """The class of each case and the names of the classes, both from a column of `table`; empty without a column.

    Args:
        bound: cases with a smaller number are of class 0, the others of class 1; if None, every value is a class.

    Raises:
        ValueError: names the row and the column of a value that is not a number, where there is a bound.
    """
    if bound is not None and not column:
        raise InputError(table, f"class_from={bound:g} has no column", "add --option class_column=NAME")
    values = {case: row[column] for case, row in rows.items()} if column else {}
    if bound is None:
        values = {case: identity(value) for case, value in values.items()}
        for case in (case for case, value in values.items() if not value):
            raise InputError(table, f"case {case} has no {column}", "write it, or remove its row and image", case)
        known = sorted(set(values.values()))
        return {case: known.index(value) for case, value in values.items()}, tuple(f"{column} {v}" for v in known)
    given = {case: numbers(value, table, f"{column} of row {case}", 1)[0] for case, value in values.items()}
    return {case: int(value >= bound) for case, value in given.items()}, (f"{column}<{bound:g}", f"{column}>={bound:g}")
