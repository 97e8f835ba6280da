"""What an evaluation needs: predictions in any format, and the ground truth of the same cases."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
from pydantic import AfterValidator

from boxel.api.names_of_cases import check_names, names_by_files
from boxel.datasets.cases import Case, Dataset, LoadedCase, read_case
from boxel.datasets.formats import as_dataset
from boxel.datasets.measured import measured_ahead
from boxel.datasets.polygons import CocoMasks
from boxel.datasets.problems import some
from boxel.evaluation import Criterion
from boxel.evaluation.criteria import Kind
from boxel.evaluation.evaluate import Context
from boxel.evaluation.masks import LabelMap, MaskOverlap, ProbabilityGrids, join_overlaps, overlap_masks
from boxel.export import DatasetInfo, Format, ImageGeometries, get_format, recognise
from boxel.inputs.folders import listed_once
from boxel.inputs.texts import read_json
from boxel.io import read_geometry
from boxel.output_folder import unfinished
from boxel.types import Detections, Geometry, Instances, Progress, silent
from boxel.wording import counted

Value = TypeVar("Value")


@dataclass(frozen=True)
class EvaluationInputs:
    """Predictions and ground truth, as `boxel.evaluation.evaluate` takes them.

    Attributes:
        detections: the detections of each case.
        ground_truth: the objects of each case.
        context: classes, groups, ignored objects and ignored regions, as keyword arguments.
        areas: the areas of the objects of each case, where the data set states them.
        criterion: the matching criterion with the spacings and masks it needs.
    """

    detections: dict[str, Detections]
    ground_truth: dict[str, Instances]
    context: Context
    areas: dict[str, np.ndarray]
    criterion: Criterion


def read_evaluation_inputs(
    predictions: Path | str,
    dataset: Path | str | Dataset,
    *,
    criterion: Kind = "box_iou",
    ignore: Path | str | None = None,
    source: str = "auto",
    as_written: bool = False,
    progress: Progress = silent,
) -> EvaluationInputs:
    """Read predictions and the ground truth of the cases that `choose_cases` chooses.

    With `as_written`, objects of a COCO data set have the boxes and areas of its file, not those of their masks.

    Raises:
        ValueError: see `boxel.evaluate`.
    """
    path, data = Path(predictions), as_dataset(dataset)
    with listed_once():
        form = recognise(path) if source == "auto" else get_format(source)
        detections = only_annotated(read_detections(path, data, form), data)
    cases = choose_cases(data, list(detections))
    with_masks = criterion.startswith("mask")
    bare = [case for case, own in detections.items() if len(own) and own.masks is None]
    if with_masks and form.read_masks is None and bare:
        raise ValueError(
            f"{path}: the detections of case {bare[0]!r} have no masks, which {criterion} needs; predict with --masks, "
            "or use box_iou"
        )

    spacings: dict[str, tuple[float, ...]] = {}
    overlaps: dict[str, MaskOverlap] = {}
    outside: dict[str, int] = {}
    ignored, ignored_regions = dict[str, Instances](), dict[str, Instances]()

    def visit(case: str, loaded: LoadedCase) -> None:
        geometry = loaded.image.geometry
        if loaded.ignored is not None and len(loaded.ignored):
            (ignored_regions if loaded.ignores_regions else ignored)[case] = loaded.ignored
        spacings[case] = geometry.spacing
        if case in detections:
            _check_grid(path, case, detections[case].geometry, geometry)
            if number := _count_outside(detections[case], geometry):
                outside[case] = number
            if with_masks:
                overlaps[case] = _overlap(path, case, form, detections[case], loaded)

    everything = read_ground_truth(cases, data, progress, visit, with_masks)
    areas: dict[str, np.ndarray] = {}
    for case in cases if as_written else ():
        if isinstance(case.annotate, CocoMasks):
            geometry = read_geometry(case.channels[0])
            everything[case.id], areas[case.id], ignored_regions[case.id] = case.annotate.as_written(geometry)
    if outside:
        warnings.warn(
            f"the centre of {counted(sum(outside.values()), 'detection')} in {counted(len(outside), 'case')}, such as "
            f"{next(iter(outside))!r}, lies outside the image; was another voxel grid predicted on?",
            stacklevel=2,
        )
    ground_truth, more_ignored, more_regions = _set_aside(dict(everything), ignore)
    areas = {case: own[np.isin(everything[case].ids, ground_truth[case].ids)] for case, own in areas.items()}
    context: Context = {
        "classes": data.classes,
        "ignored": _merge(ignored, more_ignored),
        "regions": _merge(ignored_regions, more_regions),
        "groups": {case.id: case.group or case.id for case in cases},
    }
    by = Criterion(criterion, spacings, overlaps if with_masks else None)
    return EvaluationInputs(detections, ground_truth, context, areas, by)


def read_detections(path: Path, data: Dataset, form: Format) -> dict[str, Detections]:
    """The detections of each case in a file or folder of a format, by the data set's names of the cases.

    A prediction made from the very image files of a case belongs to it, also under another name. Warns if the
    prediction was interrupted.

    Raises:
        ValueError: no predictions there, or predictions of other classes than the data set's.
    """
    info = DatasetInfo(
        tuple(data.classes),
        ImageGeometries({case.id: case.channels[0] for case in data.cases if case.channels}),
        tuple(sorted({case.annotation for case in data.cases if case.annotation is not None})),
    )
    predictions = form.reader(path, info)
    for prediction in predictions:
        if prediction.classes != info.classes:
            raise ValueError(
                f"{prediction.file or path}: predicts the classes {', '.join(prediction.classes)}; the data set has "
                f"{', '.join(info.classes)}: names and order must match, rename or reorder those of one of them"
            )
    names = names_by_files({prediction.case: prediction.image_files for prediction in predictions}, data)
    among = {case.id for case in data.cases} if not names else None
    if warning := unfinished(path, {prediction.case for prediction in predictions}, among):
        warnings.warn(warning, stacklevel=2)
    detections, files = dict[str, Detections](), dict[str, Path]()
    for prediction in predictions:
        case = names.get(prediction.case, prediction.case)
        if case in detections:
            raise ValueError(f"{path}: two predictions are of case {case!r} of the data set; remove one of them")
        detections[case], files[case] = prediction.detections, prediction.file or path
    check_names(files, data)
    return detections


def only_annotated(predicted: dict[str, Value], data: Dataset) -> dict[str, Value]:
    """The predictions of images that have an annotation.

    Raises:
        ValueError: no predicted image has one.
    """
    others = sorted(predicted.keys() & set(data.unlabelled))
    if others and len(others) == len(predicted):
        raise ValueError(
            f"{data.root}: no predicted image has an annotation ({some(others)}), so there is nothing to evaluate on; "
            "add annotations, or give the data set that has them"
        )
    if others:
        warnings.warn(
            f"{data.root}: {counted(len(others), 'predicted image has', 'predicted images have')} no annotation and "
            f"{'is' if len(others) == 1 else 'are'} not evaluated, such as {others[0]}",
            stacklevel=3,
        )
    left_out = set(others)
    return {case: own for case, own in predicted.items() if case not in left_out}


def _overlap(path: Path, case: str, form: Format, detections: Detections, loaded: LoadedCase) -> MaskOverlap:
    """How the masks of a case's detections overlap those of its objects."""
    empty = np.zeros(loaded.image.geometry.shape, np.int32)
    objects = LabelMap(empty if loaded.label_map is None else loaded.label_map,
                       loaded.instances.ids[loaded.instances.has_mask])  # fmt: skip
    if form.read_masks is not None:
        return join_overlaps([overlap_masks(LabelMap(*one), objects) for one in form.read_masks(path, case)])
    masks = detections.masks
    grids = np.zeros((0, *(1,) * detections.boxes.shape[-1]), np.float32) if masks is None else masks
    return overlap_masks(ProbabilityGrids(detections.boxes, grids), objects)


