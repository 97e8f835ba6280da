"""When a training ends before its last step: its validation scores have not risen for long."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from boxel.training.config import TrainConfig
from boxel.training.log import Values

SMOOTHED = 3  # validations, whose mean is compared


@dataclass(frozen=True)
class LastPhase:
    """The learning rate falls to zero from step `first`, `seconds` into the training, to the step before `end`."""

    first: int
    end: int
    seconds: float


def last_phase(log: Sequence[Values], config: TrainConfig) -> LastPhase | None:
    """The last phase of a training with this log, in order; None while its scores may still rise.

    It is found from the log alone, so that a training that resumes ends at the same step.
    """
    key = f"val/{config.select_by}"
    scores = [(int(values["step"]), values[key], values["seconds"]) for values in log if key in values]
    best, since = -math.inf, 0
    for number, (step, _, seconds) in enumerate(scores if config.patience else (), start=1):
        if number < SMOOTHED:
            continue
        smoothed = statistics.mean(score for _, score, _ in scores[number - SMOOTHED : number])
        best, since = (smoothed, 0) if smoothed > best else (best, since + 1)
        if since >= (config.patience or 0):
            return LastPhase(step, min(config.steps, step + max(1, round(config.last_phase * step))), seconds)
    return None
