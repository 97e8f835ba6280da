"""The columns of tables of objects: which they are, also without header, and what they say of an image."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from boxel.datasets.names import as_id
from boxel.datasets.problems import InputError, Report
from boxel.inputs.tables import Row, first_row, is_empty, read_table
from boxel.io import split_suffix

__all__ = [
    "BALL", "CASE", "GROUP", "LABEL", "SIZE", "SUFFIXES", "first_of", "head", "identity", "is_negative", "is_table",
    "plain", "positions", "read_rows", "why_no_table",
]  # fmt: skip

CASE = (
    "seriesuid", "filename", "file", "filepath", "imagename", "imagefile", "imagepath", "image", "imageid", "imgname",
    "img", "path", "caseid", "case", "scan", "scanid", "name", "id", "dateiname", "datei", "bild", "bilddatei",
)  # fmt: skip
LABEL = ("label", "class", "classname", "category", "coarselesiontype", "klasse")
GROUP = ("patient", "patientid", "group", "subject")
BOX = (("x1", "y1", "z1", "x2", "y2", "z2"), ("xmin", "ymin", "zmin", "xmax", "ymax", "zmax"))
SIDES = tuple(  # in 3D and in 2D
    (*start[:ndim], *extent[:ndim])
    for ndim in (3, 2)
    for start in (("x", "y", "z"), ("xmin", "ymin", "zmin"), ("cx", "cy", "cz"))
    for extent in (("w", "h", "d"), ("width", "height", "depth"))
)
BALL = (("coordx", "coordy", "coordz", "diametermm"), ("x", "y", "z", "diameter"), ("x", "y", "z", "diametermm"))
OF_IMAGE = ("image", "img", "original", "orig", "originalimage")
SIZE = (
    *(
        (f"{of}{height}", f"{of}{width}")
        for height, width in (("height", "width"), ("h", "w"))
        for of in ("", *OF_IMAGE)
    ),
    ("rows", "columns"),
    ("rows", "cols"),
    ("sizey", "sizex"),
)
ALIASES = (  # of the plain names of columns
    (r"(?:center|centre|mid|c)([xyz])(mm)?|([xyz])(?:center|centre|mid|c)(mm)?", r"c\1\3\2\4"),
    (r"(bild)?breite(mm)?", r"\1width\2"),
    (r"(bild)?(?:hohe|hoehe)(mm)?", r"\1height\2"),
    (r"(bild)?tiefe(mm)?", r"\1depth\2"),
)
SUFFIXES = (".csv", ".tsv")
PLAIN = ("file", "x1", "y1", "x2", "y2", "label")  # of tables without header


def is_table(file: Path) -> bool:
    """Whether a file is a table of objects; without header, its columns may have to be named."""
    if file.suffix.lower() not in SUFFIXES:
        return False
    try:
        cells = first_row(file)
    except ValueError:
        return False
    objects = any(map(_is_image, cells)) and sum(map(_is_number, cells)) >= 4
    return objects or positions(head(cells)) is not None


def head(cells: Sequence[str]) -> list[str]:
    """The names of the columns in plain form, also those of a table without header whose cells leave no doubt."""
    return list(_unnamed(cells)) or [plain(name) for name in cells]


def _unnamed(cells: Sequence[str]) -> tuple[str, ...]:
    """The columns of an image with its box and class, such as `a.png,1,2,3,4,cell`, or `a.png,,,,,` without a box."""
    boxed = len(cells) in (len(PLAIN) - 1, len(PLAIN)) and _is_image(cells[0])
    return PLAIN[: len(cells)] if boxed and (not any(cells[1:]) or all(map(_is_number, cells[1:5]))) else ()


def _is_image(cell: str) -> bool:
    return bool(split_suffix(Path(cell.strip().replace("\\", "/")))[1])


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"\s*-?\d+([.,]\d+)?\s*", cell))


def plain(name: str) -> str:
    """The name of a column in lower case without accents, blanks and signs; centres and German sides as in English."""
    name = re.sub(r"[^a-z0-9]", "", unicodedata.normalize("NFKD", name.lower()))
    for other, usual in ALIASES:
        if re.fullmatch(other, name):
            return re.sub(other, usual, name).replace("bild", "image")
    return name


def identity(cell: str) -> str:
    """The value of a cell that names a class or a patient: `1.0` is 1; empty if there is none, as with `nan`."""
    number = None if is_empty(cell) else as_id(cell)
    return "" if number is None else str(number)


def positions(head: Sequence[str]) -> tuple[str, ...] | None:
    """The columns of positions; None if the table lacks them or a column that names the image or its patient."""
    if not set(head) & {*CASE, *GROUP}:
        return None
    flat = [tuple(name for name in names if name[0] != "z") for names in BOX]
    boxes = [*BOX, *flat, *SIDES]
    in_mm = [tuple(f"{name}mm" for name in names) for names in boxes]
    return next((names for names in (*BALL, *boxes, *in_mm) if set(names) <= set(head)), None)


def why_no_table(file: Path) -> str:
    """What a table lacks that `positions` needs, with the names that would be accepted; empty if nothing."""
    try:
        cells = first_row(file)
    except ValueError as error:
        return str(error)
    if is_table(file):
        return ""
    text = f"{file.name} has the columns {', '.join(cells)[:200]}; "
    if not {plain(name) for name in cells} & {*CASE, *GROUP}:
        return text + f"none names the image (accepted: file, {', '.join(name for name in CASE if name != 'file')})"
    return text + (
        "none give a box (accepted: x1,y1,x2,y2 or xmin,ymin,xmax,ymax, with z1,z2 or zmin,zmax in 3D; "
        "x,y,width,height or x,y,w,h, with z and depth or d in 3D; cx,cy for the centre; any of these with _mm) "
        "or a ball (x,y,z,diameter)"
    )


def read_rows(table: Path, report: Report, columns: Sequence[str]) -> list[Row]:
    """The rows of a table by the plain names of its columns, which are given if it has no header.

    Raises:
        InputError: it has no header, and its columns are not given.
    """
    cells = first_row(table)
    header = columns or _unnamed(cells)
    if not header and any(map(_is_number, cells)):
        problem = f"the table has no header; the first row is {', '.join(cells)[:80]}"
        raise InputError(table, problem, "name its columns with --option columns=file,x1,y1,x2,y2,label")
    if header and not columns:
        problem = f"the table has no header; the columns are taken for {', '.join(header)}"
        report(InputError(table, problem, "name others with --option columns=...", severity="note"))
    rows = read_table(table, (), report, header)
    names = {plain(name): name for name in reversed(rows[0])} if rows else {}
    return [
        Row({key: row[name] for key, name in names.items()}, row.line, names, map(plain, row.commas)) for row in rows
    ]


def is_negative(row: Mapping[str, str], columns: Sequence[str]) -> bool:
    """Whether a row only says that there is an image without objects."""
    return all(is_empty(row[column]) for column in columns)


def first_of(rows: Sequence[Mapping[str, str]], names: Sequence[str]) -> str:
    """The first of the names that is a column; empty if none is."""
    return next((name for name in names if rows and name in rows[0]), "")
