"""Arguments that several verbs take."""

from pathlib import Path
from typing import Annotated

import typer

DatasetPath = Annotated[
    Path, typer.Argument(metavar="DATASET", help="Data set, in any layout of docs/bring-your-data.md.")
]
Format = Annotated[str, typer.Option(metavar="NAME", help="Layout of the data set; recognised if not given.")]
Options = Annotated[
    list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="Change one setting of the layout's reader.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
