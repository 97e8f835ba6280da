"""What a training begins with: its folder, its data, its plan and every setting; nothing is written."""

import logging
import shutil
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from boxel.api.budget import as_started, time_used, with_budget, with_epochs
from boxel.api.fitting import fit, step_in_words, within_gpu
from boxel.api.prepared_with import as_prepared, by_recipe, fitted_before
from boxel.api.run import RunSplit, check_run_folder
from boxel.inputs.memory import size_in_words
from boxel.loading.sampler import PatchSampler
from boxel.preparation.plan import plan
from boxel.preparation.store import Store
from boxel.recipes import Experiment
from boxel.training.checkpoints import disk_needed
from boxel.training.devices import check_devices
from boxel.training.memory import explained
from boxel.types import Task


@dataclass(frozen=True)
class Start:
    """What a training begins with, or is resumed with."""

    store: Store
    run: Path
    split: RunSplit
    task: Task
    experiment: Experiment

    def memory_explained(self) -> AbstractContextManager[None]:
        """A context in which running out of memory is one message."""
        return explained(self.run, step_in_words(self.task, self.experiment.train))

    def disk(self) -> int:
        """Bytes that the training writes; a warning if they are not free."""
        needed = disk_needed(self.experiment.model.build(self.task), self.experiment.train)
        free = shutil.disk_usage(next(folder for folder in self.run.resolve().parents if folder.exists())).free
        if needed > free:
            logging.getLogger("boxel").warning(
                f"{self.run}: the training writes {size_in_words(needed)}, and {size_in_words(free)} are free; free "
                "some space, keep fewer checkpoints with train.keep, or choose another folder with --out"
            )
        return needed


def start_of(
    work: Path | str, run: Path | str | None, fold: int, recipe: str | Experiment, model: str | None,
    overrides: Sequence[str],
) -> Start:  # fmt: skip
    """What `boxel train` with these arguments begins with; see there for what it refuses."""
    began = time_used()
    store = Store(Path(work))
    experiment = as_prepared(store, recipe, model, overrides)
    run = Path(run) if run else store.path / "runs" / f"{experiment.recipe}_fold{fold}"
    check_run_folder(run)
    started = as_started(run, experiment)
    check_devices(experiment.train)
    if started is None:
        experiment = fit(store.fingerprint, experiment, fitted_before(store.path))
        experiment = within_gpu(store.fingerprint, experiment)
    experiment = started or experiment
    task = plan_for(store, experiment)
    if not 0 <= fold < len(store.splits):
        raise ValueError(f"fold {fold} does not exist; {store.path} has the folds 0 to {len(store.splits) - 1}")
    split = RunSplit(**dict(store.splits[fold]), work=str(store.path.resolve()), fold=fold)
    experiment.train.augment.check_channels(task.channels, task.context)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the sampler of the training gives the same warnings
        sampler = PatchSampler(store, split.train, task, experiment.train.sampler, seed=0)
    start = Start(store, run, split, task, with_epochs(experiment, sampler))
    if not started:
        with start.memory_explained():
            experiment = with_budget(store, split, task, start.experiment, began)
            start = Start(store, run, split, task, experiment)
    return start


def plan_for(store: Store, experiment: Experiment) -> Task:
    """The plan of a recipe, with the settings that the data were prepared with.

    Raises:
        ValueError: the recipe needs other spacing or normalisation than the data were prepared with.
    """
    task = plan(store.fingerprint, experiment.plan)
    for field in ("spacing", "spacing_unit", "normalisation", "channels", "classes"):
        if getattr(task, field) != getattr(store.task, field):
            raise ValueError(
                f"{store.path}: prepared with {field} {getattr(store.task, field)}{by_recipe(store)}, but training "
                f"with recipe {experiment.recipe!r} and these settings needs {getattr(task, field)}; train with the "
                "recipe and the --set plan.* of `boxel prepare`, or prepare with the new ones into another folder"
            )
    return task
