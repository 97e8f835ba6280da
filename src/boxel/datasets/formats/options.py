"""Settings that every layout has: patients, folds and held-out cases."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field

from boxel.config import Config
from boxel.datasets.cases import Dataset
from boxel.datasets.problems import InputError, as_input_error
from boxel.inputs.texts import read_mapping
from boxel.io.pickles import read_pickle

__all__ = ["ImageOptions", "Names", "ReaderOptions", "read_splits"]

PARTS = ("train", "val", "test")
NAMES = ("splits.json", "splits_final.json", "splits_final.pkl", "preprocessed/splits_final.pkl")


def _split(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
"""A list of names, or one text with commas."""


class ReaderOptions(Config):
    """Settings of every layout; a layout with more of them derives a class from this one.

    Attributes:
        group: regular expression; cases whose names agree in the part that it (or its first group) matches belong to
            one patient.
        splits: file with folds, as nnU-Net and nnDetection write it. If empty, `splits.json`, `splits_final.json` or
            `splits_final.pkl` in the folder of the data set.
        holdout: share of the patients to hold out as test cases, if the data set has none.
    """

    group: str = ""
    splits: str = ""
    holdout: float = Field(0.0, ge=0, le=0.5)

    @classmethod
    def parse(cls, assignments: Sequence[str]) -> Self:
        """Settings from `"key=value"`, where the value is JSON or else a plain text."""
        values = {}
        for assignment in assignments:
            key, separator, text = assignment.partition("=")
            if not separator:
                raise ValueError(f"option {assignment!r} is not of the form key=value; write for example min_size=10")
            try:
                values[key.strip()] = json.loads(text)
            except (ValueError, RecursionError):
                values[key.strip()] = text
        return cls.from_dict(values, "options of this data set format")


class ImageOptions(ReaderOptions):
    """Settings of layouts whose annotations name their images.

    Attributes:
        images: folder of the images, absolute or below the data set; if empty, they are looked for.
    """

    images: str = ""


def read_splits(dataset: Dataset, file: str) -> tuple[Mapping[str, tuple[str, ...]], ...] | None:
    """The folds of `file`, otherwise those of a file in the data set, or None if there is neither."""
    if not file and dataset.splits is not None:
        return dataset.splits
    folder = dataset.root if dataset.root.is_dir() else dataset.root.parent
    paths = [Path(file)] if file else [path for name in NAMES if (path := folder / name).exists()]
    if not paths:
        return None
    path = paths[0]
    try:
        folds = _plain(read_pickle(path) if path.suffix == ".pkl" else read_mapping(path))
    except ValueError as error:
        raise as_input_error(error) from None
    whole = isinstance(folds, list) and all(isinstance(fold, dict) and fold.keys() <= set(PARTS) for fold in folds)
    if not whole or not all(isinstance(ids, list) for fold in folds for ids in fold.values()):
        raise InputError(path, "not a list of folds", 'write [{"train": [ids], "val": [ids], "test": [ids]}]')
    return tuple({part: tuple(map(str, fold.get(part, ()))) for part in PARTS} for fold in folds)


def _plain(folds: Any) -> Any:
    """Turn arrays of ids, as in nnDetection's files, into lists."""
    if not isinstance(folds, list) or not all(isinstance(fold, dict) for fold in folds):
        return folds
    return [{part: getattr(ids, "tolist", lambda ids=ids: ids)() for part, ids in fold.items()} for fold in folds]
