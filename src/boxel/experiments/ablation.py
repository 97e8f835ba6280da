"""What consolidation contributes: every method with some and with all of the recorded views, without the network.

OUT/combinations/METHOD_VIEWS_CHECKPOINTS/predictions/      as `boxel consolidate` writes them
                                          comparison.json   metrics, and the paired test; written last
OUT/table.md table.csv results.json figure.png
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, cast, get_args

from typing_extensions import TypedDict

from boxel.api.consolidation import consolidate_folder
from boxel.api.evaluation_inputs import EvaluationInputs, read_detections, read_evaluation_inputs
from boxel.api.run import environment
from boxel.config import did_you_mean
from boxel.consolidation import ConsolidateConfig
from boxel.consolidation.raw_file import raw_files, read_raw_file
from boxel.consolidation.views import RecordedViews, view_axes
from boxel.datasets.cases import Dataset, read_case_image
from boxel.datasets.formats import as_dataset
from boxel.evaluation import EvaluateConfig, compare, evaluate
from boxel.experiments.ablation_tables import METRICS, Ablation, AblationRow, Combination, as_csv, markdown
from boxel.experiments.before_after import before_after_png
from boxel.experiments.statistics import Estimate, holm
from boxel.export import get_format
from boxel.files import write_bytes, write_text
from boxel.inputs.json_values import exactly
from boxel.inputs.texts import REMAKE, read_json
from boxel.output_folder import claimed
from boxel.types import Progress, silent

METHODS: tuple[str, ...] = get_args(ConsolidateConfig.model_fields["method"].annotation)
CHECKPOINTS = (1, 5)


Ends = Annotated[list[float], exactly(2)] | None


class _Metric(TypedDict):
    value: float | None
    ci95: Ends


class _Difference(TypedDict):
    difference: float | None
    ci95: Ends
    p: float | None


class _Compared(TypedDict):
    metrics: dict[str, _Metric]
    differences: dict[str, _Difference]
    num_capped: int


@dataclass(frozen=True)
class _Recorded:
    """What raw predictions hold: the file and the number of boxes of each case, and the views of all of them."""

    files: Mapping[str, Path]
    num_boxes: Mapping[str, int]
    views: RecordedViews
    ndim: int  # of the network
    detectors: list[str]


def ablate(
    predictions: Path | str,
    dataset: Path | str | Dataset,
    out: Path | str,
    *,
    case: str = "",
    overrides: Sequence[str] = (),
    num_resamples: int = 1000,
    progress: Progress = silent,
) -> Ablation:
    """Compare all consolidation methods, with one and with all of the recorded views, on the same predictions.

    The reference is weighted box clustering of all views. Every combination is evaluated like any other predictions and
    compared with the reference patient by patient (`boxel.evaluation.compare`). Repeat an interrupted call to resume
    it: finished combinations are not repeated.

    Args:
        predictions: the folder that `boxel predict` wrote.
        dataset: the ground truth.
        out: folder for `table.md`, `table.csv`, `results.json` and `figure.png`; new, empty, or of the same ablation.
        case: the case that the figure shows; by default the one with the most raw boxes.
        overrides: settings of all combinations, such as `consolidate.iou_threshold=0.2`; the others are those of the
            run that predicted.
        num_resamples: bootstrap resamples for the intervals, and permutations for the p values.

    Raises:
        ValueError: no raw predictions there, of another data set, or of an earlier Boxel that did not record views; an
            unknown case or setting; `out` holds anything else.
    """
    if any(setting.partition("=")[0].strip() == "consolidate.method" for setting in overrides):
        raise ValueError("consolidate.method cannot be set: the ablation compares all methods")
    if num_resamples < 1:
        raise ValueError(f"resamples must be at least 1 to compare, got {num_resamples}")
    data, out = as_dataset(dataset), Path(out)
    recorded = _survey(predictions, data)
    annotated = recorded.files.keys() - set(data.unlabelled)
    if case and case not in annotated:
        raise ValueError(f"{predictions}: no annotated case {case!r} was predicted{did_you_mean(case, annotated)}")
    combinations, left_out = _combinations(recorded)
    job = {"detectors": recorded.detectors, "cases": len(recorded.files), "DATASET": str(Path(data.root).resolve()),
           "--set": list(overrides), "--resamples": num_resamples}  # fmt: skip
    with claimed(out, "experiment ablation", job, source=str(Path(predictions).resolve())):
        folders = [out / "combinations" / combination.name for combination in combinations]

        def consolidate(number: int) -> None:
            chosen = combinations[number]
            consolidate_folder(
                predictions, folders[number] / "predictions", views=chosen.views, checkpoints=chosen.checkpoints,
                overrides=[*overrides, f"consolidate.method={chosen.method}"],
            )  # fmt: skip

        consolidate(0)
        inputs = _read(folders[0] / "predictions", data)
        for number, folder in enumerate(folders):
            progress("combinations", number, len(folders))
            if (folder / "comparison.json").exists():
                continue
            if number:
                consolidate(number)
            record = _compare(folder / "predictions", data, inputs, num_resamples, is_reference=not number)
            write_text(folder / "comparison.json", json.dumps(record, indent=2) + "\n")
        progress("combinations", len(folders), len(folders))
        groups = set((inputs.context.get("groups") or {}).values())
        results = Ablation(_rows(combinations, folders), left_out, len(inputs.ground_truth), len(groups))
        write_text(out / "table.md", markdown(results))
        write_text(out / "table.csv", as_csv(results))
        write_text(out / "results.json", json.dumps(asdict(results) | {"environment": environment()}, indent=2) + "\n")
        case = case or max(inputs.ground_truth, key=lambda one: recorded.num_boxes[one])
        image = read_case_image(data[case], data).array[0]
        shown = (read_raw_file(recorded.files[case]), image, inputs.detections[case], inputs.ground_truth[case])
        write_bytes(out / "figure.png", before_after_png(*shown))
    return results


def _survey(predictions: Path | str, data: Dataset) -> _Recorded:
    """Read every raw file once; all must be of this data set, and of the same views."""
    files, num_boxes, detectors = dict[str, Path](), dict[str, int](), set[str]()
    paths = raw_files(predictions)
    first = read_raw_file(paths[0])
    first.select(checkpoints=1)  # raises if the views were not recorded
    views = cast("RecordedViews", first.views)
    known = {case.id for case in data.cases} | set(data.unlabelled)
    for file in paths:
        prediction = read_raw_file(file)
        case = prediction.case
        if case not in known:
            raise ValueError(f"{file}: case {case!r} is not in {data.root}; give the data set that was predicted")
        if prediction.classes != tuple(data.classes):
            raise ValueError(
                f"{file}: predictions of the classes {', '.join(prediction.classes)}, but {data.root} has "
                f"{', '.join(data.classes)}; give the data set that was predicted"
            )
        if prediction.views != views:
            raise ValueError(
                f"{file}: other views than in the raw prediction of case {first.case!r}; predict again into a new "
                "folder"
            )
        files[case], num_boxes[case] = file, len(prediction.raw)
        detectors.add(str(prediction.extra.get("detector")))
    ndim = len(first.shape) - first.raw.slice_axes
    return _Recorded(files, num_boxes, views, ndim, sorted(detectors))


def _combinations(recorded: _Recorded) -> tuple[list[Combination], list[str]]:
    """All that the recorded views allow, from most to fewest views, and the reasons why others are left out."""
    views, left_out = recorded.views, []
    kinds = ["identity", "plane", *(["all"] if len(views.mirrors) > 4 else [])]
    possible = {kind: set(view_axes(kind, recorded.ndim)) <= set(views.mirrors) for kind in kinds}
    if not possible["plane"]:
        left_out.append(f"4 mirrored views: only {len(views.mirrors)} recorded; predict with --set predict.views=plane")
    least, most = min(views.checkpoints), max(views.checkpoints)
    fitting = [number for number in CHECKPOINTS if number <= least]
    left_out += [f"{number} checkpoints: only {least} predicted; train with --set train.keep={number}"
                 for number in CHECKPOINTS if number > least]  # fmt: skip
    rest = [most if most == least else None] if most > fitting[-1] else []
    combinations = []
    possible_kinds = [kind for kind in reversed(kinds) if possible[kind]]
    for kind, number, method in product(possible_kinds, [*rest, *fitting[::-1]], METHODS):
        chosen, members = views.choose(kind, number, recorded.ndim)
        combinations.append(Combination(method, kind, number, len(chosen.mirrors), len(members)))
    return combinations, left_out


def _read(folder: Path, data: Dataset) -> EvaluationInputs:
    """The predictions of the reference, and the ground truth."""
    inputs = read_evaluation_inputs(folder, data, source="boxel")
    if not any(map(len, inputs.ground_truth.values())):
        raise ValueError(f"{data.root}: no objects in the predicted images; predict images with objects")
    return inputs


def _compare(
    folder: Path, data: Dataset, reference: EvaluationInputs, num_resamples: int, *, is_reference: bool
) -> dict[str, Any]:
    """The metrics of predictions with intervals, and their paired differences to the reference."""
    config = EvaluateConfig(num_resamples=num_resamples)
    read = read_detections(folder, data, get_format("boxel"))
    own = {case: read[case] for case in reference.ground_truth if case in read}
    metrics = evaluate(
        own, reference.ground_truth, config=config, criterion=reference.criterion, **reference.context
    ).metrics
    compared = {} if is_reference else compare(
        reference.detections, own, reference.ground_truth, config=config, criterion=reference.criterion,
        **reference.context,
    )["metrics"]  # fmt: skip
    return {
        "metrics": {name: {"value": metrics[name], "ci95": metrics.get(f"{name}/ci95")} for name in METRICS},
        "differences": {name: compared[name] for name in METRICS if not is_reference},
        "num_capped": sum(detections.capped for detections in own.values()),
    }


def _rows(combinations: Sequence[Combination], folders: Sequence[Path]) -> list[AblationRow]:
    records = [read_json(folder / "comparison.json", _Compared, REMAKE) for folder in folders]
    p_values = {name: [record["differences"][name]["p"] for record in records[1:]] for name in METRICS}
    corrected = {name: holm(values) for name, values in p_values.items()}
    rows = []
    for place, (combination, record) in enumerate(zip(combinations, records, strict=True), start=-1):
        own = {name: _estimate(one["value"], one["ci95"]) for name, one in record["metrics"].items()}
        differences = {name: _estimate(one["difference"], one["ci95"]) for name, one in record["differences"].items()}
        p, p_corrected = ({name: values[name][place] for name in differences} for values in (p_values, corrected))
        rows.append(AblationRow(combination, own, differences, p, p_corrected, record["num_capped"]))
    return rows


def _estimate(value: float, ends: Sequence[float] | None) -> Estimate:
    return Estimate(value, (ends[0], ends[1]) if ends else None, None, 1)
