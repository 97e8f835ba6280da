"""Intervals over patients and over seeds, paired differences, and the rules that decide claims."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxel.experiments.statistics import Sample, decide, estimate, t_interval
from tests.unit.experiments.made_up import GROUPS

VALUES = st.lists(st.floats(0, 1, width=16), min_size=2, max_size=12)


@given(VALUES)
def test_the_interval_over_seeds_is_students_t(values):
    from scipy import stats

    values = np.array(values)
    expected = stats.t(len(values) - 1, values.mean(), values.std(ddof=1) / np.sqrt(len(values)) or 1e-300)
    assert t_interval(values) == pytest.approx(expected.interval(0.95), abs=1e-12)
    assert t_interval(values, 0.5) == pytest.approx(expected.interval(0.5), abs=1e-12)


def test_the_interval_over_three_seeds_by_hand():
    # t with 2 degrees of freedom: 4.302653; standard error 0.1 / sqrt(3).
    assert t_interval(np.array([0.5, 0.6, 0.7])) == pytest.approx((0.6 - 0.248414, 0.6 + 0.248414), abs=1e-6)


@pytest.mark.parametrize("values", [[], [0.5], [0.5, np.nan]])
def test_fewer_than_two_values_and_an_undefined_one_give_no_interval(values):
    assert t_interval(np.array(values)) is None


# The margin is 0.02; each entry: the intervals, then the verdicts for better, equal, not worse.
HOLDS, FAILS, OPEN = "holds", "fails", "not resolved"
VERDICTS = [
    ([(0.03, 0.05), (0.021, 0.1)], HOLDS, FAILS, HOLDS),
    ([(0.03, 0.05), (0.01, 0.1)], OPEN, FAILS, HOLDS),
    ([(0.03, 0.05), (-0.01, 0.015)], FAILS, FAILS, HOLDS),
    ([(-0.01, 0.01), (-0.019, 0.019)], FAILS, HOLDS, HOLDS),
    ([(-0.01, 0.01), (-0.03, 0.019)], FAILS, OPEN, OPEN),
    ([(-0.01, 0.01), (-0.019, 0.03)], FAILS, OPEN, HOLDS),
    ([(-0.03, 0.03), (-0.04, 0.04)], OPEN, OPEN, OPEN),
    ([(-0.05, -0.03), (-0.04, -0.021)], FAILS, FAILS, FAILS),
    ([(-0.05, -0.03), (-0.04, 0.04)], FAILS, FAILS, FAILS),
    ([(0.02, 0.05), (0.02, 0.05)], OPEN, FAILS, HOLDS),  # an end on the margin is not above it
    ([(-0.02, 0.02), (-0.02, 0.02)], FAILS, OPEN, OPEN),
    ([(0.03, 0.05), None], OPEN, OPEN, OPEN),  # one seed says nothing about training again
    ([(-0.05, -0.03), None], OPEN, OPEN, OPEN),
    ([None, (0.03, 0.05)], OPEN, OPEN, OPEN),
    ([None, None], OPEN, OPEN, OPEN),
]


@pytest.mark.parametrize(("intervals", "better", "equal", "not_worse"), VERDICTS)
def test_a_claim_is_decided_by_its_rule(intervals, better, equal, not_worse):
    verdicts = [decide(kind, 0.02, intervals) for kind in ("better", "equal", "not_worse")]
    assert verdicts == [better, equal, not_worse]
    assert [decide(kind, 0.02, intervals[::-1]) for kind in ("better", "equal", "not_worse")] == verdicts


@given(st.tuples(st.floats(-1, 1), st.floats(-1, 1)).map(sorted), st.floats(0, 0.5))
def test_a_margin_of_zero_and_opposite_rules_agree(ends, margin):
    ends = tuple(ends)
    assert decide("better", 0.0, [ends]) == decide("not_worse", 0.0, [ends])
    if decide("equal", margin, [ends]) == HOLDS:
        assert decide("not_worse", margin, [ends]) == HOLDS
        assert decide("better", margin, [ends]) == FAILS


def test_a_difference_is_paired_resample_by_resample():
    a = Sample(0.7, np.array([0.6, 0.7, np.nan, 0.9]), 10)
    b = Sample(0.5, np.array([0.5, 0.4, 0.3, np.nan]), 10)
    difference = a - b
    assert difference.value == pytest.approx(0.2)
    assert difference.resamples == pytest.approx([0.1, 0.3, np.nan, np.nan], nan_ok=True)
    assert difference.num_groups == 10


def sample(value: float, spread: float) -> Sample:
    return Sample(value, value + np.linspace(-spread, spread, 4001), GROUPS)


def test_patients_that_vary_alike_in_both_runs_leave_no_interval_of_the_difference():
    assert estimate([sample(0.7, 0.2) - sample(0.5, 0.2)], difference=True).over_patients == pytest.approx((0.2, 0.2))


def test_the_mean_over_seeds_by_hand():
    mean = estimate([sample(0.5, 0.2), sample(0.6, 0.2), sample(0.7, 0.2)], difference=True)
    assert (mean.value, mean.num_seeds) == (pytest.approx(0.6), 3)
    # 95 % of values that are spread evenly over 0.4 to 0.8.
    assert mean.over_patients == pytest.approx((0.41, 0.79), abs=1e-4)
    assert mean.over_seeds == pytest.approx((0.351586, 0.848414), abs=1e-6)
    assert mean.intervals == [mean.over_patients, mean.over_seeds]


def test_a_single_seed_has_an_interval_over_patients_only():
    mean = estimate([sample(0.5, 0.2)])
    assert mean.over_patients == pytest.approx((0.31, 0.69), abs=1e-4)
    assert mean.over_seeds is None


def test_an_undefined_metric_has_no_interval():
    undefined = estimate([Sample(np.nan, np.full(10, np.nan), 5)])
    assert np.isnan(undefined.value)
    assert undefined.intervals == [None, None]
