"""The detections or objects of many cases as one set of parallel arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from boxel.types import Detections, Instances


@dataclass(frozen=True)
class BoxTable:
    """One row per box, case after case.

    Attributes:
        cases: `(n,)` position of the case.
        indices: `(n,)` position within the case.
        labels: `(n,)` class index.
        boxes: `(n, 2, d)` float64.
        values: `(n,)` score of a detection, id of an object.
    """

    cases: np.ndarray
    indices: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    values: np.ndarray

    @classmethod
    def collect(cls, sets: Sequence[Detections | Instances | None], ndim: int) -> "BoxTable":
        """All rows of `sets`, one per case; None is an empty one. All have `ndim` axes."""
        lengths = np.array([0 if part is None else len(part) for part in sets])
        filled = [part for part in sets if part is not None and len(part)]
        values = [part.scores if isinstance(part, Detections) else part.ids for part in filled]
        return cls(
            cases=np.repeat(np.arange(len(sets)), lengths),
            indices=np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths),
            labels=_join([part.labels for part in filled], np.int64),
            boxes=_join([part.boxes for part in filled], np.float64, (2, ndim)),
            values=_join(values, np.float64),
        )

    @classmethod
    def join(cls, parts: Sequence["BoxTable"]) -> "BoxTable":
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    def take(self, index: np.ndarray) -> "BoxTable":
        return BoxTable(*(getattr(self, f.name)[index] for f in fields(self)))

    def for_every_class(self, num_classes: int) -> "BoxTable":
        """Rows of label -1 repeated with the label of every class."""
        times = np.where(self.labels < 0, num_classes, 1)
        rows = self.take(np.repeat(np.arange(len(times)), times))
        step = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
        labels = np.where(rows.labels < 0, step, rows.labels)
        return BoxTable(rows.cases, rows.indices, labels, rows.boxes, rows.values)


def rank_in_group(keys: np.ndarray) -> np.ndarray:
    """`(n,)` how many equal keys come before each."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    rank = np.empty(len(keys), int)
    rank[order] = np.arange(len(keys)) - np.searchsorted(ordered, ordered)
    return rank


def _join(parts: Sequence[np.ndarray], dtype: type, shape: tuple[int, ...] = ()) -> np.ndarray:
    return np.concatenate([np.zeros((0, *shape)), *(np.asarray(part) for part in parts)]).astype(dtype)
