"""A training whose loss, or state, is no longer finite: what its user learns, and with what it may be resumed.

RUN/diverged.json says where; with it in place, `boxel train` accepts other values of `CHANGEABLE`, and resumes from the
state that was saved last.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from boxel.files import write_text
from boxel.inputs.texts import read_json
from boxel.training.config import TrainConfig
from boxel.training.log import read_log
from boxel.wording import counted

DIVERGED = "diverged.json"
CHANGEABLE = ("lr", "clip_norm", "warmup", "warmup_power", "precision")  # with these, a saved state stays usable


class DivergedError(ValueError):
    """The loss of a training, or its state, is NaN or infinite."""


def describe(step: int, lr: float, terms: Mapping[str, float], cases: Sequence[str], config: TrainConfig) -> str:
    """The message about a loss that is not finite.

    Args:
        step: its number, from 1.
        terms: the loss terms.
        cases: of the batch.
    """
    values = ", ".join(f"{name} {value:g}" for name, value in terms.items())
    return (
        f"the loss is not finite at step {step} ({values}; learning rate {lr:g}; cases {', '.join(cases)}); "
        f"{_advice(config)}, or see whether `boxel check` finds something wrong with the images of these cases"
    )


def describe_state(step: int, lr: float, names: Sequence[str], config: TrainConfig) -> str:
    """The message about weights, or a state of the optimiser, which are not finite; `names` are theirs."""
    which = f"{counted(len(names), 'tensor')}, such as {names[0]}"
    return f"the state is not finite after step {step} ({which}; learning rate {lr:g}); {_advice(config)}"


def _advice(config: TrainConfig) -> str:
    advice = f"lower the learning rate, such as train.lr={config.lr / 10:.3g}"
    if not config.clip_norm:
        advice += ", limit the gradients with train.clip_norm=12"
    return advice + (", compute with train.precision=bf16 or fp32" if config.precision == "fp16" else "")


def stop(run: Path, message: str, saved: int, step: int, config: TrainConfig, *, write: bool) -> DivergedError:
    """Record in a run that its training diverged, and return the error.

    Args:
        saved: steps of the state that was saved last; 0 if none was.
        write: whether this process writes the record: the first of several does.
    """
    if write:
        record = {"step": step, "saved": saved, **{name: getattr(config, name) for name in CHANGEABLE}}
        write_text(run / DIVERGED, json.dumps([*_records(run), record], indent=2) + "\n")
    begins = f"the training goes on after step {saved}, whose state is kept" if saved else "the training begins anew"
    return DivergedError(f"{run}: {message}. Rerun the command with that: {begins}")


def may_change(run: Path) -> bool:
    """Whether the training of a run diverged, and has not come past that step since."""
    records, log = _records(run), read_log(run / "metrics.jsonl")
    return bool(records) and (not log or log[-1]["step"] < max(record["step"] for record in records))


def _records(run: Path) -> list[dict[str, Any]]:
    path = run / DIVERGED
    fix = "delete it to resume with the settings of config.json"
    records = read_json(path, list[dict[str, Any]], fix) if path.exists() else []
    if not all(type(record.get("step")) is int for record in records):
        raise ValueError(f"{path}: a record has no step; {fix}")
    return records


def all_finite(loss: torch.Tensor, world_size: int) -> bool:
    """Whether the loss is finite in every process of a training, which then stop together."""
    good = loss.detach().isfinite().float()
    if world_size > 1:
        torch.distributed.all_reduce(good, op=torch.distributed.ReduceOp.MIN)
    return bool(good)


def of_all_processes(message: str, world_size: int) -> str:
    """The first message of any process; empty in those whose own loss is finite."""
    if world_size == 1:
        return message
    messages: list[str] = [""] * world_size
    torch.distributed.all_gather_object(messages, message)
    return next(filter(None, messages), "")
