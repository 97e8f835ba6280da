"""How long a training is: epochs, or a time, become steps when it starts."""

import logging
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from boxel.api.fitting import on_gpu, say_measuring
from boxel.api.validation import make_validation, validation_ids
from boxel.loading.sampler import PatchSampler
from boxel.preparation.store import Store
from boxel.recipes import Experiment
from boxel.training.child import in_child
from boxel.training.config import GPU_DAY, LAST, TrainConfig
from boxel.training.cost import Clock, StepCost, run_steps
from boxel.training.devices import make_fabric
from boxel.types import Split, Task
from boxel.wording import counted

USED = 0.95  # share of a budget that is planned with, as times vary
VALIDATING = 0.15  # most of it that validations take
THRESHOLDS = 0.1  # of a budget, for the score thresholds at the end
FEWEST, MOST = 4, 10  # validations
LEAST_STEPS = 10
SECONDS = 20.0  # for which steps are measured, and validations
SAMPLE = 4  # cases to validate on
# What a budget decides, besides the warm-up.
DECIDED = ("steps", "validate_every", "validation_cases", "keep")


@dataclass(frozen=True)
class Validations:
    """The validations of a training: how many, on how many cases, of how many kept checkpoints in the end."""

    count: int
    cases: int
    keep: int
    seconds: float


def as_started(run: Path, experiment: Experiment) -> Experiment | None:
    """The experiment with what was measured when its training was started in `run`; None if it was not.

    A training that is resumed keeps its steps, and its voxels per step.
    """
    if not (run / "config.json").exists():
        return None
    before = Experiment.load(run / "config.json")
    if experiment.train.budget and experiment.train.budget == before.train.budget:
        decided = {name: getattr(before.train, name) for name in DECIDED}
        experiment = _with(experiment, warmup=_warmup(experiment.train, before.train.steps), **decided)
    if before.plan.memory and experiment.plan.memory in (None, before.plan.memory):
        limits = {name: getattr(before.plan, name) for name in ("memory", "voxels_per_step")}
        plan = experiment.plan.model_copy(update=limits)
        experiment = experiment.model_copy(update={"plan": plan, "reproduces": before.reproduces})
    return experiment


def with_epochs(experiment: Experiment, sampler: PatchSampler) -> Experiment:
    """The experiment with its epochs, if it has any, converted to steps."""
    train = experiment.train
    if train.epochs is None:
        return experiment
    patches, batch = sampler.patches_per_epoch, (train.batch_size or sampler.task.batch_size) * train.devices
    steps = max(1, round(train.epochs * patches / batch))
    logging.getLogger("boxel").info(
        f"{train.epochs:g} epochs = {steps} steps of {batch} patches ({patches} patches per epoch)"
    )
    return _with(experiment, steps=steps, epochs=None)


def time_used() -> tuple[float, float]:
    """Seconds of a wall clock, and of the processor for this process and those that it started and that have ended."""
    return time.perf_counter(), sum(os.times()[:4])


def with_budget(
    store: Store, split: Split, task: Task, experiment: Experiment, began: tuple[float, float]
) -> Experiment:
    """The experiment with its budget, if it has one, converted to steps, from measured ones and measured validations.

    Args:
        began: when the time of the budget began, by `time_used`; on a busy machine the processor's time counts.

    Raises:
        ValueError: the budget is too short, or a day of a GPU and there is none.
    """
    train = experiment.train
    budget = train.budget_seconds
    if budget is None:
        return experiment
    check_budget(train)
    step, case, ids = measure_training(store, split, task, experiment)
    used = min(now - then for now, then in zip(time_used(), began, strict=True))
    training = 1 - THRESHOLDS if ids else 1.0
    left = USED * (training * budget - used)
    validations = plan_validations(train, case, len(ids), len(split.val), left)
    steps = int((left - validations.seconds) / step.seconds)
    if steps < LEAST_STEPS:
        needed = budget + (LEAST_STEPS * step.seconds + validations.seconds - left) / (USED * training)
        raise ValueError(
            f"train.budget={train.budget} is too short: a training step takes {step.seconds:.3g} s and a validation of "
            f"a case {case:.3g} s; give at least {math.ceil(needed / 60)}min, or choose a smaller recipe"
        )
    logging.getLogger("boxel").info(
        f"budget {train.budget}: {counted(steps, 'step')} of {step.seconds:.3g} s, "
        f"{counted(validations.count, 'validation')} on {counted(validations.cases, 'case')} of {case:.3g} s"
    )
    cases = train.validation_cases if validations.cases == len(ids) else validations.cases
    return _with(
        experiment,
        steps=steps,
        validate_every=math.ceil(steps / validations.count),
        validation_cases=cases,
        keep=validations.keep,
        warmup=_warmup(train, steps),
    )


