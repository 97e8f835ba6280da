"""Run folders: what a training writes, and what a detector loads from.

RUN/config.json task.json environment.json     every setting, what the data dictated, versions and hardware
    split.json                                  the cases of the fold, and the prepared data they come from
    plugins.json plugins/                       plug-in files that the configuration uses, if any
    metrics.jsonl checkpoints/ weights.safetensors
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import NonNegativeInt

from boxel.api.run_plugins import record_plugins, require_plugins
from boxel.config import Config, leaves
from boxel.files import write_text
from boxel.output_folder import check_empty
from boxel.recipes import Experiment
from boxel.training.divergence import CHANGEABLE, may_change
from boxel.training.log import read_log
from boxel.types import Split, Task
from boxel.wording import counted

MOST, LONG = 5, 80  # differences that a message names, and characters of each value
# What a training may have written before config.json.
_STARTED = {"environment.json", "plugins.json", "plugins", "config.json", "task.json", "split.json"}


class RunSplit(Split):
    """The fold that a run is trained on, its number, and the prepared data that it comes from."""

    work: str
    fold: NonNegativeInt


def check_run_folder(run: Path) -> None:
    """Raise ValueError if the folder holds anything else than a run, or the beginning of one."""
    if not (run / "config.json").exists():
        check_empty(run, "train", own=_STARTED)


def start_run(run: Path, experiment: Experiment, task: Task, split: RunSplit) -> None:
    """Write the description of a run into its folder, or check that an interrupted training left the same one.

    Raises:
        ValueError: the folder holds something else, or a run with other settings.
    """
    check_run_folder(run)
    check_same_run(run, experiment, task, split)
    record_plugins(run, experiment)
    run.mkdir(parents=True, exist_ok=True)
    write_text(run / "environment.json", json.dumps(environment(), indent=2) + "\n")
    for name, record in reversed(_records(experiment, task, split).items()):
        record.save(run / name)


def check_same_run(run: Path, experiment: Experiment, task: Task, split: RunSplit) -> None:
    """Raise ValueError if the folder holds a run with other settings; names these.

    One that diverged may resume with another learning rate.
    """
    allowed = {f"train.{name}" for name in CHANGEABLE} if may_change(run) else set()
    for name, record in _records(experiment, task, split).items():
        if not (run / "config.json").exists() or not (run / name).exists():
            continue
        before, now = (dict(leaves(one.to_dict())) for one in (type(record).load(run / name), record))
        differences = [
            f"{key} {_excerpt(now.get(key), before.get(key))} instead of {_excerpt(before.get(key), now.get(key))}"
            for key in [*now, *(before.keys() - now.keys())]
            if before.get(key) != now.get(key) and key not in allowed and not key.startswith("why.")
        ]
        if differences:
            more = f" and {counted(len(differences) - MOST, 'more', 'more')}" if differences[MOST:] else ""
            raise ValueError(
                f"{run / name}: this run was started with other choices or data, now {', '.join(differences[:MOST])}"
                f"{more}; resume it with the same recipe, --set and fold, or choose another folder with --out"
            )


def _records(experiment: Experiment, task: Task, split: RunSplit) -> dict[str, Config]:
    return {"config.json": experiment, "task.json": task, "split.json": split}


def _excerpt(value: Any, other: Any) -> str:
    """A value in short; of a list only what the other one lacks, such as the names of some cases."""
    if isinstance(value, list) and isinstance(other, list):
        value = [one for one in value if one not in other] or value
    text = json.dumps(value)
    return text if len(text) <= LONG else f"{text[:LONG]}..."


def read_run(run: Path, *, trust: bool = False) -> tuple[Experiment, Task, RunSplit]:
    """The description of a run.

    Args:
        run: Its folder.
        trust: Import the plug-in files that the folder holds; they are code.

    Raises:
        ValueError: The folder is not a run, or needs a plug-in.
    """
    run = Path(run)
    if not (run / "config.json").exists():
        inner = sorted(file.parent for file in run.glob("*/config.json") if (file.parent / "task.json").exists())
        near = f"; did you mean {' or '.join(map(str, inner[:3]))}?" if inner else ""
        fix = near or "; give the folder that `boxel train` wrote"
        raise ValueError(f"{run}: not a run folder (no config.json){fix}")
    require_plugins(run, trust=trust)
    return (
        Experiment.load(run / "config.json"),
        Task.load(run / "task.json"),
        RunSplit.load(run / "split.json"),
    )


def read_history(run: Path) -> list[dict[str, float]]:
    """The logged metrics of each step of a run, see `boxel.training.log.read_log`."""
    return read_log(run / "metrics.jsonl")


def environment(
    packages: Sequence[str] = ("boxel", "torch", "numpy", "SimpleITK", "blosc2", "numba"),
) -> dict[str, object]:
    """Versions of the packages, and the hardware."""
    import torch

    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "versions": versions,
        "commit": _commit(),
    }


def _commit() -> str | None:
    folder = Path(__file__).parent
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except OSError:
        return None
    return answer.stdout.strip() or None
