"""Are the defaults as accurate as what an expert would have tuned? Nine data sets, the same training time for each.

A variant is a list of settings, the same for all data sets, that is compared with the default: add a line to
`VARIANTS`, and the same command trains what is missing. Preset `validation` evaluates on the validation parts, and is
the one to choose by; `test` evaluates on the test parts, once, when nothing is left to choose.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from boxel.experiments.cell import Cell
from boxel.experiments.default_sets import AP10, AP50, SENSITIVITY, data_sets
from boxel.experiments.grid import Derived, Grid, Value, Values
from boxel.experiments.sources import Source, ValidationPart
from boxel.experiments.state import CellState
from boxel.experiments.statistics import Estimate, shown, t_interval
from boxel.recipes import get_recipe

PRESETS = ("validation", "test")
DEFAULT = "default"
_QUALITY, _NARROW, _RATE = "model.dense.class_loss.quality=1", "model.backbone.finest_filters=8", "train.lr=5e-3"
VARIANTS: dict[str, tuple[str, ...]] = {  # docs/results/defaults.md has what is known of each
    DEFAULT: (),
    "together": (_QUALITY, _NARROW, _RATE),
    "quality": (_QUALITY,),
    "narrow": (_NARROW,),
    "rate": (_RATE,),
    "cosine": ("train.schedule.type=cosine",),
    "unturned": ("train.augment.spatial=0",),
    "background": ("train.sampler.foreground=0.6",),
    "alpha": ("model.dense.class_loss.alpha=0.5",),
}
MINUTES = 5  # of a training; on the CPU, of its process


def defaults(preset: str, source: Source | None) -> Grid:
    sets = data_sets()

    def cell(values: Values) -> Cell:
        data = sets[str(values["data"])]
        experiment = get_recipe("retina_unet_small").override(
            [f"seed={values['seed']}", f"train.budget={MINUTES}min", *VARIANTS[str(values["variant"])]]
        )
        return Cell(
            source=data.source if preset == "test" else ValidationPart(source=data.source), experiment=experiment
        )

    return Grid(
        name="defaults",
        version=1,
        about=f"The defaults on nine data sets, {MINUTES} minutes of one core for each ({preset} parts)",
        axes={"data": tuple(sets), "variant": tuple(VARIANTS), "seed": (0, 1, 2)},
        cell=cell,
        reference={"variant": DEFAULT},
        metrics=(AP50, AP10, SENSITIVITY),
        derived=(OverDataSets({name: data.metric for name, data in sets.items()}),),
        labels={name: data.label for name, data in sets.items()},
        seconds=75.0 * MINUTES,
    )


Of = dict[str, dict[Value, dict[Value, float]]]


@dataclass(frozen=True)
class OverDataSets:
    """Each data set by its own metric: means over seeds, and differences to the default, paired by seed.

    Attributes:
        metrics: the metric of each data set.
    """

    metrics: dict[str, str]

    def __call__(self, grid: Grid, out: Path, cells: Sequence[CellState], means: Any) -> Derived:
        found = self._found(cells)
        columns = ("variant", "data", "metric", "seeds", "mean", "difference", "data sets better")
        rows = []
        for variant, sets in found.items():
            differences = [_differences(values, found.get(DEFAULT, {}).get(data, {})) for data, values in sets.items()]
            for (data, values), each in zip(sets.items(), differences, strict=True):
                of_default = "" if variant == DEFAULT else _shown(each, "+")
                row = (variant, grid.label(data), self.metrics[str(data)], str(len(values)))
                rows.append((*row, _shown(list(values.values())), of_default, ""))
            means_of_sets = [statistics.mean(each) for each in differences if each]
            if variant != DEFAULT and means_of_sets:
                better = f"{sum(one > 0 for one in means_of_sets)} of {len(means_of_sets)}"
                rows.append((variant, "all", "", "", "", _shown(means_of_sets, "+"), better))
        note = "95 % intervals by Student's t: of a data set over seeds, of all over data sets."
        return Derived("Each data set by its own metric", columns, tuple(rows), note)

    def _found(self, cells: Sequence[CellState]) -> Of:
        """The metric of each finished cell, by variant, data set and seed."""
        found: Of = {}
        for cell in cells:
            data, variant, seed = cell.values["data"], str(cell.values["variant"]), cell.values["seed"]
            value = cell.cost["metrics"].get(self.metrics[str(data)]) if cell.cost else None
            if value is not None:
                found.setdefault(variant, {}).setdefault(data, {})[seed] = value
        return found


def _differences(values: dict[Value, float], default: dict[Value, float]) -> list[float]:
    return [value - default[seed] for seed, value in values.items() if seed in default]


def _shown(values: Sequence[float], sign: str = "") -> str:
    """The mean and its interval."""
    if not values:
        return ""
    return shown(Estimate(statistics.mean(values), None, t_interval(np.array(values)), len(values)), sign)
