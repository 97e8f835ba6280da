"""`boxel convert`: predictions for other programs."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from boxel.cli.console import say, say_of_patients
from boxel.cli.options import All, FpPerImage, MinScore, Plugins
from boxel.cli.progress import messages
from boxel.wording import counted


class ListsFormats(TyperCommand):
    """A command whose help lists the registered export formats; they are imported when the help is shown."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from boxel.export import list_formats

        formats = list_formats()
        options: dict[str | None, Any] = {parameter.name: parameter for parameter in self.params}
        options["to"].help = f"Format to write: {_listed(name for name, form in formats.items() if form.write)}."
        names = _listed(name for name, form in formats.items() if form.read)
        options["source"].help = f"Format of PREDICTIONS: auto (recognised by the files), {names}."
        super().format_help(ctx, formatter)


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}"


def convert(
    predictions: Annotated[
        Path,
        typer.Argument(metavar="PREDICTIONS", help="Folder that `boxel predict` wrote, or another tool's results."),
    ],
    to: Annotated[str, typer.Option(metavar="NAME", help="Format to write.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write.")],
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Image folder, if it was moved after prediction.")
    ] = None,
    source: Annotated[str, typer.Option("--from", metavar="NAME", help="Format of PREDICTIONS.")] = "auto",
    classes: Annotated[
        str, typer.Option(metavar="A,B", help="Class names by label, for files that do not contain them in order.")
    ] = "",
    min_score: MinScore = None,
    fp_per_image: FpPerImage = None,
    all_: All = False,
    plugin: Plugins = None,
) -> None:
    """Convert predictions to the format of another program.

    Formats that people look at (DICOM, Slicer, MITK, NIfTI, preview) get the detections above the score thresholds of
    the run, if these are known; the others get all, as metrics need them. --min-score, --fp-per-image and --all choose
    for every format.
    """
    from boxel.api.conversion import convert as run_convert
    from boxel.operating_points import Shown

    names = [name.strip() for name in classes.split(",") if name.strip()]
    shown = Shown(min_score=min_score, fp_per_image=fp_per_image, keep_all=all_)
    with messages():
        written = run_convert(predictions, out, to, source=source, images=images, classes=names, shown=shown)
    say_of_patients([to])
    say(f"wrote {counted(len(written), 'file')} to {out}")
