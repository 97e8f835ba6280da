"""Grids of cells that nobody trains: their results are written by hand."""

import json
from pathlib import Path

import numpy as np

from boxel.experiments.cell import Cell
from boxel.experiments.grid import Grid, path_of
from boxel.experiments.sources import DataFolder
from boxel.recipes import get_recipe

GROUPS = 10**9  # so many patients that Student's t is the normal distribution
RESAMPLES = 4001


def made_up_grid(data: Path | str = "/nowhere", **changes) -> Grid:
    """Two models, two sizes, three seeds; a combination of the axes is a cell of its own."""

    def cell(values):
        model, seed = str(values["model"]), values.get("seed", 0)
        settings = [f"seed={seed}", f"train.steps={values.get('n', 1)}"]
        experiment = get_recipe(f"{model}_small").override(settings)
        return Cell(source=DataFolder(path=str(data)), experiment=experiment, fold=values.get("fold", 0))

    parts = {
        "name": "made_up",
        "version": 1,
        "about": "Made up",
        "axes": {"model": ("retina_net", "retina_unet"), "n": (10, 20), "seed": (0, 1, 2)},
        "cell": cell,
        "metrics": ("AP@0.10",),
        "reference": {"model": "retina_net"},
    }
    return Grid(**(parts | changes))


def write_done(out: Path, grid: Grid, values: dict, value: float, spread: float = 0.0, **cost: object) -> Path:
    """A finished cell: the metric is `value`, and its resamples are spread evenly over `value` +- `spread`."""
    cell = grid.cell(values)
    folder = out / "cells" / cell.name
    cell.save(folder / "cell.json")
    resamples = value + np.linspace(-spread, spread, RESAMPLES)
    arrays = {name: entry for metric in grid.metrics
              for name, entry in ((f"{metric}/value", [value]), (f"{metric}/resamples", resamples))}  # fmt: skip
    np.savez(folder / "resamples.npz", **arrays, num_groups=[GROUPS])
    record = {"seconds": 60.0, "steps": 700, "seconds_per_step": 0.08, "parameters": 1000, "train_seconds": 56.0}
    record |= {"peak_bytes": 1, "metrics": dict.fromkeys(grid.metrics, value)}
    (folder / "done.json").write_text(json.dumps(record | cost))
    return folder


def write_values(out: Path, grid: Grid, values: dict[str, float], spread: float = 0.0) -> None:
    """Finished cells by path, such as `{"retina_net/n=10/seed=0": 0.5}`."""
    by_path = {path_of(one): one for one in grid}
    for path, value in values.items():
        write_done(out, grid, by_path[path], value, spread)
