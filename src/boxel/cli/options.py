"""Arguments and options that several verbs share."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from typer.models import OptionInfo

VALUES = {bool: "", int: "N", float: "X", list[float]: "X"}  # in help texts

DatasetPath = Annotated[
    Path, typer.Argument(metavar="DATASET", help="Data set, in any layout described in docs/bring-your-data.md.")
]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `boxel train` wrote.")]
_RECIPE = "Recipe (listed by `boxel models`), or JSON or YAML file; `auto` "
Recipe = Annotated[str, typer.Option(metavar="NAME|FILE", help=f"{_RECIPE}chooses by hardware.")]
TrainedRecipe = Annotated[
    str,
    typer.Option(
        "--recipe",
        metavar="NAME|FILE",
        help=f"{_RECIPE}is that of `boxel prepare` with all its settings, or, if that was given none, by hardware.",
    ),
]
ModelName = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="Use the recipe for this model instead of its own.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting of the recipe; may be repeated."),
]
Format = Annotated[str, typer.Option(metavar="NAME", help="Layout of the data set; recognised by default.")]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="Change one setting of the reader; may be repeated."),
]
Memory = Annotated[
    str,
    typer.Option(
        metavar="SIZE", help="Memory for a training step, such as 24GB: batch and patch are the largest that fit."
    ),
]
Budget = Annotated[
    str,
    typer.Option(metavar="TIME", help="Time for the training, instead of steps: 90s, 10min, 2h, or gpu-day (24 h)."),
]
Fold = Annotated[int, typer.Option(min=0, help="Fold to leave out of training.")]
DeviceName = Annotated[
    str,
    typer.Option("--device", metavar="auto|cpu|cuda|mps", help="Where to compute [auto: on the GPU, if there is one]."),
]
LoggerNames = Annotated[
    list[str] | None,
    typer.Option(
        "--logger",
        metavar="tensorboard|mlflow|wandb|none",
        help="Log the metrics for other programs; may be repeated [tensorboard, if it is installed].",
    ),
]
KeepIdentifiers = Annotated[
    bool,
    typer.Option(
        "--keep-identifiers", help="Write the names of groups (patients) as the data set has them, not as pseudonyms."
    ),
]
MinScore = Annotated[float | None, typer.Option(min=0, max=1, help="Show the detections with at least this score.")]
FpPerImage = Annotated[
    float | None,
    typer.Option(
        help="Show the detections above the thresholds with so many false positives per image and class on the "
        "validation cases: 0.125, 0.25, 0.5, 1, 2, 4 or 8."
    ),
]
All = Annotated[bool, typer.Option("--all", help="Show all detections.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON instead of text.")]


def settings(set_: list[str] | None, *, memory: str = "", budget: str = "", device: str = "") -> list[str]:
    """The settings of `--set`, `--memory`, `--budget` and `--device`."""
    return [
        *(set_ or ()),
        *([f"plan.memory={memory}"] if memory else ()),
        *([f"train.budget={budget}"] if budget else ()),
        *([f"train.accelerator={device}"] if device else ()),
    ]


def _load(files: list[Path] | None) -> list[Path] | None:
    from boxel.plugins import load_plugin

    for file in files or ():
        load_plugin(file)
    return files


Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        metavar="FILE",
        help="Python file with a model, reader, metric or export format of your own; may be repeated.",
        callback=_load,
        is_eager=True,
    ),
]
Trust = Annotated[
    bool, typer.Option("--trust", help="Run the plug-in files in the run folder. They are code: trust who wrote them.")
]


def with_options(gather: Callable[..., Any], name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a verb the parameters of `gather` in place of its parameter `name`, which receives what `gather` returns."""

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        own, shared = (inspect.signature(function).parameters for function in (verb, gather))

        @wraps(verb)
        def run(**values: Any) -> None:
            gathered = gather(**{option: values.pop(option) for option in shared})
            verb(**values, **{name: gathered})

        parameters = [*(parameter for key, parameter in own.items() if key != name), *shared.values()]
        ordered = sorted(parameters, key=lambda parameter: parameter.default is not inspect.Parameter.empty)
        run.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in ordered}
        return run

    return decorate


def name_values(app: typer.Typer) -> None:
    """Name the values of options in the help texts: N, X or NAME, and nothing for a switch, instead of Python types."""
    for group in app.registered_groups:
        if group.typer_instance is not None:
            name_values(group.typer_instance)
    for command in app.registered_commands:
        for parameter in inspect.signature(command.callback or (lambda: None)).parameters.values():
            kind, *notes = get_args(parameter.annotation) or (None,)
            for note in notes:
                if isinstance(note, OptionInfo) and note.metavar is None:
                    kinds = (kind, *get_args(kind))
                    note.metavar = next((name for of, name in VALUES.items() if of in kinds), "NAME")
