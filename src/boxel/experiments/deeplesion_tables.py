"""The tables and figures of the benchmarking report on DeepLesion from the finished cells of the experiment.

Reference: tables 3 to 7 and figures 2, 12 to 19 and 26 of the report. Its mAP in tables 3 and 4 is taken at its IoU
threshold of 0.21. Its mean IoU is said to be that of boxes above the threshold, but lies below it (17 to 22 %): lesions
without a hit must count as 0.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from boxel.api.evaluation_inputs import read_evaluation_inputs
from boxel.api.run import RunSplit, read_history
from boxel.evaluation import EvaluateConfig, evaluate
from boxel.evaluation.grouped_matches import size_ratios
from boxel.experiments.cell import DERIVED, EVALUATIONS, Cell, open_source, predict_training
from boxel.experiments.grid import Derived, Grid, Values
from boxel.experiments.state import CellState
from boxel.files import write_text
from boxel.inputs.problems import InputError
from boxel.inputs.texts import REMAKE, read_json
from boxel.locks import locked
from boxel.preparation.store import Store
from boxel.reporting.charts import learning_charts
from boxel.reporting.drawing import chart_png, confusion_png
from boxel.reporting.tables import confusion_table

__all__ = ["BoxSizes", "Compared", "Confusions", "LearningCurves", "Lesions", "TrainAndTest"]

Part = Literal["train", "test"]
PARTS = ("train", "val", "test")
TRAINING_CASES = 1000  # of a run, drawn at random
SCORE = 0.25  # from which Darknet counts a detection
HIT = 0.21  # the report's IoU threshold
CONFUSION = f"confusion@{HIT:.2f}"
CURVES = {"Training loss": "loss", "Validation": "validation"}  # the charts that the report has, by their titles
_IOUS = {
    "over hits": f"mean_iou@{HIT:.2f}",
    "over lesions": f"mean_iou_objects@{HIT:.2f}",
    "over detections": f"mean_iou@{HIT:.2f}/score={SCORE:g}",
}
Rows = Sequence[tuple[Values, Mapping[str, float]]]


def metrics_of(out: Path, cell: CellState, part: Part) -> dict[str, Any]:
    """The metrics of a finished cell on its test images or on training images, which are predicted first.

    Besides those of the evaluation: "empty", the share of images without a detection of at least `SCORE`, and
    "ratios", the area of each hit divided by that of its lesion. What is there is used again.
    """
    folder = out / "cells" / cell.name
    path = folder / DERIVED / f"metrics_{part}.json"
    # Another process may collect at the same time.
    with locked(folder, "boxel experiment", ".metrics.lock", patience=math.inf):
        if not path.exists():
            dataset = open_source(Cell.load(folder / "cell.json").source, out)
            predictions = folder / "predictions"
            if part == "train":
                predictions = predict_training(folder, dataset, 0, TRAINING_CASES)
            inputs = read_evaluation_inputs(predictions, dataset)
            config = EvaluateConfig(**EVALUATIONS["deeplesion"], num_resamples=0)
            result = evaluate(
                inputs.detections, inputs.ground_truth, config=config, criterion=inputs.criterion, **inputs.context
            )
            best = [one.scores.max() if len(one.scores) else 0.0 for one in inputs.detections.values()]
            ratios = size_ratios(result.table)
            values = {key: value for key, value in result.metrics.items() if isinstance(value, int | float)}
            values |= {"empty": float(np.mean(np.array(best) < SCORE)), "ratios": ratios[np.isfinite(ratios)].tolist()}
            values[CONFUSION] = result.metrics[CONFUSION]
            write_text(path, json.dumps(values))
    values = read_json(path, dict[str, Any], REMAKE)
    if lacking := {"empty", "ratios", CONFUSION} - values.keys():
        raise InputError(path, f"{min(lacking)} is missing", REMAKE)
    return values


def _rows(grid: Grid, out: Path, cells: Sequence[CellState], part: Part) -> dict[str, list[dict[str, Any]]]:
    """The metrics of the finished cells of each row, one for each seed."""
    rows: dict[str, list[dict[str, Any]]] = {str(value): [] for value in grid.axes["model"]}
    for cell, _ in _finished(out, cells):
        rows[str(cell.values["model"])].append(metrics_of(out, cell, part))
    return {row: values for row, values in rows.items() if values}


@dataclass(frozen=True)
class TrainAndTest:
    """AP at IoU 0.21 and mean IoU on training and on test images: tables 3 and 4.

    Attributes:
        published: by row: train AP, test AP, train and test mean IoU.
    """

    published: Mapping[str, tuple[float, float, float, float]]

    def __call__(self, grid: Grid, out: Path, cells: Sequence[CellState], means: Rows) -> Derived:
        parts: dict[Part, dict[str, list[dict[str, Any]]]] = {
            "train": _rows(grid, out, cells, "train"),
            "test": _rows(grid, out, cells, "test"),
        }
        columns, lines = ["row"], []
        for part in parts:
            columns += [f"AP@0.21, {part}", *(f"mean IoU {how}, {part}" for how in _IOUS)]
            columns += ["published AP", "published mean IoU"] if self.published else []
        for row in parts["test"]:
            line = [grid.label(row)]
            for place, rows in enumerate(parts.values()):
                line += [_mean(rows[row], key) for key in ("AP@0.21", *_IOUS.values())]
                known = self.published.get(row)
                line += [f"{known[place]:.2f}", f"{known[2 + place]:.2f}"] if known else [""] * 2 * bool(self.published)
            lines.append((*line, _mean(parts["test"][row], "empty")))
        columns.append(f"share of test images without a detection of {SCORE:g}")
        note = f"Of the training images, at most {TRAINING_CASES} are predicted. The report found nothing in 40 %."
        return Derived("Tables 3 and 4: training and test images", tuple(columns), tuple(lines), note)


@dataclass(frozen=True)
class Compared:
    """AP at IoU 0.50 and 0.75: table 5.

    Attributes:
        published: by row, both.
    """

    published: Mapping[str, tuple[float, float]]

    def __call__(self, grid: Grid, out: Path, cells: Sequence[CellState], means: Rows) -> Derived:
        rows = _rows(grid, out, cells, "test")
        columns = ("row", "AP@0.50", "published", "AP@0.75", "published")
        lines = [
            (grid.label(row), _mean(rows[row], "AP@0.50"), f"{half:.3f}", _mean(rows[row], "AP@0.75"), f"{more:.3f}")
            for row, (half, more) in self.published.items()
            if row in rows
        ]
        return Derived("Table 5: the report's best", columns, tuple(lines))


@dataclass(frozen=True)
class BoxSizes:
    """The area of each hit divided by that of its lesion, of bigger and of smaller boxes: tables 6 and 7."""

    def __call__(self, grid: Grid, out: Path, cells: Sequence[CellState], means: Rows) -> Derived:
        lines = []
        for row, seeds in _rows(grid, out, cells, "test").items():
            ratios = np.concatenate([np.asarray(one["ratios"], float) for one in seeds])
            for name, own in {"bigger": ratios[ratios >= 1], "smaller": ratios[ratios < 1]}.items():
                numbers = [own.mean(), np.median(own), own.min(), own.max()] if len(own) else []
                share = f"{len(own) / len(ratios):.1%}" if len(ratios) else ""
                shown = [f"{number:.3g}" for number in numbers] or [""] * 4
                lines.append((grid.label(row), name, str(len(own)), share, *shown))
        columns = ("row", "boxes", "hits", "share", "mean ratio", "median", "least", "largest")
        note = (
            "The report's YOLOv4 has 46.8 % bigger boxes (mean 2.09, median 1.31) and 53.9 % smaller (0.67, 0.74), its "
            "Faster R-CNN 60.8 % (3.68, 1.77) and 39.2 % (0.58, 0.61); of YOLOv4 its shares add up to 100.7 %."
        )
        return Derived("Tables 6 and 7: sizes of the boxes of hits (IoU 0.21)", columns, tuple(lines), note)


@dataclass(frozen=True)
class Lesions:
    """The lesions of each type in the parts of the data: figure 2."""

    def __call__(self, grid: Grid, out: Path, cells: Sequence[CellState], means: Rows) -> Derived:
        lines = []
        for _, folder in _finished(out, cells)[:1]:  # all rows have the same parts
            split, cell = RunSplit.load(folder / "run" / "split.json").to_dict(), Cell.load(folder / "cell.json")
            store = Store(out / "work" / cell.prepared_name)
            classes = store.fingerprint.classes
            labels = [np.concatenate([store.meta(case).instances.labels for case in split[part]]) for part in PARTS]
            counts = np.stack([np.bincount(each, minlength=len(classes)) for each in labels], axis=1)
            shares = counts.sum(axis=1) / max(counts.sum(), 1)
            for name, own, share in zip(classes, counts.tolist(), shares, strict=True):
                lines.append((name, *map(str, own), f"{share:.1%}"))
        return Derived("Figure 2: lesions by type", ("type", *PARTS, "share"), tuple(lines))


@dataclass(frozen=True)
class LearningCurves:
    """The loss, and the metrics of validation, in the course of each training: figures 12 to 19."""

    metric: str = "AP@0.50"

    def __call__(self, grid: Grid, out: Path, cells: Sequence[CellState], means: Rows) -> Derived:
        lines, figures = [], {}
        for cell, folder in _finished(out, cells):
            history, key = read_history(folder / "run"), f"val/{self.metric}"
            best = max((row for row in history if key in row), key=lambda row: row[key], default=None)
            if best is None:  # a log that was deleted, or damaged
                continue
            numbers = (f"{history[-1]['step']:,.0f}", f"{best['step']:,.0f}", f"{best[key]:.3f}")
            lines.append((grid.label(cell.values["model"]), str(cell.values["seed"]), *numbers))
            for chart in learning_charts(history):
                if chart.title in CURVES:
                    figures[f"{CURVES[chart.title]}_{_name(cell)}"] = chart_png(chart)
        note = (
            "The report shows its training and test images, and chooses its best epoch by the test images. Here, "
            "patients of the training part choose, and their metrics are shown."
        )
        columns = ("row", "seed", "steps", "best step", f"{self.metric} of validation")
        return Derived("Figures 12 to 19: learning curves", columns, tuple(lines), note, figures)


@dataclass(frozen=True)
class Confusions:
    """Which type the lesions of each type are taken for, on training and on test images: figure 26."""

    def __call__(self, grid: Grid, out: Path, cells: Sequence[CellState], means: Rows) -> Derived:
        lines, figures = [], {}
        parts: tuple[Part, ...] = ("train", "test")
        for (cell, _), part in product(_finished(out, cells), parts):
            metrics = metrics_of(out, cell, part)
            counts, label = np.array(metrics[CONFUSION]["counts"]), grid.label(cell.values["model"])
            found, right = counts[:-1, :-1].sum(), np.trace(counts[:-1, :-1])
            numbers = (right, found - right, counts[:-1, -1].sum(), counts[-1, :-1].sum())
            lines.append((label, str(cell.values["seed"]), part, *(f"{number:,}" for number in numbers)))
            if table := confusion_table(metrics, [HIT]):
                figures[f"confusion_{part}_{_name(cell)}"] = confusion_png(table, f"{label}, {part}, IoU ≥ {HIT}")
        columns = ("row", "seed", "images", "right type", "another type", "missed", "where no lesion is")
        note = "By class-agnostic matching of the detections from each class's score of the highest F1 upwards."
        return Derived(f"Figure 26: confusion of types (IoU {HIT})", columns, tuple(lines), note, figures)


def _finished(out: Path, cells: Sequence[CellState]) -> list[tuple[CellState, Path]]:
    """The cells with a finished training, and their folders."""
    pairs = [(cell, out / "cells" / cell.name) for cell in cells if cell.state == "done"]
    return [(cell, folder) for cell, folder in pairs if (folder / "run" / "split.json").exists()]


def _name(cell: CellState) -> str:
    return f"{cell.values['model']}_seed{cell.values['seed']}"


def _mean(seeds: Sequence[Mapping[str, Any]], key: str) -> str:
    values = [float(one[key]) for one in seeds if one.get(key) is not None]
    return f"{np.mean(values):.3f}" if values else ""
