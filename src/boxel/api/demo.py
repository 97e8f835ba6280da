"""`boxel demo`: all steps in one command."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boxel.api.fold import run_fold
from boxel.api.reporting import report
from boxel.datasets.cases import Dataset
from boxel.datasets.formats import as_dataset
from boxel.datasets.toy import make_toy
from boxel.inputs.texts import read_json
from boxel.output_folder import claimed
from boxel.recipes import Experiment, get_recipe
from boxel.training.devices import check_devices
from boxel.training.loggers import Loggers
from boxel.types import Progress, silent

NUM_TRAIN, NUM_VAL, NUM_TEST = 400, 40, 200


@dataclass(frozen=True)
class DemoResult:
    """The result of a demo: the metrics, and where the other results are."""

    metrics: dict[str, Any]
    run: Path
    predictions: Path
    report: Path


def demo(
    out: Path | str,
    *,
    data: Path | str | Dataset | None = None,
    fold: int = 0,
    recipe: str = "retina_unet_small",
    overrides: Sequence[str] = (),
    seed: int = 0,
    logger: Loggers = "auto",
    progress: Progress = silent,
) -> DemoResult:
    """Generate data (or take `data`), prepare, train, predict the test images, evaluate, report; all into `out`.

    The test images are the data set's own (`imagesTs`), or those of the fold. Repeat the call to resume an interrupted
    demo. `logger` is that of `boxel.train`.
    """
    out = Path(out)
    experiment = get_recipe(recipe).override([f"seed={seed}", *overrides])
    check_devices(experiment.train)
    with claimed(out, "demo"):
        return _demo(out, data, experiment, fold, seed, logger, progress)


def _demo(
    out: Path,
    data: Path | str | Dataset | None,
    experiment: Experiment,
    fold: int,
    seed: int,
    logger: Loggers,
    progress: Progress,
) -> DemoResult:
    if data is None:
        data = make_toy(
            out / "data",
            "donuts_shape",
            "mdt",
            num_train=NUM_TRAIN,
            num_val=NUM_VAL,
            num_test=NUM_TEST,
            seed=seed,
            progress=progress,
        )
    dataset = as_dataset(data)
    run_fold(dataset, out, experiment, fold, progress, logger=logger)
    run = out / "run"
    page = report(run, predictions=out / "predictions", dataset=dataset, out=out / "report.html")
    return DemoResult(read_json(out / "metrics.json"), run, out / "predictions", page)
