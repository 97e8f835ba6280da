"""Further tables of an experiment from its finished cells, which need no training of their own."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from pathlib import Path

import numpy as np

from boxel.api.evaluation_inputs import read_evaluation_inputs
from boxel.datasets.cases import read_case_image
from boxel.evaluation import EvaluateConfig, evaluate
from boxel.experiments.cell import DERIVED, Cell, hash_of, open_source
from boxel.experiments.grid import Derived, Grid, Values, chooses
from boxel.experiments.sources import DataFolder
from boxel.experiments.state import CellState
from boxel.files import write_text
from boxel.inputs.texts import REMAKE, read_json
from boxel.types import Geometry

__all__ = ["CountsByRule", "FalsePositivesByScore", "RankCorrelation", "spearman"]


@dataclass(frozen=True)
class RankCorrelation:
    """How far two metrics order the rows alike; rows without training are left out."""

    first: str
    second: str

    def __call__(
        self, grid: Grid, out: Path, cells: Sequence[CellState], means: Sequence[tuple[Values, Mapping[str, float]]]
    ) -> Derived:
        pairs = [
            (metrics[self.first], metrics[self.second])
            for values, metrics in means
            if values.get("model") not in grid.baselines
            and all(isfinite(metrics.get(name, np.nan)) for name in (self.first, self.second))
        ]
        value = spearman(*np.array(pairs).T) if len(pairs) > 2 else np.nan
        shown = f"{value:+.3f}" if isfinite(value) else ""
        title = f"Rank correlation of {self.first} and {self.second} (Spearman)"
        return Derived(title, ("rows", "correlation"), ((str(len(pairs)), shown),))


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation; equal values share their mean rank. NaN if all values of one are equal.

    Example:
        >>> spearman(np.array([0.1, 0.2, 0.4]), np.array([1.0, 3.0, 2.0]))
        0.5
    """
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic) if np.ptp(a) and np.ptp(b) else float("nan")


@dataclass(frozen=True)
class FalsePositivesByScore:
    """False positives and true positives of some rows per image, in bins of the score.

    Attributes:
        rows: values of axes that choose them.
        iou_threshold: least overlap of a true positive.
        edges: of the bins; each holds its lower edge, the last one both.
    """

    rows: Values
    iou_threshold: float = 0.1
    edges: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

    def __call__(
        self, grid: Grid, out: Path, cells: Sequence[CellState], means: Sequence[tuple[Values, Mapping[str, float]]]
    ) -> Derived:
        per_row: dict[tuple[str, ...], list[np.ndarray]] = {}
        for cell in cells:
            if cell.state == "done" and chooses(self.rows, cell.values):
                key = tuple(grid.label(cell.values[axis]) for axis in grid.row_axes)
                per_row.setdefault(key, []).append(self._count(out, cell))
        lines = []
        for key, counts in per_row.items():
            mean = np.mean(counts, axis=0)
            for (lower, upper), (false, true) in zip(pairwise(self.edges), mean, strict=True):
                lines.append((*key, f"{lower:g}-{upper:g}", f"{false:.3f}", f"{true:.3f}"))
        title = f"False positives by score (IoU {self.iou_threshold:.2f}, mean over cells)"
        columns = (*grid.row_axes, "score", "false positives per image", "true positives per image")
        return Derived(title, columns, tuple(lines))

    def _count(self, out: Path, cell: CellState) -> np.ndarray:
        """`(bins, 2)` false and true positives per image of a cell; what is there is used again."""
        folder = out / "cells" / cell.name
        path = folder / DERIVED / f"by_score_{hash_of({'edges': self.edges, 'iou': self.iou_threshold})}.json"
        if not path.exists():
            dataset = open_source(Cell.load(folder / "cell.json").source, out)
            inputs = read_evaluation_inputs(folder / "predictions", dataset)
            config = EvaluateConfig(iou_thresholds=(self.iou_threshold,), num_resamples=0)
            table = evaluate(
                inputs.detections, inputs.ground_truth, config=config, criterion=inputs.criterion, **inputs.context
            ).table
            chosen = (table.false_positives, table.true_positives)
            counts = [np.histogram(table.scores[one], self.edges)[0] / len(table.cases) for one in chosen]
            write_text(path, json.dumps(np.transpose(counts).tolist()))
        return np.array(read_json(path, list[list[float]], REMAKE))


@dataclass(frozen=True)
class CountsByRule:
    """The objects of each class by several rules of a data set's layout; read once.

    Attributes:
        source: the data set.
        key: the option of the layout that chooses the rule.
        rules: its values, with a description of each.
        published: the counts that a paper reports, by class.
    """

    source: DataFolder
    key: str
    rules: Mapping[str, str]
    published: Mapping[str, int]

    def __call__(
        self, grid: Grid, out: Path, cells: Sequence[CellState], means: Sequence[tuple[Values, Mapping[str, float]]]
    ) -> Derived:
        counts = {**self._counts(out), "published": self.published}
        names = tuple(self.published)
        used = [option.partition("=")[2] for option in self.source.options if option.startswith(f"{self.key}=")]
        note = f"used here: {self.rules.get(used[-1], used[-1])}." if used else ""
        lines = tuple((text, *(str(count.get(name, 0)) for name in names)) for text, count in counts.items())
        return Derived(f"Objects by the rule `{self.key}`", ("rule", *names), lines, note)

    def _counts(self, out: Path) -> Mapping[str, Mapping[str, int]]:
        """The objects of each class by the description of each rule; each image is read once for all rules."""
        kept = tuple(option for option in self.source.options if not option.startswith(f"{self.key}="))
        sources = {
            text: self.source.model_copy(update={"options": (*kept, f"{self.key}={rule}")})
            for rule, text in self.rules.items()
        }
        path = out / "data" / f"counts_{hash_of({text: source.to_dict() for text, source in sources.items()})}.json"
        if not path.exists():
            datasets = {text: open_source(source, out) for text, source in sources.items()}
            counts = {text: dict.fromkeys(data.classes, 0) for text, data in datasets.items()}
            cases = [(case, text) for text, data in datasets.items() for case in data.cases if case.annotate]
            read, geometry = "", Geometry.plain(())
            for case, text in sorted(cases, key=lambda item: item[0].id):
                if case.id != read:
                    read, geometry = case.id, read_case_image(case, datasets[text]).geometry
                for label in case.annotate.read(geometry)[1].labels.tolist() if case.annotate else ():
                    counts[text][datasets[text].classes[label]] += 1
            write_text(path, json.dumps(counts))
        return read_json(path, dict[str, dict[str, int]], REMAKE)
