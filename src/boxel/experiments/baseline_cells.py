"""Rows without training, such as a ceiling or a floor: cells made from the data and the cells of the reference row."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from boxel.api.evaluation import evaluate, write_results
from boxel.datasets.cases import Dataset
from boxel.experiments.cell import Cell, hash_of, open_source, write_resamples
from boxel.experiments.grid import Grid, chooses, path_of
from boxel.experiments.state import CellState
from boxel.export.boxel_json import read_prediction, write_detections
from boxel.inputs.texts import read_json
from boxel.output_folder import list_files
from boxel.types import Detections


def baseline_cells(grid: Grid, out: Path, cells: Sequence[CellState]) -> list[CellState]:
    """A cell of every baseline for each done cell of the reference row; predictions that are there are used again."""
    made = []
    for cell in cells:
        if cell.state == "done" and grid.reference is not None and chooses(grid.reference, cell.values):
            for name, predict in grid.baselines.items():
                values = {**cell.values, "model": name}
                folder = _made(out / "cells" / cell.name, str(name), predict, out)
                made.append(CellState(path_of(values), folder.name, values, "done", "", _cost(folder)))
    return made


def _made(
    reference: Path, name: str, predict: Callable[[Cell, Dataset, Path], Mapping[str, Detections]], out: Path
) -> Path:
    cell = Cell.load(reference / "cell.json")
    folder = reference.with_name(f"{name}-{hash_of(cell.to_dict())}")
    if (folder / "resamples.npz").exists():
        return folder
    dataset = open_source(cell.source, out)
    cell.save(folder / "cell.json")
    for case, detections in predict(cell, dataset, reference).items():
        write_detections(folder / "predictions" / f"{case}.json", detections, case, dataset.classes)
    evaluation = evaluate(folder / "predictions", dataset)
    write_results(folder, evaluation)
    write_resamples(folder / "resamples.npz", evaluation)
    return folder


def _cost(folder: Path) -> dict[str, object]:
    return {"metrics": read_json(folder / "metrics.json", dict[str, Any])}


def predictions_of(reference: Path) -> dict[str, Detections]:
    """The detections of the reference row's cell, by case."""
    paths = list_files(reference / "predictions", ".json")
    return {path.stem: read_prediction(path).detections for path in paths}
