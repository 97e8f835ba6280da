"""Experiments: grids of runs on the same data, carried out cell by cell, and the tables and verdicts they give."""

from boxel.experiments.ablation import ablate
from boxel.experiments.collect import Results, collect_results
from boxel.experiments.grid import Claim, Grid
from boxel.experiments.registry import EXPERIMENTS, choose, read_chosen
from boxel.experiments.run import run
from boxel.experiments.state import states
from boxel.experiments.tables import collect, markdown

__all__ = [
    "EXPERIMENTS",
    "Claim",
    "Grid",
    "Results",
    "ablate",
    "choose",
    "collect",
    "collect_results",
    "markdown",
    "read_chosen",
    "run",
    "states",
]
