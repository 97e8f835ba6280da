"""The training loop: reproducible, resumable after any step, on any number of devices."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from boxel.cores import warn_if_busy
from boxel.loading.augment import augment
from boxel.loading.loader import batches, to_device
from boxel.loading.sampler import PatchSampler
from boxel.models.base import Model, ModelConfig
from boxel.nn.nd import channels_last
from boxel.preparation.store import Store
from boxel.training.checkpoints import forget_after, keep_best, load_resume, save_resume, state_tensors
from boxel.training.config import LAST, TrainConfig
from boxel.training.devices import make_fabric
from boxel.training.divergence import all_finite, describe, describe_state, of_all_processes, stop
from boxel.training.log import MetricsLog
from boxel.training.memory import keep_freed_memory
from boxel.training.optimise import MovingAverage, build_optimizer, learning_rate
from boxel.training.patience import LastPhase, last_phase
from boxel.training.tensors import not_finite
from boxel.types import Batch, Task

Metrics = dict[str, float]
STEPS_TO_JUDGE = 20  # whether the cores are busy


def train(
    run: Path,
    store: Store,
    ids: list[str],
    task: Task,
    model_config: ModelConfig,
    config: TrainConfig,
    *,
    seed: int,
    initial: Mapping[str, Tensor] | None = None,
    validate: Callable[[Model], Metrics],
    on_step: Callable[[int, Metrics], None],
    on_start: Callable[[int, torch.device], None] = lambda step, device: None,
    finish: Callable[[Model], None] | None = None,
) -> None:
    """Train one model into `run`, or resume from the state that an interrupted training left there.

    Step `s` with seed `n` always sees the same patches, so a resumed training ends like an uninterrupted one.

    Args:
        initial: pretrained tensors by their names in the model's state; all others are initialised at random.
        validate: returns the metrics of a model on the validation cases, among them `config.select_by` where that is a
            metric; or nothing, where there are no validation cases.
        on_step: called after each step with its number and its metrics.
        on_start: called before the first step, in one process, with the steps done before and the device.
        finish: called after the last step, in one process, with the model on its device; it may change the weights.

    Raises:
        DivergedError: the loss is not finite; names the step, the terms and the cases. The state saved before is kept.
    """
    keep_freed_memory()
    torch.manual_seed(seed)
    model = model_config.build(task).train()
    if initial is not None:
        model.load_state_dict({**model.state_dict(), **initial})
    trainer = set_up(channels_last(model, task.ndim), config)
    is_main = trainer.fabric.global_rank == 0
    state = (model, trainer.optimizer, trainer.average, trainer.fabric.strategy.precision)
    steps_done = load_resume(run, *state)
    if is_main:
        forget_after(run, steps_done)
        on_start(steps_done, trainer.fabric.device)
    log = MetricsLog(run / "metrics.jsonl", steps_done, write=is_main)
    started = time.perf_counter() - log.seconds
    seconds = log.seconds  # of training, including the time before an interruption
    last = last_phase(log.validations, config)
    trained, saved = is_finished(config, steps_done, seconds, last), steps_done
    judged = steps_done + STEPS_TO_JUDGE
    patches = () if trained else training_batches(trainer, store, ids, task, steps_done, seed)
    for step, batch in enumerate(patches, start=steps_done):
        lr = learning_rate(config, step, seconds, last)
        try:
            measured = augment_and_train(trainer, batch, task, step, lr, seed)
        except FloatingPointError as error:
            raise stop(run, str(error), saved, step + 1, config, write=is_main) from None
        steps_done = step + 1
        seconds = trainer.fabric.broadcast(round(time.perf_counter() - started, 3))
        is_last = is_finished(config, steps_done, seconds, last)
        measured |= {"lr": lr, "seconds": seconds}
        validates = steps_done % config.validate_every == 0 or is_last
        saves = steps_done % config.save_every == 0 or is_last
        if (validates or saves) and (bad := not_finite(state_tensors(*state), model)):  # in all processes alike
            message = describe_state(steps_done, lr, bad, config)
            raise stop(run, message, saved, steps_done, config, write=is_main)
        if validates and is_main:
            measured |= validate_and_keep(trainer, run, steps_done, validate)
        log.add({"step": steps_done, **measured})
        if validates:
            last = trainer.fabric.broadcast(last_phase(log.validations, config))
        if saves:
            saved = steps_done
            if is_main:
                save_resume(run, steps_done, *state)
        if steps_done == judged and is_main and trainer.fabric.device.type == "cpu":
            warn_if_busy(torch.get_num_threads())
        trainer.fabric.barrier()
        on_step(steps_done, measured)
        if is_last:
            break
    if finish and is_main:
        finish(trainer.model)


@dataclass
class Trainer:
    """What training changes from step to step.

    Attributes:
        loss_terms: `model`'s loss, wrapped for its devices and precision.
        average: moving average of the weights, if the configuration asks for one.
    """

    config: TrainConfig
    fabric: Any
    model: Model
    loss_terms: Any
    optimizer: Any
    average: MovingAverage | None


def set_up(model: Model, config: TrainConfig) -> Trainer:
    """Move a model to its devices and give it an optimiser."""
    if config.compile:  # the network alone: matching and suppression have compiled kernels of their own
        model.infer = torch.compile(model.infer)  # type: ignore[method-assign]
    fabric = make_fabric(config, unused_parameters=len(model.phases) > 1 or not model.learns_segmentation)
    optimizer = build_optimizer(model, config)
    model = model.to(fabric.device)
    average = MovingAverage(model, config.average) if config.average else None
    loss_terms, optimizer = fabric.setup(LossTerms(model), optimizer)
    return Trainer(config, fabric, model, loss_terms, optimizer, average)


def augment_and_train(trainer: Trainer, batch: Batch, task: Task, step: int, lr: float, seed: int) -> Metrics:
    """Augment a batch on the device and train on it; `seed` is that of the training, see `train_step`."""
    phase_seeds, augmentation_seed = step_seeds(seed, step, trainer.fabric.global_rank, len(trainer.model.phases))
    generator = torch.Generator().manual_seed(augmentation_seed)
    batch = augment(to_device(batch, trainer.fabric.device), trainer.config.augment, task.patch_size, generator)
    return train_step(trainer, batch, step, lr, phase_seeds)


def train_step(trainer: Trainer, batch: Batch, step: int, lr: float, seeds: tuple[int, ...]) -> Metrics:
    """One optimiser step for each phase of the model.

    Args:
        step: number of the step, from 0.
        lr: learning rate.
        seeds: for each phase, the seed of everything that is drawn in it.

    Returns:
        The loss, and its terms under `loss/TERM`, or `loss/PHASE/TERM` where there are several phases.

    Raises:
        FloatingPointError: the loss is not finite, here or in another process; the weights are those before.
    """
    fabric, optimizer, phases = trainer.fabric, trainer.optimizer, trainer.model.phases
    for group in optimizer.param_groups:
        group["lr"] = lr
    total = 0.0
    measured: Metrics = {}
    for phase, seed in zip(phases, seeds, strict=True):
        torch.manual_seed(seed)
        terms = trainer.loss_terms(batch.images, Sealed(batch), phase)
        loss = torch.stack(list(terms.values())).sum()
        values = {name: term.item() for name, term in terms.items()}
        if not all_finite(loss, fabric.world_size):
            own = "" if math.isfinite(loss.item()) else describe(step + 1, lr, values, batch.cases, trainer.config)
            raise FloatingPointError(of_all_processes(own, fabric.world_size))
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        if trainer.config.clip_norm:
            fabric.clip_gradients(
                trainer.loss_terms, optimizer, max_norm=trainer.config.clip_norm, error_if_nonfinite=False
            )
        optimizer.step()
        prefix = f"loss/{phase}/" if len(phases) > 1 else "loss/"
        total += loss.item()
        measured |= {prefix + name: value for name, value in values.items()}
    if trainer.average is not None:
        trainer.average.update(trainer.model, step)
    return {"loss": total, **measured}


def validate_and_keep(trainer: Trainer, run: Path, step: int, validate: Callable[[Model], Metrics]) -> Metrics:
    """Validate the averaged weights, rank them as a checkpoint, and return the metrics under `val/NAME`."""
    model, config = trainer.model, trainer.config
    raw = {name: value.clone() for name, value in model.state_dict().items()}
    weights = trainer.average.state if trainer.average else raw
    model.load_state_dict(weights)
    model.eval()
    try:
        with torch.inference_mode():
            metrics = validate(model)
    finally:
        model.train()
        model.load_state_dict(raw)
    ranked = metrics and config.select_by != LAST
    keep_best(run, weights, step, metrics[config.select_by] if ranked else 0.0, config.keep)
    return {f"val/{name}": value for name, value in metrics.items()}


def step_seeds(seed: int, step: int, rank: int, num_phases: int) -> tuple[tuple[int, ...], int]:
    """The seeds of a step in the process `rank`: one for each phase, and that of the augmentation."""
    stream = np.random.SeedSequence([seed, step, rank]).generate_state(1 + num_phases).tolist()
    # The second is the augmentation's, as when every model had one phase: seeds keep their meaning.
    return (stream[0], *stream[2:]), stream[1]


def training_batches(
    trainer: Trainer, store: Store, ids: list[str], task: Task, first_step: int, seed: int
) -> Iterator[Batch]:
    """The batches of this process, from step `first_step` to the last."""
    config, fabric = trainer.config, trainer.fabric
    sampler = PatchSampler(store, ids, task, config.sampler, seed=seed, margin=config.augment.margin)
    return batches(
        sampler, config.batch_size or task.batch_size, first_step, config.steps,
        num_workers=num_workers(config, fabric.device), rank=fabric.global_rank, world_size=fabric.world_size,
    )  # fmt: skip


def num_workers(config: TrainConfig, device: torch.device) -> int:
    """The processes that load batches for a device."""
    return (0 if device.type == "cpu" else 8) if config.num_workers is None else config.num_workers


def is_finished(config: TrainConfig, steps_done: int, seconds: float, last: LastPhase | None) -> bool:
    """Whether a training ends after this many steps and seconds."""
    return steps_done >= (last.end if last else config.steps) or (
        config.max_seconds is not None and seconds >= config.max_seconds
    )


class Sealed:
    """A batch that wrappers hand on unopened: they would copy and cast every tensor in it, coordinates included."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch


class LossTerms(nn.Module):
    """The loss terms of a batch as one forward pass, which is what wrappers for devices and precision expect."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, sealed: Sealed, phase: str) -> dict[str, Tensor]:
        return self.model(images, sealed.batch, phase=phase)
