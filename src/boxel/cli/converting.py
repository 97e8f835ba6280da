"""The verb that writes predictions for other programs: `boxel convert`."""

from pathlib import Path
from typing import Annotated

import typer

from boxel.cli.options import Plugins


def convert(
    predictions: Annotated[Path, typer.Argument(metavar="PREDICTIONS", help="Folder that `boxel predict` wrote.")],
    to: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="boxel, csv, coco, nifti, slicer, mitk, grand-challenge, picai, dicom-sr, dicom-seg or preview; "
            "see docs/how_to/export.md.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write.")],
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Image folder, if it was moved after prediction.")
    ] = None,
    source: Annotated[str, typer.Option("--from", metavar="NAME", help="Format of PREDICTIONS.")] = "boxel",
    classes: Annotated[
        str,
        typer.Option(metavar="A,B", help="Class names in the order of their labels, for formats without that order."),
    ] = "",
    min_score: Annotated[float, typer.Option(help="Discard detections below this score.")] = 0.0,
    plugin: Plugins = None,
) -> None:
    """Convert predictions to the format of another program."""
    from boxel.api.conversion import convert as run_convert

    names = [name.strip() for name in classes.split(",") if name.strip()]
    written = run_convert(predictions, out, to, source=source, images=images, classes=names, min_score=min_score)
    print(f"wrote {len(written)} file{'s' * (len(written) != 1)} to {out}")
