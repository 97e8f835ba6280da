"""Names with characters that mean something where they are written."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxel.escaping import csv_lines, csv_text, file_name, from_csv_text, markdown_text, printable

NAMES = ["=1+1", "'=1", "''@", "-5", "+", "\tt", "\r", "'t Hart", "lesion", "a,b", 'a"b', "a\nb", ""]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("\x1b[2J", r"\x1b[2J"), ("\u202eolleh", r"\u202eolleh"), ("a\nb\tc", r"a\nb\tc"), ("\x9b2J", r"\x9b2J"),
        ("\udc80", r"\udc80"), ("Größe 腫瘍 ورم", "Größe 腫瘍 ورم"), ("[red]", "[red]"),
    ],
)  # fmt: skip
def test_what_steers_a_terminal_is_shown_as_a_code(name, shown):
    assert printable(name) == shown
    assert printable(f"a\n{name}", lines=True).startswith("a\n")


@given(st.text())
def test_what_is_printable_has_one_line_and_can_be_printed(name):
    shown = printable(name)
    assert len(shown.splitlines()) <= 1
    assert not [char for char in shown if ord(char) < 32 or 127 <= ord(char) < 160]
    shown.encode()


@given(st.text())
def test_a_cell_is_no_formula_and_gives_the_name_back(name):
    cell = csv_text(name)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert from_csv_text(cell) == printable(name)


def test_numbers_keep_their_sign_and_names_survive_a_table():
    rows = list(csv.reader(io.StringIO(csv_lines([[name, -1.5, -2] for name in NAMES]), newline="")))
    assert [(from_csv_text(name), *rest) for name, *rest in rows] == [(printable(name), "-1.5", "-2") for name in NAMES]


def test_a_cell_of_markdown_has_neither_markup_nor_html():
    assert markdown_text("a|b") == r"a\|b"
    assert markdown_text("<script>[x](y)\n") == r"&lt;script>\[x](y)\\n"


@given(st.text(), st.text())
def test_names_of_files_are_safe_and_differ(first, second):
    for name in (file_name(first), file_name(second)):
        assert name == name.strip(" .") != ""
        assert not set(name) & set('/\\:*?"<>|\n\0')
        assert len(name) <= 90
        assert file_name(name) == name
    assert (file_name(first) == file_name(second)) == (first == second)


@pytest.mark.parametrize("name", ["{{ 7 }}", "../../x", "CON", "com1.txt", "..", "../x", ".hidden", "x" * 300, "a "])
def test_what_no_system_takes_for_a_file_is_changed(name):
    assert file_name(name) != name
    assert file_name(file_name(name)) == file_name(name)
