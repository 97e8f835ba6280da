"""Samples to batches, in order, from any step; worker processes only where they help."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from boxel.data.sampler import PatchSampler
from boxel.types import Batch, Instances, Sample


class _Samples(Dataset[Sample]):
    def __init__(self, sampler: PatchSampler) -> None:
        self.sampler = sampler

    def __getitem__(self, index: int) -> Sample:
        try:
            return self.sampler[index]
        except Exception as error:
            raise RuntimeError(f"reading training sample {index} failed: {error}") from error


def collate(samples: list[Sample]) -> Batch:
    """Stack patches; objects stay one record per image, as tensors."""
    return Batch(
        torch.from_numpy(np.stack([sample.image for sample in samples])),
        torch.from_numpy(np.stack([sample.label_map for sample in samples]).astype(np.int32)),
        [sample.instances.map(lambda a: torch.from_numpy(np.ascontiguousarray(a))) for sample in samples],
        tuple(sample.case for sample in samples),
    )


def to_device(batch: Batch, device: torch.device) -> Batch:
    if device.type == "cpu":
        return batch
    instances: list[Instances] = [found.map(lambda t: t.to(device, non_blocking=True)) for found in batch.instances]
    return replace(
        batch,
        images=batch.images.to(device, non_blocking=True),
        label_maps=batch.label_maps.to(device, non_blocking=True),
        instances=instances,
    )


def batches(
    sampler: PatchSampler,
    batch_size: int,
    first_step: int,
    last_step: int,
    *,
    num_workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Batch]:
    """The batches of steps `first_step`..`last_step - 1` of this process; step s always holds the same samples."""
    plan = [
        [(step * world_size + rank) * batch_size + i for i in range(batch_size)]
        for step in range(first_step, last_step)
    ]
    return iter(
        DataLoader(
            _Samples(sampler),
            batch_sampler=plan,
            collate_fn=collate,
            num_workers=num_workers,
            pin_memory=torch.cuda.is_available(),
            timeout=600 if num_workers else 0,
        )
    )
