"""One run of an experiment: its data, its settings, its fold; and how it is carried out in a folder of its own.

OUT/cells/NAME/cell.json          what to run; NAME is the hash of it
              run/ predictions/   as `boxel train` and `boxel predict` write them
              metrics.json        as `boxel evaluate` writes it
              resamples.npz       the metrics of bootstrap resamples of the patients, the same for all cells of one data
              done.json           what it cost; written last
              derived/            what `collect` computes from it
              error.txt           the reason why it failed last time, in one line
OUT/data/NAME OUT/work/NAME       data that were generated and prepared, shared by cells
"""

import hashlib
import json
import math
import resource
import shutil
import statistics
import sys
import time
import traceback
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NotRequired

import numpy as np
from pydantic import Field
from typing_extensions import TypedDict

from boxel.api.fold import run_fold
from boxel.api.prediction import predict
from boxel.api.run import RunSplit, environment, read_history, read_run
from boxel.api.training import prepare
from boxel.config import Config
from boxel.datasets.cases import Dataset
from boxel.datasets.split import FOLDS
from boxel.evaluation import Evaluation
from boxel.evaluation.bootstrap import mean_of_present
from boxel.experiments.sources import Source
from boxel.files import write_bytes, write_text
from boxel.inputs.texts import read_json
from boxel.locks import LockedError, locked
from boxel.plugins import load_plugin
from boxel.recipes import Experiment
from boxel.types import Progress, silent

# How something is computed, not what: cells that differ in these only are the same.
_SAME_RESULT: Any = {
    "recipe": True,
    "reproduces": True,
    "train": {"accelerator", "compile", "num_workers", "save_every"},
    "predict": {"batch_size"},
}
DERIVED = "derived"
# The settings of each protocol's evaluation.
EVALUATIONS: dict[str, dict[str, Any]] = {
    "boxel": {},
    "segmentation": {"protocol": "segmentation"},
    "deeplesion": {"iou_thresholds": (0.21, 0.5, 0.75), "interpolation": "report", "operating_points": (0.25,)},
}


class Cell(Config):
    """A run of an experiment.

    Attributes:
        source: the data.
        experiment: every setting of the run.
        fold: the fold of the data that is left out of training.
        num_folds: the number of folds, unless the data set prescribes them.
        split_seed: random seed for the fold split.
        protocol: how its predictions are evaluated: `boxel` and `segmentation` as of `boxel.EvaluateConfig`;
            `deeplesion`, by the metrics of the benchmarking report on DeepLesion.
    """

    source: Source
    experiment: Experiment
    fold: int = Field(0, ge=0)
    num_folds: int = Field(FOLDS, ge=1)
    split_seed: int = Field(0, ge=0)
    protocol: Literal["boxel", "segmentation", "deeplesion"] = "boxel"

    def folds_of(self, dataset: Dataset) -> int | None:
        """The number of folds to ask for: None where the data set prescribes them, and for the default."""
        return None if dataset.splits is not None or self.num_folds == FOLDS else self.num_folds

    @property
    def name(self) -> str:
        """Equal for cells with equal results: a hash of everything that these depend on."""
        values = self.to_dict()
        values["experiment"] = self.experiment.model_dump(mode="json", serialize_as_any=True, exclude=_SAME_RESULT)
        return hash_of(values)

    @property
    def prepared_name(self) -> str:
        """Equal for cells that can share prepared data."""
        values = {**self.to_dict(), "experiment": self.experiment.plan.to_dict(), "fold": 0, "protocol": ""}
        return hash_of(values)


def hash_of(values: Mapping[str, Any]) -> str:
    """The name of what is made from these values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def run_cell(folder: Path, progress: Progress = silent) -> None:
    """Carry out the cell of `folder/cell.json`; what is complete is skipped, and so is the work of another process.

    Raises:
        ValueError: something is wrong with its data or its settings.
    """
    with ExitStack() as held:
        try:
            held.enter_context(locked(folder, "boxel experiment"))
        except LockedError:
            return
        if is_done(folder):
            return
        (folder / "error.txt").unlink(missing_ok=True)
        shutil.rmtree(folder / DERIVED, ignore_errors=True)  # of a cell that is carried out again
        cell, out = Cell.load(folder / "cell.json"), folder.parent.parent
        fresh, begin = not (folder / "run").exists(), time.monotonic()
        dataset = open_source(cell.source, out, progress)
        work = out / "work" / cell.prepared_name
        with _locked(work):
            prepare(
                dataset, work, recipe=cell.experiment, num_folds=cell.folds_of(dataset), seed=cell.split_seed,
                workers=0, progress=progress,
            )  # fmt: skip
        evaluation = run_fold(
            dataset, folder, cell.experiment, cell.fold, progress, work=work, evaluation=EVALUATIONS[cell.protocol]
        )
        write_resamples(folder / "resamples.npz", evaluation)
        record = _cost(folder, evaluation) | {"seconds": round(time.monotonic() - begin, 1) if fresh else None}
        write_text(folder / "done.json", json.dumps(record | {"environment": environment()}, indent=2) + "\n")


class Cost(TypedDict):
    """The content of `done.json`; the cost of other people's predictions is not known."""

    recipe: NotRequired[str]
    parameters: NotRequired[int]
    steps: NotRequired[int]
    seconds: float | None
    seconds_per_step: NotRequired[float]
    train_seconds: NotRequired[float]
    metrics: NotRequired[dict[str, float | None]]  # None: not defined, such as of a class without objects
    peak_bytes: NotRequired[int]
    environment: NotRequired[dict[str, Any]]


