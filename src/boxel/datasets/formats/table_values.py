"""What the columns beside the boxes of a table say: part of a split, ignored objects, readers, size of the image."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from boxel.datasets.annotations import Shapes
from boxel.datasets.declared import flag, report_scores
from boxel.datasets.formats.files import numbers
from boxel.datasets.formats.table_boxes import corners_of
from boxel.datasets.formats.table_columns import BALL, GROUP, OF_IMAGE, SIZE, first_of, identity, is_negative, plain
from boxel.datasets.names import split_word
from boxel.datasets.problems import InputError, Report, Severity, some
from boxel.inputs.tables import Row, is_empty
from boxel.wording import counted

__all__ = [
    "CROWD",
    "IGNORED",
    "Crowds",
    "declared_size",
    "flagged",
    "group_column",
    "of_reader",
    "one_value",
    "parts_by_case",
    "parts_of",
    "report_predictions",
    "size_columns",
]

SPLIT = ("split", "subset", "set", "partition", "fold")
LOOSE = ("dataset", "part", "phase", "usage", "cohort")  # a split only if one of the values is the name of a part
MEANT = "group"  # patients, unless all of its values are names of parts
FLAGS = {
    **dict.fromkeys(("istest", "isholdout"), "test"),
    **dict.fromkeys(("istrain", "istraining"), "train"),
    **dict.fromkeys(("isval", "isvalidation"), "val"),
}
PARTS = {"tests": "test", "dev": "val", "development": "val"}  # further words, in cells only
SIZE_TEXT = ("imagesize", "imgsize", "resolution", "imageresolution")  # as width x height
IGNORED = ("difficult", "isdifficult", "ignore", "ignored", "isignored")
CROWD = ("iscrowd", "crowd", "isgroupof")
READER = (
    "rater", "raterid", "reader", "readerid", "annotator", "annotatorid", "radid", "radiologist", "radiologistid",
    "observer", "observerid", "labeler", "labeller", "annotatedby", "labeledby", "labelledby",
)  # fmt: skip
SCORE = ("score", "confidence", "conf", "probability", "prob")
WORDS = "write train, training, val, valid, validation, test, testing or holdout"


def parts_of(rows: Sequence[Row], table: Path, report: Report, folds: Severity = "warning") -> list[str]:
    """The part (train, val or test) that the columns of a split say of every row; empty where there is none.

    Args:
        rows: the rows.
        table: the file to name.
        report: called with columns that look like a split but are not used.
        folds: how severe it is that numbers of folds are not used.

    Raises:
        InputError: a value is missing or unknown, or two columns contradict each other.
    """
    names = {plain(name): name for name in reversed(rows[0])} if rows else {}
    said: list[set[str]] = [set() for _ in rows]
    meant = (MEANT,) if _says_parts(rows, names.get(MEANT, "")) else ()
    for name in (names[known] for known in (*SPLIT, *LOOSE, *meant) if known in names):
        cells = [row[name] for row in rows]
        parts = list(map(_part, cells))
        if not any(parts):
            _report_unused(rows[0].names.get(name, name), cells, rows[0].line, table, report, folds)
            continue
        for row, cell, part, own in zip(rows, cells, parts, said, strict=True):
            if not part and not _is_fold(cell):
                problem = f"line {row.line}: {cell!r} in the column {row.names.get(name, name)} is no part of a split"
                raise InputError(table, problem, WORDS)
            own.add(part or "train")
    flags = {names[known]: part for known, part in FLAGS.items() if known in names}
    for row, own in zip(rows, said, strict=True) if flags else ():
        own.add(_flagged(row, flags, table))
    for row, own in zip(rows, said, strict=True):
        if "test" in own and len(own) > 1:
            raise InputError(table, f"line {row.line}: the row is of several parts: {some(own)}", "write one part")
    return [min(own, default="") for own in said]


def group_column(rows: Sequence[Row]) -> str:
    """The column of the patients, by its name in the rows; empty if there is none."""
    names = {plain(name): name for name in reversed(rows[0])} if rows else {}
    known = (name for name in GROUP if name in names)
    return next((names[name] for name in known if name != MEANT or not _says_parts(rows, names[name])), "")


def _says_parts(rows: Sequence[Row], column: str) -> bool:
    return bool(column) and all(_part(row[column]) for row in rows)


def _part(cell: str) -> str:
    return split_word(cell) or PARTS.get(plain(cell), "")


def parts_by_case(rows: Sequence[Row], column: str, table: Path, report: Report) -> dict[str, str]:
    """The part of every case that `column` names; see `parts_of`.

    Raises:
        InputError: the rows of a case are of several parts.
    """
    parts: dict[str, str] = {}
    for row, part in zip(rows, parts_of(rows, table, report), strict=True):
        before = parts.setdefault(row[column], part)
        if before != part:
            problem = f"line {row.line}: {row[column]} belongs to {part}, but to {before} in an earlier line"
            raise InputError(table, problem, "write one part for each image", row[column])
    return parts


def _is_fold(cell: str) -> bool:
    return bool(re.fullmatch(r"(fold|subset|split)?[ _-]*\d+(\.0*)?", cell.strip().lower()))


def _report_unused(name: str, cells: Sequence[str], line: int, table: Path, report: Report, folds: Severity) -> None:
    """Report a column that is called like a split but names no part."""
    filled = {cell for cell in cells if not is_empty(cell)}
    if not filled or plain(name) not in SPLIT:
        return
    if any(map(_is_fold, filled)) and (plain(name) in ("fold", "subset") or not any(map(str.isdecimal, filled))):
        problem = f"the folds of the column {name} are not used"
        fix = 'give them with --option splits=FILE, a JSON list of {"train": [ids], "val": [ids], "test": [ids]}'
        report(InputError(table, problem, fix, severity=folds))
    elif plain(name) == "split":
        problem = f"line {line}: {cells[0]!r} in the column {name} is no part of a split"
        raise InputError(table, problem, f"{WORDS}; call the column fold if it numbers folds")
    else:
        problem = f"the column {name} is called like a split, but is not used: its values are {some(filled)}"
        report(InputError(table, problem, f"{WORDS} if it is one, or rename the column", severity="warning"))


def _flagged(row: Row, flags: Mapping[str, str], table: Path) -> str:
    """The part of a row by columns such as `is_test`."""
    marked = {part for name, part in flags.items() if flagged(row, [name], table)}
    others = {"train", "test"} - set(flags.values())
    if len(marked) > 1 or not (marked or others):
        listed = ", ".join(row.names.get(name, name) for name in flags)
        problem = f"line {row.line}: {listed} mark {'several parts' if marked else 'no part'}"
        raise InputError(table, problem, "mark one part in every row")
    return next(iter(marked or {"train"} & others or others))


def flagged(row: Row, names: Sequence[str], table: Path) -> bool:
    """Whether one of the columns says yes; an empty cell says no.

    Raises:
        InputError: it says something else than yes or no.
    """
    cells = {name: "" if is_empty(row[name]) else row[name] for name in names if name in row}
    places = {name: f"line {row.line}: the column {row.names.get(name, name)}" for name in cells}
    return any(flag(cell, table, places[name]) for name, cell in cells.items())


@dataclass(frozen=True)
class Crowds(Shapes):
    """Shapes whose ignored ones are regions that hold any number of objects."""

    @property
    def ignores_regions(self) -> bool:
        return True


def of_reader(rows: Sequence[Row], reader: str, of_case: str, table: Path, report: Report) -> list[Row]:
    """The rows of `reader`, all rows without one; images that have rows of several readers are then reported.

    Raises:
        InputError: nobody in the table is called `reader`.
    """
    column = first_of(rows, READER)
    readers: dict[str, set[str]] = defaultdict(set)
    for row in rows if column else ():
        readers[row[of_case]] |= {identity(row[column])} - {""}
    known = set().union(*readers.values())
    if reader and reader not in known:
        problem = f"no row is by reader {reader!r}"
        raise InputError(table, problem, f"choose one of {some(known)}" if known else "remove --option reader")
    shared = [case for case, names in readers.items() if len(names) > 1]
    if reader or not shared:
        return [row for row in rows if not reader or identity(row[column]) == reader]
    several = f"{counted(len(shared), 'image has', 'images have')} boxes by several readers"
    problem = f"{several} ({some(known)}), which are all used as objects of their own: {some(shared)}"
    fix = f"choose one reader with --option reader={min(readers[shared[0]])}"
    report(InputError(table, problem, fix, severity="warning"))
    return list(rows)


def report_predictions(rows: Sequence[Row], table: Path, report: Report) -> None:
    """Warn of a column of scores, which says that the table holds predictions."""
    for name in (name for name in SCORE if rows and name in rows[0]):
        cells = (row[name] for row in rows)
        report_scores(cells, table, f"the column {rows[0].names.get(name, name)} has values", report)


def size_columns(rows: Sequence[Row], columns: Sequence[str], table: Path, report: Report) -> tuple[str, ...]:
    """The columns of the height and width of the annotated images; empty if there are none.

    A text such as `120x80` is split into such columns. The sides of the boxes may be called alike.

    Args:
        rows: the rows.
        columns: the columns of the boxes.
        table: the file to name.
        report: called with a column that gives one side only.
    """
    names = rows[0].keys() - set(columns) if rows else set()
    for text in (name for name in SIZE_TEXT if name in names):
        for row in rows:
            both = re.fullmatch(r"(\d+)\s*[x*]\s*(\d+)", row[text].strip().lower())
            row |= {"imagewidth": both[1] if both else "", "imageheight": both[2] if both else ""}
        return ("imageheight", "imagewidth")
    for pair in SIZE:
        if set(pair) <= names and (pair[0].startswith(OF_IMAGE) or not _are_sides(rows, pair, columns, table)):
            return pair
    for height, width in SIZE:
        alone = {height, width} & names
        named = height.startswith(OF_IMAGE)
        if len(alone) != 1 or not (named or height == "height"):
            continue
        if named or not _are_sides(rows, (height, width), columns, table):
            given, other = ("height", "width") if height in alone else ("width", "height")
            column = rows[0].names.get(min(alone), min(alone))
            problem = f"the column {column} gives only the {given} of the images, which is not compared with theirs"
            fix = f"add the {other}, or rename the column if it is something else"
            report(InputError(table, problem, fix, severity="warning"))
    return ()


def _are_sides(rows: Sequence[Row], pair: Sequence[str], columns: Sequence[str], table: Path) -> bool:
    """Whether the columns of a height and a width, of which one may be absent, are those of boxes, or no pixels."""
    axes = [axis for axis in (0, 1) if pair[axis] in rows[0]]
    pair = [pair[axis] for axis in axes]
    boxed = [row for row in rows if not is_negative(row, columns)]
    cells = [[row[name] for name in pair] for row in boxed]
    cells = [sides for sides in cells if not any(map(is_empty, sides))]
    try:
        given = [numbers(sides, table, "size") for sides in cells]
    except InputError:  # the size of a case is reported with its name
        return len(pair) == 1
    if not all(side.is_integer() for sides in given for side in sides):
        return True
    if columns in BALL or not given or len(given) < len(boxed):
        return len(pair) == 1 and (columns in BALL or not given)
    corners = np.array([corners_of(row, columns, table) for row in boxed])
    return bool((abs((corners[:, 1] - corners[:, 0])[:, 1::-1][:, axes] - given) <= 1).all())


def declared_size(
    rows: Sequence[Mapping[str, str]], columns: Sequence[str], table: Path, case: str
) -> tuple[int, ...] | None:
    """Rows and columns of the image that was annotated, if the table says so."""
    texts = {tuple(row[column] for column in columns) for row in rows}
    given = [numbers(size, table, f"size of {case}") for size in texts if not any(map(is_empty, size))]
    sizes = sorted({tuple(map(int, size)) for size in given if size and all(size)})
    if len(sizes) > 1:
        raise InputError(table, f"case {case} has several sizes: {sizes[0]} and {sizes[1]}", "write one", case)
    return sizes[0] if sizes else None


def one_value(rows: Sequence[Row], column: str, table: Path, case: str) -> str:
    """The one value of a column in the rows of a case; empty without the column."""
    values = sorted({row[column] for row in rows}) if column else []
    if len(values) > 1:
        name = rows[0].names.get(column, column)
        raise InputError(table, f"case {case} has several values of {name}: {some(values)}", "write one", case)
    return values[0] if values else ""
