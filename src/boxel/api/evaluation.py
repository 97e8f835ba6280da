"""`boxel evaluate` and `boxel compare`."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from boxel.api.training import Progress, silent
from boxel.config import read_json, write_text
from boxel.data.cases import Case, Dataset, LoadedCase, read_case
from boxel.data.formats import open_dataset
from boxel.evaluation import IOU_THRESHOLDS, Criterion, Evaluation, write_evaluation
from boxel.evaluation import compare as compare_sets
from boxel.evaluation import evaluate as judge
from boxel.evaluation.average_precision import Interpolation
from boxel.evaluation.coco import evaluate_coco
from boxel.evaluation.criteria import Kind
from boxel.evaluation.luna16 import evaluate_luna16, is_luna16, read_marks, read_tables
from boxel.evaluation.masks import LabelMap, MaskOverlap, overlap_masks
from boxel.evaluation.matching import Rule
from boxel.export.boxel_json import read_folder
from boxel.export.label_maps import is_label_maps, read_label_maps, read_masks
from boxel.export.nndetection import read_nndetection
from boxel.types import Detections, Geometry, Instances

Protocol = Literal["boxel", "coco", "luna16"]
PROTOCOLS = ("boxel", "coco", "luna16")


def evaluate(
    predictions: Path | str,
    dataset: Path | str,
    out: Path | str | None = None,
    *,
    protocol: Protocol = "boxel",
    iou_thresholds: Sequence[float] | None = None,
    criterion: Kind | None = None,
    rule: Rule | None = None,
    interpolation: Interpolation | None = None,
    size_limits: Sequence[float] | None = None,
    operating_points: Sequence[float] = (),
    ignore: Path | str | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
    progress: Progress = silent,
) -> Evaluation:
    """Judge predictions against a data set; write `metrics.json` and two CSV tables into `out`.

    Predictions of test cases only are judged on all test cases, so that a missing one is an error; other
    predictions on exactly the cases predicted. The settings are those of `boxel.evaluation.evaluate`; those left out
    are its defaults.

    Args:
        predictions: what `read_predictions` reads; with protocol "luna16" the challenge's table of marks.
        dataset: a data set; with protocol "luna16" the folder of the challenge's tables.
        out: folder to write; None writes nothing.
        protocol: "coco" and "luna16" fix the matching and the figures.
        ignore: JSON `{"CASE": [ids]}` of objects that are neither hit nor miss.

    Raises:
        ValueError: predictions missing, of other classes, on another voxel grid, or of cases that the data set does
            not have.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    if out is not None and Path(out).resolve() == Path(predictions).resolve():
        raise ValueError(f"{out}: holds the predictions; choose another folder with --out")
    fixed = (iou_thresholds, criterion, rule, interpolation, size_limits, operating_points or None)
    if protocol != "boxel" and any(setting is not None for setting in fixed):
        raise ValueError(
            f"protocol {protocol} fixes the matching and the figures; leave out --iou, --criterion, --rule, "
            "--interpolation, --size and --score"
        )
    drawn: dict[str, Any] = {"num_resamples": num_resamples, "seed": seed}
    if protocol == "luna16":
        marks = read_marks(Path(predictions))
        evaluation = evaluate_luna16(marks, read_tables(Path(dataset), list(marks)), **drawn)
    else:
        task = read_task(predictions, dataset, criterion=criterion or "box_iou", ignore=ignore, progress=progress)
        if protocol == "coco":
            evaluation = evaluate_coco(task.found, task.truths, **task.about, **drawn)
        else:
            chosen = dict(zip(("iou_thresholds", "rule", "interpolation", "size_limits"),
                              (iou_thresholds, rule, interpolation, size_limits), strict=True))  # fmt: skip
            given: dict[str, Any] = {key: value for key, value in chosen.items() if value is not None}
            evaluation = judge(
                task.found,
                task.truths,
                **task.about,
                **given,
                **drawn,
                criterion=task.criterion,
                operating_points=operating_points,
            )
    if out is not None:
        write_evaluation(Path(out), evaluation)
    return evaluation


