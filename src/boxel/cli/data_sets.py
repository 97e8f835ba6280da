"""Data sets on the command line: how they are opened, and the verb that checks them, `boxel check`."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from boxel.cli.console import plain, print_findings, progress_bars
from boxel.cli.options import AsJson, DatasetPath, Format, Options, Plugins


def check(
    dataset: DatasetPath,
    format: Format = "",  # noqa: A002
    option: Options = None,
    fix: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a repaired copy; the input is not changed.")
    ] = None,
    as_json: AsJson = False,
    plugin: Plugins = None,
) -> None:
    """Read every case and list problems with suggested fixes. Exit status 2 if there are errors."""
    from boxel.datasets.quality.check import examine

    with progress_bars() as progress:
        found = examine(
            dataset,
            format=format,
            options=option or (),
            progress=progress,
        )
    if as_json:
        print(json.dumps([plain(finding) for finding in found.findings], indent=2))
    else:
        print_findings(found.findings)
        print(found.summary)
    if fix and found.dataset:
        from boxel.datasets.quality.repair import repair

        with progress_bars() as progress:
            copy = repair(
                found.dataset, found.findings, fix,
                progress=progress,
            )  # fmt: skip
        print(f"wrote {len(copy.cases)} of {len(found.dataset.cases)} cases to {fix}", file=sys.stderr)
    if any(finding.severity == "error" for finding in found.findings):
        raise typer.Exit(2)


def open_named(path: Path, layout: str, options: list[str] | None) -> Any:
    """The data set that a verb was given; what its reader leaves out is said on standard error."""
    from boxel.datasets.formats import open_dataset
    from boxel.datasets.problems import InputError, raise_it

    def report(problem: InputError) -> None:
        raise_it(problem)
        if problem.severity == "warning":
            print(f"boxel: {problem}", file=sys.stderr)

    return open_dataset(path, report, format=layout, options=options or ())


def named_images(paths: list[Path], layout: str, options: list[str] | None) -> Any:
    """The images that `predict` was given: as they are, or as the cases of the data set in a named layout.

    Raises:
        ValueError: a format of predictions instead of a layout, or several data sets.
    """
    if not layout and not options:
        return paths
    from boxel.api.prediction import open_images
    from boxel.datasets.formats import formats
    from boxel.export.formats import list_formats

    if layout in list_formats() and layout not in formats():
        raise ValueError(f"--format {layout}: names the layout of a data set; write --to {layout} for the results")
    if len(paths) != 1:
        raise ValueError(f"--format and --option describe one data set, got {len(paths)} paths; give one folder")
    return open_images(paths[0], layout, options or ())
