"""The experiments by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import NonNegativeInt

from boxel.config import Config, did_you_mean
from boxel.experiments.blood_cells import blood_cells
from boxel.experiments.cell import Cell
from boxel.experiments.cross_validation import PRESETS, cross_validation
from boxel.experiments.deeplesion import PRESETS as DEEPLESION_PRESETS
from boxel.experiments.deeplesion import deeplesion
from boxel.experiments.defaults import PRESETS as DEFAULTS_PRESETS
from boxel.experiments.defaults import defaults
from boxel.experiments.grid import Grid, Value, Values
from boxel.experiments.lesions import PRESETS as LESION_PRESETS
from boxel.experiments.lesions import lesions
from boxel.experiments.lsnet import LSNET_PRESETS, PANCREAS_PRESETS, lsnet, pancreas
from boxel.experiments.published import BREAST_PRESETS, LIDC_PRESETS, breast, lidc
from boxel.experiments.six_models import six_models
from boxel.experiments.sources import Source
from boxel.experiments.toy import PRESETS as TOY_PRESETS
from boxel.experiments.toy import toy
from boxel.inputs.texts import read_json
from boxel.models import ModelConfig

RECORD = "grid.json"


@dataclass(frozen=True)
class Entry:
    """A named experiment: `build(preset, source)` makes its grid; `source` replaces its own data, if it has some."""

    build: Callable[[str, Source | None], Grid]
    about: str
    presets: tuple[str, ...] = ("quick",)
    takes_data: bool = True


EXPERIMENTS = {
    "toy": Entry(toy, "figure 5 of Retina U-Net: toy tasks with few training images", TOY_PRESETS, takes_data=False),
    "lesions": Entry(lesions, "benign and malignant nodules of LIDC-IDRI in mosaics of crops", LESION_PRESETS),
    "lidc": Entry(lidc, "table 1 of Retina U-Net, for whoever has LIDC-IDRI", LIDC_PRESETS),
    "breast": Entry(breast, "table 2 of Retina U-Net, for whoever has such data", BREAST_PRESETS),
    "pancreas": Entry(pancreas, "tables 1 to 4 of L-SNet, for whoever has Pancreas-CT", PANCREAS_PRESETS),
    "lsnet": Entry(lsnet, "the same on LIDC nodules in mosaics of crops, or on the hippocampus", LSNET_PRESETS),
    "deeplesion": Entry(
        deeplesion, "tables 3 to 7 of the benchmarking report on DeepLesion, for whoever has it", DEEPLESION_PRESETS
    ),
    "blood_cells": Entry(blood_cells, "YOLOv4, Faster R-CNN and Retina Net on blood cells, the same time for each"),
    "defaults": Entry(
        defaults, "the defaults on nine data sets, beside other settings", DEFAULTS_PRESETS, takes_data=False
    ),
    "six_models": Entry(six_models, "the papers' six detectors, each trained for the same time"),
    "cross_validation": Entry(
        cross_validation, "five folds of your own data, pooled; preset `models` for all six", PRESETS
    ),
}


class Chosen(Config):
    """Which grid an output folder holds, `grid.json`.

    Attributes:
        version: that of the grid.
        source: the data, if not the grid's own.
        overrides: settings of every cell, after the grid's own.
    """

    name: str
    preset: str = ""
    version: NonNegativeInt = 0
    source: Source | None = None
    overrides: tuple[str, ...] = ()

    def grid(self) -> Grid:
        """The grid that these choices make.

        Raises:
            ValueError: no such experiment or preset, or data for one that brings its own.
        """
        if self.name not in EXPERIMENTS:
            raise ValueError(f"unknown experiment {self.name!r}{did_you_mean(self.name, EXPERIMENTS)}")
        entry = EXPERIMENTS[self.name]
        if self.preset not in entry.presets:
            raise ValueError(f"unknown preset {self.preset!r} of {self.name}{did_you_mean(self.preset, entry.presets)}")
        if self.source is not None and not entry.takes_data:
            raise ValueError(f"experiment {self.name} brings its own data; leave out --data")
        grid = entry.build(self.preset, self.source)
        changed = replace(grid, cell=_with(grid.cell, self.overrides)) if self.overrides else grid
        return replace(changed, labels={**(grid.labels or {}), **_labels(grid, changed)})


def choose(name: str, preset: str = "", source: Source | None = None, overrides: Sequence[str] = ()) -> Chosen:
    """The choices for an experiment; without a preset, its first one."""
    default = EXPERIMENTS[name].presets[0] if name in EXPERIMENTS else ""
    chosen = Chosen(name=name, preset=preset or default, source=source, overrides=tuple(overrides))
    return chosen.model_copy(update={"version": chosen.grid().version})


def read_chosen(out: Path) -> Chosen:
    """What the output folder of an experiment holds.

    Raises:
        ValueError: it holds no experiment, or one of another version of its grid.
    """
    path = Path(out) / RECORD
    if not path.exists():
        raise ValueError(f"{out}: no experiment (no {RECORD}); give the folder that `boxel experiment run` wrote")
    chosen = Chosen.from_dict(read_json(path), str(path))
    version = chosen.grid().version
    if chosen.version != version:
        raise ValueError(
            f"{path}: made with version {chosen.version} of the grid {chosen.name}, this is version {version}; "
            "choose another folder with --out (finished cells can be moved: OUT/cells)"
        )
    return chosen


def _labels(grid: Grid, changed: Grid) -> dict[Value, str]:
    """Labels of the axis `model` where overrides choose another model than the grid, or a plug-in has the model."""
    labels: dict[Value, str] = {}
    for value, values in {values["model"]: values for values in grid if "model" in values}.items():
        before, own = (one.cell(values).experiment.model.type_name for one in (grid, changed))
        if ModelConfig.registry.of_plugin(own):
            labels[value] = f"{own} (plug-in)"
        elif own != before:
            labels[value] = grid.label(own)
    return labels


def _with(build: Callable[[Values], Cell], overrides: Sequence[str]) -> Callable[[Values], Cell]:
    def cell(values: Values) -> Cell:
        own = build(values)
        return own.model_copy(update={"experiment": own.experiment.override(overrides)})

    return cell
