"""What files of annotations hold: images, numbers, names of classes; errors name the file."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from boxel.datasets.problems import InputError, Report, some
from boxel.inputs.folders import listing
from boxel.io import has_geometry, read_layout, split_suffix

__all__ = [
    "channel_names",
    "class_names",
    "drawn_size",
    "images_in",
    "named_numbers",
    "numbers",
    "pictures_layout",
    "report_bare_parts",
]

MOST_CLASSES = 10_000  # without names; a larger number is a mistake


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
