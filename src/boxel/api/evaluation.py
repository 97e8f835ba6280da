"""`boxel evaluate` and `boxel compare`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from boxel.api.evaluation_inputs import read_evaluation_inputs
from boxel.api.segmentation_inputs import read_segmentations
from boxel.datasets.cases import Dataset
from boxel.evaluation import EvaluateConfig, Evaluation, write_evaluation
from boxel.evaluation import compare as compare_sets
from boxel.evaluation import evaluate as evaluate_cases
from boxel.evaluation.arrays import Cases, name_classes, read_arrays
from boxel.evaluation.coco import compare_coco, evaluate_coco
from boxel.evaluation.criteria import Kind
from boxel.evaluation.evaluate import Context
from boxel.evaluation.luna16 import compare_luna16, evaluate_luna16, is_luna16, read_marks, read_tables
from boxel.evaluation.picai import compare_picai, evaluate_picai
from boxel.evaluation.registry import warn_left_out
from boxel.evaluation.segmentation import SegmentationEvaluation, compare_segmentation, evaluate_segmentation
from boxel.files import write_text
from boxel.output_folder import check_file, claimed
from boxel.reporting import write_figures, write_segmentation_figures
from boxel.types import Detections, Instances, Progress, silent


def evaluate(
    predictions: Path | str | Cases,
    ground_truth: Path | str | Dataset | Cases,
    out: Path | str | None = None,
    *,
    config: EvaluateConfig | Mapping[str, Any] = EvaluateConfig(),  # noqa: B008 (frozen)
    classes: Sequence[str] | None = None,
    groups: Mapping[str, str] | None = None,
    ignore: Path | str | None = None,
    source: str = "auto",
    keep_identifiers: bool = False,
    progress: Progress = silent,
) -> Evaluation:
    """Evaluate predictions against the ground truth: arrays in memory, or folders.

    Predictions in a folder: if only test cases were predicted, all test cases are evaluated, so that a missing one is
    an error; otherwise exactly the predicted cases are.

    Args:
        predictions: per case `{"boxes": (n, 2, d), "scores": (n,), "labels": (n,)}` or `Detections`: a mapping by the
            names of the cases, or a list in the order of the ground truth's, named "0", "1", ...; or a folder in a
            format of `boxel convert` (with protocol "luna16" the challenge's table of marks, with "segmentation" label
            maps `CASE_seg.nii.gz` or `CASE.nii.gz`).
        ground_truth: per case `{"boxes", "labels"}` or `Instances`, every case; or a data set (with protocol "luna16"
            the folder of the challenge's tables).
        out: folder for `metrics.json`, the CSV tables and `figures/*.png`, new or empty or that of an earlier
            evaluation; None writes nothing.
        config: the settings, or a dict of them. Distances between arrays are in voxels, those between folders in mm.
        classes: class names of arrays; "0", "1", ... by default. A data set has its own.
        groups: of arrays, the group (patient) of each case. A data set has its own.
        ignore: JSON `{"CASE": [object id or [lower corner, upper corner], ...]}`: ignored objects, and ignored regions
            (voxels, axes in array order).
        source: format of a folder of predictions; "auto" recognises it.
        keep_identifiers: groups (patients) of a data set keep their names in the tables, instead of pseudonyms.
        progress: called with the stage, the cases done and all cases.

    Raises:
        ValueError: predictions are missing, of other classes, on another voxel grid, or of unknown cases; arrays of
            the wrong shape; settings that do not fit; `out` holds anything else.

    Example:
        >>> import boxel
        >>> result = boxel.evaluate(
        ...     {"a": {"boxes": [[[0, 0], [9, 9]]], "scores": [0.9], "labels": [0]}},
        ...     {"a": {"boxes": [[[0, 0], [9, 8]]], "labels": [0]}, "b": {"boxes": [], "labels": []}},
        ... )
        >>> result.metrics["AP@0.50"]
        1.0
    """
    config = _settings(config)
    if out is not None:
        with claimed(Path(out), "evaluate"):
            evaluation = evaluate(
                predictions, ground_truth, config=config, classes=classes, groups=groups, ignore=ignore,
                source=source, progress=progress,
            )  # fmt: skip
            write_results(Path(out), evaluation, keep_identifiers=keep_identifiers)
        return evaluation
    if keep_identifiers:
        raise ValueError("keep_identifiers has no effect without out; leave it out")
    warn_left_out(config)
    if _are_arrays(predictions, ground_truth, classes=classes, groups=groups, ignore=ignore, source=source):
        objects, [detections], context = _read_arrays(ground_truth, [predictions], config, classes, groups)
        function = evaluate_coco if config.protocol == "coco" else evaluate_cases
        return function(detections, objects, config=config, **context)
    return _evaluate_files(predictions, ground_truth, config, ignore, source, progress)


def write_results(out: Path, evaluation: Evaluation, *, keep_identifiers: bool = False) -> None:
    """Write `metrics.json`, the CSV tables and `figures/*.png` into the folder `out`."""
    write_evaluation(out, evaluation, keep_identifiers=keep_identifiers)
    if isinstance(evaluation, SegmentationEvaluation):
        write_segmentation_figures(out / "figures", evaluation.sizes(), evaluation.unit)
        return
    write_figures(out / "figures", evaluation.metrics, evaluation.curves, evaluation.scores())


def _settings(config: EvaluateConfig | Mapping[str, Any]) -> EvaluateConfig:
    if isinstance(config, Mapping):
        return EvaluateConfig.from_dict(config, "config")
    if not isinstance(config, EvaluateConfig):
        raise TypeError(f"config must be an EvaluateConfig or a dict of its settings, got {config!r:.60}")
    return config


def _are_arrays(*given: Any, classes: Any, groups: Any, ignore: Any, source: str) -> bool:
    """Whether predictions and ground truth are arrays, not folders; the other arguments must fit."""
    for one in given:
        if not isinstance(one, Mapping | list | tuple | str | Path | Dataset):
            raise TypeError(
                "predictions and ground truth must be folders, or mappings or lists of cases, "
                f"got {type(one).__name__}; see boxel.evaluate"
            )
    arrays = [isinstance(one, Mapping | list | tuple) for one in given]
    if len(set(arrays)) > 1:
        raise ValueError("give arrays for both predictions and ground truth, or folders for both")
    if arrays[0] and (ignore is not None or source != "auto"):
        raise ValueError("ignore and source describe folders; leave them out with arrays")
    if not arrays[0] and (classes is not None or groups is not None):
        raise ValueError("classes and groups describe arrays; a data set has its own")
    return arrays[0]


def _read_arrays(
    ground_truth: Any,
    sets: Sequence[Any],
    config: EvaluateConfig,
    classes: Sequence[str] | None,
    groups: Mapping[str, str] | None,
) -> tuple[dict[str, Instances], list[dict[str, Detections]], Context]:
    protocol = config.protocol in ("luna16", "picai", "segmentation")
    if protocol or config.criterion.startswith("mask"):
        what = f"protocol {config.protocol}" if protocol else f"criterion {config.criterion}"
        raise ValueError(f"{what} needs files; give folders instead of arrays")
    objects, detections = read_arrays(ground_truth, *sets)
    if isinstance(classes, str):
        raise ValueError(f"classes must be a list of names, got {classes!r}; write [{classes!r}]")
    if unknown := sorted((groups or {}).keys() - objects.keys()):
        raise ValueError(f"groups: case {unknown[0]!r} is not in the ground truth; remove it or correct its name")
    detected = [record for one in detections for record in one.values()]
    names = tuple(classes) if classes is not None else name_classes(detected, objects.values())
    return objects, detections, {"classes": names, "groups": groups or {}}


def _evaluate_files(
    predictions: Any,
    dataset: Any,
    config: EvaluateConfig,
    ignore: Path | str | None,
    source: str,
    progress: Progress,
) -> Evaluation:
    folder = _folder(config, dataset, ignore, source)
    if config.protocol == "luna16":
        marks = read_marks(Path(predictions))
        return evaluate_luna16(marks, read_tables(folder, list(marks)), config=config)
    if config.protocol == "segmentation":
        maps = read_segmentations([predictions], dataset, progress)
        return evaluate_segmentation(*maps.sets, classes=maps.classes, groups=maps.groups, config=config)
    inputs = read_evaluation_inputs(
        predictions, dataset, criterion=_criterion(config), ignore=ignore,
        source=source, as_written=config.protocol == "coco", progress=progress,
    )  # fmt: skip
    cases = (inputs.detections, inputs.ground_truth)
    with _naming(predictions):
        if config.protocol == "coco":
            return evaluate_coco(*cases, **inputs.context, areas=inputs.areas, config=config)
        if config.protocol == "picai":
            return evaluate_picai(*cases, **inputs.context, criterion=inputs.criterion, config=config)
        return evaluate_cases(*cases, **inputs.context, config=config, criterion=inputs.criterion)


@contextmanager
def _naming(predictions: Any) -> Iterator[None]:
    """Errors about a case say in which predictions it is."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{predictions}: {error}") from None


