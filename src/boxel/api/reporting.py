"""`boxel report`: one page about a run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from boxel.api.judging import read_task
from boxel.api.run import read_history, read_run
from boxel.config import read_json
from boxel.datasets.cases import Dataset, read_case
from boxel.datasets.formats import as_dataset
from boxel.evaluation import case_rows, object_rows
from boxel.evaluation import evaluate as judge
from boxel.io import read_geometry
from boxel.reporting import Detail, Picture, ReportContent, choose_pictures, write_report

NUM_FINDINGS = 10


def report(
    run: Path | str,
    *,
    predictions: Path | str | None = None,
    dataset: Path | str | Dataset | None = None,
    out: Path | str | None = None,
    num_cases: int = 8,
) -> Path:
    """Write the page; learning curves and plan always, figures and pictures with `predictions` and `dataset`.

    Args:
        run: folder of the run.
        predictions: of the detector, to be judged.
        dataset: with the annotations.
        out: the file to write.
        num_cases: most cases to look through; a volume adds 0.3 to 0.6 MB to the page.

    Returns:
        The file written, `RUN/report.html` unless `out` says otherwise.
    """
    run = Path(run)
    experiment, task, split = read_run(run)
    if (predictions is None) != (dataset is None):
        raise ValueError("a report with figures needs both --predictions and --dataset; give both or neither")
    content = ReportContent(
        title=f"{task.name}: {experiment.model.type_name}, fold {split.fold}",
        history=read_history(run),
        plan=task.why,
        recipe=experiment.to_dict(),
        environment={**read_json(run / "environment.json"), "seed": experiment.seed},
    )
    if predictions is not None and dataset is not None:
        content = _with_figures(content, Path(predictions), as_dataset(dataset), num_cases)
    path = Path(out) if out else run / "report.html"
    write_report(path, content)
    return path


def _with_figures(content: ReportContent, predictions: Path, data: Dataset, num_cases: int) -> ReportContent:
    task = read_task(predictions, data)
    found, truths = task.found, task.truths
    evaluation = judge(found, truths, **task.about, criterion=task.criterion)
    by_id = {case.id: case for case in data.cases if case.id in truths}

    @lru_cache(maxsize=1)  # details of one case often follow each other
    def load(case: str) -> np.ndarray:
        return np.asarray(read_case(by_id[case], data).image.array[0], np.float32)

    def picture(case: str, caption: str) -> Picture:
        hits, seen = evaluation.outcome(case)
        return Picture(
            case=case,
            image=partial(load, case),
            truth=truths[case],
            detections=found[case],
            classes=data.classes,
            caption=caption,
            spacing=read_geometry(by_id[case].channels[0]).spacing,
            score_thresholds=evaluation.score_thresholds,
            hits=hits,
            found=seen,
        )

    rows = object_rows(evaluation)
    thresholds = dict(zip(data.classes, evaluation.score_thresholds, strict=True))
    misses = []
    for row, caption in rank_misses(rows, thresholds)[:NUM_FINDINGS]:
        truth = truths[row["case"]]
        box = truth.boxes[np.flatnonzero(np.asarray(truth.ids) == row["object_id"])[0]]
        misses.append(Detail(picture(row["case"], caption), np.asarray(box, float)))
    false = []
    for row in rank_false_positives(rows)[:NUM_FINDINGS]:
        caption = f"{row['class']}, score {row['score']:.2f}" + (
            f", IoU {row['iou']:.2f}" if row["iou"] >= 0.01 else ""
        )
        box = np.asarray(found[row["case"]].boxes[row["detection"]], float)
        false.append(Detail(picture(row["case"], caption), box))
    return replace(
        content,
        metrics=evaluation.metrics,
        curves=evaluation.curves,
        scores=evaluation.scores(),
        misses=misses,
        false_positives=false,
        pictures=[picture(case, why) for case, why in choose_pictures(case_rows(evaluation), num_cases)],
    )


def rank_misses(
    rows: Sequence[Mapping[str, Any]], score_thresholds: Mapping[str, float | None]
) -> list[tuple[Mapping[str, Any], str]]:
    """Missed objects with a word on each: those without any detection, the largest first, then the lowest scores.

    Args:
        rows: as in `per_object.csv`.
        score_thresholds: of each class; an object found with a lower score counts as missed.
    """
    missed = [(row, f"{row['class']}, {row['object_size']:,.0f} voxels") for row in rows if row["outcome"] == "fn"]
    missed.sort(key=lambda item: -item[0]["object_size"])
    # The scores of the rows are rounded.
    least = {name: round(score or 0.0, 6) for name, score in score_thresholds.items()}
    late = [row for row in rows if row["outcome"] == "tp" and row["score"] < least[row["class"]]]
    late.sort(key=lambda row: row["score"])
    words = "{class}, found with {score:.2f} only, below {least:.2f}"
    return missed + [(row, words.format(**row, least=least[row["class"]])) for row in late]


def rank_false_positives(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of `per_object.csv` that found nothing, the highest score first."""
    return sorted((row for row in rows if row["outcome"] == "fp"), key=lambda row: -row["score"])
