"""Folds: what a user may rely on when cases are divided."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxel.datasets.cases import Case, Dataset
from boxel.datasets.split import check_splits, dataset_splits, draw_cases, make_splits
from boxel.preparation.fingerprint import CaseRecord
from boxel.preparation.prepare import size_strata
from boxel.types import Split


def case(name, labels=(), group="", split="train"):
    mask_labels = dict(enumerate(labels, start=1))
    return Case(name, (Path(f"{name}.png"),), mask_labels=mask_labels, group=group, split=split)


def cases(count, **kwargs):
    return [case(f"c{k:04d}", **kwargs) for k in range(count)]


def sizes(split):
    return tuple(len(ids) for _, ids in split)


# Jaeger et al., 2018, section 4.1: 60/20/20; the numbers are those of its toolkit's fold generator.
@pytest.mark.parametrize("count", [1035, 100])
def test_five_folds_without_test_cases_are_60_20_20(count):
    splits = make_splits(cases(count))
    assert [sizes(split) for split in splits] == [(count * 3 // 5, count // 5, count // 5)] * 5
    assert [split.val for split in splits] == [splits[(k + 1) % 5].test for k in range(5)]


@pytest.mark.parametrize("label", [10**9, 10**40, -1])
def test_a_label_that_no_class_has_is_left_to_its_reader(label):
    usual = cases(10, labels=(0, 1))
    assert make_splits([*usual, case("odd", (0, label))]) == make_splits([*usual, case("odd", (0,))])


def test_an_uneven_number_of_cases_differs_by_one_between_parts():
    splits = make_splits(cases(331))
    assert {size for split in splits for size in sizes(split)[1:]} == {66, 67}


@given(
    groups=st.lists(st.integers(0, 12), min_size=3, max_size=60).filter(lambda groups: len(set(groups)) >= 3),
    num_folds=st.integers(3, 7),
    seed=st.integers(0, 5),
)
def test_test_parts_are_disjoint_and_complete_and_groups_stay_together(groups, num_folds, seed):
    given_cases = [case(f"c{k:02d}", group=f"g{group}", labels=[0] * (k % 3)) for k, group in enumerate(groups)]
    group_of = {c.id: c.group for c in given_cases}
    num_folds = min(num_folds, len(set(groups)))
    splits = make_splits(given_cases, num_folds=num_folds, seed=seed)
    assert len(splits) == num_folds
    assert sorted(i for split in splits for i in split.test) == sorted(group_of)
    assert sorted(i for split in splits for i in split.val) == sorted(group_of)
    for split in splits:
        assert sorted(i for _, part in split for i in part) == sorted(group_of)
        assert all(ids for _, ids in split)
        groups_of_part = [{group_of[i] for i in ids} for _, ids in split]
        assert sum(map(len, groups_of_part)) == len(set.union(*groups_of_part))


def test_test_cases_of_the_data_set_are_the_test_of_every_fold():
    splits = make_splits([*cases(10), case("t1", split="test"), case("t0", split="test")])
    assert [split.test for split in splits] == [("t0", "t1")] * 5
    assert [sizes(split) for split in splits] == [(8, 2, 2)] * 5
    assert len({i for split in splits for i in split.val}) == 10


def test_every_part_has_its_share_of_rare_classes_negative_cases_and_objects():
    rng = np.random.default_rng(3)
    rare = [case(f"r{k}", labels=[1]) for k in range(10)]
    empty = [case(f"e{k}") for k in range(5)]
    usual = [case(f"u{k}", labels=[0] * rng.integers(1, 30)) for k in range(60)]
    by_id = {c.id: c for c in [*rare, *empty, *usual]}
    splits = make_splits(list(by_id.values()))
    for split in splits:
        kinds = Counter(name[0] for name in split.test)
        assert kinds["r"] == 2
        assert kinds["e"] == 1
    objects = [sum(len(by_id[i].labels) for i in split.test) for split in splits]
    assert max(objects) < 1.1 * min(objects)


def test_every_part_has_its_share_of_small_and_large_objects_of_each_class(ndim):
    """Objects of 1 to 60 mm, the second class ten times as large: thirds are within the class, in mm."""
    edges = {f"c{k:04d}": (k % 2, (k // 2 + 1) * (10.0 if k % 2 else 1.0)) for k in range(60)}
    measured = [
        CaseRecord(id=name, shape=(999,) * ndim, spacing=(0.5,) * ndim, labels=(label,),
                   sizes=((2 * edge,) * ndim,), masks=0)
        for name, (label, edge) in edges.items()
    ]  # fmt: skip
    strata = size_strata([*measured, measured[0].model_copy(update={"id": "empty", "labels": (), "sizes": ()})])
    assert (strata["c0000"], strata["c0001"], strata["empty"]) == ([0], [3], [])
    assert (strata["c0058"], strata["c0059"]) == ([2], [5])
    found = [[Counter(strata[name][0] for name in split.test)[kind] for kind in range(6)]
             for split in make_splits(cases(60), strata=strata)]  # fmt: skip
    assert np.abs(np.array(found) - 2).max() <= 1  # ten objects of each kind in five parts


def test_the_same_seed_gives_the_same_folds_whatever_the_order_of_the_cases():
    assert make_splits(cases(30)) == make_splits(cases(30))
    assert [s.test for s in make_splits(cases(30))] == [s.test for s in make_splits(cases(30)[::-1])]
    assert make_splits(cases(30)) != make_splits(cases(30), seed=1)


@pytest.mark.parametrize(("count", "has_test"), [(2, False), (1, True), (0, False)])
def test_too_few_groups_are_refused_with_the_number_needed(count, has_test):
    few = cases(count) + ([case("t", split="test")] if has_test else [])
    with pytest.raises(ValueError, match=rf"{count} groups? .* need {2 if has_test else 3} .*splits\.json"):
        make_splits(few)


@pytest.mark.parametrize("count", [3, 4])
def test_more_folds_than_patients_are_an_error_unless_their_number_is_the_default(count):
    few = [case(f"c{k}", group=f"p{k % count}") for k in range(9)]
    dataset = Dataset(Path("data"), "toy", 2, ("a",), ("x",), tuple(few))
    assert len(dataset_splits(dataset)) == len(dataset_splits(dataset, num_folds=count)) == count
    with pytest.raises(
        ValueError, match=rf"^data: {count} groups \(patients\) .* into 5 folds; make at most {count}, "
    ):
        dataset_splits(dataset, num_folds=5)


def test_a_number_of_folds_is_refused_where_the_data_set_prescribes_them():
    prescribed = ({"train": ("c0000", "c0001"), "val": ("c0002",)},)
    dataset = Dataset(Path("data"), "toy", 2, ("a",), ("x",), tuple(cases(3)), prescribed)
    with pytest.raises(ValueError, match=r"^data: prescribes 1 fold, .* \(3\) has no effect; leave --folds out"):
        dataset_splits(dataset, num_folds=3)


def test_folds_without_test_take_the_data_sets_test_cases():
    dataset = Dataset(
        Path("data"), "toy", 2, ("a",), ("x",), (*cases(3), case("t", split="test")),
        ({"train": ("c0000", "c0001"), "val": ("c0002",), "test": ()},),
    )  # fmt: skip
    assert dataset_splits(dataset) == [Split(train=("c0000", "c0001"), val=("c0002",), test=("t",))]


@pytest.mark.parametrize(
    ("fold", "message"),
    [
        ({"train": ["c0000"], "val": ["c0000"]}, "in train and in val"),
        ({"train": ["c0000"], "val": ["c0009"]}, "c0009.* does not have"),
        ({"train": ["c0000"], "val": []}, "1 case to train and 0 to validate"),
        ({"train": ["c0000"]}, "needs train and val"),
        ({"train": ["c0000"], "val": ["c0001"], "tset": ["c0002"]}, "may have test"),
    ],
)
def test_wrong_prescribed_folds_are_named(fold, message):
    with pytest.raises(ValueError, match=rf"splits\.json: fold 0.*{message}"):
        check_splits([fold], cases(3), "splits.json")


def test_a_prescribed_fold_may_not_divide_a_patient():
    with pytest.raises(ValueError, match=r"'a' in train and 'b' in val, but .*patient.*--option group=\.\*"):
        check_splits([{"train": ["a"], "val": ["b"]}], [case("a", group="p"), case("b", group="p")], "splits.json")


def patients(kinds, per_patient=1):
    """The classes of cases of consecutive patients, and the patient of each case."""
    labels = {f"c{k:03d}": kind for k, kind in enumerate(kinds)}
    return labels, {case: f"p{k // per_patient}" for k, case in enumerate(labels)}


def test_drawn_cases_have_the_classes_in_proportion_and_the_rare_one_too():
    labels, groups = patients([[0]] * 100 + [[1, 1]] * 50 + [[]] * 49 + [[2]])
    for seed in range(5):
        drawn = draw_cases(labels, groups, 20, seed)
        counts = Counter(tuple(labels[case]) for case in drawn)
        assert len(drawn) == 20
        assert drawn == sorted(drawn) == draw_cases(labels, groups, 20, seed)
        assert counts[2,] == 1
        assert 9 <= counts[0,] <= 10
        assert 4 <= counts[1, 1] <= 5
        assert 4 <= counts[()] <= 5
    assert draw_cases(labels, groups, 20, 0) != draw_cases(labels, groups, 20, 1)


@given(
    kinds=st.lists(st.lists(st.integers(0, 2), max_size=3), min_size=1, max_size=40),
    per_patient=st.integers(1, 5),
    number=st.integers(0, 45),
    seed=st.integers(0, 3),
)
def test_drawn_cases_are_whole_patients_up_to_the_number(kinds, per_patient, number, seed):
    labels, groups = patients(kinds, per_patient)
    drawn = draw_cases(labels, groups, number, seed)
    assert len(drawn) == len(set(drawn)) <= number
    if number >= len(labels):
        assert drawn == list(labels)
    elif number >= per_patient:
        assert number - len(drawn) < per_patient
        assert {groups[case] for case in drawn}.isdisjoint(groups[case] for case in labels.keys() - set(drawn))
    elif len(labels) >= per_patient and len(labels) % per_patient == 0:
        assert len(drawn) == number  # no patient is small enough
