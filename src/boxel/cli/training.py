"""The verb `boxel train`, and what it shows of a training."""

from pathlib import Path
from typing import Annotated, Any

import typer

from boxel.cli.console import say
from boxel.cli.options import (
    Budget,
    DeviceName,
    Fold,
    LoggerNames,
    ModelName,
    Plugins,
    Settings,
    TrainedRecipe,
    Trust,
    settings,
)
from boxel.cli.progress import progress_bars

WorkPath = Annotated[Path, typer.Argument(metavar="WORK", help="Folder that `boxel prepare` wrote.")]


def train(
    work: WorkPath,
    out: Annotated[Path | None, typer.Option(metavar="RUN", help="Run folder [WORK/runs/RECIPE_foldK].")] = None,
    fold: Fold = 0,
    recipe: TrainedRecipe = "auto",
    model: ModelName = None,
    set_: Settings = None,
    budget: Budget = "",
    device: DeviceName = "",
    logger: LoggerNames = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Measure a few steps, and say how much time, memory and disk they will take."),
    ] = False,
    plugin: Plugins = None,
    trust: Trust = False,
) -> None:
    """Train a detector. Rerun an interrupted command to resume it."""
    from boxel.api.estimate import estimate
    from boxel.api.run import read_run
    from boxel.api.run_plugins import require_plugins
    from boxel.api.training import train as run_train
    from boxel.cli.watching import Watch
    from boxel.training.checkpoints import best_checkpoint
    from boxel.training.config import LAST

    if trust and out:
        require_plugins(out, trust=True)
    chosen: Any = {
        "fold": fold, "recipe": recipe, "model": model, "overrides": settings(set_, budget=budget, device=device),
    }  # fmt: skip
    if dry_run and logger:
        raise ValueError("--logger has no effect with --dry-run, which writes nothing; leave it out")
    if dry_run:
        with progress_bars():
            needed = estimate(work, out, **chosen)
        say(needed)
        return
    with progress_bars("checkpoints are kept") as progress:
        run = run_train(work, out, **chosen, logger=[Watch(progress), *(logger or ["auto"])], progress=progress)
    best, select_by = best_checkpoint(run), read_run(run)[0].train.select_by
    which = "the last checkpoint," if select_by == LAST else f"best {select_by} {best.score:.3f} at"
    say(f"trained {run}: {which} step {best.step}")
