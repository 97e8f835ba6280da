"""Observers of a training while it runs: what is shown of it, loggers, and the callbacks of users."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boxel.training.config import TrainConfig

Metrics = Mapping[str, float]
Callback = Callable[[int, Metrics], object]  # called with the number of a step, and its metrics


@dataclass(frozen=True)
class Begun:
    """A training that begins or is resumed.

    Attributes:
        run: its folder.
        settings: every setting, as in `config.json`.
        train: those of the training.
        device: where it runs, such as `cuda:0`.
        step: the step that it is resumed from; 0 if it begins.
        disk: bytes that it will have written.
    """

    run: Path
    settings: Mapping[str, Any]
    train: TrainConfig
    device: str
    step: int
    disk: int


class Observer:
    """An observer of a training, called in its first process; each method may be left as it is."""

    def on_start(self, begun: Begun) -> None:
        """Called before the first step."""

    def on_step(self, step: int, metrics: Metrics) -> None:
        """Called after each step with its number, from 1, and its `loss`, `loss/TERM`, `lr` and `seconds`."""

    def on_validation(self, step: int, metrics: Metrics) -> None:
        """Called after each validation with the metrics, such as `AP@0.10`, after `on_step` of the same step."""

    def on_end(self) -> None:
        """Called at the end, also after an error or an interruption."""


class Functions(Observer):
    """The callbacks of a user."""

    def __init__(self, step: Callback | None = None, validation: Callback | None = None) -> None:
        self.step, self.validation = step, validation

    def on_step(self, step: int, metrics: Metrics) -> None:
        if self.step:
            self.step(step, metrics)

    def on_validation(self, step: int, metrics: Metrics) -> None:
        if self.validation:
            self.validation(step, metrics)


class Everyone(Observer):
    """Several observers as one; those that were not told of the start are told of nothing else."""

    def __init__(self, *observers: Observer) -> None:
        self.observers = observers
        self.started: list[Observer] = []

    def on_start(self, begun: Begun) -> None:
        for one in self.observers:
            one.on_start(begun)
            self.started.append(one)

    def on_step(self, step: int, metrics: Metrics) -> None:
        validated = {key.removeprefix("val/"): value for key, value in metrics.items() if key.startswith("val/")}
        others = {key: value for key, value in metrics.items() if not key.startswith("val/")}
        for one in self.started:
            one.on_step(step, others)
            if validated:
                one.on_validation(step, validated)

    def on_end(self) -> None:
        for one in self.started:
            one.on_end()
