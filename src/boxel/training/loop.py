"""The training loop."""

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from boxel.config import write_text
from boxel.loading.augment import augment
from boxel.loading.loader import batches, to_device
from boxel.loading.sampler import PatchSampler
from boxel.models.base import Model, ModelConfig
from boxel.nn.nd import channels_last
from boxel.preparation.store import Store
from boxel.training.checkpoints import forget_after, keep_best, load_resume, save_resume
from boxel.training.config import TrainConfig
from boxel.training.memory import keep_freed_memory
from boxel.training.optimise import MovingAverage, build_optimizer, learning_rate
from boxel.types import Batch, Task

Metrics = dict[str, float]


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
) -> None:
    """Train one model into `run`, or go on from the state a killed training left there.

    Step `s` of seed `n` always sees the same patches, so a continued training ends as an undisturbed one.

    Args:
        initial: pretrained tensors by their names in the model's state; the others are drawn at random.
        validate: the metrics of a model on the validation cases.
        on_step: called after each step with its number and what was measured.

    Raises:
        FloatingPointError: the loss is not finite; names the step, the terms and the cases.
    """
    keep_freed_memory()
    fabric = make_fabric(config)
    torch.manual_seed(seed)
    model = model_config.build(task).train()
    if initial is not None:
        model.load_state_dict({**model.state_dict(), **initial})
    model = channels_last(model, task.ndim)
    if config.compile:  # the network alone: matching and suppression run compiled code of their own
        model.infer = torch.compile(model.infer)  # type: ignore[method-assign]
    optimizer = build_optimizer(model, config)
    model = model.to(fabric.device)
    average = MovingAverage(model, config.average) if config.average else None
    first = load_resume(run, model, optimizer, average)
    if fabric.global_rank == 0:
        forget_after(run, first)
    log = MetricsLog(run / "metrics.jsonl", first) if fabric.global_rank == 0 else None
    loss_terms = LossTerms(model)
    wrapped, optimizer = fabric.setup(loss_terms, optimizer)
    sampler = PatchSampler(store, ids, task, config.sampler, seed=seed, margin=config.augment.margin)
    batch_size = config.batch_size or task.batch_size
    workers = config.num_workers if config.num_workers is not None else (0 if fabric.device.type == "cpu" else 8)
    place: dict[str, Any] = dict(rank=fabric.global_rank, world_size=fabric.world_size, num_workers=workers)
    seconds = log.seconds if log else 0.0  # of the training, those before its last interruption included
    started = time.perf_counter() - seconds
    for step, batch in enumerate(batches(sampler, batch_size, first, config.steps, **place), start=first):
        mining_seed, augment_seed = np.random.SeedSequence([seed, step, fabric.global_rank]).generate_state(2)
        torch.manual_seed(int(mining_seed))
        generator = torch.Generator().manual_seed(int(augment_seed))
        batch = augment(to_device(batch, fabric.device), config.augment, task.patch_size, generator)
        lr = learning_rate(config, step, seconds)
        for group in optimizer.param_groups:
            group["lr"] = lr
        loss_terms.batch = batch
        terms = wrapped(batch.images)
        loss = torch.stack(list(terms.values())).sum()
        if not math.isfinite(loss.item()):
            values = {name: term.item() for name, term in terms.items()}
            raise FloatingPointError(f"loss not finite at step {step}: {values}, cases {batch.cases}; lower train.lr")
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        if config.clip_norm:
            fabric.clip_gradients(wrapped, optimizer, max_norm=config.clip_norm, error_if_nonfinite=False)
        optimizer.step()
        if average is not None:
            average.update(model, step)
        done = step + 1
        measured = {"loss": loss.item()} | {f"loss/{name}": term.item() for name, term in terms.items()}
        seconds = fabric.broadcast(round(time.perf_counter() - started, 3))
        measured |= {"lr": lr, "seconds": seconds}
        last = ends(config, done, seconds)
        if (done % config.validate_every == 0 or last) and fabric.global_rank == 0:
            measured |= {f"val/{name}": value for name, value in _validate(model, average, validate).items()}
            score = measured.get(f"val/{config.select_by}", 0.0)
            keep_best(run, average.state if average else model.state_dict(), done, score, config.keep)
        if log is not None:
            log.add({"step": done, **measured})
        if (done % config.save_every == 0 or last) and fabric.global_rank == 0:
            save_resume(run, done, model, optimizer, average)
        fabric.barrier()
        on_step(done, measured)
        if last:
            break


def ends(config: TrainConfig, steps: int, seconds: float) -> bool:
    """Whether a training is over after so many steps and seconds."""
    return steps >= config.steps or (config.max_seconds is not None and seconds >= config.max_seconds)


class LossTerms(nn.Module):
    """The loss terms of `batch` as one forward pass, which is what wrappers for devices and precision expect.

    The batch is no argument: wrappers would copy and cast what they find in it, coordinates included.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model
        self.batch: Batch | None = None

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.model(images, self.batch)


def make_fabric(config: TrainConfig) -> Any:
    """Devices and precision."""
    from lightning_fabric import Fabric

    precision = config.precision
    gpu = torch.cuda.is_available() and config.accelerator in ("auto", "cuda", "gpu")
    if precision == "auto":
        precision = "bf16" if gpu and torch.cuda.is_bf16_supported() else "fp32"
    names: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
    fabric = Fabric(
        accelerator=config.accelerator,
        devices=config.devices,
        strategy="ddp" if config.devices > 1 else "auto",
        precision=names[precision],
    )
    fabric.launch()
    return fabric


def _validate(model: Model, average: MovingAverage | None, validate: Callable[[Model], Metrics]) -> Metrics:
    """Validation metrics of the averaged weights, which are put in place and taken out again."""
    raw = None
    if average is not None:
        raw = {name: value.clone() for name, value in model.state_dict().items()}
        model.load_state_dict(average.state)
    model.eval()
    try:
        with torch.inference_mode():
            return validate(model)
    finally:
        model.train()
        if raw is not None:
            model.load_state_dict(raw)


class MetricsLog:
    """`metrics.jsonl`, one line a step; what lies beyond `last_step` is dropped when a training continues.

    `seconds` is how long the steps that remain took.
    """

    def __init__(self, path: Path, last_step: int) -> None:
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if _step(line) <= last_step]
        self.seconds = float(json.loads(kept[-1]).get("seconds", 0.0)) if kept else 0.0
        write_text(path, "".join(line + "\n" for line in kept))
        self.path = path

    def add(self, values: Metrics) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(values) + "\n")


def _step(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return math.inf  # a line cut by a kill
