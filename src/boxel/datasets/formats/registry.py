"""The layouts that Boxel opens: each is a `Format`, registered by the file that reads it."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from boxel.datasets.cases import Dataset
from boxel.datasets.formats.options import ReaderOptions
from boxel.datasets.formats.pairs_names import is_mask_folder
from boxel.datasets.formats.text_kinds import forget_kinds
from boxel.datasets.formats.unknown import describe
from boxel.datasets.lookup import IMAGE_FOLDERS
from boxel.datasets.problems import Report
from boxel.inputs.folders import listed_once, listing, walk
from boxel.io import split_suffix
from boxel.io.dicom_damage import is_dicom
from boxel.plugins import Registry

__all__ = ["Format", "formats", "get_format", "recognise", "register_format"]


@dataclass(frozen=True)
class Format:
    """One layout of data sets.

    Attributes:
        name: what users type after `--format`.
        detect: says whether a folder (or file) has this layout; opens no image.
        reader: returns the data set; see `register_format`.
        description: one line for error messages, such as the files that make up the layout.
        options: settings that users may choose; None if the layout has none of its own.
        order: layouts with smaller numbers are tried first.
    """

    name: str
    detect: Callable[[Path], bool]
    reader: Callable[..., Dataset]
    description: str = ""
    options: type[ReaderOptions] | None = None
    order: int = 0

    def parse(self, assignments: Sequence[str]) -> ReaderOptions:
        """Settings from `"key=value"`.

        Raises:
            ValueError: a setting that this layout does not have, or a wrong value.
        """
        return (self.options or ReaderOptions).parse(assignments)

    def read(self, path: Path, report: Report, options: ReaderOptions) -> Dataset:
        """The data set at `path`, as its reader returns it."""
        return self.reader(path, report, options) if self.options else self.reader(path, report)


MANY = 30  # folders: patients rather than data sets
PARTS = {"imagesTr", "imagesTs", "labelsTr", "labelsTs"}  # of one data set; they may hold very many files

_formats: Registry[Format] = Registry("data set format")


def register_format(
    name: str,
    detect: Callable[[Path], bool],
    read: Callable[..., Dataset],
    description: str = "",
    options: type[ReaderOptions] | None = None,
    *,
    order: int = 0,
) -> None:
    """Add a layout, so that every command opens it. `boxel.testing.check_reader` tests one.

    Args:
        name: what users type after `--format`.
        detect: says whether a folder (or file) has this layout; opens no image.
        read: returns the data set. It gets the path, a function to call with every problem (which raises the problem
            or collects it, so that reading continues with the other cases) and, if the layout has `options`, these.
            It opens no image.
        description: one line for error messages, such as the files that make up the layout.
        options: settings that users may choose, a subclass of `ReaderOptions`.
        order: layouts with smaller numbers are tried first. The default puts yours before Boxel's own, which start
            at 10 with the most specific.

    Raises:
        ValueError: the name is taken.
    """
    _formats[name] = Format(name, detect, read, description, options, order)


def formats() -> Mapping[str, Format]:
    """The registered layouts by name, in the order in which they are tried."""
    return {known.name: known for known in sorted(_formats.values(), key=lambda known: (known.order, known.name))}


def get_format(name: str) -> Format:
    """The layout of a name.

    Raises:
        ValueError: there is none; suggests the nearest.
    """
    if name in _formats:
        return _formats[name]
    near = difflib.get_close_matches(name, _formats, 1)
    hint = f"did you mean {near[0]!r}? Known: " if near else "known: "
    raise ValueError(f"unknown data set format {name!r}; {hint}{', '.join(formats())}")


def recognise(path: Path, candidates: Sequence[Format]) -> tuple[Format, Path]:
    """The first layout that fits `path`, or the only one of its folders that fits a layout.

    Raises:
        ValueError: none fits, or several folders hold a data set.
    """
    forget_kinds()
    with listed_once():
        return _recognise(path, candidates)


def _recognise(path: Path, candidates: Sequence[Format]) -> tuple[Format, Path]:
    def layout(folder: Path) -> Format | None:
        return next((known for known in candidates if known.detect(folder)), None)

    own = layout(path)
    inner = [folder for folder in listing(path) if folder.is_dir() and not (own and folder.name in PARTS)]
    if own and (len(candidates) == 1 or len(inner) > MANY):
        return own, path
    inner = _without_mask_folders(path, inner)
    places = [(known, folder) for folder in inner if (known := layout(folder))]
    kinds = {known.name for known, _ in places} - {"dicom"}  # a patient may lack annotations
    if own and len(kinds) < 2:
        return own, path
    if len(places) > 1:
        listed = ", ".join(f"{folder.name} ({known.name})" for known, folder in places)
        raise ValueError(f"{path}: holds several data sets ({listed}); give the folder of one")
    if places:
        return places[0]
    if len(candidates) == 1:  # its reader says what is missing
        return candidates[0], path
    raise ValueError(describe(path, [known.name for known in candidates]))


def _without_mask_folders(path: Path, folders: list[Path]) -> list[Path]:
    """The folders of `path` that may be data sets: those of masks only if no image lies outside them."""
    masks = [folder for folder in folders if is_mask_folder(folder.name)]
    masks = [folder for folder in masks if not any((folder / name).is_dir() for name in IMAGE_FOLDERS)]
    if not masks:
        return folders
    for here, inner, names in walk(path):
        inner[:] = [name for name in inner if here / name not in masks]
        files = (here / name for name in names)
        if any(split_suffix(file)[1] or is_dicom(file) for file in files):
            return [folder for folder in folders if folder not in masks]
    return folders
