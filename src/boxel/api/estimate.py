"""`boxel train --dry-run`: what a training will take; writes nothing."""

from collections.abc import Sequence
from pathlib import Path

from boxel.api.budget import measure_training
from boxel.api.run import check_same_run
from boxel.api.start import start_of
from boxel.recipes import Experiment
from boxel.training.checkpoints import saved_step
from boxel.training.estimate import Estimate, validations_left

__all__ = ["Estimate", "estimate"]


def estimate(
    work: Path | str,
    run: Path | str | None = None,
    *,
    fold: int = 0,
    recipe: str | Experiment = "auto",
    model: str | None = None,
    overrides: Sequence[str] = (),
) -> Estimate:
    """Measure a few steps and validations of the training that `boxel.train` would do or resume; nothing is written.

    The arguments are those of `boxel.train`.

    Raises:
        ValueError: `boxel.train` would refuse the data or the settings.
    """
    start = start_of(work, run, fold, recipe, model, overrides)
    check_same_run(start.run, start.experiment, start.task, start.split)
    train, done = start.experiment.train, saved_step(start.run)
    with start.memory_explained():
        step, case, ids = measure_training(start.store, start.split, start.task, start.experiment)
    return Estimate(
        steps=max(0, train.steps - done),
        step_seconds=step.seconds,
        validations=validations_left(train, done),
        validation_seconds=case * len(ids),
        memory=step.peak,
        disk=start.disk(),
    )
