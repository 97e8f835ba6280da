"""Arguments that several verbs take."""

from pathlib import Path
from typing import Annotated

import typer

DatasetPath = Annotated[
    Path, typer.Argument(metavar="DATASET", help="Data set folder; see docs/reference/dataset_layout.md.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
