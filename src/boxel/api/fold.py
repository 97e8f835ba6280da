"""The steps of `boxel demo` and of each cell of `boxel experiment`: prepare, train, predict test images, evaluate."""

from collections.abc import Mapping
from pathlib import Path

from boxel.api.evaluation import evaluate, write_results
from boxel.api.prediction import predict
from boxel.api.training import prepare, train
from boxel.datasets.cases import Dataset
from boxel.evaluation import Evaluation
from boxel.recipes import Experiment
from boxel.training.loggers import Loggers
from boxel.types import Progress


def run_fold(
    dataset: Dataset,
    out: Path,
    experiment: Experiment,
    fold: int,
    progress: Progress,
    *,
    work: Path | None = None,
    evaluation: Mapping[str, object] | None = None,
    logger: Loggers = "auto",
) -> Evaluation:
    """Write `out/work`, `out/run`, `out/predictions` and the metrics; completed steps are skipped.

    The test images are the data set's own (`imagesTs`), or those of the fold.

    Args:
        work: the data set as `prepare` wrote it; None prepares it.
        evaluation: settings of the evaluation.
        logger: that of `boxel.train`.
    """
    if work is None:
        work = out / "work"
        prepare(dataset, work, recipe=experiment, progress=progress)
    run = train(work, out / "run", fold=fold, recipe=experiment, logger=logger, progress=progress)
    predict(run, dataset, out / "predictions", part="test", progress=progress)
    result = evaluate(out / "predictions", dataset, config=dict(evaluation or {}), progress=progress)
    write_results(out, result)
    return result
