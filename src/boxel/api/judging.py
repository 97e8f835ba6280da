"""What is judged: predictions of any kind, and the truth about the same cases."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from boxel.config import read_json
from boxel.datasets.cases import Case, Dataset, LoadedCase, read_case
from boxel.datasets.formats import as_dataset
from boxel.datasets.polygons import CocoMasks
from boxel.evaluation import Criterion
from boxel.evaluation.criteria import Kind
from boxel.evaluation.masks import LabelMap, MaskOverlap, ProbabilityGrids, join_overlaps, overlap_masks
from boxel.export import get_format
from boxel.export.boxel_json import read_folder
from boxel.export.coco import IMAGES, RESULTS, read_coco
from boxel.export.label_maps import is_label_maps, read_label_maps, read_masks
from boxel.export.nndetection import read_nndetection
from boxel.export.picai import read_lesions
from boxel.io import read_geometry
from boxel.types import Detections, Geometry, Instances, Progress, silent

_OWN = ("boxel", "nndetection", "label-maps")
# Formats of which each file is a label map.
_MASKS = {"label-maps": lambda path, case: [read_masks(path, case)], "picai": read_lesions}


@dataclass(frozen=True)
class Judged:
    """What predictions are judged with.

    Attributes:
        found: the detections of each case.
        truths: the objects of each case.
        about: classes, groups, ignored objects and regions, as `boxel.evaluation.evaluate` takes them.
        areas: of the objects of each case, where the data set has its own.
        criterion: with the spacings and masks it needs.
    """

    found: dict[str, Detections]
    truths: dict[str, Instances]
    about: dict[str, Any]
    criterion: Criterion
    areas: dict[str, np.ndarray]


def read_task(
    predictions: Path | str,
    dataset: Path | str | Dataset,
    *,
    criterion: Kind = "box_iou",
    ignore: Path | str | None = None,
    source: str = "auto",
    as_written: bool = False,
    progress: Progress = silent,
) -> Judged:
    """Predictions and truth of the cases that `choose_truth` chooses.

    With `as_written`, objects of a COCO data set have the boxes and areas of its file, not those of their masks.

    Raises:
        ValueError: see `evaluate`.
    """
    data = as_dataset(dataset)
    source = recognise(Path(predictions)) if source == "auto" else source
    # The other formats know the geometry, or need none.
    grids = {case.id: read_geometry(case.channels[0]) for case in data.cases} if source not in _OWN else {}
    own = _own_numbers(Path(predictions), data) if source == "coco" else None
    if own is None:
        found = read_predictions(predictions, data.classes, source=source, ndim=data.ndim, geometries=grids)
    else:
        found = read_coco(Path(predictions), data.classes, grids, own)[0]
    found = _with_annotation(found, data)
    cases = choose_truth(data, list(found))
    spacings: dict[str, tuple[float, ...]] = {}
    overlaps: dict[str, MaskOverlap] = {}
    with_masks = criterion.startswith("mask")
    if with_masks and source not in _MASKS and all(len(one) == 0 or one.masks is None for one in found.values()):
        raise ValueError(f"{predictions}: no masks there, which {criterion} needs; use box_iou")

    strays: dict[str, int] = {}
    declared: dict[bool, dict[str, Instances]] = {False: {}, True: {}}  # objects, regions

    def visit(case: str, loaded: LoadedCase) -> None:
        geometry = loaded.image.geometry
        if loaded.ignored is not None and len(loaded.ignored):
            declared[loaded.ignores_regions][case] = loaded.ignored
        spacings[case] = geometry.spacing
        if case in found:
            _check_grid(case, found[case].geometry, geometry)
            if number := _outside(found[case], geometry):
                strays[case] = number
        if with_masks and case in found:
            empty = np.zeros(geometry.shape, np.int32)
            objects = LabelMap(empty if loaded.label_map is None else loaded.label_map,
                               loaded.instances.ids[loaded.instances.has_mask])  # fmt: skip
            drawn: list[LabelMap | ProbabilityGrids] = [_masks(found[case])]
            if source in _MASKS:
                drawn = [LabelMap(*one) for one in _MASKS[source](Path(predictions), case)]
            overlaps[case] = join_overlaps([overlap_masks(one, objects) for one in drawn])

    truths = read_truth(cases, data, progress, visit)
    areas: dict[str, np.ndarray] = {}
    for case in cases if as_written else ():
        if isinstance(case.annotate, CocoMasks):
            geometry = read_geometry(case.channels[0])
            truths[case.id], areas[case.id], declared[True][case.id] = case.annotate.as_written(geometry)
    if strays:
        warnings.warn(
            f"{sum(strays.values())} detections in {len(strays)} cases, such as {next(iter(strays))!r}, have their "
            "middle outside the image, where nothing is to be found; were they made on another voxel grid?",
            stacklevel=2,
        )
    everything = truths
    truths, *named = _set_aside(dict(truths), ignore)
    areas = {case: own[np.isin(everything[case].ids, truths[case].ids)] for case, own in areas.items()}
    ignored, regions = (_merge(declared[which], more) for which, more in zip((False, True), named, strict=True))
    about = {
        "classes": data.classes, "ignored": ignored, "regions": regions,
        "groups": {case.id: case.group or case.id for case in cases},
    }  # fmt: skip
    return Judged(found, truths, about, Criterion(criterion, spacings, overlaps if with_masks else None), areas)


def _own_numbers(results: Path, data: Dataset) -> Path | None:
    """The file of a COCO data set that COCO results without a file of numbers beside them refer to."""
    beside = results / IMAGES if results.is_dir() else results.with_name(IMAGES)
    files = sorted({case.annotation for case in data.cases if case.annotation is not None})
    if data.format != "coco" or beside.exists() or not files:
        return None
    wanted = {entry.get("image_id") for entry in read_json(results / RESULTS if results.is_dir() else results)}
    return next((file for file in files if wanted <= {image["id"] for image in read_json(file)["images"]}), files[0])


def _with_annotation(found: dict[str, Detections], data: Dataset) -> dict[str, Detections]:
    """Without predictions of images that nobody annotated."""
    others = sorted(found.keys() & set(data.unlabelled))
    if others:
        warnings.warn(
            f"{data.root}: {len(others)} predicted images have no annotation and are not judged, such as {others[0]}",
            stacklevel=3,
        )
    return {case: boxes for case, boxes in found.items() if case not in others}


def _masks(found: Detections) -> ProbabilityGrids:
    grids = np.zeros((0, *(1,) * found.boxes.shape[-1]), np.float32) if found.masks is None else found.masks
    return ProbabilityGrids(found.boxes, grids)


def _check_grid(case: str, predicted: Geometry | None, actual: Geometry) -> None:
    for name in ("shape", "spacing", "origin", "direction") if predicted else ():
        mine, other = getattr(predicted, name), getattr(actual, name)
        if np.shape(mine) != np.shape(other) or not np.allclose(mine, other, rtol=1e-3, atol=1e-2):
            raise ValueError(
                f"case {case!r}: predicted on an image of {name} {mine}, but the data set's has {other}; predict the "
                "data set's image, or convert the boxes to its voxels"
            )


def _merge(a: dict[str, Instances], b: dict[str, Instances]) -> dict[str, Instances]:
    """The instances of both, case by case."""
    merged = {case: [part[case] for part in (a, b) if case in part] for case in (*a, *b)}
    return {case: Instances.concatenate(parts) for case, parts in merged.items()}


def _outside(found: Detections, geometry: Geometry) -> int:
    """How many detections have their middle outside the image."""
    middle = np.asarray(found.boxes).mean(axis=1)
    return int((~((middle >= 0) & (middle <= geometry.shape)).all(axis=1)).sum())


def _set_aside(
    truths: dict[str, Instances], ignore: Path | str | None
) -> tuple[dict[str, Instances], dict[str, Instances], dict[str, Instances]]:
    """The objects that count, and the objects and the regions that `ignore` names."""
    ignored, regions = dict[str, Instances](), dict[str, Instances]()
    if ignore is None:
        return truths, ignored, regions
    named, shape = read_json(Path(ignore)), '{"CASE": [object id or [lower corner, upper corner], ...]}'
    if not isinstance(named, dict) or not all(isinstance(entries, list) for entries in named.values()):
        raise ValueError(f"{ignore}: must be {shape}, what is neither hit nor miss")
    for case, entries in named.items():
        ids = [entry for entry in entries if not isinstance(entry, list)]
        if case not in truths or not set(ids) <= set(truths[case].ids.tolist()):
            raise ValueError(f"{ignore}: case {case!r} with objects {ids} is not in the data set (or not judged)")
        corners = [entry for entry in entries if isinstance(entry, list)]
        if corners:
            regions[case] = _read_regions(f"{ignore}: case {case!r}", corners, truths[case].boxes.shape[-1])
        aside = np.isin(truths[case].ids, ids)
        truths[case], ignored[case] = truths[case][~aside], truths[case][aside]
    return truths, ignored, regions


def _read_regions(where: str, corners: list[Any], ndim: int) -> Instances:
    """Boxes in which detections of any class do not count."""
    try:
        boxes = np.array(corners, np.float64).reshape(len(corners), 2, ndim)
    except (TypeError, ValueError):
        boxes = np.full((1, 2, ndim), np.nan)
    if not (np.isfinite(boxes).all() and (boxes[:, 0] < boxes[:, 1]).all()):
        raise ValueError(
            f"{where}: a region is [lower corner, upper corner], each {ndim} numbers in voxels, axes in array order, "
            f"lower < upper; got {corners}"
        )
    any_class = np.full(len(boxes), -1)
    return Instances(boxes, any_class, np.arange(1, len(boxes) + 1), np.zeros(len(boxes), bool))


def read_predictions(
    path: Path | str,
    classes: Sequence[str],
    *,
    source: str = "auto",
    ndim: int = 3,
    geometries: Mapping[str, Geometry] | None = None,
) -> dict[str, Detections]:
    """Detections per case from what `boxel predict` or another tool wrote.

    Args:
        path: file or folder.
        classes: of the data set.
        source: "nndetection" (`CASE_boxes.pkl`), "label-maps" (`CASE.nii.gz` and `CASE.json`) or a format of
            `boxel convert`; "auto": by the names of the files.
        ndim: axes of the images.
        geometries: of the cases, for formats that need them.

    Raises:
        ValueError: no predictions there, or of other classes.
    """
    path = Path(path)
    source = recognise(path) if source == "auto" else source
    if source == "label-maps":
        return read_label_maps(path, classes)
    if source == "nndetection":
        return read_nndetection(path, classes, ndim)
    if source != "boxel":
        reader = get_format(source).read
        if reader is None:
            raise ValueError(f"format {source!r} cannot be read back; give Boxel JSON")
        return reader(path, tuple(classes), geometries or {})[0]
    found, names = read_folder(path)
    if tuple(names) != tuple(classes):
        raise ValueError(f"{path}: predictions of the classes {list(names)}, the data set has {list(classes)}")
    return found


def recognise(path: Path) -> str:
    """The format of predictions by the names of the files; Boxel's own where none is known."""
    patterns = {
        "*_boxes.pkl": "nndetection", "*_boxes.json": "nifti", "*_detection_map.nii.gz": "picai",
        "results.json": "coco", "detections.csv": "csv", "*.mrk.json": "slicer",
    }  # fmt: skip
    if path.is_file():
        return next((name for pattern, name in patterns.items() if path.match(pattern)), "boxel")
    for pattern, name in patterns.items():
        if any(path.glob(pattern)) or (name == "picai" and any(path.glob(f"*/{pattern}"))):  # a folder per class
            return name
    return "label-maps" if is_label_maps(path) else "boxel"


def choose_truth(dataset: Dataset, predicted: Sequence[str]) -> list[Case]:
    """The cases to judge: all test cases if only such were predicted, else exactly those predicted."""
    test = [case for case in dataset.cases if case.split == "test"]
    if set(predicted) <= {case.id for case in test}:
        return test
    return [case for case in dataset.cases if case.id in set(predicted)]


def read_truth(
    cases: Sequence[Case],
    dataset: Dataset,
    progress: Progress = silent,
    visit: Callable[[str, LoadedCase], None] | None = None,
) -> dict[str, Instances]:
    """The annotated objects of each case; `visit` sees each case while it is in memory."""
    truths = {}
    for done, case in enumerate(cases, start=1):
        loaded = read_case(case, dataset)
        truths[case.id] = loaded.instances
        if visit is not None:
            visit(case.id, loaded)
        progress("evaluate", done, len(cases))
    return truths
