"""The command line: one verb for each stage, each the function of the same name in Python.

Exit status: 0 for success, 1 for an error in Boxel, 2 for an error in the input, 130 after Ctrl-C. Progress is printed
to standard error, results to standard output.
"""

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from boxel import __version__
from boxel.cli import (
    configuring,
    consolidating,
    converting,
    evaluating,
    experimenting,
    planning,
    predicting,
    thresholding,
    training,
)
from boxel.cli.console import print_plan, say, warning_lines
from boxel.cli.data_sets import check, open_named, toy
from boxel.cli.options import (
    AsJson,
    Budget,
    DatasetPath,
    DeviceName,
    Fold,
    Format,
    KeepIdentifiers,
    Memory,
    ModelName,
    Options,
    Plugins,
    Recipe,
    RunPath,
    Settings,
    Trust,
    name_values,
    settings,
    with_options,
)
from boxel.cli.progress import Interrupted, progress_bars
from boxel.plugins import failed_plugin
from boxel.wording import counted

HELP = ["-h", "--help"]
INTERRUPTED = 130  # exit status after Ctrl-C, as in shells

app = typer.Typer(
    name="boxel",
    help="Detect objects in medical images: 2D slices, slices with context, and 3D volumes.",
    no_args_is_help=True,
    context_settings={"help_option_names": HELP},
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"boxel {__version__}")
        raise typer.Exit


