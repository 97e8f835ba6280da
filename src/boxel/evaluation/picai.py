"""The metrics of the PI-CAI challenge, as its package picai_eval computes them from detection maps."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

import numpy as np

from boxel.evaluation.average_precision import Ranking
from boxel.evaluation.bootstrap import draw_groups, in_blocks
from boxel.evaluation.compare import compare_evaluations, twice, twice_context
from boxel.evaluation.config import EvaluateConfig
from boxel.evaluation.criteria import Criterion
from boxel.evaluation.evaluate import Context, Evaluation, best_scores, count, make_curves, settings, summarise
from boxel.evaluation.grouped_matches import FALSE_POSITIVE_RATES, GroupedMatches
from boxel.evaluation.matching import MatchTable, Overlaps
from boxel.evaluation.overlaps import find_overlaps
from boxel.evaluation.patient import auroc
from boxel.types import Detections, Instances

LEAST_IOU = 0.1  # of the voxels of a lesion and a candidate
PICAI = EvaluateConfig(protocol="picai")


def evaluate_picai(
    predictions: Mapping[str, Detections],
    ground_truth: Mapping[str, Instances],
    *,
    classes: Sequence[str],
    criterion: Criterion,
    groups: Mapping[str, str] | None = None,
    ignored: Mapping[str, Instances] | None = None,
    regions: Mapping[str, Instances] | None = None,
    config: EvaluateConfig = PICAI,
) -> Evaluation:
    """AP of the lesions, AUROC of the cases, their mean ("score"), and sensitivities at false positives per case.

    Candidates and lesions are paired so that as many pairs as possible share an IoU of 0.1, then with the highest total
    overlap. Candidates left over that overlap a lesion so much do not count. The score of a case is its highest
    candidate, whether it counts or not. Scores may exceed 1. Groups (patients) matter for the intervals only.

    The lowest score is an operating point of the sensitivities only where a lesion is missed, as in picai_eval.
    Reference: picai_eval 1.4 (Saha et al., PI-CAI, 2022); equal but for ties of the overlap.

    Args:
        criterion: "mask_iou" with the masks.

    Args and errors otherwise: see `boxel.evaluation.evaluate`.
    """
    overlaps = find_overlaps(
        predictions, ground_truth, classes=classes, criterion=criterion, ignored=ignored, regions=regions,
        max_score=np.inf,
    )  # fmt: skip
    table = _match(overlaps)
    names = tuple((groups or {}).get(case, case) for case in ground_truth)
    index = np.unique(np.array(names), return_inverse=True)[1]
    matches = GroupedMatches(table, index)
    by_case = [_case_ranking(table, index, label) for label in range(len(classes))]

    def compute(weights: np.ndarray) -> dict[str, np.ndarray]:
        average = matches.curves(weights, "step", froc=False)["AP"]
        area = np.stack([auroc(*ranking.counts(weights)) for ranking in by_case], axis=1)
        values = {"AP": average, "AUROC": area, "score": (average + area) / 2}
        rates = [_sensitivity(matches, weights, rate) for rate in FALSE_POSITIVE_RATES]
        values["FROC"] = np.mean(rates, axis=0)
        return values | {f"sensitivity/fp={rate:g}": one for rate, one in zip(FALSE_POSITIVE_RATES, rates, strict=True)}

    metrics = count(table, matches.num_groups)
    resamples = in_blocks(compute, draw_groups(matches.num_groups, config.num_resamples, config.seed))
    metrics |= summarise(compute, classes, resamples, matches.num_groups)
    metrics["settings"] = settings(config) | {"criterion": "mask_iou"}
    return Evaluation(metrics, tuple(make_curves(matches)), table, names, best_scores(matches), compute, resamples)


def compare_picai(
    a: Mapping[str, Detections],
    b: Mapping[str, Detections],
    ground_truth: Mapping[str, Instances],
    *,
    criteria: tuple[Criterion, Criterion],
    config: EvaluateConfig = PICAI,
    **context: Unpack[Context],
) -> dict[str, Any]:
    """The metrics of two prediction sets, and their differences; see `boxel.evaluation.compare`.

    Args:
        criteria: of each set, "mask_iou" with its masks.
    """
    alone = config.model_copy(update={"num_resamples": 0})
    first, second = (
        evaluate_picai(detections, ground_truth, criterion=of, config=alone, **context)
        for detections, of in zip((a, b), criteria, strict=True)
    )
    pooled = Criterion("mask_iou", masks=twice(*(of.masks or {} for of in criteria)))
    doubled = twice_context(context, ground_truth)
    both = evaluate_picai(twice(a, b), twice(ground_truth), criterion=pooled, config=alone, **doubled)
    metrics = compare_evaluations(first, second, both, classes=context["classes"], config=config)
    return {"metrics": metrics, "settings": first.metrics["settings"] | settings(config)}


def _match(overlaps: Overlaps) -> MatchTable:
    """The optimal pairs; a candidate left over that overlaps a lesion enough is ignored."""
    table = overlaps.match(LEAST_IOU, "optimal")
    near = np.zeros(len(table.scores), bool)
    near[overlaps.pair_rows[overlaps.pair_values >= LEAST_IOU]] = True
    return replace(table, ignored=table.ignored | (near & (table.matches < 0)))


def _case_ranking(table: MatchTable, index: np.ndarray, label: int) -> Ranking:
    """The cases by their highest candidate, with the group of each."""
    scores, positive = np.zeros(len(table.cases)), np.zeros(len(table.cases), bool)
    rows = table.labels == label
    np.maximum.at(scores, table.detection_cases[rows], table.scores[rows])
    positive[table.object_cases[(table.object_labels == label) & ~table.object_ignored]] = True
    return Ranking.sort(scores, positive, index, positive.astype(np.float64))


def _sensitivity(matches: GroupedMatches, weights: np.ndarray, rate: float) -> np.ndarray:
    """`(r, k)` share of the lesions that are detected with at most `rate` false positives per case."""
    limit, columns = rate * (weights @ matches.images) + 1e-9, []
    for label, ranking in enumerate(matches.rankings):
        lesions = weights @ matches.objects[:, label]
        true_positives, errors = ranking.counts(weights)
        allowed = errors <= limit[:, None]
        if allowed.shape[1]:
            allowed[:, -1] &= true_positives[:, -1] < lesions
        most = np.where(allowed, true_positives, 0.0).max(axis=1, initial=0.0)
        columns.append(np.divide(most, lesions, out=np.full(len(most), np.nan), where=lesions > 0))
    return np.stack(columns, axis=1)
