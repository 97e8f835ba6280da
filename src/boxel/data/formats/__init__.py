"""Readers of data set layouts: functions from a folder to a `Dataset`, registered under a name."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from boxel.data.cases import Dataset, Report, inspect, raise_it
from boxel.data.formats import native

__all__ = ["open_dataset", "register_format"]


class _Format(NamedTuple):
    detect: Callable[[Path], bool]
    read: Callable[[Path, Report], Dataset]
    description: str


_formats: dict[str, _Format] = {}


def register_format(
    name: str, detect: Callable[[Path], bool], read: Callable[[Path, Report], Dataset], description: str = ""
) -> None:
    """Add a layout.

    Args:
        name: for messages.
        detect: whether a folder (or file) has this layout; looks at names only.
        read: the data set; hands every problem to its second argument, which raises it or collects it, and
            goes on with the other cases. Opens no image.
        description: one line for error messages, such as the files that make the layout.
    """
    if name in _formats:
        raise ValueError(f"data set format {name!r} is registered already; choose another name")
    _formats[name] = _Format(detect, read, description)


def open_dataset(path: Path, report: Report = raise_it) -> Dataset:
    """The data set at `path`, in whichever registered layout it has. Images are opened later, by `read_case`.

    Args:
        path: the folder.
        report: called with every problem; raises the first unless told otherwise.

    Raises:
        ValueError: names the file, what is wrong with it and the remedy.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"{path}: no such folder; give the folder of a data set")
    for known in _formats.values():
        if known.detect(path):
            dataset = known.read(path, report)
            for problem in inspect(dataset):
                report(problem)
            return dataset
    layouts = "; ".join(f"{name}: {known.description}" for name, known in _formats.items())
    raise ValueError(f"{path}: not a data set in a layout that Boxel knows ({layouts})")


register_format("native", native.detect, native.read, native.DESCRIPTION)