def measure_training(
    store: Store, split: Split, task: Task, experiment: Experiment
) -> tuple[StepCost, float, Sequence[str]]:
    """What a training step costs, the seconds of a validation of one case, and the cases to validate on."""
    ids = validation_ids(store, split, experiment)
    sample = ids[:: max(1, len(ids) // SAMPLE)][:SAMPLE]
    say_measuring()
    return *in_child(measure, store, split.train, task, experiment, sample), ids


def check_budget(train: TrainConfig) -> None:
    """Raise ValueError if the budget is a day of a GPU, and the training runs on none."""
    if train.budget == GPU_DAY and not on_gpu(train):
        raise ValueError(
            f"train.budget={GPU_DAY}: torch {torch.__version__} finds no GPU on this machine; give the time in hours, "
            "such as 24h"
        )


def plan_validations(train: TrainConfig, seconds: float, cases: int, all_cases: int, budget: float) -> Validations:
    """As many validations as take at most a share of the budget, on fewer cases where there would be too few.

    Args:
        seconds: of a case.
        cases: that a training validates on.
        all_cases: that the kept checkpoints are validated on in the end, if these are more.
        budget: seconds of the training.
    """
    seconds, limit, keep, final = max(seconds, 1e-6), VALIDATING * budget, train.keep, 0.0
    fits = min(cases, max(1, int(limit / seconds / FEWEST)))
    if fits < all_cases and keep > 1 and train.select_by != LAST:
        keep = max(1, min(keep, int(limit / 2 / seconds / all_cases)))
        final = keep * all_cases * seconds if keep > 1 else 0.0
        fits = min(cases, max(1, int((limit - final) / seconds / FEWEST)))
    each = max(fits, 1) * seconds
    count = max(1, min(MOST, int((limit - final) / each)))
    return Validations(count, fits, keep, count * each + final if cases else 0.0)


def measure(
    store: Store, ids: Sequence[str], task: Task, experiment: Experiment, sample: Sequence[str]
) -> tuple[StepCost, float]:
    """What a training step costs, and the seconds of a validation of one case; in a process that does nothing else."""
    train, model = experiment.train, experiment.model
    [step] = run_steps(store, ids, task, model, train, [train.batch_size or task.batch_size], SECONDS)
    built = model.build(task).eval().to(make_fabric(train.model_copy(update={"devices": 1})).device)
    laps: list[float] = []
    for case in [*sample[:1], *sample]:  # the first time is slower
        validate = make_validation(store, [case], task, experiment)
        clock = Clock(next(built.parameters()).device)
        with torch.inference_mode():
            validate(built)
        laps.append(clock.lap())
        if sum(laps) > SECONDS:
            break
    counted_laps = laps[1:] or laps
    return step, sum(counted_laps) / max(1, len(counted_laps))


def _warmup(train: TrainConfig, steps: int) -> int:
    """The warm-up, of at most a tenth of the steps."""
    return min(train.warmup, max(1, steps // 10))


def _with(experiment: Experiment, **changes: Any) -> Experiment:
    return experiment.model_copy(update={"train": experiment.train.model_copy(update=changes)})
