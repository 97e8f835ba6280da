"""How the learning rate falls over a training."""

import math
from abc import abstractmethod
from itertools import pairwise
from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from boxel.config import Choice

Share = Annotated[float, Field(gt=0, lt=1)]


class ScheduleConfig(Choice):
    """How the learning rate falls, after a warm-up."""

    default: ClassVar[str] = "poly"

    @abstractmethod
    def factor_at(self, done: float) -> float:
        """The factor on the learning rate after the share `done` of the training, from 0 to 1."""


class PolyConfig(ScheduleConfig, name="poly"):
    """Falls to zero, almost in a straight line: (1 - t)^0.9."""

    def factor_at(self, done: float) -> float:
        return (1 - done) ** 0.9  # type: ignore[no-any-return]


class CosineConfig(ScheduleConfig, name="cosine"):
    """Falls to zero along half a cosine."""

    def factor_at(self, done: float) -> float:
        return 0.5 * (1 + math.cos(math.pi * done))


class ConstantConfig(ScheduleConfig, name="constant"):
    """Does not fall."""

    def factor_at(self, done: float) -> float:
        return 1.0


class StepsConfig(ScheduleConfig, name="steps"):
    """Falls at once at given points of the training.

    Attributes:
        at: when, as shares of the training, in rising order: epochs 25 and 50 of 60 are 0.4167 and 0.8333.
        factor: what each fall multiplies the learning rate by.
    """

    at: tuple[Share, ...] = Field((0.42, 0.83), min_length=1)
    factor: float = Field(0.1, gt=0, lt=1)

    @field_validator("at")
    @classmethod
    def _rising(cls, at: tuple[float, ...]) -> tuple[float, ...]:
        if any(later <= earlier for earlier, later in pairwise(at)):
            raise ValueError("shares of the training must rise; give each once, in order")
        return at

    def factor_at(self, done: float) -> float:
        return self.factor ** sum(done >= share for share in self.at)  # type: ignore[no-any-return]
