"""The verb that measures score thresholds on validation cases: `boxel thresholds`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from boxel.cli.console import print_points, say
from boxel.cli.options import AsJson, Plugins, RunPath, Trust
from boxel.cli.progress import progress_bars


def thresholds(
    run: RunPath,
    work: Annotated[
        Path | None, typer.Option(metavar="WORK", help="Folder that `boxel prepare` wrote, if it was moved.")
    ] = None,
    as_json: AsJson = False,
    plugin: Plugins = None,
    trust: Trust = False,
) -> None:
    """Measure the score thresholds of a run on its validation cases, and store them in its folder.

    `boxel train` does it at its end; runs of an earlier Boxel, or with a short time budget, need this once.
    """
    from boxel.api.operating_points import thresholds as measure

    with progress_bars() as progress:
        points = measure(run, work, trust=trust, progress=progress)
    say(json.dumps(points.to_dict(), indent=2)) if as_json else print_points(points)
