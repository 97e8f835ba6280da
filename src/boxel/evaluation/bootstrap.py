"""Uncertainty from drawing the patients anew."""

import numpy as np

from boxel.evaluation.average_precision import Interpolation, RankedHits, curve_average
from boxel.evaluation.matching import MatchTable


def bootstrap_average_precision(
    table: MatchTable, groups: np.ndarray, interpolation: Interpolation, num_resamples: int, seed: int
) -> np.ndarray:
    """Average precision of every class in resampled data sets.

    Whole groups (patients) are drawn with replacement, since the images of a patient are not independent; a
    group drawn twice counts twice. The matching is not repeated: it does not reach across cases.

    Args:
        table: matched cases.
        groups: `(cases,)` group index `0..g-1` of each case of the table.
        interpolation: see `average_precision`.
        num_resamples: data sets to draw.
        seed: of the draw.

    Returns:
        `(num_resamples, k)` float64; nan where a resample holds no object of the class.
    """
    num_groups = int(groups.max()) + 1
    ranked, row_groups, objects = [], [], []
    for label in range(len(table.classes)):
        rows = np.flatnonzero(table.labels == label)
        hits, order = RankedHits.sort(table.scores[rows], table.hits[rows])
        ranked.append(hits)
        row_groups.append(groups[table.detection_cases[rows[order]]])
        of_class = table.object_cases[table.object_labels == label]
        objects.append(np.bincount(groups[of_class], minlength=num_groups))

    generator = np.random.default_rng(seed)
    values = np.full((num_resamples, len(table.classes)), np.nan)
    for resample in range(num_resamples):
        times = np.bincount(generator.integers(num_groups, size=num_groups), minlength=num_groups)
        for label, hits in enumerate(ranked):
            counts = hits.counts(times[row_groups[label]])
            value = curve_average(*counts, float(times @ objects[label]), interpolation)
            values[resample, label] = np.nan if value is None else value
    return values


def interval(values: np.ndarray, level: float = 0.95) -> list[float] | None:
    """The percentile interval of resampled values, nan left out; None if nothing is left."""
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    return np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist()


def mean_of_present(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without nan; nan where nothing else is there."""
    present = ~np.isnan(values)
    total = np.where(present, values, 0.0).sum(axis=-1)
    return np.divide(total, present.sum(axis=-1), out=np.full(len(values), np.nan), where=present.any(axis=-1))
