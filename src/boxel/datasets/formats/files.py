"""Read the files in which annotations come (tables, JSON, YAML, XML); errors name the file."""

import codecs
import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from boxel.config import parse_json
from boxel.datasets.names import is_clutter
from boxel.datasets.problems import InputError, Report, some
from boxel.io import has_geometry, read_layout, split_suffix

__all__ = [
    "Row", "channel_names", "class_names", "drawn_size", "first_row", "images_in", "is_empty", "listing",
    "named_numbers", "numbers", "pictures_layout", "read_mapping", "read_table", "read_text", "read_xml",
    "report_bare_parts",
]  # fmt: skip

CONTROLS = bytes({*range(32)} - {*b"\t\n\v\f\r"})  # not in texts
AGAIN = "copy or export it again"
MOST_CLASSES = 10_000  # without names; a larger number is a mistake


def listing(folder: Path) -> list[Path]:
    """The entries of a folder that are not clutter, sorted; empty if there is no such folder."""
    try:
        entries = [p for p in folder.iterdir() if not is_clutter(p)] if folder.is_dir() else []
        return sorted(entries, key=lambda path: path.name)  # a comparison of paths takes ten times as long
    except PermissionError:
        raise ValueError(f"{folder}: no permission to list it; change its mode (chmod) or owner") from None


def images_in(folder: Path, suffix: str = "") -> dict[str, Path]:
    """The image files of a folder, or those with the suffix, by their names without it.

    Raises:
        ValueError: two files have the same name but for their suffix.
    """
    images: dict[str, Path] = {}
    for path in listing(folder):
        stem, own = split_suffix(path)
        if own and path.is_file() and suffix.lower() in ("", own.lower()):
            if stem in images:
                raise InputError(path, f"{images[stem].name} has the same name", "keep the right one of them", stem)
            images[stem] = path
    return images


def read_text(path: Path, report: Report | None = None) -> str:
    """The text of a file: UTF-8, UTF-16 with its byte order mark, or else Windows-1252, which is reported."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            path, f"cannot be read ({error.strerror})", "check that it exists, and its permissions"
        ) from None
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    for encoding in ("utf-16",) if wide else ("utf-8-sig", "cp1252"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        plain = text.encode() if wide else content
        if len(plain.translate(None, CONTROLS)) < len(plain):
            break
        if encoding == "cp1252" and report:
            problem = "not UTF-8; read as Windows-1252"
            report(InputError(path, problem, "save it as UTF-8 if names are wrong", severity="note"))
        return text.replace("\r\n", "\n").replace("\r", "\n")
    raise InputError(path, "not a text file", AGAIN)


def _lines(path: Path, report: Report | None = None) -> tuple[list[str], int, str]:
    """The lines of a table from its first row on, how many are before them, and the character between cells.

    Excel may name that character in a line of its own, `sep=;`; otherwise it is the most frequent one of the usual ones
    in the first row.
    """
    lines = read_text(path, report).splitlines()
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


def read_table(
    path: Path, columns: Iterable[str] = (), report: Report | None = None, header: Sequence[str] = ()
) -> list[Row]:
    """The rows of a table whose cells are separated by commas, semicolons, tabs, bars or blanks.

    Cells lose the blanks around them. Where commas do not separate cells, decimal commas become points.

    Args:
        path: the file.
        columns: names that its header must have.
        report: called with notes on how the file was read.
        header: names of the columns of a table without header.
    """
    lines, before, between = _lines(path, report)
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


def read_mapping(path: Path, report: Report | None = None) -> Any:
    """The content of a JSON or YAML file, whose text is read by `read_text`."""
    text = read_text(path, report)
    if path.suffix not in (".yaml", ".yml"):
        return parse_json(text, path)
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(path, f"not valid YAML ({str(error).splitlines()[0]})", AGAIN) from None


def read_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file; namespaces are removed from tag names."""
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(path, f"not valid XML ({error})", AGAIN) from None
    except OSError as error:
        raise InputError(
            path, f"cannot be read ({error.strerror})", "check that it exists, and its permissions"
        ) from None
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2] if isinstance(node.tag, str) else ""
    return root


