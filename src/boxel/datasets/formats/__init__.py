"""Readers of data set layouts: functions from a folder to a `Dataset`, registered under a name."""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from boxel.datasets.cases import Dataset, Report, inspect, raise_it
from boxel.datasets.formats.options import ReaderOptions, read_splits
from boxel.datasets.split import hold_out
from boxel.plugins import Registry

__all__ = ["as_dataset", "formats", "open_dataset", "register_format"]


class _Format(NamedTuple):
    detect: Callable[[Path], bool]
    read: Callable[..., Dataset]
    description: str
    options: type[ReaderOptions] | None


_formats: Registry[_Format] = Registry("data set format")


def register_format(
    name: str,
    detect: Callable[[Path], bool],
    read: Callable[..., Dataset],
    description: str = "",
    options: type[ReaderOptions] | None = None,
) -> None:
    """Add a layout.

    Args:
        name: for `--format` and for messages.
        detect: whether a folder (or file) has this layout; opens no image.
        read: the data set, from the path, a function that takes every problem (it raises it or collects it, and
            reading goes on with the other cases) and, where the layout has some, its options. Opens no image.
        description: one line for error messages, such as the files that make the layout.
        options: what users may choose about the layout, a frozen record of plain values.
    """
    _formats[name] = _Format(detect, read, description, options)


def formats() -> Mapping[str, str]:
    """The registered layouts and what makes each, in the order in which they are tried."""
    return {name: known.description for name, known in _formats.items()}


def open_dataset(
    path: Path | str,
    report: Report = raise_it,
    *,
    format: str = "",  # noqa: A002
    options: Sequence[str] = (),
) -> Dataset:
    """The data set at `path`. Images are opened later, by `read_case`.

    Args:
        path: the folder, or the annotation file where a layout has one.
        report: called with every problem; raises the first error unless told otherwise.
        format: name of the layout; empty to recognise it. A folder that holds one data set in a sub-folder counts
            as that data set.
        options: settings of the layout, each `"key=value"`.

    Raises:
        ValueError: names the file, what is wrong with it and the remedy.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: no such folder; give the folder of a data set")
    name, path = _recognise(path, [_named(format)] if format else list(_formats))
    known = _formats[name]
    chosen = (known.options or ReaderOptions).parse(options)
    dataset = known.read(path, report, chosen) if known.options else known.read(path, report)
    dataset = replace(_with_groups(dataset, chosen.group), format=name, splits=read_splits(dataset, chosen.splits))
    dataset = _with_holdout(dataset, chosen.holdout)
    for problem in inspect(dataset):
        report(problem)
    return dataset


def as_dataset(source: Path | str | Dataset) -> Dataset:
    """A data set that is open already, or the one in a folder."""
    return source if isinstance(source, Dataset) else open_dataset(source)


def _named(name: str) -> str:
    if name in _formats:
        return name
    near = difflib.get_close_matches(name, _formats, 1)
    hint = f"did you mean {near[0]!r}? Known: " if near else "known: "
    raise ValueError(f"unknown data set format {name!r}; {hint}{', '.join(_formats)}")


def _recognise(path: Path, names: Sequence[str]) -> tuple[str, Path]:
    """The layout of `path` among `names`, or that of the only one of its folders that has one."""

    def layout(folder: Path) -> str:
        return next((name for name in names if _formats[name].detect(folder)), "")

    found = layout(path)
    if found:
        return found, path
    inner = sorted(folder for folder in path.iterdir() if folder.is_dir()) if path.is_dir() else []
    places = {folder: found for folder in inner if (found := layout(folder))}
    if len(places) > 1:
        listed = ", ".join(folder.name for folder in places)
        raise ValueError(f"{path}: holds several data sets ({listed}); give the folder of one")
    if places:
        return next((name, folder) for folder, name in places.items())
    if len(names) == 1:  # the reader says what it misses
        return names[0], path
    layouts = "; ".join(f"{name}: {_formats[name].description}" for name in names)
    raise ValueError(f"{path}: not a data set in a layout that Boxel knows ({layouts})")


def _with_groups(dataset: Dataset, pattern: str) -> Dataset:
    """Cases whose names agree in what `pattern` matches become one group."""
    if not pattern:
        return dataset
    try:
        found = {case.id: re.search(pattern, case.id) for case in dataset.cases}
    except re.error as error:
        raise ValueError(f"group={pattern!r}: not a regular expression ({error}); such as group=patient_\\d+") from None
    strange = next((name for name, match in found.items() if not match), None)
    if strange is not None:
        raise ValueError(f"group={pattern!r}: does not match case {strange!r}; it must match every case name")
    groups = {name: match[match.lastindex or 0] for name, match in found.items() if match}
    return replace(dataset, cases=tuple(replace(case, group=groups[case.id]) for case in dataset.cases))


def _with_holdout(dataset: Dataset, share: float) -> Dataset:
    """Some cases become test cases."""
    if not share:
        return dataset
    if dataset.test or dataset.splits:
        raise ValueError(f"holdout={share}: {dataset.root} has its own test cases or folds; leave holdout out")
    chosen = hold_out(dataset.cases, share)
    cases = (replace(case, split="test") if case.id in chosen else case for case in dataset.cases)
    return replace(dataset, cases=tuple(cases))


# The most particular first: the first that fits is taken.
OWN = (
    "lidc",
    "pancreas_ct",
    "nnunet",
    "native",
    "voc",
    "coco",
    "kaggle_dsb2018",
    "yolo",
    "monai",
    "deeplesion",
    "deeplesion_jpg",
    "pairs",
    "table",
    "dicom",
)
for _name in OWN:
    _layout: Any = import_module(f"boxel.datasets.formats.{_name}")
    register_format(_layout.NAME, _layout.detect, _layout.read, _layout.DESCRIPTION, getattr(_layout, "Options", None))
