"""From finished cells to rows with intervals, paired differences and the verdicts of claims."""

import io
import os
import shutil
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from boxel.api.evaluation import evaluate, write_results
from boxel.datasets.cases import Dataset
from boxel.datasets.split import dataset_splits
from boxel.experiments.baseline_cells import baseline_cells
from boxel.experiments.baselines import evaluate_stratum
from boxel.experiments.cell import EVALUATIONS, Cell, hash_of, open_source, write_resamples
from boxel.experiments.grid import Claim, Derived, Grid, Value, Values, chooses
from boxel.experiments.sources import DataFolder
from boxel.experiments.state import CellState, states
from boxel.experiments.statistics import Estimate, Sample, Verdict, decide, estimate
from boxel.export.boxel_json import segmentation_file
from boxel.files import writing
from boxel.output_folder import list_files
from boxel.types import silent

Key = tuple[Value, ...]


@dataclass(frozen=True)
class Row:
    """A row of the table: everything but seeds and folds is the same.

    Attributes:
        values: of the axes that make rows.
        metrics: by name; only of seeds whose folds are all done.
        differences: to the reference row, over the seeds that both have; empty without one.
        fold_means: the means of the metrics over the folds, where there are any; `metrics` are of the pooled folds.
        cost: medians over the cells: seconds of a cell, steps, parameters.
    """

    values: Values
    num_seeds: int
    metrics: Mapping[str, Estimate] = field(default_factory=dict)
    differences: Mapping[str, Estimate] = field(default_factory=dict)
    fold_means: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """The verdict on a claim at the values of the axes that it leaves open."""

    claim: Claim
    where: Values
    verdict: Verdict
    estimate: Estimate | None = None
    of_seeds: int = 0


@dataclass(frozen=True)
class Results:
    """What the finished cells of an experiment show, and which are missing."""

    grid: Grid
    rows: list[Row]
    decisions: list[Decision]
    missing: list[CellState]
    derived: list[Derived] = field(default_factory=list)


def collect_results(grid: Grid, out: Path) -> Results:
    """Evaluate what is finished.

    Raises:
        ValueError: the test parts of the folds overlap or are incomplete; a file is damaged.
    """
    cells = states(grid, out)
    cells += baseline_cells(grid, out, cells)
    samples = _samples(grid, out, cells)
    rows = [_row(grid, key, cells, samples) for key in samples]
    decisions = [decision for claim in grid.claims for decision in _decide(claim, grid, cells, samples)]
    means = [(row.values, {name: one.value for name, one in row.metrics.items()}) for row in rows]
    done = any(cell.state == "done" for cell in cells)
    derived = [table(grid, out, cells, means) for table in grid.derived if done]
    return Results(grid, rows, decisions, [cell for cell in cells if cell.state != "done"], derived)


Samples = dict[Key, dict[Value, Mapping[str, Sample]]]


def _samples(grid: Grid, out: Path, cells: Sequence[CellState]) -> Samples:
    """By row and seed: the metrics of a cell, or of its pooled folds if all are done."""
    parts = _by_row_and_seed(grid, cells)
    samples: Samples = {key: {} for key, _ in parts}
    for (key, seed), same in parts.items():
        if any(cell.state != "done" for cell in same):
            continue
        folder = out / "cells" / same[0].name if len(same) == 1 else _pooled(grid, out, same)
        samples[key][seed] = read_samples(folder / "resamples.npz") | _of_strata(grid, out, folder, same[0])
    return samples


def _of_strata(grid: Grid, out: Path, folder: Path, cell: CellState) -> dict[str, Sample]:
    """The metrics with objects of some diameters only; what is there is used again."""
    chosen = {}
    for name, (metric, lower, upper) in grid.strata.items():
        path = folder / f"resamples_{lower:g}_{upper:g}.npz"
        if not path.exists():
            source = Cell.load(out / "cells" / cell.name / "cell.json").source
            write_resamples(path, evaluate_stratum(folder / "predictions", open_source(source, out), lower, upper))
        chosen[name] = read_samples(path)[metric]
    return chosen


def _by_row_and_seed(grid: Grid, cells: Sequence[CellState]) -> dict[tuple[Key, Value], list[CellState]]:
    parts: dict[tuple[Key, Value], list[CellState]] = {}
    for cell in cells:
        parts.setdefault((_at(grid, cell.values), cell.values.get("seed", 0)), []).append(cell)
    return parts


