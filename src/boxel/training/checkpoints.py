"""Checkpoints of a run: ranked weights, and the state from which an interrupted training resumes. No pickle.

RUN/checkpoints/step_000500.safetensors ...   the best ones, ranked in checkpoints/ranking.json
RUN/checkpoints/final_validation.json         their metrics on all validation cases, if training used fewer
RUN/weights.safetensors                       a copy of the best
RUN/resume.safetensors                        weights, optimiser, average and gradient scaler after the last saved step
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import NonNegativeInt
from torch import Tensor, nn

from boxel.config import Config
from boxel.files import write_text, writing
from boxel.inputs.texts import read_json
from boxel.models.base import Model
from boxel.training.config import TrainConfig
from boxel.training.optimise import MovingAverage
from boxel.training.tensors import (
    load_metadata,
    load_tensors,
    load_weights,
    misfit,
    refuse_not_finite,
    save_tensors,
)
from boxel.types import Progress, silent

FINAL = "final_validation.json"
ANEW = "put back a copy of it, or delete it to train from the beginning"


class Ranked(Config):
    """A checkpoint that was kept."""

    step: NonNegativeInt
    score: float
    file: str


def keep_best(run: Path, state: dict[str, Tensor], step: int, score: float, keep: int) -> None:
    """Add a checkpoint to the ranking, drop those beyond `keep`, and refresh the copy of the best."""
    folder = run / "checkpoints"
    entry = Ranked(step=step, score=score, file=f"step_{step:06d}.safetensors")
    save_tensors(folder / entry.file, state)
    ranking = [other for other in read_ranking(run) if other.step != step]
    ranking = sorted([*ranking, entry], key=_best_first)
    _write_ranking(run, ranking[:keep])
    if ranking[0].step == step:
        _copy_weights(run, entry)
    kept = {r.file for r in ranking[:keep]}
    for stale in folder.glob("step_*.safetensors"):
        if stale.name not in kept:
            stale.unlink()


def read_ranking(run: Path) -> list[Ranked]:
    """The kept checkpoints, best first."""
    path = run / "checkpoints" / "ranking.json"
    fix = "delete it to predict with weights.safetensors alone"
    entries = read_json(path, list[Any], fix) if path.exists() else []
    return [Ranked.from_dict(entry, str(path)) for entry in entries]


def best_checkpoint(run: Path) -> Ranked:
    """The first of the kept checkpoints of a finished training.

    Raises:
        ValueError: the run has none, since its record of them was lost or emptied.
    """
    for best in read_ranking(run):
        return best
    raise ValueError(
        f"{run / 'checkpoints' / 'ranking.json'}: names no checkpoint, although the training is finished; restore it "
        "from a copy, or train again into another folder with --out"
    )


def rank_finally(
    run: Path,
    model: Model,
    select_by: str,
    validate: Callable[[Model], dict[str, float]],
    progress: Progress = silent,
) -> None:
    """Rank the kept checkpoints by their metrics on other validation cases; those that are recorded are not repeated.

    Args:
        model: what to fill with the weights, on its device.
        select_by: the metric that ranks.
        validate: returns the metrics of a model.
        progress: called with the stage, the checkpoints validated and all checkpoints.
    """
    record = run / "checkpoints" / FINAL
    ranking, metrics = read_ranking(run), _final_metrics(run)
    for done, entry in enumerate(ranking):
        progress("validate", done, len(ranking))
        if entry.file not in metrics:
            load_weights(model, run / "checkpoints" / entry.file)
            model.eval()
            with torch.inference_mode():
                metrics[entry.file] = validate(model)
            write_text(record, json.dumps(metrics, indent=2) + "\n")
    progress("validate", len(ranking), len(ranking))
    again = [entry.model_copy(update={"score": metrics[entry.file][select_by]}) for entry in ranking]
    again.sort(key=_best_first)
    _copy_weights(run, again[0])  # before the ranking, which says that all is done
    _write_ranking(run, again)


def is_ranked_finally(run: Path, select_by: str) -> bool:
    """Whether `rank_finally` has ended."""
    metrics = _final_metrics(run)
    return all(metrics.get(entry.file, {}).get(select_by) == entry.score for entry in read_ranking(run))


def _final_metrics(run: Path) -> dict[str, dict[str, float]]:
    record = run / "checkpoints" / FINAL
    fix = "delete it, and `boxel train` computes them again"
    return read_json(record, dict[str, dict[str, float | None]], fix) if record.exists() else {}


def _best_first(entry: Ranked) -> tuple[float, int]:
    return -entry.score, -entry.step


def _write_ranking(run: Path, ranking: list[Ranked]) -> None:
    text = json.dumps([entry.model_dump() for entry in ranking], indent=2) + "\n"
    write_text(run / "checkpoints" / "ranking.json", text)


def _copy_weights(run: Path, entry: Ranked) -> None:
    with writing(run / "weights.safetensors") as temporary:
        shutil.copyfile(run / "checkpoints" / entry.file, temporary)


def forget_after(run: Path, step: int) -> None:
    """Drop checkpoints that are newer than the state a training resumes from: they will be made again."""
    ranking = [entry for entry in read_ranking(run) if entry.step <= step]
    if (run / "checkpoints").exists():
        _write_ranking(run, ranking)


class Scaler(Protocol):
    """What scales the gradients of fp16; its state is numbers, none where nothing is scaled."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


