"""Samples to batches, in order, from any step; in worker processes only where they help.

A failing worker process raises an error and never blocks: one that dies is noticed within `POLL` seconds, one that
hangs after `PATIENCE`.
"""

import math
import shutil
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from boxel.loading.sampler import PatchSampler
from boxel.types import Batch, Sample

POLL = 5.0
PATIENCE = 600.0
PREFETCH = 2  # batches that a worker prepares ahead
SHARED = Path("/dev/shm")  # where workers hand batches over; 64 MiB in a container unless asked for more


class _Batches(Dataset[Batch | ValueError]):
    """Errors in the data are returned, not raised: a worker would wrap them in its own traceback."""

    def __init__(self, sampler: PatchSampler) -> None:
        self.sampler = sampler

    def __getitem__(self, indices: list[int]) -> Batch | ValueError:
        samples = []
        for index in indices:
            try:
                samples.append(self.sampler[index])
            except Exception as error:
                problem = f"case {self.sampler.place(index)[0]!r}, training sample {index}: {error}"
                if isinstance(error, ValueError):
                    return ValueError(problem)
                raise RuntimeError(problem) from error
        return collate(samples)


def collate(samples: list[Sample]) -> Batch:
    """Stack patches into a batch; the objects of each image stay one record, of tensors."""
    return Batch(
        torch.from_numpy(np.stack([sample.image for sample in samples])),
        torch.from_numpy(np.stack([sample.label_map for sample in samples]).astype(np.int32)),
        [sample.instances.map(lambda a: torch.from_numpy(np.ascontiguousarray(a))) for sample in samples],
        tuple(sample.case for sample in samples),
        [torch.from_numpy(np.ascontiguousarray(sample.ignored)) for sample in samples],
    )


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device; copies from pinned memory do not block."""
    if device.type == "cpu":
        return batch
    instances = [objects.map(lambda t: t.to(device, non_blocking=True)) for objects in batch.instances]
    return replace(
        batch,
        images=batch.images.to(device, non_blocking=True),
        label_maps=None if batch.label_maps is None else batch.label_maps.to(device, non_blocking=True),
        instances=instances,
        ignored=[boxes.to(device, non_blocking=True) for boxes in batch.ignored],
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
    """The batches of steps `first_step`..`last_step - 1` of this process; step s always holds the same samples.

    If worker processes cannot be started, this process reads instead, with a warning.

    Raises:
        ValueError: a case cannot be read (names it), or shared memory is too small for this number of workers.
        RuntimeError: a worker died or hangs.
    """
    plan = [
        [(step * world_size + rank) * batch_size + i for i in range(batch_size)]
        for step in range(first_step, last_step)
    ]
    if num_workers:
        _check_shared_memory(sampler, batch_size, num_workers)
        try:
            return _watched(_iterator(sampler, plan, num_workers))
        except (OSError, ImportError, AssertionError) as error:  # no memory, no semaphores, a daemon's child
            warnings.warn(
                f"loader processes cannot be started ({error}); this process reads instead, which is slower "
                "(train.num_workers=0 avoids the attempt)",
                stacklevel=2,
            )
    return map(_checked, _iterator(sampler, plan, 0))


def _iterator(sampler: PatchSampler, plan: Sequence[list[int]], num_workers: int) -> Iterator[Batch | ValueError]:
    return iter(
        DataLoader(
            _Batches(sampler),
            batch_size=None,
            sampler=plan,
            num_workers=num_workers,
            prefetch_factor=PREFETCH if num_workers else None,
            pin_memory=torch.cuda.is_available(),
            timeout=POLL if num_workers else 0,
        )
    )


def _checked(batch: Batch | ValueError) -> Batch:
    if isinstance(batch, ValueError):
        raise batch
    return batch


def _watched(iterator: Iterator[Batch | ValueError]) -> Iterator[Batch]:
    """The batches, or an error that says what happened to the workers."""
    waited = 0.0
    while True:
        try:
            batch = next(iterator)
        except StopIteration:
            return
        except RuntimeError as error:
            if "timed out" in str(error):  # the workers are alive; the iterator can be asked again
                waited += POLL
                if waited < PATIENCE:
                    continue
                raise RuntimeError(f"no batch for {waited:.0f} s; is the disk reachable? {_FIX}") from error
            if "killed by signal" in str(error) or "exited unexpectedly" in str(error):
                raise RuntimeError(
                    f"{error}; the system kills processes when memory runs out. {_FIX}, or give the "
                    f"container more shared memory (docker run --shm-size=8g)"
                ) from error
            raise
        waited = 0.0
        yield _checked(batch)


_FIX = "Start again with fewer train.num_workers or 0"


def _check_shared_memory(sampler: PatchSampler, batch_size: int, num_workers: int) -> None:
    """Raise ValueError if the prefetched batches would not fit; a worker would crash halfway."""
    if not SHARED.exists():
        return
    values = (sampler.task.input_channels + 1) * batch_size * math.prod(sampler.region)
    needed, free = 4 * values * (PREFETCH * num_workers + 1), shutil.disk_usage(SHARED).free
    if needed > free:
        raise ValueError(
            f"train.num_workers is {num_workers}: their batches take {needed / 2**20:,.0f} MiB of shared memory, "
            f"{SHARED} has {free / 2**20:,.0f} MiB left; set train.num_workers=0, or give the container more "
            f"(docker run --shm-size={math.ceil(needed / 2**30) + 1}g)"
        )
