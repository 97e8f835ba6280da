"""A model of two phases for tests of the loop, and a training of it by two processes.

`python -m tests.unit.training.two_phases WORK OUT`: each process writes OUT/rankN.json, see `main`.
"""

import json
import os
import sys
from pathlib import Path

import torch
from torch import nn

from boxel.models.base import Model, ModelConfig
from boxel.preparation.store import Store
from boxel.training import loop
from boxel.training.config import TrainConfig

FAST = TrainConfig(steps=4, batch_size=2, warmup=1, validate_every=2, save_every=1, accelerator="cpu", num_workers=0)


class TwoPhase(Model):
    """Fits the mean of an image by one weight, then the mean's cube by another one that builds on the first.

    Attributes:
        seen: the batches that reached the loss.
        fails_at: the loss raises when it is called for this time, counted from 1.
    """

    phases = ("line", "cube")

    def __init__(self) -> None:
        super().__init__()
        self.line, self.cube = nn.Linear(1, 1), nn.Linear(1, 1)
        self.seen: list = []
        self.fails_at: int | None = None

    def infer(self, images, *, segmentation=False, phase="all"):
        mean = images.flatten(1).mean(1, keepdim=True)
        if phase == "line":
            return phase, self.line(mean), mean
        return phase, self.cube(self.line(mean).detach()), mean**3

    def loss(self, outputs, batch):
        phase, value, target = outputs
        self.seen.append(batch)
        if len(self.seen) == self.fails_at:
            raise KeyboardInterrupt
        noise = 0.1 * torch.rand(())
        size = sum(weight.square().sum() for weight in getattr(self, phase).parameters())
        return {"error": (value - target - noise).square().mean(), "size": 1e-3 * size}

    def detect(self, outputs, *, masks=False):
        raise NotImplementedError


class TwoPhaseConfig(ModelConfig):
    """Not registered: the command line and the tests of all models do not see it."""

    fails_at: int | None = None

    def build(self, task) -> TwoPhase:
        torch.manual_seed(0)
        model = TwoPhase()
        model.fails_at = self.fails_at
        TwoPhaseConfig.built = model
        return model


def main(work: str, out: str) -> None:
    """Train in two processes; each writes its losses, and whether its batches reached the loss untouched."""
    given = []
    augment = loop.augment

    def recorded(*arguments):
        given.append(augment(*arguments))
        return given[-1]

    loop.augment = recorded
    store, losses = Store(Path(work)), []
    loop.train(
        Path(out) / "run", store, list(store.splits[0].train), store.task, TwoPhaseConfig(),
        FAST.model_copy(update={"devices": 2, "precision": "bf16"}),
        seed=3, validate=lambda model: {}, on_step=lambda step, measured: losses.append(measured),
    )  # fmt: skip
    twice = [batch for batch in given for _ in TwoPhase.phases]
    untouched = all(seen is batch for seen, batch in zip(TwoPhaseConfig.built.seen, twice, strict=True))
    path = Path(out) / f"rank{os.environ.get('LOCAL_RANK', '0')}.json"
    path.write_text(json.dumps({"losses": losses, "untouched": untouched}))


if __name__ == "__main__":
    main(*sys.argv[1:])
