"""`boxel report`: one HTML page about a run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from boxel.api.evaluation_inputs import read_evaluation_inputs
from boxel.api.run import read_history, read_run
from boxel.api.run_points import read_points
from boxel.api.segmentation_inputs import read_segmentations
from boxel.datasets.cases import Dataset, read_case
from boxel.datasets.formats import as_dataset
from boxel.evaluation import case_rows, evaluate, evaluate_segmentation, object_rows
from boxel.export.boxel_json import segmentation_file
from boxel.inputs.texts import read_json
from boxel.io import read_geometry, read_label_map
from boxel.io.display import visible_channels
from boxel.output_folder import check_file, list_files
from boxel.reporting import PAGE_BEGINS, Detail, Picture, ReportContent, choose_pictures, write_report
from boxel.wording import counted

NUM_ERRORS = 10


def report(
    run: Path | str,
    *,
    predictions: Path | str | None = None,
    dataset: Path | str | Dataset | None = None,
    out: Path | str | None = None,
    num_cases: int = 8,
    trust: bool = False,
) -> Path:
    """Write a self-contained HTML page about a run.

    The page shows the learning curves and the plan; with `predictions` and `dataset` also metrics, curves and cases.

    Args:
        run: folder of the run.
        predictions: predictions of the run, to be evaluated.
        dataset: images and annotations of the predicted cases.
        out: the file to write.
        num_cases: most cases to look through; a volume adds 0.3 to 0.6 MB to the page.
        trust: import the plug-in files in the run folder, where the run uses some; they are code.

    Returns:
        The file written, `RUN/report.html` by default.

    Raises:
        ValueError: only one of `predictions` and `dataset` is given; `num_cases` is negative; `out` is another file.
    """
    run = Path(run)
    experiment, task, split = read_run(run, trust=trust)
    if (predictions is None) != (dataset is None):
        raise ValueError("a report with metrics needs both --predictions and --dataset; give both or neither")
    if num_cases < 0:
        raise ValueError(f"--cases is {num_cases}; give 0 or more")
    path = Path(out) if out else run / "report.html"
    check_file(path, PAGE_BEGINS, "report")
    measured = read_points(run, task.classes)
    content = ReportContent(
        title=f"{task.name}: {experiment.model.type_name}, fold {split.fold}",
        history=read_history(run),
        plan=task.why,
        points=measured.points if measured else None,
        recipe=experiment.to_dict(),
        environment={**read_json(run / "environment.json", dict[str, Any]), "seed": experiment.seed},
    )
    if predictions is not None and dataset is not None:
        content = _with_evaluation(content, Path(predictions), as_dataset(dataset), num_cases)
    write_report(path, content)
    return path


def _with_evaluation(content: ReportContent, predictions: Path, data: Dataset, num_cases: int) -> ReportContent:
    inputs = read_evaluation_inputs(predictions, data)
    detections, ground_truth = inputs.detections, inputs.ground_truth
    evaluation = evaluate(detections, ground_truth, **inputs.context, criterion=inputs.criterion)
    by_id = {case.id: case for case in data.cases if case.id in ground_truth}

    @lru_cache(maxsize=1)  # close-ups of one case often follow each other
    def load(case: str) -> np.ndarray:
        return visible_channels(read_case(by_id[case], data).image.array, by_id[case].channels)

    @lru_cache(maxsize=1)
    def load_map(case: str) -> np.ndarray:
        return read_label_map(files[case]).array

    def picture(case: str, caption: str) -> Picture:
        true_positives, detected = evaluation.outcome(case)
        return Picture(
            case=case,
            image=partial(load, case),
            ground_truth=ground_truth[case],
            detections=detections[case],
            classes=data.classes,
            caption=caption,
            spacing=read_geometry(by_id[case].channels[0]).spacing,
            score_thresholds=evaluation.score_thresholds,
            true_positives=true_positives,
            detected=detected,
            label_map=partial(load_map, case) if case in files else None,
        )

    masks, no_masks = None, ""
    files: Mapping[str, Path] = {}
    if list_files(predictions, segmentation_file(predictions, "").name):
        try:
            segmented = read_segmentations((predictions,), data)
            masks = evaluate_segmentation(segmented.sets[0], classes=segmented.classes, groups=segmented.groups)
            files = segmented.files[0]
        except ValueError as error:  # such as no masks in the ground truth
            no_masks = str(error)

    rows = object_rows(evaluation)
    thresholds = dict(zip(data.classes, evaluation.score_thresholds, strict=True))
    missed = []
    for row, caption in rank_missed(rows, thresholds)[:NUM_ERRORS]:
        objects = ground_truth[row["case"]]
        box = objects.boxes[np.flatnonzero(np.asarray(objects.ids) == row["object_id"])[0]]
        missed.append(Detail(picture(row["case"], caption), np.asarray(box, float)))
    false_positives = []
    for row in rank_false_positives(rows)[:NUM_ERRORS]:
        overlap = f", IoU {row['iou']:.2f}" if row["iou"] >= 0.01 else ""
        box = np.asarray(detections[row["case"]].boxes[row["detection"]], float)
        caption = f"{row['class']}, score {row['score']:.2f}{overlap}"
        false_positives.append(Detail(picture(row["case"], caption), box))
    return replace(
        content,
        metrics=evaluation.metrics,
        curves=evaluation.curves,
        scores=evaluation.scores(),
        segmentation=masks,
        no_segmentation=no_masks,
        missed=missed,
        false_positives=false_positives,
        pictures=[picture(case, why) for case, why in choose_pictures(case_rows(evaluation), num_cases)],
    )


def rank_missed(
    rows: Sequence[Mapping[str, Any]], score_thresholds: Mapping[str, float | None]
) -> list[tuple[Mapping[str, Any], str]]:
    """Missed objects, each with a caption.

    Objects without any detection come first, the largest at the top, then those detected below the threshold, by score.

    Args:
        rows: as in `per_object.csv`.
        score_thresholds: of each class; an object detected at a lower score counts as missed.
    """
    lost = [row for row in rows if row["outcome"] == "fn"]
    missed = [(row, f"{row['class']}, {counted(round(row['object_size']), 'voxel')}") for row in lost]
    missed.sort(key=lambda item: -item[0]["object_size"])
    # The scores of the rows are rounded.
    rounded = {name: round(score or 0.0, 6) for name, score in score_thresholds.items()}
    weak = [row for row in rows if row["outcome"] == "tp" and row["score"] < rounded[row["class"]]]
    weak.sort(key=lambda row: row["score"])
    caption = "{class}, detected at {score:.2f}, below the {threshold:.2f} threshold"
    return missed + [(row, caption.format(**row, threshold=rounded[row["class"]])) for row in weak]


def rank_false_positives(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The false positives among the rows of `per_object.csv`, the highest score first."""
    return sorted((row for row in rows if row["outcome"] == "fp"), key=lambda row: -row["score"])
