"""How much memory and time a training step takes with how many voxels, and how many voxels fit a limit of memory."""

import logging
import math
import warnings
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from pydantic import PositiveInt

from boxel.config import Config
from boxel.inputs.memory import size_in_words
from boxel.preparation.fingerprint import Fingerprint
from boxel.preparation.patch_and_strides import by
from boxel.preparation.plan import PlanConfig, plan
from boxel.recipes import Experiment
from boxel.training.child import in_child
from boxel.training.config import TrainConfig
from boxel.training.cost import StepCost, run_steps
from boxel.training.made_up import MadeUp
from boxel.training.memory import OutOfMemoryError
from boxel.types import Task
from boxel.wording import counted

MOST_VOXELS = {False: 2**18, True: 2**21}  # of a measured step; on a GPU
SECONDS = 30.0  # for which each of the two steps is measured
GROWTH = 1.5  # of the memory from the smaller step to the larger, from which a line can be drawn far
SHARE = 0.9  # of the memory of a GPU that a training may take
# What else than the plan and the model decides how much memory a step takes.
OF_TRAINING = ("accelerator", "average", "compile", "optimizer", "precision")


@dataclass(frozen=True)
class Cost:
    """What a training step costs, in a straight line through two measured ones.

    Attributes:
        small, large: steps with few and with many voxels.
    """

    small: StepCost
    large: StepCost

    @property
    def per_voxel(self) -> float:
        """Bytes for each voxel of a step."""
        return max(1.0, (self.large.peak - self.small.peak) / (self.large.voxels - self.small.voxels))

    @property
    def fixed(self) -> float:
        """Bytes for weights, optimiser and libraries."""
        return max(0.0, self.large.peak - self.per_voxel * self.large.voxels)

    def peak(self, voxels: int) -> float:
        """Bytes of a step with so many voxels."""
        return self.fixed + self.per_voxel * voxels

    def seconds(self, voxels: int) -> float:
        """Seconds of a step with so many voxels."""
        span = self.large.voxels - self.small.voxels
        slope = max(0.0, (self.large.seconds - self.small.seconds) / span)
        return max(slope * voxels, self.large.seconds + slope * (voxels - self.large.voxels))

    def in_words(self, task: Task, train: TrainConfig) -> str:
        """The memory of a step, such as `3.2 GiB for 4 patches of 64x64x64: 0.6 GiB fixed and 2.6 KiB per voxel`."""
        peak, parts = size_in_words(self.peak(voxels_of(task, train))), (self.fixed, self.per_voxel)
        fixed, each = map(size_in_words, parts)
        return f"{peak} for {step_in_words(task, train)}: {fixed} fixed and {each} per voxel"


class Fitted(Config):
    """The largest `plan.voxels_per_step` that fits a limit of memory, and the settings for which it was measured."""

    settings: dict[str, Any]
    voxels_per_step: PositiveInt

    @classmethod
    def of(cls, experiment: Experiment) -> Self:
        plan, train = experiment.plan.to_dict(), experiment.train.to_dict()
        voxels = plan.pop("voxels_per_step")
        settings = {
            "plan": plan,
            "model": experiment.model.to_dict(),
            "train": {key: train[key] for key in OF_TRAINING},
        }
        return cls(settings=settings, voxels_per_step=voxels)

    def apply(self, experiment: Experiment) -> Experiment | None:
        """The experiment with this number of voxels; None if that was measured for other settings."""
        same = Fitted.of(experiment).settings == self.settings
        return with_voxels(experiment, self.voxels_per_step) if same else None


def with_voxels(experiment: Experiment, voxels: int) -> Experiment:
    plan = experiment.plan.model_copy(update={"voxels_per_step": voxels})
    return experiment.model_copy(update={"plan": plan})


def voxels_of(task: Task, train: TrainConfig) -> int:
    """The voxels of all patches of a step, of one process."""
    return (train.batch_size or task.batch_size) * math.prod(task.patch_size)


def step_in_words(task: Task, train: TrainConfig) -> str:
    """The patches of a step, such as `4 patches of 64x64x64`."""
    return f"{counted(train.batch_size or task.batch_size, 'patch', 'patches')} of {by(task.patch_size)}"