def numbers(values: Any, path: Path, what: str, count: int | None = None) -> tuple[float, ...]:
    """Finite numbers from a list or from a text such as `"1, 2.5"`, exactly `count` of them if given."""
    parts = [part for part in re.split(r"[,;\s]+", values.strip()) if part] if isinstance(values, str) else values
    try:
        parsed = tuple(float(value) for value in parts)
    except (TypeError, ValueError):
        raise _no_numbers(values, path, what, "numbers") from None
    if not all(map(math.isfinite, parsed)) or (count is not None and len(parsed) != count):
        rule = "finite numbers" if count is None else f"{count} finite numbers"
        raise _no_numbers(values, path, what, rule)
    return parsed


def _no_numbers(values: Any, path: Path, what: str, rule: str) -> InputError:
    given = ", ".join(map(str, values)) if isinstance(values, list | tuple) else str(values)
    return InputError(path, f"{what} is {given[:80]!r}", f"write {rule}")


def channel_names(count: int) -> tuple[str, ...]:
    """Names for the channels of a picture, whose file does not name them."""
    return {1: ("grey",), 3: ("red", "green", "blue")}.get(count, tuple(f"channel {i}" for i in range(count)))


def pictures_layout(paths: Iterable[Path]) -> tuple[int, tuple[str, ...]]:
    """Number of axes and channel names of the first readable image; 2 axes and one channel if there is none."""
    for path in paths:
        try:
            count, shape = read_layout(path)
        except ValueError:
            continue  # reported when the case is read
        return len(shape), channel_names(count)
    return 2, channel_names(1)


def report_bare_parts(counts: Mapping[str, Sequence[int]], file: Path, report: Report) -> None:
    """Warn of parts of a data set in which no image has an object while images of other parts do.

    Args:
        counts: the number of objects of each image, by the part.
        file: the file or folder to name.
        report: called with the warnings.
    """
    for part, objects in counts.items():
        if objects and not any(objects) and any(map(any, counts.values())):
            problem = f"none of the {len(objects)} images of {part} has an object"
            report(InputError(file, problem, "check that its annotations are not missing", severity="warning"))


def drawn_size(image: Path, mask: Path) -> tuple[int, ...] | None:
    """The shape of a mask that was drawn on a picture as stored, if the picture is to be shown turned by 90 degrees.

    None if the two agree, or differ otherwise, which is reported when the case is read.
    """
    if image.is_dir() or has_geometry(image):
        return None
    try:
        shown, drawn = read_layout(image)[1], read_layout(mask)[1]
    except ValueError:
        return None
    return drawn if len(drawn) == 2 and drawn == shown[::-1] != shown else None


def class_names(chosen: tuple[str, ...], entries: Any, labels: Iterable[int], path: Path) -> tuple[str, ...]:
    """Names of the classes: those `chosen`, else those in `entries` (see `named_numbers`), else "class 0" and so on.

    A number without a name and without objects, such as 0 where names begin at 1, is named after itself.

    Raises:
        InputError: an object has a class between the names that has none, or its number is too large.
    """
    if chosen:
        return chosen
    names, labels = dict(named_numbers(entries)), set(labels)
    absent = sorted(label for label in labels - set(names) if names and label < max(names))
    if absent:
        known = ", ".join(f"{number} ({name})" for number, name in sorted(names.items()))[:200]
        problem = f"objects have the class {some(map(str, absent))}, which has no name; names are those of {known}"
        raise InputError(path, problem, "name this class too, or correct the annotations")
    largest = max(names or labels, default=0)
    if largest > MOST_CLASSES:
        raise InputError(path, f"a class has the number {largest:.5g}", "number the classes from 0, or name them")
    return tuple(names.get(label, f"class {label}") for label in range(largest + 1))


def named_numbers(entries: Any) -> Iterator[tuple[int, str]]:
    """Pairs of number and name from `["a", "b"]`, `{"0": "a"}` or `{"a": 0}`."""
    if isinstance(entries, list):
        yield from ((number, str(value)) for number, value in enumerate(entries) if not isinstance(value, list | dict))
    for key, value in entries.items() if isinstance(entries, dict) else ():
        if isinstance(value, int) and not isinstance(value, bool):
            yield value, str(key)
        elif str(key).isdecimal() and not isinstance(value, list | dict):
            yield int(key), str(value)