def _check_grid(path: Path, case: str, predicted: Geometry | None, actual: Geometry) -> None:
    for name in ("shape", "spacing", "origin", "direction") if predicted else ():
        mine, other = getattr(predicted, name), getattr(actual, name)
        if np.shape(mine) != np.shape(other) or not np.allclose(mine, other, rtol=1e-3, atol=1e-2):
            raise ValueError(
                f"{path}: case {case!r}: predicted on an image of {name} {mine}, but the data set's has {other}; "
                "predict the data set's image, or convert the boxes to its voxels"
            )


def _merge(a: dict[str, Instances], b: dict[str, Instances]) -> dict[str, Instances]:
    """The instances of both, case by case."""
    merged = {case: [part[case] for part in (a, b) if case in part] for case in (*a, *b)}
    return {case: Instances.concatenate(parts) for case, parts in merged.items()}


def _count_outside(detections: Detections, geometry: Geometry) -> int:
    """How many detections have their centre outside the image."""
    centres = np.asarray(detections.boxes).mean(axis=1)
    return int((~((centres >= 0) & (centres <= geometry.shape)).all(axis=1)).sum())


def _set_aside(
    ground_truth: dict[str, Instances], ignore: Path | str | None
) -> tuple[dict[str, Instances], dict[str, Instances], dict[str, Instances]]:
    """The objects that count, and the ignored objects and ignored regions that the file `ignore` names."""
    ignored, regions = dict[str, Instances](), dict[str, Instances]()
    if ignore is None:
        return ground_truth, ignored, regions
    shape = 'name objects and regions as {"CASE": [object id or [lower corner, upper corner], ...]}'
    named = read_json(Path(ignore), dict[str, list[Annotated[Any, AfterValidator(_id_or_region)]]], shape)
    for case, entries in named.items():
        ids = [entry for entry in entries if not isinstance(entry, list)]
        if case not in ground_truth or not set(ids) <= set(ground_truth[case].ids.tolist()):
            raise ValueError(f"{ignore}: case {case!r} with objects {ids} is not in the data set (or not evaluated)")
        objects, corners = ground_truth[case], [entry for entry in entries if isinstance(entry, list)]
        if corners:
            regions[case] = _read_regions(f"{ignore}: case {case!r}", corners, objects.boxes.shape[-1])
        aside = np.isin(objects.ids, ids)
        ground_truth[case], ignored[case] = objects[~aside], objects[aside]
    return ground_truth, ignored, regions