def compare(
    a: Path | str | Cases,
    b: Path | str | Cases,
    dataset: Path | str | Dataset | Cases,
    out: Path | str | None = None,
    *,
    config: EvaluateConfig | Mapping[str, Any] = EvaluateConfig(),  # noqa: B008 (frozen)
    classes: Sequence[str] | None = None,
    groups: Mapping[str, str] | None = None,
    ignore: Path | str | None = None,
    source: str = "auto",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Test whether predictions `b` are better than `a` on the same cases; see `boxel.evaluation.compare`.

    Args:
        a: predictions, arrays or a folder, see `evaluate`.
        b: other predictions of the same cases.
        dataset: the ground truth, see `evaluate`, also for all other arguments but `out`.
        out: JSON file to write; None writes nothing.

    Returns:
        "a" and "b", the paths of the folders or "arrays"; "metrics" and "settings" as in `boxel.evaluation.compare`.

    Raises:
        ValueError: see `evaluate`; the sets are of different cases.
    """
    config = _settings(config)
    if out is not None:
        check_file(Path(out), '{\n  "a": ', "compare")
    warn_left_out(config)
    if _are_arrays(a, b, dataset, classes=classes, groups=groups, ignore=ignore, source=source):
        objects, [of_a, of_b], context = _read_arrays(dataset, [a, b], config, classes, groups)
        function = compare_coco if config.protocol == "coco" else compare_sets
        result = {"a": "arrays", "b": "arrays", **function(of_a, of_b, objects, config=config, **context)}
    else:
        result = {"a": str(a), "b": str(b), **_compare_files(a, b, dataset, config, ignore, source, progress)}
    if out is not None:
        write_text(Path(out), json.dumps(result, indent=2, allow_nan=False) + "\n")
    return result


def _criterion(config: EvaluateConfig) -> Kind:
    return "mask_iou" if config.protocol == "picai" else config.criterion


def _compare_files(
    a: Any,
    b: Any,
    dataset: Any,
    config: EvaluateConfig,
    ignore: Path | str | None,
    source: str,
    progress: Progress,
) -> dict[str, Any]:
    folder = _folder(config, dataset, ignore, source)
    if config.protocol == "luna16":
        marks_a, marks_b = (read_marks(Path(path)) for path in (a, b))
        return compare_luna16(marks_a, marks_b, read_tables(folder, [*marks_a, *marks_b]), config=config)
    if config.protocol == "segmentation":
        maps = read_segmentations([a, b], dataset, progress)
        return compare_segmentation(*maps.sets, classes=maps.classes, groups=maps.groups, config=config)
    first, second = (
        read_evaluation_inputs(path, dataset, criterion=_criterion(config), ignore=ignore, source=source,
                               as_written=config.protocol == "coco", progress=progress)
        for path in (a, b)
    )  # fmt: skip
    if differing := sorted(first.ground_truth.keys() ^ second.ground_truth.keys()):
        raise ValueError(f"case {differing[0]!r} is in only one of {a} and {b}; compare predictions of the same cases")
    sets = (first.detections, second.detections, first.ground_truth)
    if config.protocol == "coco":
        return compare_coco(*sets, **first.context, areas=first.areas, config=config)
    if config.protocol == "picai":
        return compare_picai(*sets, **first.context, criteria=(first.criterion, second.criterion), config=config)
    masks = second.criterion.masks
    return compare_sets(*sets, **first.context, criterion=first.criterion, masks_of_b=masks, config=config)


def _folder(config: EvaluateConfig, dataset: Path | str | Dataset, ignore: Path | str | None, source: str) -> Path:
    """The folder of the data set; only the protocol "luna16" reads the tables of that challenge."""
    folder = dataset.root if isinstance(dataset, Dataset) else Path(dataset)
    if config.protocol == "luna16" and (ignore is not None or source != "auto"):
        raise ValueError("protocol luna16 reads the challenge's tables; leave out --ignore and --from")
    if config.protocol == "segmentation" and (ignore is not None or source != "auto"):
        raise ValueError("protocol segmentation compares label maps; leave out --ignore and --from")
    if config.protocol != "luna16" and is_luna16(folder):
        raise ValueError(f"{folder}: these are the tables of LUNA16; add --protocol luna16")
    return folder
