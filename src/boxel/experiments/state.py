"""The state of an experiment's folder: which cells are done, running, failed or missing, and what they cost."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from boxel.api.run import read_history
from boxel.experiments.cell import Cell, is_done, read_cost
from boxel.experiments.grid import Grid, Value, path_of
from boxel.locks import is_locked
from boxel.recipes import Experiment
from boxel.wording import counted

STATES = ("done", "running", "failed", "missing")


@dataclass(frozen=True)
class CellState:
    """The state of one cell.

    Attributes:
        path: as users name it.
        name: of its folder, `OUT/cells/NAME`, which other cells with the same result share.
        note: the step and rate of a running cell, the reason of a failed one.
        cost: the content of `done.json`.
    """

    path: str
    name: str
    values: Mapping[str, Value]
    state: Literal["done", "running", "failed", "missing"]
    note: str = ""
    cost: Mapping[str, Any] | None = None


def states(grid: Grid, out: Path, chosen: Iterable[Mapping[str, Value]] | None = None) -> list[CellState]:
    """The state of every cell of the grid, or of those with the `chosen` values."""
    known: dict[str, tuple[Any, ...]] = {}
    earlier: dict[str, str] | None = None
    result = []
    for values in grid if chosen is None else chosen:
        cell = grid.cell(values)
        if cell.name not in known:
            name = cell.name
            if not (out / "cells" / name).exists():
                earlier = _names(out) if earlier is None else earlier
                name = earlier.get(name, name)
            known[cell.name] = (name, _look(out / "cells" / name))
        name, look = known[cell.name]
        result.append(CellState(path_of(values), name, dict(values), *look))
    return result


def _names(out: Path) -> dict[str, str]:
    """The folders of cells by the names that the cells have today.

    These differ where settings have been added since: they have the values then that an earlier Boxel worked with.
    """
    names = {}
    for file in sorted((out / "cells").glob("[!-]" * 16 + "/cell.json")):  # not those of baselines, NAME-CELL
        with suppress(ValueError):  # a setting that is no more
            names[Cell.load(file).name] = file.parent.name
    return names


def _look(folder: Path) -> tuple[Any, ...]:
    if is_done(folder):
        return "done", "", read_cost(folder)
    if not folder.exists():
        return ("missing",)
    if is_locked(folder):
        history = read_history(folder / "run")
        if not history:
            return "running", "preparing"
        last, total = history[-1], Experiment.load(folder / "run" / "config.json").train.steps
        return "running", f"step {int(last['step'])} of {total}, {last['step'] / max(last['seconds'], 1e-9):.2f} per s"
    error = folder / "error.txt"
    return ("failed", error.read_text().strip()) if error.exists() else ("missing",)


def seconds_per_cell(cells: Sequence[CellState], grid: Grid) -> tuple[float, int]:
    """The median cost of the cells that ran from start to end without interruption, and how many these are."""
    unique = {cell.name: cell.cost for cell in cells if cell.cost}
    measured = [cost["seconds"] for cost in unique.values() if cost["seconds"] is not None]
    return (statistics.median(measured) if measured else grid.seconds), len(measured)


def summary(cells: Sequence[CellState], grid: Grid, workers: int = 1) -> str:
    """One line: the number of cells in each state, and the time that the rest will take."""
    names = {state: {cell.name for cell in cells if cell.state == state} for state in STATES}
    total = len({cell.name for cell in cells})
    counts = ", ".join(f"{len(group)} {state}" for state, group in names.items() if group)
    seconds, measured = seconds_per_cell(cells, grid)
    left = total - len(names["done"])
    shared = f" ({len(cells)} with those that are the same as others)" if len(cells) > total else ""
    line = f"{grid.name}: {counted(total, 'cell')}{shared}: {counts}"
    if left:
        basis = f"median of {measured} measured" if measured else "a guess, none is measured yet"
        per = (
            f"{seconds:.0f} s per cell, {basis}; {workers} at a time"
            if workers > 1
            else f"{seconds:.0f} s per cell, {basis}"
        )
        line += f"; about {_duration(math.ceil(left / workers) * seconds)} left ({per})"
    return line


def _duration(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
