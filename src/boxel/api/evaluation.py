"""`boxel evaluate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from boxel.api.training import Progress, silent
from boxel.data.cases import Case, Dataset, read_case
from boxel.data.formats import open_dataset
from boxel.evaluation import IOU_THRESHOLDS, Evaluation, write_evaluation
from boxel.evaluation import evaluate as judge
from boxel.evaluation.average_precision import Interpolation
from boxel.evaluation.luna16 import evaluate_luna16, is_luna16, read_marks, read_tables
from boxel.evaluation.matching import Rule
from boxel.export.boxel_json import read_folder
from boxel.types import Detections, Instances

Protocol = Literal["boxel", "luna16"]
PROTOCOLS = ("boxel", "luna16")


def evaluate(
    predictions: Path | str,
    dataset: Path | str,
    out: Path | str | None = None,
    *,
    protocol: Protocol = "boxel",
    iou_thresholds: Sequence[float] = IOU_THRESHOLDS,
    interpolation: Interpolation = "101",
    rule: Rule = "greedy",
    num_resamples: int = 1000,
    seed: int = 0,
    progress: Progress = silent,
) -> Evaluation:
    """Judge predictions against a data set; write `metrics.json` and two CSV tables into `out`.

    Predictions of test cases only are judged on all test cases, so that a missing one is an error; other
    predictions on exactly the cases predicted. The settings are those of `boxel.evaluation.evaluate`.

    Args:
        predictions: folder of Boxel JSON; with protocol "luna16" the challenge's table of marks.
        dataset: a data set; with protocol "luna16" the folder of the challenge's tables.
        out: folder to write; None writes nothing.
        protocol: "luna16" fixes the other settings but those of the bootstrap.

    Raises:
        ValueError: predictions missing, of other classes, or of cases that the data set does not have.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    if out is not None and Path(out).resolve() == Path(predictions).resolve():
        raise ValueError(f"{out}: holds the predictions; choose another folder with --out")
    if protocol == "luna16":
        if (*iou_thresholds, interpolation, rule) != (*IOU_THRESHOLDS, "101", "greedy"):
            raise ValueError("protocol luna16 fixes the matching; leave out --iou, --interpolation and --rule")
        marks = read_marks(Path(predictions))
        tables = read_tables(Path(dataset), list(marks))
        evaluation = evaluate_luna16(marks, tables, num_resamples=num_resamples, seed=seed)
    else:
        if is_luna16(Path(dataset)):
            raise ValueError(f"{dataset}: these are the tables of LUNA16; add --protocol luna16")
        data = open_dataset(Path(dataset))
        found = read_predictions(predictions, data.classes)
        cases = choose_truth(data, list(found))
        evaluation = judge(
            found,
            read_truth(cases, data, progress),
            classes=data.classes,
            groups={case.id: case.group or case.id for case in cases},
            iou_thresholds=iou_thresholds,
            interpolation=interpolation,
            rule=rule,
            num_resamples=num_resamples,
            seed=seed,
        )
    if out is not None:
        write_evaluation(Path(out), evaluation)
    return evaluation


def read_predictions(folder: Path | str, classes: Sequence[str]) -> dict[str, Detections]:
    """Detections per case from a folder of Boxel JSON files.

    Raises:
        ValueError: no predictions there, or of other classes.
    """
    found, names = read_folder(Path(folder))
    if tuple(names) != tuple(classes):
        raise ValueError(f"{folder}: predictions of the classes {list(names)}, the data set has {list(classes)}")
    return found


def choose_truth(dataset: Dataset, predicted: Sequence[str]) -> list[Case]:
    """The cases to judge: all test cases if only such were predicted, else exactly those predicted."""
    test = [case for case in dataset.cases if case.split == "test"]
    if set(predicted) <= {case.id for case in test}:
        return test
    return [case for case in dataset.cases if case.id in set(predicted)]


def read_truth(cases: Sequence[Case], dataset: Dataset, progress: Progress = silent) -> dict[str, Instances]:
    """The annotated objects of each case."""
    truths = {}
    for done, case in enumerate(cases, start=1):
        truths[case.id] = read_case(case, dataset).instances
        progress("evaluate", done, len(cases))
    return truths
