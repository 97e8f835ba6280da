"""What is judged: predictions of any kind, and the truth about the same cases."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from boxel.api.training import Progress, silent
from boxel.config import read_json
from boxel.data.cases import Case, Dataset, LoadedCase, read_case
from boxel.data.formats import as_dataset
from boxel.evaluation import Criterion
from boxel.evaluation.criteria import Kind
from boxel.evaluation.masks import LabelMap, MaskOverlap, ProbabilityGrids, overlap_masks
from boxel.export import get_format
from boxel.export.boxel_json import read_folder
from boxel.export.label_maps import is_label_maps, read_label_maps, read_masks
from boxel.export.nndetection import read_nndetection
from boxel.io import read_geometry
from boxel.types import Detections, Geometry, Instances

_OWN = ("boxel", "nndetection", "label-maps")


@dataclass(frozen=True)
class Judged:
    """What predictions are judged with.

    Attributes:
        found: the detections of each case.
        truths: the objects of each case.
        about: classes, groups and ignored objects, as `boxel.evaluation.evaluate` takes them.
        criterion: with the spacings and masks it needs.
    """

    found: dict[str, Detections]
    truths: dict[str, Instances]
    about: dict[str, Any]
    criterion: Criterion


def read_task(
    predictions: Path | str,
    dataset: Path | str | Dataset,
    *,
    criterion: Kind = "box_iou",
    ignore: Path | str | None = None,
    source: str = "auto",
    progress: Progress = silent,
) -> Judged:
    """Predictions and truth of the cases that `choose_truth` chooses.

    Raises:
        ValueError: see `evaluate`.
    """
    data = as_dataset(dataset)
    source = recognise(Path(predictions)) if source == "auto" else source
    # The other formats know the geometry, or need none.
    grids = {case.id: read_geometry(case.channels[0]) for case in data.cases} if source not in _OWN else {}
    found = read_predictions(predictions, data.classes, source=source, ndim=data.ndim, geometries=grids)
    found = _with_annotation(found, data)
    cases = choose_truth(data, list(found))
    spacings: dict[str, tuple[float, ...]] = {}
    overlaps: dict[str, MaskOverlap] = {}
    with_masks = criterion.startswith("mask")
    maps = source == "label-maps"
    if with_masks and not maps and all(len(one) == 0 or one.masks is None for one in found.values()):
        raise ValueError(f"{predictions}: no masks there, which {criterion} needs; use box_iou")

    regions: dict[str, Instances] = {}

    def visit(case: str, loaded: LoadedCase) -> None:
        geometry = loaded.image.geometry
        if loaded.ignored is not None and len(loaded.ignored):
            regions[case] = loaded.ignored
        spacings[case] = geometry.spacing
        if case in found:
            _check_grid(case, found[case].geometry, geometry)
        if with_masks and case in found:
            empty = np.zeros(geometry.shape, np.int32)
            objects = LabelMap(empty if loaded.label_map is None else loaded.label_map,
                               loaded.instances.ids[loaded.instances.has_mask])  # fmt: skip
            overlaps[case] = overlap_masks(_masks(found[case]) if not maps else
                                           LabelMap(*read_masks(Path(predictions), case)), objects)  # fmt: skip

    truths = read_truth(cases, data, progress, visit)
    truths, ignored = _set_aside(truths, ignore)
    for case, region in regions.items():  # what the data set itself declares as neither hit nor miss
        ignored[case] = Instances.concatenate([ignored[case], region]) if case in ignored else region
    about = {
        "classes": data.classes, "ignored": ignored, "groups": {case.id: case.group or case.id for case in cases}
    }  # fmt: skip
    return Judged(found, truths, about, Criterion(criterion, spacings, overlaps if with_masks else None))


def _with_annotation(found: dict[str, Detections], data: Dataset) -> dict[str, Detections]:
    """Without predictions of images that nobody annotated."""
    others = sorted(found.keys() & set(data.unlabelled))
    if others:
        logging.getLogger("boxel").warning(
            f"{data.root}: {len(others)} predicted images have no annotation and are not judged, such as {others[0]}"
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


def _set_aside(
    truths: dict[str, Instances], ignore: Path | str | None
) -> tuple[dict[str, Instances], dict[str, Instances]]:
    """The objects that count, and those that `ignore` names."""
    if ignore is None:
        return truths, {}
    named, ignored = read_json(Path(ignore)), dict[str, Instances]()
    if not isinstance(named, dict) or not all(isinstance(ids, list) for ids in named.values()):
        raise ValueError(f'{ignore}: must be {{"CASE": [ids]}}, the objects that are neither hit nor miss')
    for case, ids in named.items():
        if case not in truths or not set(ids) <= set(truths[case].ids.tolist()):
            raise ValueError(f"{ignore}: case {case!r} with objects {ids} is not in the data set (or not judged)")
        aside = np.isin(truths[case].ids, ids)
        truths[case], ignored[case] = truths[case][~aside], truths[case][aside]
    return truths, ignored


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
        if any(path.glob(pattern)):
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
