"""The verbs about predictions and ground truth: `boxel evaluate` and `boxel compare`."""

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from boxel.cli.console import print_comparison, say
from boxel.cli.data_sets import open_named
from boxel.cli.options import AsJson, DatasetPath, Format, KeepIdentifiers, Options, Plugins, with_options
from boxel.cli.progress import progress_bars

Predictions = Annotated[
    Path, typer.Argument(metavar="PREDICTIONS", help="Folder that `boxel predict` wrote, or another tool's results.")
]


def evaluation_inputs(
    dataset: DatasetPath,
    ignore: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help='Ignored objects and ignored regions: JSON {"CASE": [id or [lower, upper], ...]}.'
        ),
    ] = None,
    source: Annotated[
        str, typer.Option("--from", metavar="NAME", help="Format of PREDICTIONS, see docs/how_to/export.md.")
    ] = "auto",
    format: Format = "",  # noqa: A002
    option: Options = None,
    plugin: Plugins = None,
    protocol: Annotated[
        str,
        typer.Option(
            help="`boxel`; `coco`, `luna16` or `picai` for the matching and the metrics of those challenges; "
            "`segmentation` for label maps: DSC, IoU, precision, recall, surface distances, panoptic quality."
        ),
    ] = "boxel",
    iou: Annotated[
        list[float] | None,
        typer.Option(help="IoU threshold (or radius); may be repeated [0.10, 0.15 ... 0.50]."),
    ] = None,
    criterion: Annotated[
        str | None,
        typer.Option(help="`box_iou`, `mask_iou`, `mask_dice`, `centre_distance` (mm), `relative_distance` (radii)."),
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(
            help="Matching: `greedy` as in COCO, `optimal`, `mdt` as the papers' toolkit, `luna16`, `voc` [greedy]."
        ),
    ] = None,
    interpolation: Annotated[
        str | None,
        typer.Option(help="AP from `101` or `11` recalls, `area`, `step`, or `report` (11 score thresholds) [101]."),
    ] = None,
    size: Annotated[
        list[float] | None,
        typer.Option(help="Box volume (voxels) between size groups; may be repeated [thirds of the objects]."),
    ] = None,
    score: Annotated[
        list[float] | None, typer.Option(help="Score threshold of a further operating point; may be repeated.")
    ] = None,
    resamples: Annotated[
        int, typer.Option(help="Bootstrap resamples for the intervals (0: none), and permutations in a comparison.")
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Random seed of the resamples and permutations.")] = 0,
) -> tuple[Any, dict[str, Any]]:
    """The data set of an evaluation, and the other arguments that `boxel.evaluate` and `boxel.compare` take."""
    from boxel.evaluation import EvaluateConfig

    chosen: dict[str, Any] = {
        "protocol": protocol, "iou_thresholds": iou, "criterion": criterion, "rule": rule,
        "interpolation": interpolation, "size_limits": size, "operating_points": score,
        "num_resamples": resamples, "seed": seed,
    }  # fmt: skip
    options = {
        "iou_thresholds": "iou",
        "size_limits": "size",
        "operating_points": "score",
        "num_resamples": "resamples",
    }
    try:
        config = EvaluateConfig.from_dict({key: value for key, value in chosen.items() if value is not None}, "options")
    except ValueError as error:
        fields = rf"\b({'|'.join(chosen)})\b(?=\.\d+:|:|,| must| of|$)(\.\d+)?"
        text = re.sub(fields, lambda match: f"--{options.get(match[1], match[1])}", str(error))
        raise ValueError(text.removeprefix("options: ")) from None
    data = dataset if protocol == "luna16" else open_named(dataset, format, option)
    return data, {"config": config, "ignore": ignore, "source": source}


@with_options(evaluation_inputs, "inputs")
def evaluate(
    predictions: Predictions,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for metrics.json, the CSV tables, figures/.")],
    inputs: tuple[Any, dict[str, Any]],
    keep_identifiers: KeepIdentifiers = False,
    as_json: AsJson = False,
) -> None:
    """Evaluate predictions against the ground truth: metrics with 95 % intervals."""
    from boxel.api.evaluation import evaluate as run_evaluate

    data, settings = inputs
    with progress_bars() as progress:
        result = run_evaluate(predictions, data, out, **settings, keep_identifiers=keep_identifiers, progress=progress)
    say(json.dumps(result.metrics, indent=2) if as_json else result)


@with_options(evaluation_inputs, "inputs")
def compare(
    a: Predictions,
    b: Annotated[Path, typer.Argument(metavar="OTHER", help="Other predictions of the same cases.")],
    inputs: tuple[Any, dict[str, Any]],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="JSON file to write.")] = None,
    as_json: AsJson = False,
) -> None:
    """Test whether OTHER predictions are better than PREDICTIONS, patient by patient."""
    from boxel.api.evaluation import compare as run_compare

    data, settings = inputs
    with progress_bars() as progress:
        result = run_compare(a, b, data, out, **settings, progress=progress)
    say(json.dumps(result, indent=2)) if as_json else print_comparison(result, a, b)
