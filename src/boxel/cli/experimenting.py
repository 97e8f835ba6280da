"""The verb for grids of runs: `boxel experiment list | run | status | collect`, and `ablation` of finished ones."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from boxel.cli.console import say
from boxel.cli.options import AsJson, DatasetPath, Format, Options, Plugins
from boxel.cli.progress import progress_bars
from boxel.wording import counted

app = typer.Typer(
    help="Run the papers' comparisons, or a cross-validation of your own data, as grids of runs.",
    epilog="Example: **boxel experiment run cross_validation --data my_dataset --out folds**",
    no_args_is_help=True,
)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `boxel experiment run` wrote.")]


@app.command(name="list", epilog="Example: **boxel experiment list**")
def list_experiments(as_json: AsJson = False, plugin: Plugins = None) -> None:
    """List the experiments with their presets."""
    from boxel.experiments.registry import EXPERIMENTS

    table = {name: {"about": entry.about, "presets": list(entry.presets)} for name, entry in EXPERIMENTS.items()}
    if as_json:
        say(json.dumps(table, indent=2))
        return
    for name, row in table.items():
        say(f"{name}: {row['about']} (presets: {', '.join(row['presets'])})")


@app.command(
    epilog="Examples: **boxel experiment run six_models --out six_models**, "
    "**boxel experiment run cross_validation --data my_dataset --out folds --only retina_unet**"
)
def run(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Experiment, listed by `boxel experiment list`.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Output folder; work in it is resumed.")],
    preset: Annotated[str, typer.Option(metavar="NAME", help="Preset; the first one that is listed by default.")] = "",
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN", help="Run these cells only, such as `retina_net` or `*/seed=0`; may be repeated."
        ),
    ] = None,
    data: Annotated[Path | None, typer.Option(metavar="DATASET", help="Data set to use instead of the grid's.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one setting of every cell; may be repeated."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=0, help="Cells at a time (0: main process); by default one per GPU or core.")
    ] = None,
    memory: Annotated[float | None, typer.Option(min=0, metavar="GIB", help="Memory for all cells together.")] = None,
    ray: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Run the cells on a Ray cluster: HOST:PORT, or `local` for one in this machine only.",
        ),
    ] = "",
    slurm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Run cells as a SLURM job array: partition, account, qos, constraint, timeout_min, mem_gb, cpus, "
            "gpus; may be repeated.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the cells and what they will cost; run none.")
    ] = False,
    format: Format = "",  # noqa: A002
    option: Options = None,
    plugin: Plugins = None,
) -> None:
    """Run the cells of an experiment that are not done yet, then write the tables.

    Exit status 1 if a cell failed; the others are not affected, and the next call tries it again.
    """
    from boxel.experiments.registry import choose
    from boxel.experiments.run import check_cells
    from boxel.experiments.run import run as run_cells
    from boxel.experiments.state import states, summary
    from boxel.experiments.tables import collect as collect_tables

    source = _folder(data, format, option)
    executor = _executor(jobs, memory, ray, slurm or ())
    grid = choose(name, preset, source, set_ or ()).grid()
    if dry_run:
        cells = states(grid, out, grid.select(only or ()))
        with progress_bars() as progress:
            check_cells(grid, cells, progress)
        _print_cells(cells)
        say(summary(cells, grid, executor.workers))
        return
    with progress_bars("cells that are done are kept, and so are the finished steps of others") as progress:
        cells = run_cells(
            name, out, preset=preset, source=source, overrides=set_ or (), only=only or (), executor=executor,
            progress=progress,
        )  # fmt: skip
    collect_tables(out)
    say((out / "table.md").read_text(), end="")
    if failed := sum(cell.state != "done" for cell in cells):
        say(
            f"boxel: {failed} of {counted(len(cells), 'cell')} failed, see above; rerun the command to try them again",
            file=sys.stderr,
        )
        raise typer.Exit(1)


@app.command(epilog="Example: **boxel experiment status six_models**")
def status(out: Folder, as_json: AsJson = False, plugin: Plugins = None) -> None:
    """Say which cells are done, running, failed or missing, and how long the rest will take."""
    from boxel.experiments.registry import read_chosen
    from boxel.experiments.state import states, summary

    grid = read_chosen(out).grid()
    cells = states(grid, out)
    if as_json:
        say(
            json.dumps(
                [{key: getattr(cell, key) for key in ("path", "name", "state", "note")} for cell in cells], indent=2
            )
        )
        return
    _print_cells(cells)
    say(summary(cells, grid))


@app.command(epilog="Example: **boxel experiment collect six_models**")
def collect(out: Folder, plugin: Plugins = None) -> None:
    """Write table.md, table.csv, results.json and figure.png from the finished cells, and print the table."""
    from boxel.experiments.tables import collect as collect_tables

    collect_tables(out)
    say((out / "table.md").read_text(), end="")


@app.command(epilog="Example: **boxel experiment ablation predictions my_dataset --out ablation**")
def ablation(
    predictions: Annotated[Path, typer.Argument(metavar="PREDICTIONS", help="Folder that `boxel predict` wrote.")],
    dataset: DatasetPath,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for table.md, table.csv, results.json, figure.png.")],
    case: Annotated[str, typer.Option(metavar="NAME", help="Case in figure.png [the one with most boxes].")] = "",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, such as `consolidate.iou_threshold=0.5`."),
    ] = None,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples and permutations.")] = 1000,
    format: Format = "",  # noqa: A002
    option: Options = None,
    plugin: Plugins = None,
) -> None:
    """Compare consolidation methods, with few and with all views, from stored raw boxes; needs no GPU.

    Rerun an interrupted command to resume it.
    """
    from boxel.cli.data_sets import open_named
    from boxel.experiments.ablation import ablate

    data = open_named(dataset, format, option)
    with progress_bars() as progress:
        ablate(
            predictions, data, out, case=case, overrides=set_ or (), num_resamples=resamples, progress=progress
        )  # fmt: skip
    say((out / "table.md").read_text(), end="")


def _print_cells(cells: Any) -> None:
    width = max(len(cell.path) for cell in cells)
    for cell in cells:
        say(f"{cell.path:<{width}}  {cell.state}{': ' + cell.note if cell.note else ''}")


def _folder(data: Path | None, layout: str, options: list[str] | None) -> Any:
    """The data of the user as a source of cells; the data set is opened once, so that an error shows at once."""
    from boxel.cli.data_sets import open_named
    from boxel.experiments.sources import DataFolder

    if data is None:
        if layout or options:
            raise ValueError("--format and --option describe a data set; give it with --data")
        return None
    dataset = open_named(data, layout, options)
    return DataFolder(path=str(data.resolve()), format=layout or dataset.format, options=tuple(options or ()))


def _executor(jobs: int | None, memory: float | None, ray: str, slurm: Sequence[str]) -> Any:
    from boxel.experiments.executors import Here, Processes, RayTasks, Slurm

    if not (ray or slurm):
        return Here() if jobs == 0 else Processes(jobs, int(memory * 2**30) if memory else None)
    if ray and slurm:
        raise ValueError("--ray and --slurm: one of them can run the cells; leave the other out")
    if jobs == 0 or memory:
        raise ValueError("--jobs 0 and --memory are for this machine; leave them out with --ray and --slurm")
    return RayTasks(ray, jobs) if ray else Slurm(slurm, jobs)
