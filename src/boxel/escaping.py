"""Names of classes, cases and files are data: how they are written where some characters have a meaning."""

import csv
import hashlib
import io
import re
from collections.abc import Iterable
from functools import lru_cache

__all__ = ["csv_line", "csv_lines", "csv_text", "file_name", "from_csv_text", "markdown_text", "printable"]

# What steers a terminal or the direction of writing, ends a line, or is no character at all.
STEERING = "\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ufeff\\ud800-\\udfff"
_STEERING = re.compile(f"[{STEERING}]")
_STEERING_OR_LINE = re.compile(f"[{STEERING}\\t\\n]")
_LONGEST = 80  # characters of a name in the name of a file
_DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_FORMULA = re.compile("'*[=+@-]")


def printable(text: object, *, lines: bool = False) -> str:
    r"""The text with codes for the characters that steer a terminal or the direction of writing.

    Args:
        text: what is to be shown.
        lines: whether it may have several lines, as a message does; a name may not.

    Example:
        >>> print(printable("red\x1b[2J"))
        red\x1b[2J
    """
    return (_STEERING if lines else _STEERING_OR_LINE).sub(_code, str(text))


def csv_lines(rows: Iterable[Iterable[object]]) -> str:
    """The text of a CSV; see `csv_text`."""
    # Written out: a call for each of millions of numbers would take most of the time.
    return _lines([_as_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)


def csv_line(cells: Iterable[object]) -> str:
    """A line of a CSV, from cells as they are."""
    return _lines([cells])


def _lines(rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def csv_text(value: object) -> object:
    """A cell of a CSV: a text is printable, and one that a spreadsheet would take for a formula gets a quote before it.

    Example:
        >>> csv_text("=1+1"), csv_text(-1.5)
        ("'=1+1", -1.5)
    """
    return _as_cell(value) if isinstance(value, str) else value


@lru_cache(maxsize=2**10)  # tables repeat names
def _as_cell(text: str) -> str:
    text = printable(text)
    return f"'{text}" if _FORMULA.match(text) else text


def from_csv_text(cell: str) -> str:
    """The text that `csv_text` made a cell of; codes stay."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def markdown_text(text: object) -> str:
    """The text as a cell of a Markdown table, in which it is no link, no emphasis by stars and no HTML."""
    return re.sub(r"([\\`*\[|])", r"\\\1", printable(text)).replace("&", "&amp;").replace("<", "&lt;")


def file_name(text: str) -> str:
    """The name of a file or folder, on any system, for a name; different names have different ones.

    Example:
        >>> file_name("lesion (large)")
        'lesion (large)'
        >>> file_name("../lesion")
        'fd70bf-lesion'
    """
    safe = re.sub(r"[^\w ()+,.=-]", "_", printable(text))[:_LONGEST].strip(" .")
    if safe == text and text and not _DEVICES.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{digest[:6]}-{safe.strip('_')}"[:_LONGEST].strip(" .")


def _code(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode()
