"""A grid of runs: named axes, what is left out, how rows are compared, and the claims that the results decide."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import NonNegativeFloat

from boxel.config import Config, did_you_mean
from boxel.datasets.cases import Dataset
from boxel.experiments.cell import Cell
from boxel.types import Detections

if TYPE_CHECKING:
    from boxel.experiments.state import CellState

Value = str | int
Values = Mapping[str, Value]
Baseline = Callable[[Cell, Dataset, Path], Mapping[str, Detections]]
# From the grid, its folder, all cells, and the means of the metrics by row, another table.
DerivedTable = Callable[["Grid", Path, Sequence["CellState"], Sequence[tuple[Values, Mapping[str, float]]]], "Derived"]
REPEATED = ("fold", "seed")  # axes that repeat a row instead of making another


class Claim(Config):
    """A statement about the difference of two rows, and the rule that decides it.

    Attributes:
        text: the statement.
        better: values of axes that choose the first row.
        worse: those of the second; both have the values of `where` besides.
        where: values that both have. An axis named nowhere takes every value in turn: the claim is about each.
        minus: values instead of `where` at which the same difference is subtracted, for claims about its change.
        metric: the metric.
        margin: the least difference that matters.
        kind: `better`: the difference is above the margin; `equal`: within it; `not_worse`: above minus the margin.
    """

    text: str
    better: dict[str, Value]
    worse: dict[str, Value]
    where: dict[str, Value] = {}
    minus: dict[str, Value] | None = None
    metric: str = "AP@0.10"
    margin: NonNegativeFloat = 0.02
    kind: Literal["better", "equal", "not_worse"] = "better"


@dataclass(frozen=True)
class Derived:
    """Another table of an experiment, with a heading, a remark, and pictures (PNG) by name."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    figures: Mapping[str, bytes] = field(default_factory=dict)


def _nothing(values: Values) -> bool:
    return False


@dataclass(frozen=True)
class Grid:
    """An experiment: all combinations of the values of its axes, but those skipped.

    Attributes:
        name: as given on the command line.
        version: to be raised with every change of what its cells are.
        about: one line.
        axes: values by the name of the axis. `seed` and `fold`, if there, repeat a row: folds are pooled before they
            are evaluated, seeds are averaged. All other axes make rows.
        cell: the run for values of all axes.
        skip: whether a combination is left out.
        reference: values of axes that choose the row that others are compared with, the other values being equal.
        metrics: shown in the table.
        claims: decided by `collect`.
        baselines: rows without training by their value on the axis `model`: from the cell of the reference row with the
            same values, its data and its folder, the detections of its test cases.
        strata: further metrics by name: a metric with objects of some diameters only, in mm; others are ignored.
        published: metrics that a paper reports, by the values of the axes that make rows.
        derived: further tables of the finished cells, see `boxel.experiments.derived`.
        labels: how the values of axes are shown, if not as they are.
        seconds: a guess of what a cell costs, until some are measured.
    """

    name: str
    version: int
    about: str
    axes: Mapping[str, Sequence[Value]]
    cell: Callable[[Values], Cell]
    skip: Callable[[Values], bool] = _nothing
    reference: Values | None = None
    metrics: tuple[str, ...] = ("AP@0.10", "AP@0.50")
    claims: tuple[Claim, ...] = ()
    baselines: Mapping[Value, Baseline] = field(default_factory=dict)
    strata: Mapping[str, tuple[str, float, float]] = field(default_factory=dict)
    published: Mapping[tuple[Value, ...], Mapping[str, float]] = field(default_factory=dict)
    derived: tuple[DerivedTable, ...] = ()
    labels: Mapping[Value, str] | None = None
    seconds: float = 100.0

    def __iter__(self) -> Iterator[dict[str, Value]]:
        for combination in product(*self.axes.values()):
            values = dict(zip(self.axes, combination, strict=True))
            if not self.skip(values):
                yield values

    @property
    def row_axes(self) -> tuple[str, ...]:
        return tuple(axis for axis in self.axes if axis not in REPEATED)

    def label(self, value: Value) -> str:
        return (self.labels or {}).get(value, str(value))

    def select(self, patterns: Sequence[str]) -> list[dict[str, Value]]:
        """The values of all cells that one of the patterns fits; of all cells without patterns.

        Args:
            patterns: `pattern/*/n=300/seed=0`, a part for each axis in order; or one part, which any axis may fit.

        Raises:
            ValueError: a pattern fits no cell.
        """
        cells = list(self)
        chosen = {path_of(values): values for values in ([] if patterns else cells)}
        for pattern in patterns:
            fitting = {path_of(values): values for values in cells if fits(values, pattern)}
            if not fitting:
                raise ValueError(f"--only {pattern!r} fits no cell of {self.name}{self._hint(pattern)}")
            chosen |= fitting
        return [values for values in cells if path_of(values) in chosen]

    def _hint(self, pattern: str) -> str:
        known = {part for values in self for part in path_of(values).split("/")}
        parts = pattern.strip("/").split("/")
        wrong = [part for part in parts if not any(fnmatchcase(one, part) for one in known)]
        if wrong:
            return f": {wrong[0]!r} is not a value of an axis{did_you_mean(wrong[0], known)}"
        if len(parts) == len(self.axes) and all(
            any(fnmatchcase(path_of({axis: value}), part) for value in values)
            for (axis, values), part in zip(self.axes.items(), parts, strict=True)
        ):
            return "; the grid skips this combination"
        axes = "/".join(axis.upper() for axis in self.axes)
        return f"; a pattern has one part, or one for each axis: {axes}"


def path_of(values: Values) -> str:
    """A cell as users name it, such as `pattern/retina_net/n=300/seed=0`."""
    return "/".join(value if isinstance(value, str) else f"{axis}={value}" for axis, value in values.items())


def chooses(chosen: Values, values: Values) -> bool:
    """Whether `values` has all that `chosen` names."""
    return all(values.get(axis) == value for axis, value in chosen.items())


def fits(values: Values, pattern: str) -> bool:
    parts, wanted = path_of(values).split("/"), pattern.strip("/").split("/")
    if len(wanted) == 1:
        return any(fnmatchcase(part, wanted[0]) for part in parts)
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def described(grid: Grid) -> dict[str, Any]:
    """The axes of a grid and the number of its cells, ready for JSON."""
    return {"about": grid.about, "cells": len(list(grid)), "axes": {k: list(v) for k, v in grid.axes.items()}}
