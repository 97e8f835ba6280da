"""Generated training patches, which cost as much as real ones."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from boxel.training.config import TrainConfig
from boxel.types import Batch, Instances, Task


@dataclass(frozen=True)
class MadeUp:
    """Noise with objects as large as the anchors.

    Attributes:
        objects: number in each patch.
    """

    objects: int = 1

    def batches(self, task: Task, config: TrainConfig) -> Iterator[Batch]:
        """As many as `config` has steps; the regions are as large as those that a sampler reads for it."""
        generator = torch.Generator().manual_seed(0)
        margin = config.augment.margin
        region = tuple(size + 2 * math.ceil(size * (margin - 1) / 2) for size in task.patch_size)
        count = config.batch_size or task.batch_size
        for _ in range(config.steps):
            drawn = [self._objects(task, region, generator) for _ in range(count)]
            label_maps = torch.zeros((count, *region), dtype=torch.int32)
            for label_map, objects in zip(label_maps, drawn, strict=True):
                for (lower, upper), number in zip(objects.boxes.long().tolist(), objects.ids.tolist(), strict=True):
                    label_map[tuple(map(slice, lower, upper))] = number
            images = torch.randn((count, task.input_channels, *region), generator=generator)
            yield Batch(
                images, label_maps, drawn, ("generated",) * count, [torch.zeros((0, 2, task.ndim))] * count
            )  # fmt: skip

    def _objects(self, task: Task, region: tuple[int, ...], generator: torch.Generator) -> "Instances[torch.Tensor]":
        known = torch.tensor([size for level in task.anchors for size in level]).round().clamp(min=1)
        numbers = torch.arange(self.objects)
        sizes = torch.minimum(known[numbers % len(known)], torch.tensor(region))
        lower = (torch.rand(sizes.shape, generator=generator) * (torch.tensor(region) - sizes + 1)).floor()
        labels = numbers % len(task.classes)
        masked = torch.full(numbers.shape, task.masks)
        return Instances(torch.stack([lower, lower + sizes], 1), labels, numbers + 1, masked)
