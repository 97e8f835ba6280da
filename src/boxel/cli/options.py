"""Arguments and options that several verbs share."""

from pathlib import Path
from typing import Annotated

import typer

DatasetPath = Annotated[
    Path, typer.Argument(metavar="DATASET", help="Data set, in any layout described in docs/bring-your-data.md.")
]
Format = Annotated[str, typer.Option(metavar="NAME", help="Layout of the data set; recognised by default.")]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="Change one setting of the reader; may be repeated."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


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