def _id_or_region(value: Any) -> Any:
    if type(value) is not int and not isinstance(value, list):
        raise ValueError("must be an object id or a region")
    return value


def _read_regions(where: str, corners: list[Any], ndim: int) -> Instances:
    """Ignored regions: boxes in which detections of any class do not count."""
    try:
        boxes = np.array(corners, np.float64).reshape(len(corners), 2, ndim)
    except (TypeError, ValueError):
        boxes = np.full((1, 2, ndim), np.nan)
    if not (np.isfinite(boxes).all() and (boxes[:, 0] < boxes[:, 1]).all()):
        raise ValueError(
            f"{where}: an ignored region is [lower corner, upper corner], each {ndim} numbers in voxels, axes in array "
            f"order, lower < upper; got {corners}"
        )
    any_class = np.full(len(boxes), -1)
    return Instances(boxes, any_class, np.arange(1, len(boxes) + 1), np.zeros(len(boxes), bool))


def choose_cases(dataset: Dataset, predicted: Sequence[str]) -> list[Case]:
    """The cases to evaluate: all test cases if only test cases were predicted, else exactly those predicted."""
    test = [case for case in dataset.cases if case.split == "test"]
    chosen = set(predicted)
    if chosen <= {case.id for case in test}:
        return test
    return [case for case in dataset.cases if case.id in chosen]


def read_ground_truth(
    cases: Sequence[Case], dataset: Dataset, progress: Progress, visit: Callable[[str, LoadedCase], None],
    with_masks: bool,
) -> dict[str, Instances]:  # fmt: skip
    """The annotated objects of each case; `visit` sees each case, perhaps without pixels, while it is in memory."""
    ground_truth = {}
    label_maps = (None if with_masks else case.label_map for case in cases)
    for done, (case, measured) in enumerate(zip(cases, measured_ahead(label_maps), strict=True), start=1):
        loaded = read_case(case, dataset, pixels=False, measured=measured)
        ground_truth[case.id] = loaded.instances
        visit(case.id, loaded)
        progress("evaluate", done, len(cases))
    return ground_truth
