"""`boxel experiment`: a grid of runs on the same data, and the table that compares them."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from boxel.api.fold import run_fold
from boxel.api.run import environment, read_history, read_run
from boxel.config import did_you_mean, write_text
from boxel.datasets.cases import Dataset
from boxel.datasets.formats import as_dataset
from boxel.datasets.toy import make_toy
from boxel.experiments.grids import GRIDS, Grid, Row
from boxel.models import ModelConfig
from boxel.output_folder import claimed
from boxel.recipes import get_recipe
from boxel.types import Progress, silent

METRICS = ("AP@0.10", "AP@0.50")


@dataclass(frozen=True)
class Result:
    """One row of the table; `seconds_per_step` is the median over the steps without validation."""

    label: str
    recipe: str
    parameters: int
    steps: int
    seconds_per_step: float
    train_seconds: float
    metrics: dict[str, Any]


def experiment(
    name: str,
    out: Path | str,
    *,
    data: Path | str | Dataset | None = None,
    fold: int = 0,
    overrides: Sequence[str] = (),
    seed: int = 0,
    progress: Progress = silent,
) -> list[Result]:
    """Run a grid into `out`, row by row, and write `table.md` and `table.json` there.

    Every row is prepared, trained and evaluated on the same test images. Repeat the call to resume an interrupted
    experiment.

    Args:
        data: a data set of your own instead of the grid's toy images.
        overrides: settings of every run, after the grid's own.

    Raises:
        ValueError: no such grid; or what `prepare`, `train`, `predict` and `evaluate` raise.
    """
    if name not in GRIDS:
        raise ValueError(f"unknown experiment {name!r}{did_you_mean(name, GRIDS)}")
    grid, out = GRIDS[name](), Path(out)
    with claimed(out, "experiment", {"NAME": name}):
        if data is None:
            data = make_toy(out / "data", **grid.toy, seed=seed, progress=progress)
        return _run_rows(grid, out, as_dataset(data), fold, [f"seed={seed}", *overrides], progress)


def _run_rows(
    grid: Grid, out: Path, dataset: Dataset, fold: int, overrides: Sequence[str], progress: Progress
) -> list[Result]:
    results: list[Result] = []
    for row in grid.rows:

        def labelled(what: str, done: int, total: int, row: Row = row) -> None:
            progress(f"{row.label}: {what}", done, total)

        settings = [*grid.overrides, *row.overrides, *overrides]
        results.append(_run(row, out / row.model, dataset, fold, settings, labelled))
        write_text(out / "table.json", json.dumps([asdict(result) for result in results], indent=2) + "\n")
    write_text(out / "table.md", markdown(results, grid.about))
    return results


def _run(row: Row, out: Path, dataset: Dataset, fold: int, overrides: Sequence[str], progress: Progress) -> Result:
    chosen = get_recipe(row.recipe, row.model).override(overrides)
    metrics = run_fold(dataset, out, chosen, fold, progress).metrics
    _, task, _ = read_run(out / "run")
    history = read_history(out / "run")
    times = [b["seconds"] - a["seconds"] for a, b in pairwise(history) if not any(key.startswith("val/") for key in a)]
    model: ModelConfig = chosen.model
    return Result(
        label=row.label,
        recipe=chosen.recipe,
        parameters=sum(p.numel() for p in model.build(task).parameters()),
        steps=int(history[-1]["step"]),
        seconds_per_step=round(statistics.median(times), 4) if times else 0.0,
        train_seconds=history[-1]["seconds"],
        metrics={key: metrics.get(key) for name in METRICS for key in (name, f"{name}/ci95")},
    )


def markdown(results: Sequence[Result], title: str) -> str:
    """The table for people; intervals are 95 % bootstrap intervals over the test images."""
    lines = [
        f"# {title}",
        "",
        f"| model | {' | '.join(METRICS)} | s per step | steps | training, s | parameters |",
        f"|---|{'---|' * (len(METRICS) + 4)}",
    ]
    for result in results:
        cells = [_with_interval(result.metrics[name], result.metrics.get(f"{name}/ci95")) for name in METRICS]
        numbers = [f"{result.seconds_per_step:.3f}", f"{result.steps:,}", f"{result.train_seconds:.0f}"]
        lines.append(f"| {' | '.join([result.label, *cells, *numbers, f'{result.parameters:,}'])} |")
    where = environment(["boxel", "torch"])
    versions: Any = where["versions"]
    made_by = ", ".join(f"{package} {version}" for package, version in versions.items())
    lines += ["", f"{where['platform']}, {where['cpus']} CPUs, GPU {where['gpu'] or 'none'}, {made_by}", ""]
    return "\n".join(lines)


def _with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    if value is None:
        return "not defined"
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")
