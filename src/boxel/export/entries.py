"""What format files share: one file per case, detections from entries, boxes in the conventions of other tools."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import numpy as np
from typing_extensions import TypedDict

from boxel.config import did_you_mean
from boxel.export.prediction import Prediction
from boxel.files import write_text
from boxel.inputs.folders import listing
from boxel.inputs.json_values import Finite, Whole, exactly
from boxel.inputs.problems import InputError
from boxel.inputs.texts import read_head
from boxel.output_folder import case_file, list_files
from boxel.types import Detections, Geometry

T = TypeVar("T")
Position = Annotated[list[Finite], exactly(3)]
LARGEST = 1e30  # a coordinate; boxes have 32 bits
SEE = "see docs/how_to/export.md"


class Entry(NamedTuple):
    """Box `(2, d)`, score and class name of a detection, and where it was read."""

    box: np.ndarray
    score: float
    name: str
    place: str


class _Grid(TypedDict):
    shape: list[Whole]
    spacing: list[Finite]
    origin: list[Finite]
    direction: list[list[Finite]]


class OfBoxel(TypedDict):
    """What Boxel adds to the files of formats that have no place for it."""

    case: str
    classes: list[str]
    geometry: _Grid


def entries_of(
    file: Path, items: Iterable[tuple[str, T]], build: Callable[[T], tuple[np.ndarray, float, str]]
) -> list[Entry]:
    """The entry that `build` makes of each item of a file; the first of a pair says where the item is in it.

    Raises:
        InputError: names the file and the place of an item of which there can be no entry.
    """
    entries = []
    for place, item in items:
        try:
            entries.append(Entry(*build(item), f"{file}: {place}"))
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise InputError(file, f"{place} is no detection ({error})", SEE) from None
    return entries


def numbered(name: str, values: Sequence[T]) -> Iterator[tuple[str, T]]:
    """The values of a list with their places, `name[0]`, `name[1]` ..."""
    return ((f"{name}[{number}]", value) for number, value in enumerate(values))


def refuse_twice(case: str, cases: Mapping[str, tuple[Any, Any, Path]], file: Path) -> None:
    """Raise InputError if a case that a file is of has been read from another file."""
    if case in cases:
        raise InputError(file, f"case {case!r} was already read from {cases[case][2]}", "remove one of the two files")


def class_of(label: int, classes: Sequence[str]) -> str:
    """The name of a class of a file that has only numbers.

    Raises:
        ValueError: there are `classes`, and the number is not one of theirs.
    """
    if classes and not 0 <= label < len(classes):
        raise ValueError(f"label {label} is none of 0..{len(classes) - 1}, the classes {', '.join(classes)}")
    return classes[label] if classes else str(label)


def case_files(path: Path, suffix: str) -> dict[str, Path]:
    """The file `CASE + suffix` of each case in a folder, or the one file at `path`.

    Raises:
        ValueError: the folder has no such file.
    """
    files = listing(path, f"*{suffix}") if path.is_dir() else [path]
    if not files:
        raise ValueError(f"{path}: no *{suffix} files there")
    return {file.name.removesuffix(suffix): file for file in files}


def holds(path: Path, pattern: str) -> bool:
    """Whether a file has a name of this pattern, or a folder has such a file."""
    return bool(listing(path, pattern)) if path.is_dir() else path.match(pattern)


def begins_with(path: Path, suffix: str, text: str) -> bool:
    """Whether `text` is in the first kilobyte of the file at `path`, or of the first such file of that folder."""
    files = list_files(path, suffix) if path.is_dir() else [path] if path.name.endswith(suffix) else []
    if not files:
        return False
    return text.encode() in read_head(files[0], 1024)


def collect(
    cases: Mapping[str, tuple[Sequence[Entry], Geometry | None, Path]],
    classes: Sequence[str],
    ndim: int = 3,
    max_score: float = 1.0,
) -> list[Prediction]:
    """The prediction of each case from its entries.

    Args:
        cases: the entries of each case, none for a case without detections, the geometry where known, and the file.
        classes: class names in the order of the labels; empty: those of the entries, in order of appearance.
        ndim: axes of an empty set of unknown geometry.
        max_score: higher scores are refused.

    Raises:
        ValueError: a class that is not in `classes`, an inverted or infinite box, a score outside 0..1.
    """
    names = tuple(classes or dict.fromkeys(name for entries, *_ in cases.values() for _, _, name, _ in entries))
    predictions = []
    for case, (entries, geometry, file) in cases.items():
        rank = len(geometry.shape) if geometry else entries[0].box.shape[-1] if entries else ndim
        for box, score, name, place in entries:
            if name not in names:
                raise ValueError(f"{place}: case {case!r} has a detection of class {name!r}{did_you_mean(name, names)}")
            if box.shape != (2, rank):
                raise ValueError(f"{place}: case {case!r}: a box of {box.shape[-1]} axes, not of {rank}")
            if not ((np.abs(box) < LARGEST).all() and (box[0] <= box[1]).all()):
                raise ValueError(f"{place}: case {case!r}: every box must be finite with lower <= upper")
            if not 0 <= score <= max_score:
                raise ValueError(f"{place}: case {case!r}: score {score} is outside 0..1")
        detections: Detections = Detections(
            np.array([box for box, *_ in entries], np.float32).reshape(-1, 2, rank),
            np.array([score for _, score, *_ in entries], np.float32),
            np.array([names.index(name) for _, _, name, _ in entries], np.int64),
            geometry,
        )
        predictions.append(Prediction(case, detections, names, file=file))
    return predictions


def write_records(
    out: Path, predictions: Sequence[Prediction], suffix: str, record_of: Callable[[Prediction], Mapping[str, Any]]
) -> list[Path]:
    """Write the JSON file `out/CASE + suffix` of each case."""
    paths = []
    for prediction in predictions:
        paths.append(case_file(out, prediction.case, suffix))
        write_text(paths[-1], json.dumps(record_of(prediction), indent=1) + "\n")
    return paths


def row_of(box: Any, convention: str) -> list[float]:
    """A box `(2, d)` as a row in another tool's convention, see `boxel.ops.convert`."""
    from boxel.ops import convert

    return rounded(convert(box[None], "boxel", convention)[0])


def box_of(row: Any, convention: str) -> np.ndarray:
    """The box `(2, d)` that another tool wrote as a row of numbers."""
    from boxel.ops import convert

    values: Any = np.array([row], np.float64)
    return np.asarray(convert(values, convention, "boxel"))[0]


def rounded(values: Any, decimals: int = 4) -> list[float]:
    """Numbers as they are written into JSON, without -0.0."""
    return [round(float(value), decimals) + 0.0 for value in values]
