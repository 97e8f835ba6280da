"""Folds: which cases to train, validate and test on."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from boxel.datasets.cases import Case, Dataset
from boxel.datasets.problems import InputError, some
from boxel.types import Split
from boxel.wording import counted

FOLDS = 5  # where nobody says how many
MOST_KINDS = 30_000  # classes times sizes; a larger number is a mistake, which is reported where it is read

Strata = Mapping[str, Sequence[int]]
Parts = Sequence[Mapping[str, str]]


def dataset_splits(dataset: Dataset, *, num_folds: int | None = None, seed: int = 0) -> list[Split]:
    """The folds that the data set prescribes, or else those of `make_splits`.

    A prescribed fold is `{"train": ids, "val": ids}` and may have a `"test"`; without one, it tests on the data set's
    test cases.

    Raises:
        ValueError: a prescribed fold names an unknown case, or a case in two parts; there are too few groups; or a
            number of folds is given although the data set prescribes them.
    """
    if dataset.splits is None:
        try:
            return make_splits(dataset.cases, num_folds=num_folds, seed=seed)
        except ValueError as error:
            raise ValueError(f"{dataset.root}: {error}") from None
    if num_folds is not None:
        own = counted(len(dataset.splits), "fold")
        raise ValueError(
            f"{dataset.root}: prescribes {own}, so that the number of folds ({num_folds}) has no effect; "
            "leave --folds out, or remove the file that prescribes them"
        )
    return check_splits(dataset.splits, dataset.cases, str(dataset.root / "splits.json"))


def check_splits(splits: Sequence[Mapping[str, Iterable[str]]], cases: Sequence[Case], source: str) -> list[Split]:
    """The prescribed folds, each with its test cases.

    Raises:
        ValueError: names `source`, the fold and the rule.
    """
    held_out = tuple(case.id for case in cases if case.split == "test")
    groups = {case.id: case.group or case.id for case in cases}
    result = []
    for fold, given in enumerate(splits):
        where = f"{source}: fold {fold}"
        if not {"train", "val"} <= set(given) <= {"train", "val", "test"}:
            raise ValueError(f"{where} has the parts {', '.join(given)}; it needs train and val, and may have test")
        parts = {part: tuple(ids) for part, ids in given.items()}
        split = Split(train=parts["train"], val=parts["val"], test=parts.get("test") or held_out)
        if not (split.train and split.val):
            raise ValueError(
                f"{where} has {counted(len(split.train), 'case')} to train and {len(split.val)} to validate on; "
                "name at least one for each"
            )
        _check_parts(split, groups, where)
        result.append(split)
    if not result:
        raise ValueError(f"{source}: no fold; give a list of at least one {{'train': [...], 'val': [...]}}")
    return result


def _check_parts(split: Split, groups: Mapping[str, str], where: str) -> None:
    """Every case is known and, like its group, in one part only."""
    part_of: dict[str, str] = {}
    case_of_group: dict[str, tuple[str, str]] = {}
    for part, ids in split:
        for case_id in ids:
            if case_id not in groups:
                raise ValueError(f"{where} names case {case_id!r}, which the data set does not have")
            if part_of.setdefault(case_id, part) != part:
                raise ValueError(f"{where} has case {case_id!r} in {part_of[case_id]} and in {part}; keep one")
            first, other = case_of_group.setdefault(groups[case_id], (case_id, part))
            if other != part:
                raise ValueError(
                    f"{where} has the cases {first!r} in {other} and {case_id!r} in {part}, but they are of one group "
                    "(patient); cases of one group belong together "
                    "(if their images differ, --option group=.* makes each case a group of its own)"
                )


def unassigned(dataset: Dataset) -> Iterator[InputError]:
    """Warnings about training cases that no part of a prescribed fold names, so that it does not use them."""
    folds_of: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for fold, split in enumerate(dataset.splits or ()):
        named = {case_id for ids in split.values() for case_id in ids}
        folds_of[tuple(case.id for case in dataset.train if case.id not in named)].append(fold)
    for ids, folds in folds_of.items():
        if ids:
            which = f"folds {some(folds)} leave" if folds[1:] else f"fold {folds[0]} leaves"
            problem = f"{which} out {counted(len(ids), 'training case')}: {some(ids)}"
            yield InputError(dataset.root, problem, "add them to the splits if they should be used", severity="warning")


def parts_of(dataset: Dataset) -> Parts:
    """The part of each case in words, for each fold that the data set prescribes."""
    names = {"test": "test", "val": "validation", "train": "training"}  # of a case in two parts the last one counts
    folds = dataset.splits or ()
    return [{case: name for part, name in names.items() for case in fold.get(part, ())} for fold in folds]


def sides(parts: Parts, a: Case, b: Case) -> str:
    """The sides of a known split that separates two cases, such as ` (training and test)`; empty if none does."""
    if a.split != b.split:
        return " (training and test)"
    for fold, part in enumerate(parts):
        if a.id in part and b.id in part and part[a.id] != part[b.id]:
            return f" ({part[a.id]} and {part[b.id]} of fold {fold})"
    return ""


def make_splits(
    cases: Sequence[Case], *, num_folds: int | None = None, seed: int = 0, strata: Strata | None = None
) -> list[Split]:
    """Folds of case ids: grouped, of equal size, stratified by numbers of objects of each class, or of `strata`.

    The training cases are cut into `num_folds` parts, by default into five, or one per group where there are fewer.
    With test cases in the data set, fold `k` validates on part `k` and trains on the others. Without, fold `k` tests on
    part `k`, validates on part `k + 1` and trains on the rest: 60/20/20 for five folds, test parts disjoint and
    complete (Jaeger et al., 2018, section 4.1).

    Raises:
        ValueError: too few groups for that, or for `num_folds`.
    """
    train = [case for case in cases if case.split == "train"]
    test = sorted(case.id for case in cases if case.split == "test")
    groups: dict[str, list[Case]] = {}
    for case in sorted(train, key=lambda case: case.id):
        groups.setdefault(case.group or case.id, []).append(case)
    needed, wanted = 2 if test else 3, FOLDS if num_folds is None else num_folds
    if min(len(groups), wanted) < needed:
        raise ValueError(
            f"{counted(len(groups), 'group')} (patients) and {counted(wanted, 'fold')} are too few: "
            f"train and val{'' if test else ' and test'} need {needed} of both; "
            f"add cases, or write splits.json: [{{'train': [ids], 'val': [ids]}}]"
        )
    if num_folds is not None and num_folds > len(groups):
        raise ValueError(
            f"{counted(len(groups), 'group')} (patients) of training cases cannot be divided into {num_folds} folds; "
            f"make at most {len(groups)}, or add cases of other patients"
        )
    kinds = {case.id: case.labels for case in train} | dict(strata or {})
    kinds_by_group = [{case.id: kinds[case.id] for case in group} for group in groups.values()]
    parts = _deal(kinds_by_group, min(wanted, len(groups)), seed)
    splits = []
    for fold in range(len(parts)):
        own, following = parts[fold], parts[(fold + 1) % len(parts)]
        val, holdout = (own, test) if test else (following, own)
        used = {*val, *holdout}
        rest = tuple(case.id for case in train if case.id not in used)
        splits.append(Split(train=rest, val=tuple(sorted(val)), test=tuple(sorted(holdout))))
    return splits


def hold_out(cases: Sequence[Case], share: float, seed: int = 0) -> set[str]:
    """Ids of about `share` of the cases: whole groups, stratified by the objects that are known without reading."""
    groups: dict[str, dict[str, list[int]]] = {}
    for case in sorted(cases, key=lambda case: case.id):
        groups.setdefault(case.group or case.id, {})[case.id] = case.labels
    parts = round(1 / share)
    if len(groups) < parts:
        raise ValueError(
            f"holdout={share}: {counted(len(groups), 'group')} (patients) cannot give one in {parts}; hold out more"
        )
    return set(_deal(list(groups.values()), parts, seed)[0])


def draw_cases(labels: Strata, groups: Mapping[str, str], number: int, seed: int) -> list[str]:
    """Ids of at most `number` cases, in their order: whole groups, stratified by the classes that their cases have.

    Each class, and the absence of any, has about its share of the cases, but at least one. If no group is small
    enough, cases are drawn one by one.

    Args:
        labels: the classes of the objects of each case.
        groups: the group (patient) of each case.
        number: how many cases to draw; groups that would exceed it are left out.
        seed: random seed, which decides among equally good groups.
    """
    if number >= len(labels):
        return list(labels)
    members: dict[str, list[str]] = {}
    for case in labels:
        members.setdefault(groups[case], []).append(case)
    if min(map(len, members.values())) > number:
        members = {case: [case] for case in labels}
    num_kinds = 1 + max((kind for kinds in labels.values() for kind in kinds), default=-1)
    drawn = list(members.values())
    drawn = [drawn[k] for k in np.random.default_rng(seed).permutation(len(drawn))]
    # Cases with each class, and cases without any.
    cases_with = np.array([_features([labels[case] for case in ids], num_kinds)[num_kinds:] for ids in drawn])
    sizes = np.array([len(ids) for ids in drawn])
    everywhere = cases_with.sum(axis=0)
    aim = np.maximum(everywhere * number / len(labels), everywhere > 0)
    total, size, free = np.zeros(len(aim)), 0, np.ones(len(drawn), bool)
    while (fits := free & (size + sizes <= number)).any():
        off = total + cases_with - aim * (size + sizes)[:, None] / number
        best = int(np.where(fits, (off**2 / np.maximum(aim, 1)).sum(axis=1), np.inf).argmin())
        total, size, free[best] = total + cases_with[best], size + sizes[best], False
    chosen = {case for ids, left in zip(drawn, free, strict=True) if not left for case in ids}
    return [case for case in labels if case in chosen]


def _deal(groups: Sequence[Strata], num_parts: int, seed: int) -> list[list[str]]:
    """Deal groups, largest and richest first, each to the part of fewest cases that it unbalances least."""
    num_kinds = 1 + max((kind for group in groups for objects in group.values() for kind in objects), default=-1)
    num_kinds = min(num_kinds, MOST_KINDS)
    features = np.array([_features(list(group.values()), num_kinds) for group in groups])
    share = features / np.maximum(features.sum(axis=0), 1)
    order = np.random.default_rng(seed).permutation(len(groups))  # among equals
    sizes = np.array([len(group) for group in groups])
    order = order[np.lexsort((-share.sum(axis=1)[order], -sizes[order]))]
    parts: list[list[str]] = [[] for _ in range(num_parts)]
    totals = np.zeros((num_parts, share.shape[1]))
    for index in order:
        growth = (np.square(totals + share[index]) - np.square(totals)).sum(axis=1)
        best = min(range(num_parts), key=lambda part: (len(parts[part]), growth[part], part))
        parts[best] += groups[index]
        totals[best] += share[index]
    return parts


def _features(group: Sequence[Sequence[int]], num_kinds: int) -> list[float]:
    """Objects and cases of each kind, and cases without any."""
    known = ([kind for kind in kinds if 0 <= kind < num_kinds] for kinds in group)
    counts = np.array([np.bincount(np.asarray(kinds, int), minlength=num_kinds) for kinds in known])
    counts = counts.reshape(len(group), -1)
    return [*counts.sum(axis=0), *(counts > 0).sum(axis=0), (counts.sum(axis=1) == 0).sum()]
