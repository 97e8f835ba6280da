"""Is one set of predictions better than another on the same cases? Patient by patient, since both saw the same ones."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, Unpack

import numpy as np

from boxel.evaluation.bootstrap import draw_groups, in_blocks, interval, mean_of_present
from boxel.evaluation.config import EvaluateConfig
from boxel.evaluation.criteria import Criterion
from boxel.evaluation.evaluate import Compute, Context, Evaluation, evaluate, num_present, settings
from boxel.evaluation.masks import MaskOverlap
from boxel.types import Detections, Instances

Value = TypeVar("Value")


def compare(
    a: Mapping[str, Detections],
    b: Mapping[str, Detections],
    ground_truth: Mapping[str, Instances],
    *,
    config: EvaluateConfig = EvaluateConfig(),  # noqa: B008 (frozen)
    criterion: Criterion | None = None,
    masks_of_b: Mapping[str, MaskOverlap] | None = None,
    **context: Unpack[Context],
) -> dict[str, Any]:
    """Compare every metric of two sets of predictions: the difference, its interval, and its p value.

    "ci95" is from a paired bootstrap: the same patients are drawn for both; expanded percentiles, without the
    correction of `boxel.evaluation.bootstrap.interval`, since the bias of two sets mostly cancels in their difference
    (but for the calibration error; docs/results/intervals.md). "p" is from a paired permutation test (two-sided): if
    the two were equally good, the predictions of any patient could as well come from the other set. That presumes
    scores of one scale; where the scales differ, use the intervals of pooled metrics (AP, FROC). Metrics are tested one
    by one, without correction for their number.

    Args:
        a: detections of each case of the first set.
        b: detections of the second set.
        ground_truth: the objects of each case.
        config: the settings.
        criterion: the spacings, and the masks of the first set, see `boxel.evaluation.evaluate`.
        masks_of_b: the mask overlaps of the second set.
        context: `classes`, `groups`, `ignored` and `regions` as in `boxel.evaluation.evaluate`.

    Returns:
        "metrics": `{name: {"a", "b", "difference", "ci95", "p"}}` with difference b - a; "settings".

    Raises:
        ValueError: see `boxel.evaluation.evaluate`; no resamples; masks of one set only.
    """
    criterion = criterion or Criterion(config.criterion)
    if (criterion.masks is None) != (masks_of_b is None):
        raise ValueError("masks are given for one set of predictions only; give those of both, or compare the boxes")
    alone = config.model_copy(update={"num_resamples": 0})
    other = Criterion(criterion.kind, criterion.spacings, masks_of_b)
    first, second = (
        evaluate(detections, ground_truth, config=alone, criterion=of, **context)
        for detections, of in ((a, criterion), (b, other))
    )
    limits = first.metrics["settings"]["size_limits"]
    pooled = Criterion(
        criterion.kind, None if criterion.spacings is None else twice(criterion.spacings),
        None if criterion.masks is None or masks_of_b is None else twice(criterion.masks, masks_of_b),
    )  # fmt: skip
    both = evaluate(
        twice(a, b), twice(ground_truth), criterion=pooled, **twice_context(context, ground_truth),
        config=alone.model_copy(update={"size_limits": tuple(limits) if limits else None}),
    )  # fmt: skip
    metrics = compare_evaluations(first, second, both, classes=context["classes"], config=config)
    return {"metrics": metrics, "settings": settings(config) | {"size_limits": limits}}


def compare_evaluations(
    first: Evaluation, second: Evaluation, both: Evaluation, *, classes: Sequence[str], config: EvaluateConfig
) -> dict[str, dict[str, Any]]:
    """The "metrics" of `compare` from the evaluations of each set, and of `both` under the names that `twice` gives."""
    if config.num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1 to compare, got {config.num_resamples}")
    num_groups = len(set(first.groups))
    ones = np.ones((1, num_groups))
    values_a, values_b = first.compute(ones), second.compute(ones)
    drawn = draw_groups(num_groups, config.num_resamples, config.seed)
    drawn_a, drawn_b = in_blocks(first.compute, drawn), in_blocks(second.compute, drawn)
    permuted = _permute(both.compute, num_groups, config.num_resamples, config.seed)
    metrics = {}
    for key in values_a:
        present = first.present[key] & second.present[key] if key in first.present else None
        numbers = num_present(present, num_groups, len(classes))
        for (name, pick), number in zip(_columns(key, classes), numbers, strict=True):
            value_a, value_b = float(pick(values_a[key])[0]), float(pick(values_b[key])[0])
            known = not np.isnan(value_a + value_b)
            difference, chance = (
                pick(of_b) - pick(of_a) for of_a, of_b in ((drawn_a[key], drawn_b[key]), permuted[key])
            )
            of_errors = key.partition("@")[0] == "ECE"
            ends = interval(difference, value_b - value_a, number, corrected=of_errors) if known else None
            metrics[name] = {
                "a": None if np.isnan(value_a) else value_a,
                "b": None if np.isnan(value_b) else value_b,
                "difference": value_b - value_a if known else None,
                "ci95": ends,
                "p": _p_value(value_b - value_a, chance) if known else None,
            }
    return metrics


def twice(a: Mapping[str, Value], b: Mapping[str, Value] | None = None) -> dict[str, Value]:
    """The values of the cases of `a` as "a/CASE" and of `b` (of `a` again if None) as "b/CASE"."""
    return {f"{side}/{case}": value for side, part in (("a", a), ("b", a if b is None else b))
            for case, value in part.items()}  # fmt: skip


def twice_context(context: Context, cases: Iterable[str]) -> Context:
    """The context of `cases` as `twice` names them; the groups of either side are other ones."""
    groups = context.get("groups") or {}
    return {
        "classes": context["classes"],
        "groups": {f"{side}/{case}": f"{side}/{groups.get(case, case)}" for side in "ab" for case in cases},
        "ignored": twice(context.get("ignored") or {}),
        "regions": twice(context.get("regions") or {}),
    }


def _columns(key: str, classes: Sequence[str]) -> list[tuple[str, Any]]:
    """The name of the mean over classes and of each class, and how to take it from `(r, k)`."""
    each = [(f"{key}/{name}", lambda values, k=k: values[:, k]) for k, name in enumerate(classes)]
    return [(key, mean_of_present), *each]


def _permute(
    compute: Compute, num_groups: int, num_permutations: int, seed: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The metrics of either side after exchanging the sets of each patient or not, at random."""
    swap = np.random.default_rng(seed).integers(0, 2, (num_permutations, num_groups)).astype(np.float64)
    from_a, from_b = np.hstack([1 - swap, swap]), np.hstack([swap, 1 - swap])
    first, second = in_blocks(compute, from_a), in_blocks(compute, from_b)
    return {key: (first[key], second[key]) for key in first}


def _p_value(observed: float, permuted: np.ndarray) -> float:
    """Share of permutations with at least the observed difference, itself counted among them."""
    permuted = permuted[~np.isnan(permuted)]
    return float((1 + np.sum(np.abs(permuted) >= abs(observed) - 1e-12)) / (1 + len(permuted)))
