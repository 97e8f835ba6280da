"""`boxel evaluate` and `boxel compare`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from boxel.api.evaluation_inputs import read_evaluation_inputs
from boxel.config import write_text
from boxel.datasets.cases import Dataset
from boxel.evaluation import Evaluation, write_evaluation
from boxel.evaluation import compare as compare_sets
from boxel.evaluation import evaluate as judge
from boxel.evaluation.average_precision import Interpolation
from boxel.evaluation.coco import compare_coco, evaluate_coco
from boxel.evaluation.criteria import Kind
from boxel.evaluation.luna16 import compare_luna16, evaluate_luna16, is_luna16, read_marks, read_tables
from boxel.evaluation.matching import Rule
from boxel.reporting import write_figures
from boxel.types import Progress, silent

Protocol = Literal["boxel", "coco", "luna16"]
PROTOCOLS = ("boxel", "coco", "luna16")


def evaluate(
    predictions: Path | str,
    dataset: Path | str | Dataset,
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
    source: str = "auto",
    num_resamples: int = 1000,
    seed: int = 0,
    progress: Progress = silent,
) -> Evaluation:
    """Judge predictions against a data set; write `metrics.json`, two CSV tables and `figures/*.png` into `out`.

    Predictions of test cases only are judged on all test cases, so that a missing one is an error; other
    predictions on exactly the cases predicted. The settings are those of `boxel.evaluation.evaluate`; those left out
    are its defaults.

    Args:
        predictions: what `read_predictions` reads; with protocol "luna16" the challenge's table of marks.
        dataset: a data set; with protocol "luna16" the folder of the challenge's tables.
        out: folder to write; None writes nothing.
        protocol: "coco" and "luna16" fix the matching and the figures.
        ignore: JSON `{"CASE": [object id or [lower corner, upper corner], ...]}`: objects that are neither hit nor
            miss, and regions (voxels, axes in array order) in which detections do not count.
        source: format of the predictions, see `read_predictions`.

    Raises:
        ValueError: predictions missing, of other classes, on another voxel grid, or of cases that the data set does
            not have.
    """
    chosen: dict[str, Any] = dict(iou_thresholds=iou_thresholds, rule=rule, interpolation=interpolation,
                                  size_limits=size_limits, operating_points=operating_points or None)  # fmt: skip
    folder, given = _check(protocol, dataset, chosen | {"criterion": criterion})
    if out is not None and Path(out).resolve() == Path(predictions).resolve():
        raise ValueError(f"{out}: holds the predictions; choose another folder with --out")
    drawn: dict[str, Any] = {"num_resamples": num_resamples, "seed": seed}
    if protocol == "luna16":
        marks = read_marks(Path(predictions))
        evaluation = evaluate_luna16(marks, read_tables(folder, list(marks)), **drawn)
    else:
        kind = given.pop("criterion", "box_iou")
        inputs = read_evaluation_inputs(
            predictions, dataset, criterion=kind, ignore=ignore, source=source, as_written=protocol == "coco",
            progress=progress,
        )  # fmt: skip
        if protocol == "coco":
            evaluation = evaluate_coco(
                inputs.detections, inputs.ground_truth, **inputs.context, areas=inputs.areas, **drawn
            )
        else:
            evaluation = judge(
                inputs.detections, inputs.ground_truth, **inputs.context, **given, **drawn, criterion=inputs.criterion
            )
    if out is not None:
        write_evaluation(Path(out), evaluation)
        write_figures(Path(out) / "figures", evaluation.metrics, evaluation.curves, evaluation.scores())
    return evaluation


def compare(
    a: Path | str,
    b: Path | str,
    dataset: Path | str | Dataset,
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
    source: str = "auto",
    num_resamples: int = 1000,
    seed: int = 0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Whether predictions `b` are better than `a` on the same cases; see `boxel.evaluation.compare`.

    Args:
        a: what `read_predictions` reads; with protocol "luna16" the challenge's table of marks.
        b: likewise, of the same cases.
        dataset: see `evaluate`, also for `protocol`, `ignore` and `source`.
        out: JSON file to write; None writes nothing.

    Raises:
        ValueError: see `evaluate`; the sets are of different cases.
    """
    chosen: dict[str, Any] = dict(iou_thresholds=iou_thresholds, rule=rule, interpolation=interpolation,
                                  size_limits=size_limits, operating_points=operating_points or None)  # fmt: skip
    folder, given = _check(protocol, dataset, chosen | {"criterion": criterion})
    drawn: dict[str, Any] = {"num_resamples": num_resamples, "seed": seed}
    if protocol == "luna16":
        marks_a, marks_b = (read_marks(Path(path)) for path in (a, b))
        result = compare_luna16(marks_a, marks_b, read_tables(folder, [*marks_a, *marks_b]), **drawn)
    else:
        reading: dict[str, Any] = {
            "criterion": given.pop("criterion", "box_iou"), "ignore": ignore, "source": source,
            "as_written": protocol == "coco", "progress": progress,
        }  # fmt: skip
        first, second = (read_evaluation_inputs(path, dataset, **reading) for path in (a, b))
        if differing := sorted(first.ground_truth.keys() ^ second.ground_truth.keys()):
            raise ValueError(
                f"case {differing[0]!r} is in only one of {a} and {b}; compare predictions of the same cases"
            )
        sets, settings = (first.detections, second.detections, first.ground_truth), first.context | drawn
        if protocol == "coco":
            result = compare_coco(*sets, **settings, areas=first.areas)
        else:
            settings |= given
            result = compare_sets(*sets, criterion=first.criterion, masks_of_b=second.criterion.masks, **settings)
    result = {"a": str(a), "b": str(b), **result}
    if out is not None:
        write_text(Path(out), json.dumps(result, indent=2, allow_nan=False) + "\n")
    return result


def _check(protocol: str, dataset: Path | str | Dataset, settings: Mapping[str, Any]) -> tuple[Path, dict[str, Any]]:
    """The folder of the data set, and the settings that were given."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    given = {key: value for key, value in settings.items() if value is not None}
    if protocol != "boxel" and given:
        raise ValueError(
            f"protocol {protocol} fixes the matching and the figures; leave out --iou, --criterion, --rule, "
            "--interpolation, --size and --score"
        )
    folder = dataset.root if isinstance(dataset, Dataset) else Path(dataset)
    if protocol != "luna16" and is_luna16(folder):
        raise ValueError(f"{folder}: these are the tables of LUNA16; add --protocol luna16")
    return folder, given