@app.callback()
def of_all(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the program itself."""


app.command(
    epilog="Example: **boxel check my_dataset**, or **boxel check my_dataset --list --preview 4 --html --out pages**"
)(check)


app.command(epilog="Example: **boxel plan my_dataset --memory 8GB --budget 2h --explain**")(planning.plan)


@app.command(epilog="Example: **boxel prepare my_dataset --out work**")
def prepare(
    dataset: DatasetPath,
    out: Annotated[Path, typer.Option(metavar="WORK", help="Output folder; work in it is resumed.")],
    recipe: Recipe = "auto",
    model: ModelName = None,
    set_: Settings = None,
    memory: Memory = "",
    folds: Annotated[
        int | None,
        typer.Option(min=1, help="Number of cross-validation folds [5, or those that the data set prescribes]."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed for the fold split.")] = 0,
    workers: Annotated[int | None, typer.Option(min=0, help="Parallel workers (0: one case at a time).")] = None,
    keep_identifiers: KeepIdentifiers = False,
    format: Format = "",  # noqa: A002
    option: Options = None,
    plugin: Plugins = None,
) -> None:
    """Analyse a data set, plan the training, and store resampled, normalised images."""
    from boxel.api.training import prepare as run_prepare
    from boxel.recipes import get_recipe

    data = open_named(dataset, format, option)
    with progress_bars("cases that are done are kept") as progress:
        chosen = get_recipe(recipe, model) if model else recipe
        store = run_prepare(
            data, out, recipe=chosen, overrides=settings(set_, memory=memory), num_folds=folds, seed=seed,
            workers=workers, keep_identifiers=keep_identifiers, progress=progress,
        )  # fmt: skip
    say(f"prepared {counted(len(store.ids), 'case')} in {out}")
    for note in store.notes[1:]:
        say(f"note: {note}")
    print_plan(store.task)


app.command(epilog="Example: **boxel train work --fold 0 --recipe retina_unet_small --budget 10min**")(training.train)

app.command(epilog="Example: **boxel thresholds run**")(thresholding.thresholds)

app.command(
    epilog="Example: **boxel predict run scans/ --out out**, or **boxel predict run my_dataset --part test --out out**"
)(predicting.predict)

app.command(epilog="Example: **boxel consolidate predictions --set consolidate.method=nms --out predictions_nms**")(
    consolidating.consolidate
)

app.command(
    cls=converting.ListsFormats,
    epilog="Example: **boxel convert predictions --to slicer --out slicer** (docs/how_to/export.md)",
)(converting.convert)


app.command(epilog="Example: **boxel evaluate predictions my_dataset --out evaluation**")(evaluating.evaluate)
app.command(epilog="Example: **boxel compare predictions_a predictions_b my_dataset**")(evaluating.compare)


@app.command(epilog="Example: **boxel report run --predictions predictions --dataset my_dataset --out report.html**")
def report(
    run: RunPath,
    predictions: Annotated[Path | None, typer.Option(metavar="DIR", help="Predictions to evaluate and show.")] = None,
    dataset: Annotated[Path | None, typer.Option(metavar="DATASET", help="Data set with the ground truth.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Page to write [RUN/report.html].")] = None,
    cases: Annotated[int, typer.Option(min=0, help="Maximum number of cases that can be viewed in the page.")] = 8,
    format: Format = "",  # noqa: A002
    option: Options = None,
    plugin: Plugins = None,
    trust: Trust = False,
) -> None:
    """Write one self-contained HTML page about a run."""
    from boxel.api.reporting import report as run_report

    data = open_named(dataset, format, option) if dataset else None
    page = run_report(run, predictions=predictions, dataset=data, out=out, num_cases=cases, trust=trust)
    say(f"wrote {page}")


def training_options(
    data: Annotated[
        Path | None, typer.Option(metavar="DATASET", help="Data set to use instead of generated images.")
    ] = None,
    fold: Fold = 0,
    set_: Settings = None,
    budget: Budget = "",
    device: DeviceName = "",
    seed: Annotated[int, typer.Option(min=0, help="Random seed of data and training.")] = 0,
    format: Format = "",  # noqa: A002
    option: Options = None,
    plugin: Plugins = None,
) -> dict[str, Any]:
    """The data and the settings of one training or several, as arguments of `boxel.demo`."""
    given = open_named(data, format, option) if data else None
    return {"data": given, "fold": fold, "overrides": settings(set_, budget=budget, device=device), "seed": seed}


@app.command(epilog="Example: **boxel demo --out demo_out**, or on your own data: **boxel demo --data my_dataset**")
@with_options(training_options, "training")
def demo(
    training: Any,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Output folder; work in it is resumed.")] = Path("demo_out"),
    recipe: Recipe = "retina_unet_small",
) -> None:
    """Run everything in one command: data, training, prediction, evaluation, report."""
    from boxel.api.demo import demo as run_demo
    from boxel.cli.watching import Watch
    from boxel.evaluation import summary

    with progress_bars("finished steps are kept") as progress:
        result = run_demo(out, recipe=recipe, **training, logger=[Watch(progress), "auto"], progress=progress)
    say(summary(result.metrics))
    say(f"open {result.report}")


app.add_typer(experimenting.app, name="experiment")

app.command(
    epilog="Example: **boxel toy --task donuts_shape --preset mdt --out toys --train 200 --val 50 --test 100**"
)(toy)


@app.command(epilog="Example: **boxel models --recipe mdt_toy --json**")
def models(
    recipe: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Count the parameters of each model with this recipe.")
    ] = None,
    as_json: AsJson = False,
    plugin: Plugins = None,
) -> None:
    """List recipes; with --recipe, count the parameters of each model, in total and by part."""
    from boxel.api.listing import count_parameters, list_recipes

    table: dict[str, Any] = count_parameters(recipe) if recipe else list_recipes()
    if as_json:
        say(json.dumps(table, indent=2))
        return
    for name, entry in table.items():
        if recipe:
            parts = ", ".join(f"{part} {count:,}" for part, count in entry["parameters"].items())
            say(f"{name}: {parts}")
        else:
            say(f"{name}: {entry['about']}" + (f" Reproduces: {entry['reproduces']}" if entry["reproduces"] else ""))


app.command(epilog="Examples: **boxel config --recipe retina_unet > my.yaml**, **boxel config --explain train.lr**")(
    configuring.config
)

name_values(app)


def program() -> Any:
    """The command line, whose switches name no value in the help texts."""
    command = typer.main.get_command(app)
    _bare_switches(command)
    return command


def _bare_switches(command: Any) -> None:
    for option in (*command.params, command.get_help_option(typer.Context(command, help_option_names=HELP))):
        if getattr(option, "is_flag", False):
            option.metavar = ""
    for inner in getattr(command, "commands", {}).values():
        _bare_switches(inner)


def main() -> None:
    """Run the command line; errors of users become one line and exit status 2."""
    if int(os.environ.get("LOCAL_RANK", "0")):  # one of several processes of a training: the first speaks for all
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    # What is printed to a standard error that is closed (None) would end on standard output.
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    try:
        with warnings.catch_warnings():
            warnings.showwarning = warning_lines()  # type: ignore[assignment]
            program()()
    except ValueError as error:
        say(f"boxel: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        say(
            f"boxel: {where}{error.strerror or error}; check the disk space and the permissions",
            file=sys.stderr,
        )
        sys.exit(2)
    except Exception as error:
        if not (failed := failed_plugin(error)):
            raise
        say(f"boxel: {failed}", file=sys.stderr)
        sys.exit(2)
    except Interrupted as interrupted:
        say(f"boxel: {interrupted}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:  # which typer makes of Ctrl-C
            raise
        say("boxel: interrupted; rerun the command", file=sys.stderr)
        sys.exit(INTERRUPTED)
