"""The verb that turns stored raw predictions into detections: `boxel consolidate`."""

from pathlib import Path
from typing import Annotated

import typer

from boxel.cli.console import say
from boxel.cli.options import Plugins
from boxel.cli.progress import progress_bars
from boxel.wording import counted


def consolidate(
    predictions: Annotated[Path, typer.Argument(metavar="PREDICTIONS", help="Folder that `boxel predict` wrote.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for one JSON file per image.")],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, such as `consolidate.iou_threshold=0.5`."),
    ] = None,
    views: Annotated[
        str | None,
        typer.Option(
            metavar="N|NAME",
            help="Use only the first N recorded mirrored views, or `identity`, `plane` or `all` of them [all].",
        ),
    ] = None,
    checkpoints: Annotated[
        int | None, typer.Option(metavar="N", help="Use only the N best checkpoints of each run [all].")
    ] = None,
    plugin: Plugins = None,
) -> None:
    """Merge the stored boxes of all views again, with other settings; needs no GPU.

    Settings that are not changed are those of the run that predicted.
    """
    from boxel.api.consolidation import consolidate_folder

    with progress_bars() as progress:
        written = consolidate_folder(
            predictions, out, overrides=set_ or (), views=views, checkpoints=checkpoints, progress=progress
        )
    say(f"consolidated {counted(len(written), 'image')} in {out}")
