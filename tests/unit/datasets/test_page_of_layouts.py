"""docs/bring-your-data.md: what users may choose is what the readers offer."""

import re
from pathlib import Path

import pytest

from boxel.datasets.formats import formats
from boxel.datasets.formats.options import ReaderOptions

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
