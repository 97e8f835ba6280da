"""Which case of a data set a prediction is of."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from boxel.datasets.cases import Dataset
from boxel.datasets.problems import some
from boxel.wording import counted_of


def names_by_files(predicted: Mapping[str, Sequence[Path]], data: Dataset) -> dict[str, str]:
    """The data set's name of each prediction that has another one, and whose image files are those of one case."""
    folder = cache(os.path.realpath)  # asks for each part of a path

    def place(files: Sequence[Path]) -> tuple[str, ...]:
        return tuple(os.path.realpath(f) if f.is_symlink() else os.path.join(folder(f.parent), f.name) for f in files)

    if not any(predicted.values()):
        return {}
    files = [(place(case.channels), case.id) for case in data.cases]
    numbers = Counter(own for own, _ in files)
    owners = {own: case for own, case in files if numbers[own] == 1}
    named = {case: owners.get(place(own)) for case, own in predicted.items()}
    return {case: owner for case, owner in named.items() if owner is not None and owner != case}


def check_names(predicted: Mapping[str, Path], data: Dataset) -> None:
    """Raise ValueError if predicted cases, each of a file, are not in the data set, with the names of both."""
    known = {case.id for case in data.cases} | {*data.unlabelled}
    if unknown := predicted.keys() - known:
        number = counted_of(len(unknown), len(predicted), "predicted case", "is", "are")
        raise ValueError(
            f"{predicted[min(unknown)]}: {number} not in {data.root} "
            f"({some(unknown)}), whose cases are {some(known - predicted.keys() or known)}; predict the cases of the "
            f"data set under its names with `boxel predict RUN {data.root} --out DIR` (only some: --part test), or "
            "remove these predictions"
        )
