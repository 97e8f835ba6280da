"""Which files are the channels of one image of a run."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired

from typing_extensions import TypedDict

from boxel.api.run import RunSplit
from boxel.inputs.folders import listing
from boxel.inputs.texts import read_json
from boxel.io import read_layout, split_suffix
from boxel.io.channels import in_order, split_channel
from boxel.types import Task
from boxel.wording import counted

__all__ = ["RunImages", "group_files"]

COLOURS = ("red", "green", "blue")


class _Prepared(TypedDict):
    files: NotRequired[list[str]]


@dataclass(frozen=True)
class RunImages:
    """What a run knows about the images that it takes.

    Attributes:
        channels: their names.
        ndim: number of axes.
        numbered: whether its own cases have files CASE_0000, CASE_0001 ...; None if that is not known.
        force: images of other modalities are predicted, too.
    """

    channels: tuple[str, ...]
    ndim: int
    numbered: bool | None = None
    force: bool = False

    @classmethod
    def of(cls, task: Task, split: RunSplit) -> "RunImages":
        """Those of a run; the prepared cases name the files that they come from, if they are still there."""
        folder, numbered = Path(split.work) / "cases", None
        case = next((case for case in split.train if (folder / f"{case}.json").exists()), "")
        files = read_json(folder / f"{case}.json", _Prepared, "prepare again").get("files") if case else None
        if files:
            name, number = split_channel(Path(files[0]))
            own = case.endswith(name) and not case.endswith(split_suffix(Path(files[0]))[0])
            numbered = len(files) > 1 or (number is not None and own)
        return cls(task.channels, len(task.spacing), numbered)


def group_files(files: Sequence[Path], run: RunImages) -> list[tuple[Path, Sequence[Path]]]:
    """The files of each case in one folder, with the file name that a single file of this case would have."""
    numbers: dict[str, dict[int, list[Path]]] = defaultdict(lambda: defaultdict(list))
    known, single = _annotated_names(files[0].parent), []
    for file in files:
        name, number = split_channel(file)
        colours = run.channels == COLOURS and run.numbered is not True
        if number is None or len(run.channels) == 1 or colours or split_suffix(file)[0] in known:
            single.append(file)
        else:
            numbers[name][number].append(file)
    for name in [name for name, own in numbers.items() if _holds_all(min(own.items())[1][0], run)]:
        single += [file for same in numbers.pop(name).values() for file in same]
    # nnU-Net also numbers the only channel; but one file called IMG_0000 may be the first of many pictures.
    only = all(split_channel(file)[1] == 0 for file in files) and (run.numbered is not False or len(files) > 1)

    def place(file: Path) -> Path:
        whole, name = split_suffix(file)[0], split_channel(file)[0]
        return _plain(file) if whole not in known and (only or name in known) else file

    alone: list[tuple[Path, Sequence[Path]]] = [(place(file), (file,)) for file in single]
    return alone + [(_plain(next(iter(own.values()))[0]), _complete(name, own, run)) for name, own in numbers.items()]


def _annotated_names(folder: Path) -> set[str]:
    """The cases in `labelsTs` for `imagesTs`, and so on."""
    place = Path(os.path.abspath(folder))
    labels = place.parent / f"labels{place.name.removeprefix('images')}"
    return {split_suffix(file)[0] or file.stem for file in listing(labels)}


def _plain(file: Path) -> Path:
    """`CASE.nii.gz` for `CASE_0000.nii.gz`."""
    return file.with_name(split_channel(file)[0] + file.name[len(split_suffix(file)[0]) :])


def _holds_all(file: Path, run: RunImages) -> bool:
    try:
        return read_layout(file)[0] == len(run.channels)
    except ValueError:  # reported when it is read
        return False


def _complete(name: str, channels: Mapping[int, Sequence[Path]], run: RunImages) -> Sequence[Path]:
    """The files of a case in the order of its channels; raises ValueError unless they are those of the run."""
    ordered = in_order(channels)
    wanted = range(len(run.channels))
    missing = [number for number in wanted if number not in channels]
    if missing:
        lost = f"channel {missing[0]} ({run.channels[missing[0]]})"
        raise ValueError(f"{ordered[0]}: case {name!r} has no {lost}; add the file {name}_{missing[0]:04d}")
    if len(channels) > len(wanted):
        problem = f"case {name!r} has {counted(len(channels), 'file')}, the run takes {counted(len(wanted), 'channel')}"
        raise ValueError(f"{ordered[-1]}: {problem} ({', '.join(run.channels)}); leave out the others")
    return ordered
