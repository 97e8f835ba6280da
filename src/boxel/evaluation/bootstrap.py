"""Uncertainty from drawing the patients anew.

Whole groups (patients) are drawn with replacement, since the images of a patient are not independent; a group drawn
twice counts twice. The matching is not repeated: it does not reach across cases.
"""

from collections.abc import Callable, Mapping
from statistics import NormalDist

import numpy as np

_NUMBERS_AT_ONCE = 4_000_000


def draw_groups(num_groups: int, num_resamples: int, seed: int) -> np.ndarray:
    """`(num_resamples, num_groups)` how often each group is in each resampled data set."""
    generator = np.random.default_rng(seed)
    draws = (generator.integers(num_groups, size=num_groups) for _ in range(num_resamples))
    return np.array([np.bincount(draw, minlength=num_groups) for draw in draws], np.float64).reshape(-1, num_groups)


def in_blocks(compute: Callable[[np.ndarray], Mapping[str, np.ndarray]], weights: np.ndarray) -> dict[str, np.ndarray]:
    """`compute(weights)` with as many of the rows at once as memory allows."""
    rows = max(1, _NUMBERS_AT_ONCE // weights.shape[1])
    parts = [compute(weights[start : start + rows]) for start in range(0, len(weights), rows)]
    return {key: np.concatenate([part[key] for part in parts]) for key in (parts[0] if parts else {})}


def interval(values: np.ndarray, estimate: float, level: float = 0.95) -> list[float] | None:
    """The bias-corrected percentile interval of resampled values, nan left out; None if nothing is left.

    Average precision of a resample is higher than that of the data more often than not; the quantiles are moved by as
    much (Efron 1987, section 2). Without it, intervals of average precision cover the truth too seldom.
    """
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    normal = NormalDist()
    below = (np.mean(values < estimate) + np.mean(values <= estimate)) / 2
    shift = 2 * normal.inv_cdf(float(np.clip(below, 0.5 / len(values), 1 - 0.5 / len(values))))
    reach = normal.inv_cdf((1 + level) / 2)
    return np.quantile(values, [normal.cdf(shift - reach), normal.cdf(shift + reach)]).tolist()


def mean_of_present(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis without nan; nan where nothing else is there."""
    present = ~np.isnan(values)
    total = np.where(present, values, 0.0).sum(axis=-1)
    return np.divide(total, present.sum(axis=-1), out=np.full(len(values), np.nan), where=present.any(axis=-1))
