"""Is one set of predictions better than another on the same cases? Patient by patient, since both saw the same ones."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from boxel.evaluation.average_precision import Interpolation
from boxel.evaluation.bootstrap import draw_groups, in_blocks, interval, mean_of_present
from boxel.evaluation.criteria import Criterion
from boxel.evaluation.evaluate import IOU_THRESHOLDS, Compute, Evaluation, evaluate
from boxel.evaluation.masks import MaskOverlap
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
    masks_of_b: Mapping[str, MaskOverlap] | None = None,
    rule: Rule = "greedy",
    interpolation: Interpolation = "101",
    groups: Mapping[str, str] | None = None,
    ignored: Mapping[str, Instances] | None = None,
    regions: Mapping[str, Instances] | None = None,
    size_limits: Sequence[float] | None = None,
    operating_points: Sequence[float] = (),
    num_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Every figure of both sets, their difference, its interval and how easily chance would make it.

    "ci95" is from a paired bootstrap: the same patients are drawn for both; expanded percentiles, without the
    correction of `boxel.evaluation.bootstrap.interval`, since the bias of two sets mostly cancels in their difference
    (but for the calibration error; docs/results/intervals.md). "p" is
    from a paired permutation test (two-sided): were the two equally good, the predictions of any patient could as well
    come from the other set. That presumes scores of one scale; where the scales differ, judge pooled figures (AP, FROC)
    by the interval. Figures are tested one by one, without correction for their number.

    Args:
        a: detections of each case of the first set.
        b: detections of the second set.
        truths: the objects of each case.
        classes: class names.
        iou_thresholds: see `boxel.evaluation.evaluate`, also for the following.
        criterion: of a match.
        masks_of_b: the mask overlaps of the second set; `criterion` has those of the first.
        rule: of the matching.
        interpolation: of the average precision.
        groups: group (patient) of each case.
        ignored: objects that are neither hit nor miss.
        regions: boxes in which detections do not count.
        size_limits: volumes between small, medium, ... objects.
        operating_points: scores at which precision, recall and F1 are also wanted.
        num_resamples: bootstrap draws, and permutations.
        seed: of both.

    Returns:
        "figures": `{name: {"a", "b", "difference", "ci95", "p"}}` with difference b - a; "settings".

    Raises:
        ValueError: see `boxel.evaluation.evaluate`; no resamples; masks of one set only.
    """
    criterion = criterion or Criterion()
    if (criterion.masks is None) != (masks_of_b is None):
        raise ValueError("masks are given of one set of predictions only; give those of both, or judge the boxes")
    names = {case: (groups or {}).get(case, case) for case in truths}
    options: dict[str, Any] = {
        "classes": classes, "iou_thresholds": iou_thresholds, "rule": rule, "interpolation": interpolation,
        "operating_points": operating_points, "num_resamples": 0,
    }  # fmt: skip
    alone = options | {"groups": names, "ignored": ignored, "regions": regions, "size_limits": size_limits}
    other = Criterion(criterion.kind, criterion.spacings, masks_of_b)
    first, second = (evaluate(found, truths, criterion=of, **alone) for found, of in ((a, criterion), (b, other)))
    both = evaluate(
        twice(a, b), twice(truths), criterion=Criterion(
            criterion.kind, None if criterion.spacings is None else twice(criterion.spacings),
            None if criterion.masks is None or masks_of_b is None else twice(criterion.masks, masks_of_b),
        ),
        groups=twice_named(names), ignored=twice(ignored or {}), regions=twice(regions or {}),
        size_limits=first.metrics["settings"]["size_limits"], **options,
    )  # fmt: skip
    about = {key: value for key, value in first.metrics["settings"].items() if key not in ("num_resamples", "seed")}
    figures = compare_evaluations(first, second, both, classes=classes, num_resamples=num_resamples, seed=seed)
    return {"figures": figures, "settings": about | {"num_resamples": num_resamples, "seed": seed}}


def compare_evaluations(
    first: Evaluation, second: Evaluation, both: Evaluation, *, classes: Sequence[str], num_resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """The "figures" of `compare` from the evaluations of each set, and of `both` under the names that `twice` gives."""
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1 to compare, got {num_resamples}")
    num_groups = len(set(first.groups))
    ones = np.ones((1, num_groups))
    values_a, values_b = first.compute(ones), second.compute(ones)
    drawn = draw_groups(num_groups, num_resamples, seed)
    drawn_a, drawn_b = in_blocks(first.compute, drawn), in_blocks(second.compute, drawn)
    permuted = _permute(both.compute, num_groups, num_resamples, seed)
    figures = {}
    for key in values_a:
        for name, pick in _columns(key, classes):
            value_a, value_b = float(pick(values_a[key])[0]), float(pick(values_b[key])[0])
            known = not np.isnan(value_a + value_b)
            difference, chance = (
                pick(of_b) - pick(of_a) for of_a, of_b in ((drawn_a[key], drawn_b[key]), permuted[key])
            )
            of_errors = key.startswith("ECE")
            ends = interval(difference, value_b - value_a, num_groups, corrected=of_errors) if known else None
            figures[name] = {
                "a": None if np.isnan(value_a) else value_a,
                "b": None if np.isnan(value_b) else value_b,
                "difference": value_b - value_a if known else None,
                "ci95": ends,
                "p": _p_value(value_b - value_a, chance) if known else None,
            }
    return figures


def twice(a: Mapping[str, Value], b: Mapping[str, Value] | None = None) -> dict[str, Value]:
    """The values of the cases of `a` as "a/CASE" and of `b` (of `a` again if None) as "b/CASE"."""
    return {f"{side}/{case}": value for side, part in (("a", a), ("b", a if b is None else b))
            for case, value in part.items()}  # fmt: skip


def twice_named(groups: Mapping[str, str]) -> dict[str, str]:
    """The groups of the cases that `twice` names: those of either set are other ones."""
    return {f"{side}/{case}": f"{side}/{group}" for side in "ab" for case, group in groups.items()}


def _columns(key: str, classes: Sequence[str]) -> list[tuple[str, Any]]:
    """The name of the mean over classes and of each class, and how to take it from `(r, k)`."""
    each = [(f"{key}/{name}", lambda values, k=k: values[:, k]) for k, name in enumerate(classes)]
    return [(key, mean_of_present), *each]


def _permute(
    compute: Compute, num_groups: int, num_permutations: int, seed: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The figures of either side after exchanging the sets of each patient or not, at random."""
    swap = np.random.default_rng(seed).integers(0, 2, (num_permutations, num_groups)).astype(np.float64)
    from_a, from_b = np.hstack([1 - swap, swap]), np.hstack([swap, 1 - swap])
    first, second = in_blocks(compute, from_a), in_blocks(compute, from_b)
    return {key: (first[key], second[key]) for key in first}


def _p_value(observed: float, permuted: np.ndarray) -> float:
    """Share of permutations with at least the observed difference, itself counted among them."""
    permuted = permuted[~np.isnan(permuted)]
    return float((1 + np.sum(np.abs(permuted) >= abs(observed) - 1e-12)) / (1 + len(permuted)))
