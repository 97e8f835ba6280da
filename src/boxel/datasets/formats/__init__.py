"""Data sets in any layout. Each file beside this one reads a layout and registers it; adding a file is enough."""

import gc
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from boxel.datasets.cases import Dataset, Report, inspect, raise_it
from boxel.datasets.classes import alike_classes
from boxel.datasets.formats.options import read_splits
from boxel.datasets.formats.registry import Format, formats, get_format, recognise, register_format
from boxel.datasets.names import stem_of
from boxel.datasets.split import hold_out, unassigned

__all__ = ["Format", "as_dataset", "formats", "get_format", "open_dataset", "register_format"]

ROBOFLOW = re.compile(r"(.+)\.rf\.\w{8,}$")


def open_dataset(
    path: Path | str,
    report: Report = raise_it,
    *,
    format: str | Format = "",  # noqa: A002
    options: Sequence[str] = (),
) -> Dataset:
    """Open the data set at `path`. Images are read later, by `read_case`.

    Args:
        path: the folder, or the annotation file if the layout has one. A folder that holds one data set in a
            sub-folder counts as that data set.
        report: called with every problem; the default raises the first error.
        format: the layout, or its name; it is recognised if empty.
        options: settings of the layout, each `"key=value"`.

    Raises:
        ValueError: names the file, the problem and a suggested fix.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: no such folder; give the folder of a data set")
    named = get_format(format) if isinstance(format, str) and format else format
    known, path = recognise(path, [named] if isinstance(named, Format) else list(formats().values()))
    chosen = known.parse(options)
    with _collected_later():
        dataset = _with_groups(known.read(path, report, chosen), chosen.group)
    dataset = replace(dataset, format=known.name, splits=read_splits(dataset, chosen.splits))
    dataset = _with_holdout(dataset, chosen.holdout)
    for problem in (*inspect(dataset), *unassigned(dataset), *alike_classes(dataset)):
        report(problem)
    return dataset


@contextmanager
def _collected_later() -> Iterator[None]:
    """Python does not look for unused cycles among the objects of a data set while their number grows."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def as_dataset(source: Path | str | Dataset) -> Dataset:
    """A data set that is open already, or the one in a folder."""
    return source if isinstance(source, Dataset) else open_dataset(source)


def _with_groups(dataset: Dataset, pattern: str) -> Dataset:
    """Group the cases whose names agree in the part that `pattern` matches; without it, the copies of one image."""
    if not pattern:
        return _with_copies(dataset)
    try:
        matches = {case.id: re.search(pattern, case.id) for case in dataset.cases}
    except re.error as error:
        raise ValueError(f"group={pattern!r}: not a regular expression ({error}); such as group=patient_\\d+") from None
    strange = next((name for name, match in matches.items() if not match), None)
    if strange is not None:
        raise ValueError(f"group={pattern!r}: does not match case {strange!r}; it must match every case name")
    groups = {name: match[match.lastindex or 0] for name, match in matches.items() if match}
    return replace(dataset, cases=tuple(replace(case, group=groups[case.id]) for case in dataset.cases))


def _with_copies(dataset: Dataset) -> Dataset:
    """Group the copies that Roboflow makes of one image: `NAME.rf.HASH.jpg`."""
    copies: dict[str, list[str]] = defaultdict(list)
    for case in dataset.cases:
        match = ROBOFLOW.match(stem_of(case.channels[0])) if case.channels and not case.group else None
        if match:
            copies[match[1]].append(case.id)
    groups = {case: name for name, same in copies.items() if len(same) > 1 for case in same}
    cases = (replace(case, group=groups[case.id]) if case.id in groups else case for case in dataset.cases)
    return replace(dataset, cases=tuple(cases)) if groups else dataset


def _with_holdout(dataset: Dataset, share: float) -> Dataset:
    """Turn a share of the cases into test cases."""
    if not share:
        return dataset
    if dataset.test or dataset.splits:
        raise ValueError(f"holdout={share}: {dataset.root} has its own test cases or folds; leave holdout out")
    chosen = hold_out(dataset.cases, share)
    cases = (replace(case, split="test") if case.id in chosen else case for case in dataset.cases)
    return replace(dataset, cases=tuple(cases))


for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