def open_source(source: Source, out: Path, progress: Progress = silent) -> Dataset:
    """The data of a cell; what is generated is shared by all cells in `out`."""
    place = out / "data" / hash_of(source.to_dict())
    with _locked(place):
        return source.open(place, progress)


def predict_training(folder: Path, dataset: Dataset, seed: int, number: int) -> Path:
    """Predict at most `number` training cases of a cell, boxes alone; those of all cells of a fold are the same."""
    run, out = folder / "run", folder / DERIVED / "predictions_train"
    train = sorted(RunSplit.load(run / "split.json").train)
    drawn = np.random.default_rng(seed).permutation(train)[:number].tolist()
    predict(run, dataset, out, part="train", cases=drawn, overrides=["predict.segmentation=false"])
    return out


def read_cost(folder: Path) -> Cost:
    """What a finished cell needed."""
    return read_json(folder / "done.json", Cost, "delete the folder of the cell to carry it out again")


def is_done(folder: Path) -> bool:
    return (folder / "done.json").exists()


def _locked(place: Path) -> AbstractContextManager[None]:
    return locked(place.parent, "boxel experiment", f".{place.name}.lock", patience=math.inf)


def _cost(folder: Path, evaluation: Evaluation) -> dict[str, Any]:
    """What the training needed; seconds per step are the median over the steps without validation."""
    experiment, task, _ = read_run(folder / "run")
    history = read_history(folder / "run") or [{"step": 0, "seconds": 0.0}]  # a log that was deleted
    times = [b["seconds"] - a["seconds"] for a, b in pairwise(history) if not any(key.startswith("val/") for key in a)]
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "recipe": experiment.recipe,
        "parameters": sum(p.numel() for p in experiment.model.build(task).parameters()),
        "steps": int(history[-1]["step"]),
        "seconds_per_step": round(statistics.median(times), 4) if times else 0.0,
        "train_seconds": history[-1]["seconds"],
        "metrics": {key: value for key, value in evaluation.metrics.items() if isinstance(value, float)},
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
    }


def write_resamples(path: Path, evaluation: Evaluation) -> None:
    """Write each metric, and that of each class, `(r,)` of bootstrap resamples of the patients, and on all of them.

    The resamples of two evaluations of the same patients are the same, so that their differences are paired.
    """
    groups, classes = len(set(evaluation.groups)), evaluation.table.classes
    everyone = evaluation.compute(np.ones((1, groups)))
    arrays = {"num_groups": np.array([groups])}
    for key, drawn in evaluation.resamples.items():
        for kind, values in (("resamples", drawn), ("value", everyone[key])):
            arrays[f"{key}/{kind}"] = mean_of_present(values)
            arrays |= {f"{key}/{name}/{kind}": values[:, k] for k, name in enumerate(classes)}
    write_arrays(path, {key: values.astype(np.float32) if key.endswith("/resamples") else values
                        for key, values in arrays.items()})  # fmt: skip


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an `.npz`; the file appears whole or not at all."""
    import io

    buffer = io.BytesIO()
    np.savez(buffer, **dict(arrays))  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def record_failure(folder: Path, error: BaseException | str) -> str:
    """Write the reason in one line into the cell's folder, where `status` reads it, and return it."""
    named = "" if isinstance(error, ValueError | str) else f"{type(error).__name__}: "
    reason = " ".join(f"{named}{error}".split())
    write_text(folder / "error.txt", reason + "\n")
    return reason


def attempt(folder: Path, plugins: Iterable[Path | str] = ()) -> str | None:
    """Carry out the cell of a folder; returns the reason if it fails, after its traceback was printed."""
    try:
        for file in plugins:
            load_plugin(file)
        run_cell(folder)
    except Exception as error:
        traceback.print_exc()
        return record_failure(folder, error)
    return None
