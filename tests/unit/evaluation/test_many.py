"""Many objects, classes, detections: the same results as from all pairs, and work that does not grow with squares."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxel.evaluation import Criterion, find_overlaps, overlaps, write_evaluation
from boxel.evaluation.bootstrap import draw_groups, in_blocks
from boxel.evaluation.details import MOST_CLASSES
from boxel.evaluation.grouped_matches import _weighted_median
from boxel.evaluation.write import confusion_rows
from boxel.types import Detections, Instances
from tests.settings import evaluate


def instances(boxes, labels):
    return Instances(boxes, labels, np.arange(1, len(boxes) + 1), np.zeros(len(boxes), bool))


def random_boxes(rng, number, ndim, room):
    lower = rng.integers(0, room, (number, ndim)) / 2  # some touch, some are equal
    return np.stack([lower, lower + rng.integers(0, 12, (number, ndim)) / 2], axis=1).astype(np.float32)


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["box_iou", "centre_distance", "relative_distance"]),
    across=st.booleans(),
)
def test_boxes_that_meet_are_found_as_if_all_pairs_were_compared(seed, kind, across):
    rng = np.random.default_rng(seed)
    ndim, cases = int(rng.integers(1, 4)), [f"case {k}" for k in range(3)]
    found = {
        case: Detections(random_boxes(rng, n, ndim, 40), rng.integers(0, 9, n) / 9, rng.integers(0, 2, n))
        for case, n in zip(cases, rng.integers(0, 25, 3), strict=True)
    }
    truth = {case: instances(random_boxes(rng, 12, ndim, 40), rng.integers(0, 2, 12)) for case in cases}
    regions = {"case 1": instances(random_boxes(rng, 2, ndim, 20) * 3, np.array([-1, 0]))}
    spacings = {case: tuple(rng.uniform(0.5, 3, ndim)) for case in cases} if seed % 2 else None
    given = {"classes": ["a", "b"], "criterion": Criterion(kind, spacings), "regions": regions, "farthest": 2.5}
    mine = find_overlaps(found, truth, **given, across_classes=across)
    with pytest.MonkeyPatch.context() as patch:
        everywhere = np.array([-np.inf, np.inf])[:, None]

        def all_pairs(_, detected, targets, *__):
            return [np.broadcast_to(everywhere, rows.boxes.shape).copy() for rows in (detected, targets)]

        patch.setattr(overlaps, "within_reach", all_pairs)
        plain = find_overlaps(found, truth, **given, across_classes=across)
    for name in ("pair_rows", "pair_objects", "pair_ious", "pair_values"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(plain, name))
    np.testing.assert_array_equal(mine.table.ious, plain.table.ious)


def test_few_of_all_pairs_of_a_crowded_case_are_compared(monkeypatch, ndim):
    rng, number = np.random.default_rng(0), 3000
    boxes = random_boxes(rng, number, ndim, 1000)
    compared = []
    monkeypatch.setattr(
        overlaps, "measure", lambda *given, true=overlaps.measure: compared.append(len(given[3])) or true(*given)
    )
    found = {"a": Detections(boxes, rng.random(number), np.zeros(number, int))}
    find_overlaps(found, {"a": instances(boxes, np.zeros(number, int))}, classes=["x"])
    assert number <= sum(compared) < 10 * number  # all pairs are 3000 times the number


def test_a_confusion_matrix_names_the_most_confused_classes_and_its_table_all(ndim, tmp_path):
    number = MOST_CLASSES + 30
    classes = [f"class {k}" for k in range(number)]
    lower = np.repeat(np.arange(number, dtype=float)[:, None] * 20, ndim, axis=1)
    boxes = np.stack([lower, lower + 10], axis=1)
    labels = np.arange(number)
    taken = np.where(labels == 40, 7, labels)  # an object of class 40 is taken for class 7
    found = {"a": Detections(boxes, np.full(number, 0.9), taken)}
    evaluation = evaluate(found, {"a": instances(boxes, labels)}, classes=classes, num_resamples=0)
    table = evaluation.metrics["confusion@0.10"]
    assert table["rows"][-2:] == ["other (30 classes)", "background"]
    assert table["columns"][:-2] == table["rows"][:-2] == sorted(table["rows"][:-2], key=classes.index)
    counts = {row: dict(zip(table["columns"], of, strict=True))
              for row, of in zip(table["rows"], table["counts"], strict=True)}  # fmt: skip
    assert counts["class 40"]["class 7"] == 1
    assert counts["other (30 classes)"]["other (30 classes)"] == 30
    assert sum(sum(row) for row in table["counts"]) == number
    write_evaluation(tmp_path, evaluation)
    with (tmp_path / "confusion.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == number
    assert {"annotated": "class 40", "detected": "class 7", "count": "1"} in rows
    assert len(confusion_rows(evaluation)) == number


@pytest.mark.parametrize("groups", [1, 2])
def test_equal_resamples_of_few_groups_are_computed_once(groups):
    computed = []

    def compute(weights):
        computed.append(len(weights))
        return {"sum": weights.sum(axis=1, keepdims=True) + weights[:, :1] / 3}

    drawn = draw_groups(groups, 1000, seed=0)
    np.testing.assert_array_equal(in_blocks(compute, drawn)["sum"], compute(drawn)["sum"])
    assert computed == [2 * groups - 1, 1000]


def test_the_median_of_many_values_is_computed_for_a_few_resamples_at_a_time(monkeypatch):
    rng = np.random.default_rng(0)
    values, weights, groups = np.sort(rng.random(50)), rng.integers(0, 3, (40, 6)) * 1.0, rng.integers(0, 6, 50)
    whole = _weighted_median(values, weights, groups)
    monkeypatch.setattr("boxel.evaluation.bootstrap._NUMBERS_AT_ONCE", 150)
    np.testing.assert_array_equal(_weighted_median(values, weights, groups), whole)
    repeated = np.repeat(values, weights[3, groups].astype(int))
    assert whole[3] == pytest.approx(np.median(repeated))
