"""Intervals over patients and over seeds, and the rules that decide a claim."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

import numpy as np

from boxel.evaluation.bootstrap import interval

Interval = tuple[float, float]
Verdict = Literal["holds", "fails", "not resolved"]


@dataclass(frozen=True)
class Sample:
    """A metric of one run, or of the pooled folds of one seed.

    Attributes:
        value: on all patients.
        resamples: `(r,)` on bootstrap resamples of the patients.
        num_groups: the number of patients.
    """

    value: float
    resamples: np.ndarray
    num_groups: int

    def __sub__(self, other: "Sample") -> "Sample":
        """The difference of two runs on the same patients, paired resample by resample."""
        return Sample(self.value - other.value, self.resamples - other.resamples, self.num_groups)


@dataclass(frozen=True)
class Estimate:
    """The mean over seeds.

    Attributes:
        over_patients: 95 % interval from resampling the patients of every seed; the trainings stay as they are.
        over_seeds: 95 % interval by Student's t from the values of the seeds; None for fewer than two.
    """

    value: float
    over_patients: Interval | None
    over_seeds: Interval | None
    num_seeds: int

    @property
    def intervals(self) -> list[Interval | None]:
        return [self.over_patients, self.over_seeds]


def estimate(samples: Sequence[Sample], *, difference: bool = False) -> Estimate:
    """The mean of samples, one per seed, with both intervals.

    Args:
        difference: the samples are differences, whose bias mostly cancels: the quantiles are not moved, see
            `boxel.evaluation.compare`.
    """
    values = np.array([sample.value for sample in samples])
    mean = float(values.mean())
    drawn = np.mean([sample.resamples for sample in samples], axis=0)
    groups = min(sample.num_groups for sample in samples)
    ends = interval(drawn, mean, groups, corrected=not difference) if np.isfinite(mean) else None
    return Estimate(mean, (ends[0], ends[1]) if ends else None, t_interval(values), len(values))


def shown(value: Estimate | None, sign: str = "") -> str:
    """A mean with its intervals: square brackets over patients, round ones over seeds."""
    if value is None or not isfinite(value.value):
        return ""
    over = [_ends(value.over_patients, "[]", sign), _ends(value.over_seeds, "()", sign)]
    return " ".join([f"{value.value:{sign}.3f}", *filter(None, over)])


def _ends(ends: Interval | None, brackets: str, sign: str) -> str:
    return f"{brackets[0]}{ends[0]:{sign}.3f}, {ends[1]:{sign}.3f}{brackets[1]}" if ends else ""


def t_interval(values: np.ndarray, level: float = 0.95) -> Interval | None:
    """The interval of a mean by Student's t; None for fewer than two values."""
    from scipy.special import stdtrit

    if len(values) < 2 or not np.isfinite(values).all():
        return None
    reach = stdtrit(len(values) - 1, (1 + level) / 2) * values.std(ddof=1) / len(values) ** 0.5
    return float(values.mean() - reach), float(values.mean() + reach)


def decide(
    kind: Literal["better", "equal", "not_worse"], margin: float, intervals: Sequence[Interval | None]
) -> Verdict:
    """The verdict on a difference: `holds` if every interval is on the claim's side, `fails` if one is on the other.

    Without one of the intervals nothing is decided: a single seed does not show how trainings vary.
    """
    least = {"better": margin, "equal": -margin, "not_worse": -margin}[kind]
    most = margin if kind == "equal" else np.inf
    known = [ends for ends in intervals if ends is not None]
    if len(known) < len(intervals):
        return "not resolved"
    if any(high <= least or low >= most for low, high in known):
        return "fails"
    return "holds" if all(low > least and high < most for low, high in known) else "not resolved"


def holm(p_values: Sequence[float]) -> list[float]:
    """P values corrected for their number: the chance of any false positive among all of them stays below the level.

    Reference: Holm, A simple sequentially rejective multiple test procedure (1979).

    Example:
        >>> holm([0.01, 0.5, 0.02])
        [0.03, 0.5, 0.04]
    """
    order = np.argsort(p_values, kind="stable")
    stepwise = np.asarray(p_values, np.float64)[order] * np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(stepwise), 1)
    return [float(p) for p in corrected]
