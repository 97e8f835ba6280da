"""`boxel plan`: what a training will be, from the data set or from prepared data; writes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boxel.api.budget import USED, VALIDATING, check_budget, with_epochs
from boxel.api.fitting import Cost, calibrate, fit, voxels_of, within_gpu
from boxel.api.prepared_with import as_prepared, fitted_before
from boxel.api.start import plan_for
from boxel.datasets.cases import Dataset
from boxel.datasets.formats import as_dataset
from boxel.loading.sampler import PatchSampler
from boxel.preparation.fingerprint import Fingerprint
from boxel.preparation.measure import measure
from boxel.preparation.prepare import check_dataset, plan_cases, used_cases
from boxel.preparation.store import Store
from boxel.recipes import Experiment, get_recipe
from boxel.types import Progress, Task, silent

__all__ = ["Planned", "plan"]


@dataclass(frozen=True)
class Planned:
    """What a training will be.

    Attributes:
        experiment: every setting.
        task: the plan, with a reason for each choice in `task.why`.
        fingerprint: what was measured of the data.
        cost: what a training step costs, as measured.
        steps: of the training; None where its epochs become steps only once the data are prepared.
    """

    experiment: Experiment
    task: Task
    fingerprint: Fingerprint
    cost: Cost
    steps: int | None

    @property
    def step_seconds(self) -> float:
        return self.cost.seconds(voxels_of(self.task, self.experiment.train))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `boxel plan --json` prints them: bytes and seconds."""
        peak = self.cost.peak(voxels_of(self.task, self.experiment.train))
        return {
            "recipe": self.experiment.recipe,
            "task": self.task.to_dict(),
            "steps": self.steps,
            "seconds_per_step": self.step_seconds,
            "training_seconds": None if self.steps is None else self.steps * self.step_seconds,
            "memory": {"step": peak, "fixed": self.cost.fixed, "per_voxel": self.cost.per_voxel},
            "settings": self.experiment.to_dict(),
        }


def plan(
    data: Path | str | Dataset,
    *,
    recipe: str | Experiment = "auto",
    model: str | None = None,
    overrides: Sequence[str] = (),
    progress: Progress = silent,
) -> Planned:
    """Measure a data set and plan its training, with the time and the memory of a step; nothing is written.

    Args:
        data: a data set, in any layout that Boxel recognises, or a folder that `prepare` wrote.
        recipe: see `prepare` and `train`.
        model: the recipe for this model instead of its own.
        overrides: settings to change, each `"key=value"`.

    Raises:
        ValueError: `prepare` or `train` would refuse the data or the settings; or the memory is too small.
    """
    work = Path(data) if isinstance(data, str | Path) and (Path(data) / "manifest.json").exists() else None
    if work is not None:
        store = Store(work)
        experiment = as_prepared(store, recipe, model, overrides)
        check_budget(experiment.train)
        fingerprint = store.fingerprint
        experiment = within_gpu(fingerprint, fit(fingerprint, experiment, fitted_before(work)))
        task = plan_for(store, experiment)
        sampler = PatchSampler(store, store.splits[0].train, task, experiment.train.sampler, seed=0)
        experiment = with_epochs(experiment, sampler)
    else:
        dataset = as_dataset(data)
        experiment = get_recipe(recipe, model).override(overrides)
        check_budget(experiment.train)
        splits = check_dataset(dataset, experiment.plan, num_folds=None, seed=0)
        fingerprint = measure(dataset, ids=used_cases(splits), progress=progress)
        experiment = within_gpu(fingerprint, fit(fingerprint, experiment))
        task = plan_cases(dataset, fingerprint, experiment.plan)
    cost = calibrate(task, experiment, fingerprint.objects_per_image["median"])
    train = experiment.train
    steps = None if train.epochs else train.steps
    if train.budget_seconds:
        seconds = cost.seconds(voxels_of(task, train))
        steps = max(1, int(USED * (1 - VALIDATING) * train.budget_seconds / seconds))
    return Planned(experiment, task, fingerprint, cost, steps)