def calibrate(task: Task, experiment: Experiment, objects: float, voxels: int | None = None) -> Cost:
    """Measure two training steps on generated patches, in a process of its own.

    Args:
        objects: in a patch.
        voxels: of the larger step; by default those of a step of the training, or as many as any machine can hold.

    Raises:
        ValueError: the model cannot be trained like this, or even such a step does not fit the memory.
    """
    most, unit = voxels or MOST_VOXELS[on_gpu(experiment.train)], np.prod(task.strides, axis=0)
    cells = np.array(task.patch_size) // unit
    while math.prod(cells * unit) > most // 2 and cells.max() > 1:
        cells[cells.argmax()] -= cells.max() // 2
    patch = tuple((cells * unit).tolist())
    large = max(2, (voxels or min(most, voxels_of(task, experiment.train))) // math.prod(patch))
    sizes, small = [max(1, large // 4), large], task.model_copy(update={"patch_size": patch})
    made_up = MadeUp(max(1, round(objects)))
    say_measuring()
    try:
        costs = in_child(run_steps, made_up, (), small, experiment.model, experiment.train, sizes, SECONDS)
    except OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"even a training step with {large} patches of {by(patch)} needs more memory than there is ({error}); "
            f"choose a smaller model, such as the recipe {experiment.model.type_name}_small"
        ) from None
    return Cost(*costs)


def say_measuring() -> None:
    """Say what takes so long."""
    logging.getLogger("boxel").info(f"measuring what a training step takes, for up to {2 * SECONDS:g} s")


def fit(fingerprint: Fingerprint, experiment: Experiment, known: Fitted | None = None) -> Experiment:
    """The experiment with the largest `plan.voxels_per_step` that fits `plan.memory`, if that is set.

    Args:
        known: what was measured before, and is not measured again for the same settings.

    Raises:
        ValueError: not even one patch fits.
    """
    limit, objects = experiment.plan.memory, fingerprint.objects_per_image["median"]
    if not limit:
        return experiment
    if known and (as_before := known.apply(experiment)):
        return as_before
    task = plan_silently(fingerprint, experiment.plan)
    for _ in range(2):  # a step costs more or less where the patch that fits has room for other stages
        cost = _calibrate_far(task, experiment, objects, limit)
        voxels = int((limit - cost.fixed) / cost.per_voxel)
        fitted = with_voxels(experiment, max(1, voxels))
        before, task = task, plan_silently(fingerprint, fitted.plan)
        if task.strides == before.strides:
            break
    check_fits(task, fitted, cost)
    said = cost.in_words(task, fitted.train)
    logging.getLogger("boxel").info(f"a training step takes {said} (limit {size_in_words(limit)})")
    return fitted


def _calibrate_far(task: Task, experiment: Experiment, objects: float, limit: int) -> Cost:
    """As `calibrate`, with steps so large that their tensors, not what compilers left behind, make the difference."""
    voxels = MOST_VOXELS[on_gpu(experiment.train)]
    while True:
        cost = calibrate(task, experiment, objects, voxels)
        if cost.large.peak > min(GROWTH * cost.small.peak, 0.8 * limit) or voxels > 2**28:
            return cost
        voxels *= 2


def check_fits(task: Task, experiment: Experiment, cost: Cost) -> None:
    """Raise ValueError if a step needs more than `plan.memory`."""
    limit = experiment.plan.memory or 0
    if cost.peak(voxels_of(task, experiment.train)) > limit:
        raise ValueError(
            f"plan.memory is {size_in_words(limit)}, but a training step takes "
            f"{cost.in_words(task, experiment.train)}; allow more, set fewer voxels with plan.patch_size, "
            "plan.batch_size or train.batch_size, or choose a smaller recipe, such as "
            f"{experiment.model.type_name}_small"
        )


def within_gpu(fingerprint: Fingerprint, experiment: Experiment) -> Experiment:
    """The experiment with fewer voxels per step if they would not fit the GPU; `plan.memory` says then what it has."""
    if experiment.plan.memory or not on_gpu(experiment.train):
        return experiment
    limit = int(SHARE * torch.cuda.get_device_properties(0).total_memory)
    task = plan_silently(fingerprint, experiment.plan)
    cost = calibrate(task, experiment, fingerprint.objects_per_image["median"])
    if cost.peak(voxels_of(task, experiment.train)) <= limit:
        return experiment
    plan = experiment.plan.model_copy(update={"memory": limit})
    return fit(fingerprint, experiment.model_copy(update={"plan": plan, "reproduces": ""}))


def on_gpu(config: TrainConfig) -> bool:
    """Whether a training runs on CUDA."""
    return config.accelerator in ("auto", "cuda", "gpu") and torch.cuda.is_available()


def plan_silently(fingerprint: Fingerprint, config: PlanConfig) -> Task:
    """The plan, without the warnings that the final one gives as well."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return plan(fingerprint, config)
