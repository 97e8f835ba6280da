"""What a training will take: time, memory and disk."""

import math
from dataclasses import dataclass

from boxel.inputs.memory import size_in_words
from boxel.training.config import TrainConfig
from boxel.wording import counted, time_in_words


@dataclass(frozen=True)
class Estimate:
    """What a training will take, from measured steps.

    Attributes:
        steps: how many are left.
        step_seconds: of one of them.
        validations: how many are left.
        validation_seconds: of one of them; None where none was measured.
        memory: most bytes of the device or, on the CPU, of the process.
        disk: bytes that the run folder takes.
    """

    steps: int
    step_seconds: float
    validations: int
    validation_seconds: float | None
    memory: int
    disk: int

    @property
    def seconds(self) -> float:
        """Of the steps and of the validations, as far as these were measured."""
        return self.steps * self.step_seconds + self.validations * (self.validation_seconds or 0.0)

    def __str__(self) -> str:
        each = "" if self.validation_seconds is None else f" of {time_in_words(self.validation_seconds)}"
        return (
            f"time {time_in_words(self.seconds)} for {counted(self.steps, 'step')} of "
            f"{time_in_words(self.step_seconds)}{' and' if each else ', besides'} "
            f"{counted(self.validations, 'validation')}{each}; memory {size_in_words(self.memory)}; "
            f"disk {size_in_words(self.disk)}"
        )


def validations_left(config: TrainConfig, step: int) -> int:
    """How many validations there are after a step."""
    return math.ceil(config.steps / config.validate_every) - step // config.validate_every
