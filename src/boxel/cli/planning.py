"""The verb `boxel plan`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from boxel.cli.console import print_plan, say
from boxel.cli.data_sets import open_named
from boxel.cli.options import (
    AsJson,
    Budget,
    Format,
    Memory,
    ModelName,
    Options,
    Plugins,
    Settings,
    TrainedRecipe,
    settings,
)
from boxel.cli.progress import progress_bars
from boxel.wording import counted, time_in_words


def plan(
    data: Annotated[
        Path, typer.Argument(metavar="DATASET|WORK", help="Data set, or folder that `boxel prepare` wrote.")
    ],
    recipe: TrainedRecipe = "auto",
    model: ModelName = None,
    set_: Settings = None,
    memory: Memory = "",
    budget: Budget = "",
    explain: Annotated[bool, typer.Option("--explain", help="Print the rules of the plan with their reasons.")] = False,
    as_json: AsJson = False,
    format: Format = "",  # noqa: A002
    option: Options = None,
    plugin: Plugins = None,
) -> None:
    """Say what a training will be: each choice with its reason, time and memory, as measured. Nothing is written."""
    from boxel.api.planning import plan as run_plan
    from boxel.preparation.rules import RULES

    is_work = (data / "manifest.json").exists()
    with progress_bars() as progress:
        planned = run_plan(
            data if is_work else open_named(data, format, option), recipe=recipe, model=model,
            overrides=settings(set_, memory=memory, budget=budget), progress=progress,
        )  # fmt: skip
    if as_json:
        say(json.dumps(planned.to_dict() | ({"rules": RULES} if explain else {}), indent=2))
        return
    train, objects = planned.experiment.train, sum(stats.count for stats in planned.fingerprint.objects.values())
    say(f"{counted(len(planned.fingerprint.cases), 'training case')}, {counted(objects, 'object')}; "
        f"recipe {planned.experiment.recipe}")  # fmt: skip
    print_plan(planned.task)
    if explain:
        say("rules")
        for choice, rule in RULES.items():
            say(f"  {choice}: {rule}")
    say(f"memory: {planned.cost.in_words(planned.task, train)}")
    if planned.steps is None:
        say(f"time: {time_in_words(planned.step_seconds)} per step, {train.epochs:g} epochs; how many steps these are "
            "is known once the data are prepared")  # fmt: skip
    else:
        took = time_in_words(planned.steps * planned.step_seconds)
        say(f"time: {time_in_words(planned.step_seconds)} per step, {took} for {counted(planned.steps, 'step')}, "
            "and validations")  # fmt: skip
