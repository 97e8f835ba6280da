"""The papers' comparisons: grids of runs on the same data, and the table that compares them."""

from boxel.experiments.grids import GRIDS, Grid, Row, six_models
from boxel.experiments.run import experiment

__all__ = ["GRIDS", "Grid", "Row", "experiment", "six_models"]
