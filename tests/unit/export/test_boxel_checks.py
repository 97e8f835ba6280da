"""Detections of a file are checked in two ways: usual ones by columns, all others one by one."""

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from boxel.export.boxel_checks import Checker, _checked_columns, _plain_columns

CLASSES = ["a", "b"]
ODD = st.sampled_from(
    [None, True, False, 0, 1, 2, -1, 1.0, 0.5, -0.0, 1.5, float("nan"), float("inf"), 2**53 + 1, 2**53, 10**25, 10**40,
     "a", "b", "", [], [1], [1, 2], [1, 2, 3], [2**53 + 1, 3], [2**53, 3], [True, 2], ["1", 2], [[1], 2], {}, {"x": 1}]
)  # fmt: skip


def entry(label, lower, extent, score, more):
    upper = [low + side for low, side in zip(lower, extent, strict=True)]
    return {"label": label, "class": CLASSES[label], "score": score, "lower": lower, "upper": upper} | more


POSITIONS = st.one_of(st.integers(-(10**6), 10**6), st.floats(-1e6, 1e6))
ENTRIES = st.lists(
    st.builds(
        entry, st.integers(0, 1), st.lists(POSITIONS, min_size=2, max_size=2),
        st.lists(st.one_of(st.integers(0, 99), st.floats(0, 99)), min_size=2, max_size=2),
        st.one_of(st.floats(0, 1), st.integers(0, 1)), st.sampled_from([{}, {"centre_mm": [1, 2], "size_mm": [3, 4]}]),
    ),
    max_size=4,
)  # fmt: skip


def one_by_one(entries):
    try:
        return _checked_columns(entries, 2, CLASSES, Checker(Path("a.json")))
    except ValueError as error:
        return str(error)


def assert_same(columns, others):
    assert not isinstance(others, str), others
    for mine, other in zip(columns, others, strict=True):
        assert (mine.dtype, mine.shape) == (other.dtype, other.shape)
        np.testing.assert_array_equal(mine.view(np.uint8), np.ascontiguousarray(other).view(np.uint8))


@given(ENTRIES)
@settings(max_examples=200, deadline=None)
def test_usual_detections_are_the_same_in_both_ways(entries):
    columns = _plain_columns(entries, 2, CLASSES)
    assert columns is not None
    assert_same(columns, one_by_one(entries))


@given(ENTRIES.filter(bool), st.data())
@settings(max_examples=500, deadline=None)
def test_what_the_columns_accept_is_what_the_checks_accept(entries, data):
    """Any change of a detection is told by the checks of one by one, which say where and what, or is none."""
    position = data.draw(st.integers(0, len(entries) - 1))
    key = data.draw(st.sampled_from(["label", "class", "score", "lower", "upper", "mask", "boxes", ""]))
    if data.draw(st.booleans()):
        entries[position] = {name: value for name, value in entries[position].items() if name != key}
    elif key:
        entries[position] = entries[position] | {key: data.draw(ODD)}
    else:
        entries[position] = data.draw(ODD)
    columns = _plain_columns(entries, 2, CLASSES)
    if columns is not None:
        assert_same(columns, one_by_one(entries))