def save_resume(
    run: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: MovingAverage | None,
    scaler: Scaler,
) -> None:
    """Write the state after `step` steps, in one file that appears whole or not at all."""
    tensors = state_tensors(model, optimizer, average, scaler)
    save_tensors(run / "resume.safetensors", tensors, {"step": str(step)})


def disk_needed(model: nn.Module, config: TrainConfig) -> int:
    """Bytes that the weights and saved states of a training take, with a copy of the state while it is written."""
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    trained = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    slots = 2 if config.optimizer != "sgd" else int(config.momentum != 0)
    state = weights * (2 if config.average else 1) + slots * trained
    return weights * (config.keep + 1) + 2 * state


def saved_step(run: Path) -> int:
    """The step from which an interrupted training resumes; 0 if no state was saved."""
    path = run / "resume.safetensors"
    return int(load_metadata(path, ANEW).get("step", 0)) if path.exists() else 0


def state_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer, average: MovingAverage | None, scaler: Scaler
) -> dict[str, Tensor]:
    """Everything that training changes, by the names in a saved state."""
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    if average is not None:
        tensors |= {f"average/{name}": value for name, value in average.state.items()}
    for index, slots in optimizer.state_dict()["state"].items():
        tensors |= {
            f"optimizer/{index}/{name}": torch.as_tensor(value) for name, value in slots.items() if value is not None
        }
    return tensors | {f"scaler/{name}": torch.as_tensor(value) for name, value in scaler.state_dict().items()}


def load_resume(
    run: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: MovingAverage | None, scaler: Scaler
) -> int:
    """Restore a saved state; returns the number of steps it was trained for, 0 if there is none.

    Raises:
        ValueError: the file is damaged, or has the state of another model or optimiser; names it.
    """
    path = run / "resume.safetensors"
    if not path.exists():
        return 0
    tensors, metadata = load_tensors(path, ANEW)
    groups: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimizer": {}, "scaler": {}}
    for key, tensor in tensors.items():
        kind, _, name = key.partition("/")
        groups.setdefault(kind, {})[name] = tensor
    own = {"model": model.state_dict(), **({"average": average.state} if average is not None else {})}
    for kind, state in own.items():
        if what := misfit(state, groups[kind]):
            raise ValueError(f"{path}: the state of another training ({kind}: {what} tensors); {ANEW}")
    refuse_not_finite(path, tensors, model, ANEW)
    model.load_state_dict(groups["model"])
    if groups["scaler"]:
        scaler.load_state_dict({name: value.item() for name, value in groups["scaler"].items()})
    if average is not None:
        average.load(groups["average"])
    try:
        _load_optimizer(optimizer, groups["optimizer"])
        return int(metadata["step"])
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: not the state of this training ({error!r}); {ANEW}") from None


def _load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor]) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    slots: dict[int, dict[str, Any]] = {}
    for key, value in state.items():
        index, name = key.split("/", 1)
        if value.ndim:  # fused optimisers expect the memory order of the parameter
            value = torch.empty_like(parameters[int(index)]).copy_(value)
        slots.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