def read_samples(path: Path) -> dict[str, Sample]:
    """The metrics of a `resamples.npz`.

    Raises:
        ValueError: it is damaged.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes())) as arrays:
            groups = int(arrays["num_groups"][0])
            names = [key.removesuffix("/value") for key in arrays.files if key.endswith("/value")]
            return {name: Sample(float(arrays[f"{name}/value"][0]), arrays[f"{name}/resamples"].astype(float), groups)
                    for name in names}  # fmt: skip
    except (OSError, KeyError, ValueError, EOFError, BadZipFile) as error:
        raise ValueError(f"{path}: damaged ({error}); remove the folder {path.parent} and run the cell again") from None


def _pooled(grid: Grid, out: Path, folds: Sequence[CellState]) -> Path:
    """The predictions of all folds of one seed in one folder, evaluated together; what is there is used again."""
    folder = out / "pooled" / hash_of({"cells": sorted(cell.name for cell in folds)})
    if (folder / "resamples.npz").exists():
        return folder
    first = Cell.load(out / "cells" / folds[0].name / "cell.json")
    dataset = open_source(first.source, out)
    tested = {cell.path: sorted(path.stem for path in _detections(out, cell)) for cell in folds}
    check_parts(tested, dataset)
    (folder / "predictions").mkdir(parents=True, exist_ok=True)
    for cell in folds:
        for path in _detections(out, cell):
            _link(path, folder / "predictions" / path.name)
            if (label_map := segmentation_file(path.parent, path.stem)).exists():
                _link(label_map, folder / "predictions" / label_map.name)
    evaluation = evaluate(folder / "predictions", dataset, config=EVALUATIONS[first.protocol])
    write_results(folder, evaluation)
    write_resamples(folder / "resamples.npz", evaluation)
    return folder


def check_parts(tested: Mapping[str, Sequence[str]], dataset: Dataset) -> None:
    """Raise ValueError unless the cases that the folds were tested on are disjoint, and together all of them."""
    seen: dict[str, str] = {}
    for fold, cases in tested.items():
        for case in cases:
            if case in seen:
                raise ValueError(
                    f"{seen[case]} and {fold} were both tested on case {case!r}, so they cannot be pooled; folds of a "
                    "held-out test set are one ensemble: boxel predict RUN0 IMAGES --with RUN1 ..."
                )
            seen[case] = fold
    lost = sorted({case.id for case in dataset.cases} - seen.keys())
    if lost:
        raise ValueError(
            f"none of {', '.join(tested)} was tested on case {lost[0]!r} ({len(lost)} in all), so they cannot be pooled"
        )


def check_folds(grid: Grid, cells: Iterable[Values]) -> None:
    """Raise ValueError, before anything is trained, if the folds of a data set of the user cannot be pooled."""
    folds: dict[tuple[DataFolder, int, int], list[Cell]] = {}
    for cell in map(grid.cell, cells):
        if "fold" in grid.axes and isinstance(cell.source, DataFolder):
            folds.setdefault((cell.source, cell.num_folds, cell.split_seed), []).append(cell)
    for (source, _, seed), alike in folds.items():
        wanted = {cell.fold for cell in alike}
        if len(wanted) == 1:
            continue
        dataset = source.open(Path(), silent)
        splits = dataset_splits(dataset, num_folds=alike[0].folds_of(dataset), seed=seed)
        if max(wanted) >= len(splits):
            raise ValueError(
                f"{source.path}: has {len(splits)} folds, {grid.name} needs {max(wanted) + 1}; "
                f"add patients, or write {max(wanted) + 1} folds into splits.json"
            )
        check_parts({f"fold={fold}": splits[fold].test for fold in sorted(wanted)}, dataset)


def _detections(out: Path, cell: CellState) -> list[Path]:
    return list_files(out / "cells" / cell.name / "predictions", ".json")


def _link(source: Path, target: Path) -> None:
    if target.exists():
        return
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        with writing(target) as temporary:
            shutil.copyfile(source, temporary)


def _row(grid: Grid, key: Key, cells: Sequence[CellState], samples: Samples) -> Row:
    values = dict(zip(grid.row_axes, key, strict=True))
    own = [cell for cell in cells if all(cell.values[axis] == value for axis, value in values.items())]
    num_seeds = len({cell.values.get("seed", 0) for cell in own})
    of_row, differences = samples[key], dict[str, Estimate]()
    if grid.reference is not None and not chooses(grid.reference, values):
        other = samples.get(_at(grid, {**values, **grid.reference}), {})
        differences = _paired(grid.metrics, of_row, other)
    known = [name for name in grid.metrics if of_row and all(name in sample for sample in of_row.values())]
    metrics = {name: estimate([sample[name] for sample in of_row.values()]) for name in known}
    return Row(values, num_seeds, metrics, differences, _fold_means(grid, own), _costs(own))


def _at(grid: Grid, values: Values) -> Key:
    return tuple(values[axis] for axis in grid.row_axes)


def _paired(
    names: Sequence[str], a: Mapping[Value, Mapping[str, Sample]], b: Mapping[Value, Mapping[str, Sample]]
) -> dict[str, Estimate]:
    """The mean differences a - b over the seeds that both have, of the metrics that both have."""
    both = [seed for seed in a if seed in b]
    known = [name for name in names if both and all(name in one[seed] for one in (a, b) for seed in both)]
    return {name: estimate([a[seed][name] - b[seed][name] for seed in both], difference=True) for name in known}


def _fold_means(grid: Grid, cells: Sequence[CellState]) -> dict[str, float]:
    if "fold" not in grid.axes or any(cell.cost is None for cell in cells):
        return {}
    each = [cell.cost["metrics"] for cell in cells if cell.cost]
    means = {name: [one[name] for one in each if one.get(name) is not None] for name in grid.metrics}
    return {name: statistics.mean(values) for name, values in means.items() if values}


def _costs(cells: Sequence[CellState]) -> dict[str, float]:
    done = [cell.cost for cell in cells if cell.cost]
    known = {key: [cost[key] for cost in done if cost.get(key) is not None]
             for key in ("seconds", "train_seconds", "seconds_per_step", "steps", "parameters")}  # fmt: skip
    return {key: statistics.median(values) for key, values in known.items() if values}


def _decide(claim: Claim, grid: Grid, cells: Sequence[CellState], samples: Samples) -> Iterator[Decision]:
    """The verdict at each combination of values of the axes that the claim leaves open."""
    planned = _planned(grid, cells)
    named = {*claim.better, *claim.worse, *claim.where, *(claim.minus or {})}
    open_axes = [axis for axis in grid.row_axes if axis not in named]
    for combination in product(*(grid.axes[axis] for axis in open_axes)):
        place = dict(zip(open_axes, combination, strict=True))
        pairs = [
            [_at(grid, {**place, **where, **side}) for side in (claim.better, claim.worse)]
            for where in (claim.where, claim.minus) if where is not None
        ]  # fmt: skip
        rows = [row for pair in pairs for row in pair]
        if not all(row in planned for row in rows):
            continue  # a combination that the grid skips
        of_seeds = len(set.intersection(*(planned[row] for row in rows)))
        seeds = [seed for seed in samples.get(rows[0], {})
                 if all(claim.metric in samples.get(row, {}).get(seed, {}) for row in rows)]  # fmt: skip
        if not seeds:
            yield Decision(claim, place, "not resolved", of_seeds=of_seeds)
            continue
        mean = estimate([_difference(claim, pairs, samples, seed) for seed in seeds], difference=True)
        yield Decision(claim, place, decide(claim.kind, claim.margin, mean.intervals), mean, of_seeds)


def _planned(grid: Grid, cells: Sequence[CellState]) -> dict[Key, set[Value]]:
    """The seeds of each row; those of a baseline are the reference row's."""
    planned: dict[Key, set[Value]] = {}
    for cell in cells:
        names = grid.baselines if grid.reference and chooses(grid.reference, cell.values) else ()
        for values in (cell.values, *({**cell.values, "model": name} for name in names)):
            planned.setdefault(_at(grid, values), set()).add(cell.values.get("seed", 0))
    return planned


def _difference(claim: Claim, pairs: Sequence[Sequence[Key]], samples: Samples, seed: Value) -> Sample:
    """Better minus worse; with `minus`, less the same difference there."""
    first, *minus = (samples[a][seed][claim.metric] - samples[b][seed][claim.metric] for a, b in pairs)
    return first - minus[0] if minus else first
