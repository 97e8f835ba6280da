"""Data sets on the command line: how they are opened, and the commands `boxel check` and `boxel toy`."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from boxel.cli.console import plain, print_cases, print_findings, say, warned
from boxel.cli.options import AsJson, DatasetPath, Format, KeepIdentifiers, Options, Plugins
from boxel.cli.progress import progress_bars
from boxel.wording import counted


def check(
    dataset: DatasetPath,
    format: Format = "",  # noqa: A002
    option: Options = None,
    fix: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a repaired copy; the input is not changed.")
    ] = None,
    keep_identifiers: KeepIdentifiers = False,
    list_: Annotated[
        bool, typer.Option("--list", help="List every case: its files, size, spacing and objects.")
    ] = False,
    preview: Annotated[
        int, typer.Option(metavar="N", min=0, help="Write pictures of N cases with their boxes to the folder --out.")
    ] = 0,
    html: Annotated[
        bool, typer.Option("--html", help="Write an overview, index.html, with pictures and distributions to --out.")
    ] = False,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for --preview and --html.", show_default=True)
    ] = Path("check_out"),
    as_json: AsJson = False,
    plugin: Plugins = None,
) -> None:
    """Read every case once and list problems with suggested fixes. Exit status 2 if there are errors."""
    from boxel.datasets.quality.check import examine

    if keep_identifiers and not fix:
        raise ValueError("--keep-identifiers has no effect without --fix; leave it out")
    with progress_bars() as progress:
        examination = examine(
            dataset,
            format=format,
            options=option or (),
            progress=progress,
        )
    findings = [plain(finding) for finding in examination.findings]
    if as_json:
        say(json.dumps({"findings": findings, "cases": examination.rows()} if list_ else findings, indent=2))
    else:
        if list_:
            print_cases(examination.rows())
        print_findings(examination.findings)
        say(examination.summary)
    if preview or html:
        write_pictures(examination, out, preview, html)
    if fix and examination.dataset:
        from boxel.datasets.quality.repair import repair

        with progress_bars("repaired cases are kept") as progress:
            copy = repair(
                examination.dataset, examination.findings, fix, keep_identifiers=keep_identifiers,
                progress=progress,
            )  # fmt: skip
        say(f"wrote {len(copy.cases)} of {counted(len(examination.dataset.cases), 'case')} to {fix}", file=sys.stderr)
    if any(finding.severity == "error" for finding in examination.findings):
        raise typer.Exit(2)


def write_pictures(examination: Any, out: Path, count: int, html: bool) -> None:
    from boxel.api.overview import PAGE_PICTURES, overview, preview
    from boxel.output_folder import claimed

    if examination.dataset is None:
        say("no pictures and no page are written, because the data set cannot be opened", file=sys.stderr)
        return
    with claimed(out, "check", {"DATASET": str(examination.dataset.root.resolve())}):
        if count:
            paths = preview(examination, out, count)
            wrote = f"wrote {counted(len(paths), 'picture')} to {out}"
            say(wrote if paths else "no picture is written, because no image can be read", file=sys.stderr)
        if html:
            overview(examination, out / "index.html", count or PAGE_PICTURES)
            say(f"wrote {out / 'index.html'}", file=sys.stderr)


def toy(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write.")],
    task: Annotated[str, typer.Option(help="`donuts_shape`, `donuts_pattern` or `circles_scale`.")] = "donuts_shape",
    preset: Annotated[
        str, typer.Option(help="`paper`: sizes as published; `mdt`: sizes in the code of the toolkit.")
    ] = "mdt",
    train_: Annotated[int, typer.Option("--train", help="Number of training images.")] = 1000,
    val: Annotated[int, typer.Option(help="Number of validation images.")] = 500,
    test: Annotated[int, typer.Option(help="Number of test images.")] = 1000,
    ndim: Annotated[
        int, typer.Option(help="Number of image axes: 2 (discs and donuts) or 3 (balls and hollow balls).")
    ] = 2,
    size: Annotated[int | None, typer.Option(help="Voxels per axis [320 in 2D, 64 in 3D].")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the images.")] = 0,
) -> None:
    """Generate the toy data sets of the Retina U-Net papers, in the native layout."""
    from boxel.datasets.toy import make_toy

    with progress_bars() as progress:
        make_toy(
            out, task, preset, num_train=train_, num_val=val, num_test=test, ndim=ndim, size=size, seed=seed,
            progress=progress,
        )  # fmt: skip
    say(f"wrote {counted(train_ + val + test, 'image')} to {out}")


def open_named(path: Path, layout: str, options: list[str] | None) -> Any:
    """Open the data set given to a command; warnings of its reader go to standard error."""
    from boxel.datasets.formats import open_dataset
    from boxel.datasets.problems import InputError, raise_it

    def report(problem: InputError) -> None:
        raise_it(problem)
        if problem.severity == "warning":
            say(warned(problem), file=sys.stderr)

    return open_dataset(path, report, format=layout, options=options or ())


def named_images(paths: list[Path], layout: str, options: list[str] | None) -> Any:
    """The images given to `predict`: the paths, or the data set if a layout or an option is named.

    Raises:
        ValueError: a format of predictions instead of a layout, or several data sets.
    """
    if not layout and not options:
        return paths
    from boxel.api.prediction_inputs import open_images
    from boxel.datasets.formats import formats
    from boxel.export import list_formats

    if layout in list_formats() and layout not in formats():
        raise ValueError(f"--format {layout}: names the layout of a data set; write --to {layout} for the results")
    if len(paths) != 1:
        raise ValueError(f"--format and --option describe one data set, got {len(paths)} paths; give one folder")
    return open_images(paths[0], layout, options or ())
