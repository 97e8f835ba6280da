"""`boxel experiment run`: carry out the cells of a grid that are not done yet."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from boxel.experiments.cell import Cell, is_done
from boxel.experiments.collect import check_folds
from boxel.experiments.executors import Executor, Here
from boxel.experiments.grid import Grid
from boxel.experiments.registry import EXPERIMENTS, RECORD, Chosen, choose
from boxel.experiments.sources import DataFolder, PatientSplit, Source, ToyImages
from boxel.experiments.state import CellState, states
from boxel.locks import is_locked
from boxel.output_folder import claimed
from boxel.preparation.plan import check_settings
from boxel.preparation.prepare import would_prepare
from boxel.types import Progress, silent

_POLL = 1.0


def run(
    name: str,
    out: Path | str,
    *,
    preset: str = "",
    source: Source | None = None,
    overrides: Sequence[str] = (),
    only: Sequence[str] = (),
    executor: Executor | None = None,
    progress: Progress = silent,
) -> list[CellState]:
    """Run the cells of an experiment into `out`, each in a folder of its own; finished ones are never run again.

    Repeat the call to resume an interrupted experiment. Several calls may work in one folder at the same time, also
    from several machines with one file system: each takes cells that nobody works on. A cell that fails does not stop
    the others; it is tried again by the next call.

    Args:
        name: of the experiment.
        out: a new or empty folder, or that of the same experiment.
        preset: one of the experiment's presets; its first by default.
        source: data to use instead of the experiment's own.
        overrides: settings of every cell, after the grid's own.
        only: patterns that choose cells, see `Grid.select`.
        executor: who carries the cells out; this process by default.

    Returns:
        The state of the chosen cells.

    Raises:
        ValueError: no such experiment, preset, cell or data; `out` holds something else.
    """
    chosen, out, executor = choose(name, preset, source, overrides), Path(out), executor or Here()
    grid = chosen.grid()
    cells = grid.select(only)
    check_folds(grid, grid)
    paths = dict[Path, str]()
    to_do = dict[Path, Cell]()
    found = states(grid, out, cells)
    require_data(grid, found)
    for state in found:
        folder = out / "cells" / state.name
        paths.setdefault(folder, state.path)
        to_do[folder] = grid.cell(state.values)
    with claimed(out, "experiment", _job(chosen), shared=True):
        chosen.save(out / RECORD)
        for folder, cell in to_do.items():
            if not (folder / "cell.json").exists():
                cell.save(folder / "cell.json")

        def on_end(folder: Path, reason: str | None) -> None:
            level = logging.WARNING if reason else logging.INFO
            logging.getLogger("boxel").log(level, f"{paths[folder]}: {reason or 'done'}")
            if reason:
                failed.add(folder)
            progress("cells", sum(is_done(place) for place in paths), len(paths))

        failed = set[Path]()
        while folders := [folder for folder in paths if not is_done(folder) and folder not in failed]:
            free = [folder for folder in folders if not is_locked(folder)]
            progress("cells", len(paths) - len(folders), len(paths))
            executor.run(free, on_end, progress)
            if not free:  # other processes work on the rest
                time.sleep(_POLL)
    return states(grid, out, cells)


def check_cells(grid: Grid, cells: Sequence[CellState], progress: Progress = silent) -> None:
    """Check, without running them, that the data of the unfinished cells and the settings of their plans are accepted.

    Raises:
        ValueError: the data do not exist, cannot be pooled over the folds, or are refused by `boxel prepare`.
    """
    require_data(grid, cells)
    unfinished = [grid.cell(state.values) for state in cells if state.state != "done"]
    if unfinished:
        check_folds(grid, grid)
    checked = set[str]()
    for cell in unfinished:
        plan = cell.experiment.plan
        if isinstance(cell.source, ToyImages):
            check_settings(plan, cell.source.ndim, num_channels=1)
        elif isinstance(cell.source, DataFolder | PatientSplit) and cell.prepared_name not in checked:
            checked.add(cell.prepared_name)
            dataset = cell.source.open(Path(), silent)
            would_prepare(dataset, plan, num_folds=cell.folds_of(dataset), seed=cell.split_seed, progress=progress)


def require_data(grid: Grid, cells: Sequence[CellState]) -> None:
    """Check that the folders of images that the unfinished cells read exist.

    Raises:
        ValueError: one does not.
    """
    for cell in cells:
        folder = grid.cell(cell.values).source.reads if cell.state != "done" else None
        if folder is not None and not folder.exists():
            entry = EXPERIMENTS.get(grid.name)
            own = "" if entry and not entry.takes_data else "their folder with --data, or "
            raise ValueError(
                f"{folder}: no such folder, but {grid.name} reads its images there; give {own}the folder above with "
                "the environment variable BOXEL_DATA"
            )


def _job(chosen: Chosen) -> dict[str, object]:
    """What must be the same when the command continues, by the names that users know."""
    return {
        "NAME": chosen.name,
        "--preset": chosen.preset,
        "version of the grid": chosen.version,
        "--data": chosen.source and chosen.source.to_dict(),
        "--set": list(chosen.overrides),
    }
