"""What `boxel train` shows of a training: where it begins, its speed and scores, and where it was interrupted."""

import statistics
from collections import deque
from itertools import pairwise

import torch

from boxel.cli.progress import Display
from boxel.inputs.memory import size_in_words
from boxel.training.checkpoints import read_ranking, saved_step
from boxel.training.config import LAST
from boxel.training.cost import Memory
from boxel.training.estimate import Estimate, validations_left
from boxel.training.observers import Begun, Metrics, Observer

MEASURED = 10  # steps from which the estimate is made
RECENT = 100  # steps whose median is the speed, which a validation does not change
STAGE = "train"
MAIN = "AP@0.10"  # is shown where no metric ranks checkpoints


class Watch(Observer):
    """Shows a training in a display."""

    def __init__(self, display: Display) -> None:
        self.display, self.score = display, ""
        self.ends: deque[float] = deque(maxlen=RECENT + 1)  # of steps, in seconds of training

    def on_start(self, begun: Begun) -> None:
        self.begun, self.step, self.memory = begun, begun.step, Memory(torch.device(begun.device))
        self.metric = MAIN if begun.train.select_by == LAST else begun.train.select_by
        self.best = max((kept.score for kept in read_ranking(begun.run)), default=0.0)
        self.display.message = self.interrupted
        resumed = f", resumed after step {begun.step:,}" if begun.step else ""
        self.display.say(
            f"training {begun.run} on {begun.device}: {begun.train.steps:,} steps{resumed}; the run takes "
            f"{size_in_words(begun.disk)} on the disk"
        )

    def on_step(self, step: int, metrics: Metrics) -> None:
        self.step = step
        self.ends.append(metrics["seconds"])
        self.now = f"loss {metrics['loss']:.4g}, lr {metrics['lr']:.2e}"
        self.show()
        if len(self.ends) == MEASURED == step - self.begun.step:
            self.display.say(f"estimate: {self.estimate()}")

    def on_validation(self, step: int, metrics: Metrics) -> None:
        value = metrics[self.metric]
        self.best = max(self.best, value)
        self.score = f"{self.metric} {value:.3f} (best {self.best:.3f})"
        self.show()
        self.display.due = True

    def show(self) -> None:
        """Bring the note of the display up to date."""
        speed = f"{1 / self.step_seconds:.3g} steps/s" if len(self.ends) > 1 else ""
        parts = (self.now, self.score, speed, self.begun.device, str(self.begun.run))
        self.display.note = ", ".join(filter(None, parts))

    def on_end(self) -> None:
        self.display.note = ""

    @property
    def step_seconds(self) -> float:
        """Seconds of a recent step."""
        return max(1e-6, statistics.median(after - before for before, after in pairwise(self.ends)))

    def estimate(self) -> Estimate:
        """What the rest of the training will take."""
        train = self.begun.train
        return Estimate(
            train.steps - self.step, self.step_seconds, validations_left(train, self.step), None,
            self.memory.peak(), self.begun.disk,
        )  # fmt: skip

    def interrupted(self) -> str:
        """Where a training was interrupted, and from where it resumes."""
        if self.display.state[0] not in ("", STAGE):  # a command may do more than train
            return self.display.interrupted()
        saved = saved_step(self.begun.run)
        step = max(self.step, saved)  # a state may be saved just before its step is reported
        return f"interrupted at step {step:,}; rerun the command to resume from step {saved:,}"
