"""Is one set of predictions better than another on the same cases? Patient by patient, since both saw the same ones."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from boxel.evaluation.bootstrap import draw_groups, in_blocks, interval, mean_of_present
from boxel.evaluation.criteria import Criterion
from boxel.evaluation.evaluate import IOU_THRESHOLDS, Compute, evaluate
from boxel.evaluation.matching import Rule
from boxel.types import Detections, Instances

Value = TypeVar("Value")


def compare(
    a: Mapping[str, Detections],
    b: Mapping[str, Detections],
    truths: Mapping[str, Instances],
    *,
    classes: Sequence[str],
    iou_thresholds: Sequence[float] = IOU_THRESHOLDS,
    criterion: Criterion | None = None,
    rule: Rule = "greedy",
    groups: Mapping[str, str] | None = None,
    ignored: Mapping[str, Instances] | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Every figure of both sets, their difference, its interval and how easily chance would make it.

    "ci95" is from a paired bootstrap: the same patients are drawn for both. "p" is from a paired permutation test
    (two-sided): were the two equally good, the predictions of any patient could as well come from the other set. That
    presumes scores of one scale; where the scales differ, judge pooled figures (AP, FROC) by the interval. Figures are
    tested one by one, without correction for their number.

    Args:
        a: detections of each case of the first set.
        b: detections of the second set.
        truths: the objects of each case.
        classes: class names.
        iou_thresholds: see `boxel.evaluation.evaluate`, also for the following.
        criterion: of a match.
        rule: of the matching.
        groups: group (patient) of each case.
        ignored: objects that are neither hit nor miss.
        num_resamples: bootstrap draws, and permutations.
        seed: of both.

    Returns:
        "figures": `{name: {"a", "b", "difference", "ci95", "p"}}` with difference b - a; "settings".
    """
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1 to compare, got {num_resamples}")
    names = {case: (groups or {}).get(case, case) for case in truths}
    criterion = criterion or Criterion()
    options: dict[str, Any] = {
        "classes": classes, "iou_thresholds": iou_thresholds, "rule": rule, "num_resamples": 0
    }  # fmt: skip
    if criterion.masks is not None:
        raise ValueError("masks cannot be compared yet; use box_iou or a distance")
    own = [evaluate(found, truths, criterion=criterion, groups=names, ignored=ignored, **options) for found in (a, b)]
    spacings = None if criterion.spacings is None else _twice(criterion.spacings, criterion.spacings)
    both = evaluate(
        _twice(a, b), _twice(truths, truths), criterion=Criterion(criterion.kind, spacings),
        groups={f"{side}/{case}": f"{side}/{name}" for side in "ab" for case, name in names.items()},
        ignored=_twice(ignored or {}, ignored or {}), size_limits=own[0].metrics["settings"]["size_limits"], **options,
    )  # fmt: skip
    num_groups = own[0].metrics["num_groups"]
    ones = np.ones((1, num_groups))
    first, second = (evaluation.compute(ones) for evaluation in own)
    drawn = draw_groups(num_groups, num_resamples, seed)
    resampled = [in_blocks(evaluation.compute, drawn) for evaluation in own]
    permuted = _permute(both.compute, num_groups, num_resamples, seed)
    figures = {}
    for key in first:
        difference = resampled[1][key] - resampled[0][key]
        for name, pick in _columns(key, classes):
            value_a, value_b = float(pick(first[key])[0]), float(pick(second[key])[0])
            known = not np.isnan(value_a + value_b)
            figures[name] = {
                "a": None if np.isnan(value_a) else value_a,
                "b": None if np.isnan(value_b) else value_b,
                "difference": value_b - value_a if known else None,
                "ci95": interval(pick(difference), value_b - value_a) if known else None,
                "p": _p_value(value_b - value_a, pick(permuted[key])) if known else None,
            }
    about = {"iou_thresholds": sorted(map(float, iou_thresholds)), "criterion": criterion.kind, "rule": rule}
    return {"figures": figures, "settings": about | {"num_resamples": num_resamples, "seed": seed}}


def _twice(a: Mapping[str, Value], b: Mapping[str, Value]) -> dict[str, Value]:
    return {f"{side}/{case}": value for side, part in (("a", a), ("b", b)) for case, value in part.items()}


def _columns(key: str, classes: Sequence[str]) -> list[tuple[str, Any]]:
    """The name of the mean over classes and of each class, and how to take it from `(r, k)`."""
    each = [(f"{key}/{name}", lambda values, k=k: values[:, k]) for k, name in enumerate(classes)]
    return [(key, mean_of_present), *each]


def _permute(compute: Compute, num_groups: int, num_permutations: int, seed: int) -> dict[str, np.ndarray]:
    """The difference b - a after exchanging the sets of each patient or not, at random."""
    swap = np.random.default_rng(seed).integers(0, 2, (num_permutations, num_groups)).astype(np.float64)
    from_a, from_b = np.hstack([1 - swap, swap]), np.hstack([swap, 1 - swap])
    first, second = in_blocks(compute, from_a), in_blocks(compute, from_b)
    return {key: second[key] - first[key] for key in first}


def _p_value(observed: float, permuted: np.ndarray) -> float:
    """Share of permutations with at least the observed difference, itself counted among them."""
    permuted = permuted[~np.isnan(permuted)]
    return float((1 + np.sum(np.abs(permuted) >= abs(observed) - 1e-12)) / (1 + len(permuted)))
