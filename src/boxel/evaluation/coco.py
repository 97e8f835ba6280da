"""The twelve metrics of COCO, as pycocotools computes them for boxes."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Unpack

import numpy as np

from boxel.evaluation.bootstrap import draw_groups, in_blocks
from boxel.evaluation.box_table import rank_in_group
from boxel.evaluation.compare import compare_evaluations, twice, twice_context
from boxel.evaluation.config import EvaluateConfig
from boxel.evaluation.criteria import box_sizes
from boxel.evaluation.evaluate import Context, Evaluation, best_scores, count, make_curves, settings, summarise
from boxel.evaluation.grouped_matches import GroupedMatches
from boxel.evaluation.matching import Overlaps
from boxel.evaluation.overlaps import find_overlaps
from boxel.types import Detections, Instances
from boxel.wording import counted_of

THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
SMALL, MEDIUM = 32.0**2, 96.0**2
# COCO counts both limits in.
SIZES = {"s": (0.0, np.nextafter(SMALL, np.inf)), "m": (SMALL, np.nextafter(MEDIUM, np.inf)), "l": (MEDIUM, np.inf)}
MAX_DETECTIONS = (1, 10, 100)
COCO = EvaluateConfig(protocol="coco")


def evaluate_coco(
    predictions: Mapping[str, Detections],
    ground_truth: Mapping[str, Instances],
    *,
    classes: Sequence[str],
    groups: Mapping[str, str] | None = None,
    ignored: Mapping[str, Instances] | None = None,
    regions: Mapping[str, Instances] | None = None,
    areas: Mapping[str, np.ndarray] | None = None,
    config: EvaluateConfig = COCO,
) -> Evaluation:
    """AP (mean over IoU 0.50:0.95), AP50, AP75, AP of small, medium and large objects (APs, APm, APl), and the same
    for the highest recall with 1, 10 and 100 detections per image and class (AR1, AR10, AR100, ARs, ARm, ARl).

    As in COCO, only the 100 best detections of an image and class count; a warning says where there are more.
    Sizes are `areas` of the objects, else box volumes, in voxels with COCO's limits, 32 x 32 and 96 x 96. Crowds are
    `regions`. Equal to pycocotools
    but for equal scores, which are one operating point, and recalls that meet a sampling point exactly: 7 of 10
    objects reach the recall 0.7.

    Args and errors: see `boxel.evaluation.evaluate`.
    """  # noqa: D205
    overlaps = find_overlaps(
        predictions, ground_truth, classes=classes, ignored=ignored, regions=regions, max_detections=max(MAX_DETECTIONS)
    )
    beyond = [
        case for case, one in predictions.items() if max(np.bincount(one.labels), default=0) > max(MAX_DETECTIONS)
    ]
    if beyond:
        logging.getLogger("boxel").warning(
            f"{counted_of(len(beyond), len(predictions), 'image', 'has', 'have')} more than {max(MAX_DETECTIONS)} "
            "detections of a class; protocol coco counts only the best of them, protocol boxel all"
        )
    if areas:
        own = [areas.get(case, box_sizes(objects.boxes)) for case, objects in ground_truth.items()]
        sizes = overlaps.table.object_sizes.copy()
        sizes[: sum(map(len, own))] = np.concatenate(own)
        overlaps = replace(overlaps, table=replace(overlaps.table, object_sizes=sizes))
    names = tuple((groups or {}).get(case, case) for case in ground_truth)
    index = np.unique(np.array(names), return_inverse=True)[1]
    table = overlaps.table
    rank = rank_in_group(table.detection_cases * len(classes) + table.labels)
    firsts = [rank < k for k in MAX_DETECTIONS[:-1]]
    limited = {name: overlaps.within(*limits) for name, limits in SIZES.items()}

    def compute(weights: np.ndarray) -> dict[str, np.ndarray]:
        # One table at a time: all of them would be most of the memory of a large data set.
        average, recall, *fewer = _means(overlaps, index, weights, firsts)
        values = {"AP": average.mean(axis=0), "AP50": average[0], "AP75": average[THRESHOLDS.index(0.75)]}
        recalls = {f"AR{k}": part.mean(axis=0) for k, part in zip(MAX_DETECTIONS, (*fewer, recall), strict=True)}
        for name, part in limited.items():
            average, recall = _means(part, index, weights)
            values[f"AP{name}"], recalls[f"AR{name}"] = average.mean(axis=0), recall.mean(axis=0)
        return values | recalls

    headline = GroupedMatches(overlaps.match(THRESHOLDS[0]), index)
    metrics = count(headline.table, headline.num_groups)
    resamples = in_blocks(compute, draw_groups(headline.num_groups, config.num_resamples, config.seed))
    metrics |= summarise(compute, classes, resamples, headline.num_groups)
    metrics["settings"] = settings(config) | {"criterion": "box_iou"}
    return Evaluation(
        metrics, tuple(make_curves(headline)), headline.table, names, best_scores(headline), compute, resamples
    )


def compare_coco(
    a: Mapping[str, Detections],
    b: Mapping[str, Detections],
    ground_truth: Mapping[str, Instances],
    *,
    areas: Mapping[str, np.ndarray] | None = None,
    config: EvaluateConfig = COCO,
    **context: Unpack[Context],
) -> dict[str, Any]:
    """The twelve metrics of two prediction sets, and their differences; see `boxel.evaluation.compare`."""
    alone = config.model_copy(update={"num_resamples": 0})
    first, second = (
        evaluate_coco(detections, ground_truth, areas=areas, config=alone, **context) for detections in (a, b)
    )
    doubled = twice_context(context, ground_truth)
    both = evaluate_coco(twice(a, b), twice(ground_truth), areas=twice(areas or {}), config=alone, **doubled)
    metrics = compare_evaluations(first, second, both, classes=context["classes"], config=config)
    return {"metrics": metrics, "settings": first.metrics["settings"] | settings(config)}


def _means(
    overlaps: Overlaps, index: np.ndarray, weights: np.ndarray, firsts: Sequence[np.ndarray] = ()
) -> list[np.ndarray]:
    """`(t, r, k)` average precision, highest recall, and the recall of the detections in each of `firsts` alone.

    The matching is greedy, so that leaving out later detections does not change it.
    """
    rows = []
    for threshold in THRESHOLDS:
        matches = GroupedMatches(overlaps.match(threshold), index)
        curves = matches.curves(weights, "101", froc=False)
        rows.append([curves["AP"], curves["AR"], *(matches.recall(weights, first) for first in firsts)])
    return [np.stack(column) for column in zip(*rows, strict=True)]
