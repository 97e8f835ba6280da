"""What a training step costs: its seconds and the peak of the memory, measured in a few real steps."""

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from boxel.inputs.memory import process_memory
from boxel.loading.loader import PREFETCH
from boxel.models.base import ModelConfig
from boxel.nn.nd import channels_last
from boxel.preparation.store import Store
from boxel.training.child import in_child
from boxel.training.config import TrainConfig
from boxel.training.loop import Trainer, augment_and_train, num_workers, set_up, training_batches
from boxel.training.made_up import MadeUp
from boxel.training.optimise import learning_rate
from boxel.types import Batch, Task

WARM_UP, MEASURED = 2, (30, 6)  # steps; on a GPU, whose loaders may hold it up now and then, and on the CPU


@dataclass(frozen=True)
class StepCost:
    """What a step costs.

    Attributes:
        voxels: of all patches of a step, of one process.
        seconds: of a step, on a machine that does nothing else.
        peak: most bytes that were taken: of the memory of the device, or, on the CPU, of the process.
        libraries: the part of `peak` that was taken before the model was built.
    """

    voxels: int
    seconds: float
    peak: int
    libraries: int


def _backend(device: torch.device) -> Any:
    """The module of torch for a device, such as `torch.cuda`."""
    return getattr(torch, device.type, None)


class Clock:
    """Seconds of work on a device.

    On the CPU these are those of the processor: of all threads, divided by their number, or of this thread, which works
    all the time, if that is more. Unlike the time of a wall clock, they do not grow when the machine has other work.

    Args:
        backend: what stands in for the module of torch for the device.
    """

    def __init__(self, device: torch.device, backend: Any = None) -> None:
        self.of_processor = device.type == "cpu"
        self.backend = backend or _backend(device)
        self.last = self._now()

    def lap(self) -> float:
        """Seconds since the last call, or since the clock was made."""
        before, self.last = self.last, self._now()
        return max(now - then for now, then in zip(self.last, before, strict=True))

    def _now(self) -> tuple[float, ...]:
        if self.of_processor:
            return time.process_time() / torch.get_num_threads(), time.thread_time()
        self.backend.synchronize()
        return (time.perf_counter(),)


class Memory:
    """The most bytes that were taken on a device since this was made; on the CPU, since the process began."""

    def __init__(self, device: torch.device, backend: Any = None) -> None:
        self.device, self.most = device, 0
        self.backend = backend or _backend(device)
        if device.type == "cuda":
            self.backend.reset_peak_memory_stats(device)

    def peak(self) -> int:
        """Call it after each step: MPS does not record its peak."""
        match self.device.type:
            case "cpu":
                self.most = process_memory()[1]
            case "cuda":
                self.most = self.backend.max_memory_reserved(self.device)
            case "mps":
                self.most = max(self.most, self.backend.driver_allocated_memory())
        return self.most


def measure_step(
    source: Store | MadeUp,
    ids: Sequence[str],
    task: Task,
    model: ModelConfig,
    config: TrainConfig,
    *,
    seconds: float = 60.0,
) -> StepCost:
    """Measure what a training step costs, in a process of its own.

    The random states of this process and everything else in it stay as they are.

    Args:
        source: the prepared data, or generated patches.
        ids: the cases to train on.
        seconds: most that the steps may take; there are two in any case.

    Raises:
        ValueError: the model cannot be trained like this.
        OutOfMemoryError: a step needs more memory than there is.
    """
    return in_child(run_steps, source, ids, task, model, config, [config.batch_size or task.batch_size], seconds)[0]


def run_steps(
    source: Store | MadeUp,
    ids: Sequence[str],
    task: Task,
    model: ModelConfig,
    config: TrainConfig,
    batch_sizes: Sequence[int],
    seconds: float,
) -> list[StepCost]:
    """Measure steps with each of some rising batch sizes, in this process, which has done nothing else yet."""
    torch.manual_seed(0)
    before = process_memory()[0]
    config = config.model_copy(update={"devices": 1})
    trainer = set_up(channels_last(model.build(task).train(), task.ndim), config)
    device, costs = trainer.fabric.device, []
    memory, on_cpu = Memory(device), device.type == "cpu"
    warm_up = WARM_UP + PREFETCH * num_workers(config, device)  # what loaders have ready would flatter the first steps
    for size in batch_sizes:
        sized = config.model_copy(update={"batch_size": size, "steps": warm_up + MEASURED[on_cpu]})
        laps: list[float] = []
        clock = Clock(device)
        for step, batch in enumerate(_batches(source, list(ids), task, replace(trainer, config=sized))):
            augment_and_train(trainer, batch, task, step, learning_rate(config, step), seed=0)
            laps.append(clock.lap())
            peak = memory.peak()
            if len(laps) > 1 and sum(laps) > seconds:
                break
        counted = laps[warm_up:] or laps[-1:]
        took = statistics.median(counted) if on_cpu else statistics.fmean(counted)
        costs.append(StepCost(size * math.prod(task.patch_size), took, peak, before if on_cpu else 0))
    return costs


def _batches(source: Store | MadeUp, ids: list[str], task: Task, trainer: Trainer) -> Iterator[Batch]:
    if isinstance(source, Store):
        return training_batches(trainer, source, ids, task, 0, seed=0)
    return source.batches(task, trainer.config)
