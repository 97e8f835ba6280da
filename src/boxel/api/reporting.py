"""`boxel report`: one page about a run."""

from pathlib import Path

import numpy as np

from boxel.api.prediction import choose_truth, read_predictions, read_truth
from boxel.api.run import read_history, read_run
from boxel.config import read_json
from boxel.data.cases import read_case
from boxel.data.formats import open_dataset
from boxel.evaluation import case_rows
from boxel.evaluation import evaluate as judge
from boxel.reporting import Picture, ReportContent, choose_pictures, write_report


def report(
    run: Path | str,
    *,
    predictions: Path | str | None = None,
    dataset: Path | str | None = None,
    out: Path | str | None = None,
) -> Path:
    """Write the page; learning curves and plan always, figures and pictures with `predictions` and `dataset`.

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
        content = _with_figures(content, Path(predictions), Path(dataset))
    path = Path(out) if out else run / "report.html"
    write_report(path, content)
    return path


def _with_figures(content: ReportContent, predictions: Path, dataset: Path) -> ReportContent:
    data = open_dataset(dataset)
    found = read_predictions(predictions, data.classes)
    cases = choose_truth(data, list(found))
    truths = read_truth(cases, data)
    evaluation = judge(found, truths, classes=data.classes, groups={case.id: case.group or case.id for case in cases})
    by_id = {case.id: case for case in cases}
    pictures = []
    for case, reason in choose_pictures(case_rows(evaluation)):
        loaded = read_case(by_id[case], data)
        hits, seen = evaluation.outcome(case)
        pictures.append(
            Picture(
                case=case,
                image=np.asarray(loaded.image.array[0], np.float32),
                truth=truths[case],
                detections=found[case],
                classes=data.classes,
                caption=reason,
                spacing=loaded.image.geometry.spacing,
                score_thresholds=evaluation.score_thresholds,
                hits=hits,
                found=seen,
            )
        )
    values = {
        **vars(content),
        "metrics": evaluation.metrics,
        "curves": evaluation.curves,
        "pictures": pictures,
    }
    return ReportContent(**values)
