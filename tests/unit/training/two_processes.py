"""A training of a detector in as many processes as `DEVICES`, and the model for it.

python -m tests.unit.training.two_processes WORK RUN DEVICES BATCH_SIZE
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch

from boxel.loading.augment import NO_AUGMENTATION
from boxel.models.base import Model, ModelConfig
from boxel.preparation.store import Store
from boxel.training.config import TrainConfig
from boxel.training.loop import train
from tests.unit.builders import MODELS

SETTINGS = TrainConfig(
    steps=3, warmup=1, validate_every=3, accelerator="cpu", num_workers=0, optimizer="sgd", augment=NO_AUGMENTATION
)


class ImageByImage(Model):
    """A Retina U-Net whose loss is the mean of those of single images.

    The loss of a detector is divided by the positives of its batch and its Dice is that of the whole batch, so the mean
    of two batches' losses is not the loss of both together; the mean over images is.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def infer(self, images, *, segmentation=False, phase="all"):
        return [self.model.infer(image[None], segmentation=segmentation) for image in images]

    def loss(self, outputs, batch):
        terms = [
            self.model.loss(
                output,
                replace(
                    batch, images=batch.images[k : k + 1], label_maps=batch.label_maps[k : k + 1],
                    instances=[batch.instances[k]], ignored=[batch.ignored[k]], cases=(batch.cases[k],),
                ),
            )
            for k, output in enumerate(outputs)
        ]  # fmt: skip
        return {name: torch.stack([term[name] for term in terms]).mean() for name in terms[0]}

    def detect(self, outputs, *, masks=False):
        raise NotImplementedError


class ImageByImageConfig(ModelConfig):
    """Not registered: the command line and the tests of all models do not see it."""

    def build(self, task) -> ImageByImage:
        return ImageByImage(MODELS["retina_unet"].build(task))


def main(work: Path, run: Path, devices: int, batch_size: int) -> None:
    store = Store(work)
    train(
        run, store, ["a", "b", "c"], store.task, ImageByImageConfig(),
        SETTINGS.model_copy(update={"devices": devices, "batch_size": batch_size}),
        seed=3, validate=lambda model: {}, on_step=lambda step, measured: None,
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
