"""The verbs about predictions and truth: `boxel evaluate` and `boxel compare`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from boxel.cli.console import print_comparison, print_metrics, progress_bars
from boxel.cli.data_sets import open_named
from boxel.cli.options import AsJson, DatasetPath, Format, Options, Plugins

Predictions = Annotated[
    Path, typer.Argument(metavar="PREDICTIONS", help="Folder that `boxel predict` wrote, or another tool's results.")
]
Thresholds = Annotated[
    list[float] | None, typer.Option(help="IoU threshold (or radius); repeat for several [0.10, 0.15 ... 0.50].")
]
Protocol = Annotated[
    str, typer.Option(help="`boxel`; `coco` or `luna16` for the matching and the figures of those challenges.")
]
Criterion = Annotated[
    str | None,
    typer.Option(help="`box_iou`, `mask_iou`, `mask_dice`, `centre_distance` (mm) or `relative_distance` (radii)."),
]
Rule = Annotated[
    str | None, typer.Option(help="Matching: `greedy` as COCO, `optimal`, `mdt` as the papers' toolkit, `luna16`.")
]
Interpolation = Annotated[
    str | None, typer.Option(help="AP as `101` or `11` recall points, exact `area`, or `step` [101].")
]
Size = Annotated[
    list[float] | None, typer.Option(help="Box volume (voxels) between strata; repeat [thirds of the objects].")
]
Score = Annotated[list[float] | None, typer.Option(help="Further operating point; repeat for several.")]
Ignore = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help='JSON {"CASE": [id or [lower, upper], ...]}: objects and regions that are '
                 "neither hit nor miss."),
]  # fmt: skip
Source = Annotated[
    str, typer.Option("--from", metavar="NAME", help="Format of PREDICTIONS, see docs/how_to/evaluate.md.")
]


def evaluate(
    predictions: Predictions,
    dataset: DatasetPath,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for metrics.json, per_case.csv, per_object.csv, figures/.")
    ],
    protocol: Protocol = "boxel",
    iou: Thresholds = None,
    criterion: Criterion = None,
    rule: Rule = None,
    interpolation: Interpolation = None,
    size: Size = None,
    score: Score = None,
    ignore: Ignore = None,
    source: Source = "auto",
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples for the intervals; 0 for none.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    format: Format = "",  # noqa: A002
    option: Options = None,
    as_json: AsJson = False,
    plugin: Plugins = None,
) -> None:
    """Compare predictions with the annotations."""
    from boxel.api.evaluation import evaluate as run_evaluate

    data = dataset if protocol == "luna16" else open_named(dataset, format, option)
    with progress_bars() as progress:
        metrics = run_evaluate(
            predictions, data, out, protocol=protocol, iou_thresholds=iou, criterion=criterion, rule=rule,  # type: ignore[arg-type]
            interpolation=interpolation, size_limits=size, operating_points=score or (), ignore=ignore,  # type: ignore[arg-type]
            source=source, num_resamples=resamples, seed=seed, progress=progress,
        ).metrics  # fmt: skip
    print(json.dumps(metrics, indent=2)) if as_json else print_metrics(metrics)


def compare(
    a: Predictions,
    b: Annotated[Path, typer.Argument(metavar="PREDICTIONS", help="Other predictions of the same cases.")],
    dataset: DatasetPath,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="JSON file to write.")] = None,
    protocol: Protocol = "boxel",
    iou: Thresholds = None,
    criterion: Criterion = None,
    rule: Rule = None,
    interpolation: Interpolation = None,
    size: Size = None,
    score: Score = None,
    ignore: Ignore = None,
    source: Source = "auto",
    resamples: Annotated[int, typer.Option(help="Bootstrap draws, and permutations.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap and the permutations.")] = 0,
    format: Format = "",  # noqa: A002
    option: Options = None,
    as_json: AsJson = False,
    plugin: Plugins = None,
) -> None:
    """Test whether the second predictions are better than the first, patient by patient."""
    from boxel.api.evaluation import compare as run_compare

    data = dataset if protocol == "luna16" else open_named(dataset, format, option)
    with progress_bars() as progress:
        result = run_compare(
            a, b, data, out, protocol=protocol, iou_thresholds=iou, criterion=criterion, rule=rule,  # type: ignore[arg-type]
            interpolation=interpolation, size_limits=size, operating_points=score or (), ignore=ignore,  # type: ignore[arg-type]
            source=source, num_resamples=resamples, seed=seed, progress=progress,
        )  # fmt: skip
    print(json.dumps(result, indent=2)) if as_json else print_comparison(result)