def compare(
    a: Path | str,
    b: Path | str,
    dataset: Path | str,
    out: Path | str | None = None,
    *,
    iou_thresholds: Sequence[float] = IOU_THRESHOLDS,
    criterion: Kind = "box_iou",
    rule: Rule = "greedy",
    ignore: Path | str | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Whether predictions `b` are better than `a` on the same cases; see `boxel.evaluation.compare`.

    Args:
        a: what `read_predictions` reads.
        b: likewise, of the same cases.
        dataset: a data set.
        out: JSON file to write; None writes nothing.
        ignore: see `evaluate`.

    Raises:
        ValueError: see `evaluate`; the sets are of different cases.
    """
    first, second = (read_task(path, dataset, criterion=criterion, ignore=ignore, progress=progress) for path in (a, b))
    if differing := sorted(first.truths.keys() ^ second.truths.keys()):
        raise ValueError(f"case {differing[0]!r} is in only one of {a} and {b}; compare predictions of the same cases")
    result = compare_sets(
        first.found, second.found, first.truths, **first.about, criterion=first.criterion,
        iou_thresholds=iou_thresholds, rule=rule, num_resamples=num_resamples, seed=seed,
    )  # fmt: skip
    result = {"a": str(a), "b": str(b), **result}
    if out is not None:
        write_text(Path(out), json.dumps(result, indent=2, allow_nan=False) + "\n")
    return result


@dataclass(frozen=True)
class Judged:
    """What predictions are judged with.

    Attributes:
        found: the detections of each case.
        truths: the objects of each case.
        about: classes, groups and ignored objects, as `boxel.evaluation.evaluate` takes them.
        criterion: with the spacings and masks it needs.
    """

    found: dict[str, Detections]
    truths: dict[str, Instances]
    about: dict[str, Any]
    criterion: Criterion


def read_task(
    predictions: Path | str,
    dataset: Path | str,
    *,
    criterion: Kind = "box_iou",
    ignore: Path | str | None = None,
    progress: Progress = silent,
) -> Judged:
    """Predictions and truth of the cases that `choose_truth` chooses.

    Raises:
        ValueError: see `evaluate`.
    """
    if is_luna16(Path(dataset)):
        raise ValueError(f"{dataset}: these are the tables of LUNA16; add --protocol luna16")
    data = open_dataset(Path(dataset))
    found = read_predictions(predictions, data.classes, data.ndim)
    cases = choose_truth(data, list(found))
    spacings: dict[str, tuple[float, ...]] = {}
    overlaps: dict[str, MaskOverlap] = {}
    with_masks = criterion.startswith("mask")
    if with_masks and not is_label_maps(Path(predictions)):
        raise ValueError(f"{predictions}: no masks (label maps with JSON) there, which {criterion} needs; use box_iou")

    def visit(case: str, loaded: LoadedCase) -> None:
        geometry = loaded.image.geometry
        spacings[case] = geometry.spacing
        if case in found:
            _check_grid(case, found[case].geometry, geometry)
        if with_masks and case in found:
            empty = np.zeros(geometry.shape, np.int32)
            objects = LabelMap(empty if loaded.label_map is None else loaded.label_map,
                               loaded.instances.ids[loaded.instances.has_mask])  # fmt: skip
            overlaps[case] = overlap_masks(LabelMap(*read_masks(Path(predictions), case)), objects)

    truths = read_truth(cases, data, progress, visit)
    truths, ignored = _set_aside(truths, ignore)
    about = {
        "classes": data.classes, "ignored": ignored, "groups": {case.id: case.group or case.id for case in cases}
    }  # fmt: skip
    return Judged(found, truths, about, Criterion(criterion, spacings, overlaps if with_masks else None))


def _check_grid(case: str, predicted: Geometry | None, actual: Geometry) -> None:
    for name in ("shape", "spacing", "origin", "direction") if predicted else ():
        mine, other = getattr(predicted, name), getattr(actual, name)
        if np.shape(mine) != np.shape(other) or not np.allclose(mine, other, rtol=1e-3, atol=1e-2):
            raise ValueError(
                f"case {case!r}: predicted on an image of {name} {mine}, but the data set's has {other}; predict the "
                "data set's image, or convert the boxes to its voxels"
            )


def _set_aside(
    truths: dict[str, Instances], ignore: Path | str | None
) -> tuple[dict[str, Instances], dict[str, Instances]]:
    """The objects that count, and those that `ignore` names."""
    if ignore is None:
        return truths, {}
    named, ignored = read_json(Path(ignore)), dict[str, Instances]()
    if not isinstance(named, dict) or not all(isinstance(ids, list) for ids in named.values()):
        raise ValueError(f'{ignore}: must be {{"CASE": [ids]}}, the objects that are neither hit nor miss')
    for case, ids in named.items():
        if case not in truths or not set(ids) <= set(truths[case].ids.tolist()):
            raise ValueError(f"{ignore}: case {case!r} with objects {ids} is not in the data set (or not judged)")
        aside = np.isin(truths[case].ids, ids)
        truths[case], ignored[case] = truths[case][~aside], truths[case][aside]
    return truths, ignored


def read_predictions(path: Path | str, classes: Sequence[str], ndim: int = 3) -> dict[str, Detections]:
    """Detections per case from what `boxel predict` or another tool wrote.

    A folder of Boxel JSON, of nnDetection's `CASE_boxes.pkl` or `CASE_boxes.json`, or of label maps with JSON.
    `ndim` is the rank of the images.

    Raises:
        ValueError: no predictions there, or of other classes.
    """
    path = Path(path)
    if is_label_maps(path):
        return read_label_maps(path, classes)
    if (path.is_dir() and any(path.glob("*_boxes.pkl"))) or any(path.glob("*_boxes.json")):
        return read_nndetection(path, classes, ndim)
    found, names = read_folder(path)
    if tuple(names) != tuple(classes):
        raise ValueError(f"{path}: predictions of the classes {list(names)}, the data set has {list(classes)}")
    return found


def choose_truth(dataset: Dataset, predicted: Sequence[str]) -> list[Case]:
    """The cases to judge: all test cases if only such were predicted, else exactly those predicted."""
    test = [case for case in dataset.cases if case.split == "test"]
    if set(predicted) <= {case.id for case in test}:
        return test
    return [case for case in dataset.cases if case.id in set(predicted)]


def read_truth(
    cases: Sequence[Case],
    dataset: Dataset,
    progress: Progress = silent,
    visit: Callable[[str, LoadedCase], None] | None = None,
) -> dict[str, Instances]:
    """The annotated objects of each case; `visit` sees each case while it is in memory."""
    truths = {}
    for done, case in enumerate(cases, start=1):
        loaded = read_case(case, dataset)
        truths[case.id] = loaded.instances
        if visit is not None:
            visit(case.id, loaded)
        progress("evaluate", done, len(cases))
    return truths
