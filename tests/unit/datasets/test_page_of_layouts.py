"""docs/bring-your-data.md: what users may choose is what the readers offer."""

import re
from pathlib import Path

import pytest

from boxel.datasets.formats import formats
from boxel.datasets.formats.options import ReaderOptions
from boxel.datasets.formats.table_columns import CASE, GROUP, LABEL, SIZE, plain, positions
from boxel.datasets.formats.table_values import CROWD, FLAGS, IGNORED, LOOSE, MEANT, READER, SIZE_TEXT, SPLIT

PAGE = (Path(__file__).parents[3] / "docs" / "bring-your-data.md").read_text()
OWN = {name: known for name, known in formats().items() if known.reader.__module__.startswith("boxel.datasets.")}
ROWS = {row[1]: row[2] for row in re.finditer(r"^\| `(\w+)` \|[^|]*\| ([^|]*) \|$", PAGE, re.M)}


def test_the_table_has_the_layouts_of_boxel():
    assert ROWS.keys() == OWN.keys()


@pytest.mark.parametrize("name", OWN)
def test_the_table_names_exactly_the_options_of_a_layout(name):
    options = (OWN[name].options or ReaderOptions).model_fields.keys() - ReaderOptions.model_fields.keys()
    written = re.sub(r"\([^)]*\)", "", ROWS[name])  # without explanations
    assert set(re.findall(r"`(\w+)[=`]", written)) == options


@pytest.mark.parametrize("name", ReaderOptions.model_fields)
def test_the_page_names_the_options_of_every_layout(name):
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize("name", OWN)
def test_the_options_of_the_table_are_accepted(name):
    assignments = re.findall(r"`(\w+=[^`]+)`", ROWS[name])
    parsed = OWN[name].parse(assignments)
    for assignment in assignments:
        assert getattr(parsed, assignment.partition("=")[0]) is not None


@pytest.mark.parametrize("name", OWN)
def test_every_layout_has_a_section(name):
    assert f"**`{name}`**" in PAGE


def _text(value):
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize("name", OWN)
def test_the_table_says_every_default(name):
    """Other options are not set: empty, or None."""
    written = dict(re.findall(r"`(\w+)(?:=[^`]*)?`(?: \(([^)]*)\))?", ROWS[name]))
    options = (OWN[name].options or ReaderOptions).model_fields
    for option, text in written.items():
        default = options[option].default
        stated = re.search(r"\bdefault ([\w.]+)", text)
        expected = None if default in ("", (), None) else _text(default)
        assert (stated and stated[1]) == expected, option


COLUMNS = {row[1]: re.findall(r"`([\w,]+)`", row[2]) for row in re.finditer(r"^\| (\w+) \| (.*) \|$", PAGE, re.M)}


@pytest.mark.parametrize(
    ("row", "names"),
    [("image", CASE), ("class", LABEL), ("patient", GROUP), ("part", (*SPLIT, *LOOSE, MEANT, *FLAGS)),
     ("ignored", (*IGNORED, *CROWD))],
    ids=lambda v: str(v)[:9],
)  # fmt: skip
def test_the_page_has_exactly_the_names_of_columns_that_are_read(row, names):
    values = {"object", "train", "val", "test", "holdout", "splits"}  # of cells, and options
    assert {plain(name) for name in COLUMNS[row] if name not in values} == set(names)


def test_the_page_has_exactly_the_columns_of_readers_that_are_read():
    names = {plain(name) for name in COLUMNS["reader"]} - {"id"}
    first = {name for name in names if f"{name}id" in READER}
    assert names | {f"{name}id" for name in first} == set(READER)


FLAT = ("x1,y1,x2,y2", "xmin,ymin,xmax,ymax", "x,y,w,h", "x,y,width,height", "xmin,ymin,w,h", "xmin,ymin,width,height",
        "cx,cy,w,h", "cx,cy,width,height")  # fmt: skip
DEEP = (
    "x1,y1,z1,x2,y2,z2", "xmin,ymin,zmin,xmax,ymax,zmax", "x,y,z,w,h,d", "x,y,z,width,height,depth",
    "xmin,ymin,zmin,w,h,d", "xmin,ymin,zmin,width,height,depth", "cx,cy,cz,w,h,d", "cx,cy,cz,width,height,depth",
)  # fmt: skip


def test_positions_as_on_the_page_are_read():
    """The page describes `FLAT` and `DEEP` in fewer words."""
    for names in (*FLAT, *DEEP, *COLUMNS["ball"]):
        expected = {plain(name) for name in names.split(",")}
        assert set(positions(["file", *expected])) == expected
    assert set(",".join(COLUMNS["box"]).split(",")) == set(",".join((*FLAT, *DEEP)).split(","))


def _row(name):
    return re.search(rf"^\| {name} \| (.*) \|$", PAGE, re.M)[1]


def test_sizes_as_on_the_page_are_read():
    written = re.findall(r"`([\w,]+)`", _row("size"))
    first, second, *pairs = (tuple(name.split(",")) for name in written if "," in name)
    before = ["", *(name for name in written if name.endswith("_"))]
    names = {
        (plain(f"{word}{height}"), plain(f"{word}{width}")) for word in before for width, height in (first, second)
    }
    assert names | {tuple(map(plain, pair)) for pair in pairs} == set(SIZE)
    assert {plain(name) for name in written if "," not in name and not name.endswith("_")} == set(SIZE_TEXT)
