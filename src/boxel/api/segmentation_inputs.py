"""What the evaluation of segmentations needs: label maps of one or more predictions, and those of the ground truth."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired

import numpy as np
from typing_extensions import TypedDict

from boxel.api.evaluation_inputs import choose_cases, only_annotated
from boxel.api.names_of_cases import check_names, names_by_files
from boxel.datasets.cases import Case, Dataset, LoadedCase, read_case
from boxel.datasets.formats import as_dataset
from boxel.datasets.problems import some
from boxel.evaluation.case_segmentation import CaseSegmentation, score_case
from boxel.evaluation.panoptic import match_components
from boxel.export.boxel_json import FORMAT, read_segmentation, segmentation_file
from boxel.inputs.json_values import check_shape
from boxel.inputs.texts import read_json
from boxel.io import read_label_map
from boxel.io.channels import check_same_grid
from boxel.output_folder import list_files, unfinished
from boxel.types import Progress, silent
from boxel.wording import counted_of

__all__ = ["SegmentationInputs", "read_segmentations"]

FOREGROUND = ("foreground",)
SUFFIX, OWN_SUFFIX = ".nii.gz", segmentation_file(Path(), "").name


@dataclass(frozen=True)
class SegmentationInputs:
    """Scored segmentations, as `boxel.evaluation.evaluate_segmentation` takes them.

    Attributes:
        sets: the scores of each case, for each set of predictions.
        classes: those of the data set, or "foreground" alone.
        groups: the group (patient) of each case.
        files: the label map of each case, for each set of predictions.
    """

    sets: tuple[dict[str, CaseSegmentation], ...]
    classes: tuple[str, ...]
    groups: dict[str, str]
    files: tuple[Mapping[str, Path], ...]


@dataclass(frozen=True)
class _LabelMaps:
    """The label maps in a folder, by the data set's names of the cases; `is_foreground` if all classes are one."""

    folder: Path
    files: Mapping[str, Path]
    is_foreground: bool


def read_segmentations(
    folders: Sequence[Path | str], dataset: Path | str | Dataset, progress: Progress = silent
) -> SegmentationInputs:
    """Score the label maps in each folder against the masks of a data set, with one case in memory at a time.

    If a model segmented all classes as one foreground, every set is compared with the union of the objects.

    Raises:
        ValueError: see `boxel.evaluate`; the folders are of different cases.
    """
    data = as_dataset(dataset)
    maps = [_list_label_maps(Path(folder), data) for folder in folders]
    for other in maps[1:]:
        if differing := sorted(maps[0].files.keys() ^ other.files.keys()):
            raise ValueError(
                f"case {differing[0]!r} is in only one of {maps[0].folder} and {other.folder}; compare predictions of "
                "the same cases"
            )
    cases = choose_cases(data, list(maps[0].files))
    _check_complete(maps[0], cases)
    as_one = any(one.is_foreground for one in maps)
    sets: tuple[dict[str, CaseSegmentation], ...] = tuple({} for _ in maps)
    for done, case in enumerate(cases, start=1):
        loaded = read_case(case, data)
        expected = _expected(case, loaded, as_one)
        labels = np.zeros_like(loaded.instances.labels) if as_one else loaded.instances.labels
        num_classes = 1 if as_one else len(data.classes)
        objects = np.zeros_like(expected) if loaded.label_map is None else loaded.label_map
        for scores, one in zip(sets, maps, strict=True):
            predicted = _read(one.files[case.id], case, loaded, 1 if one.is_foreground else len(data.classes))
            mine = (predicted > 0).astype(np.uint8) if as_one else predicted
            scores[case.id] = score_case(
                mine, expected, num_classes, loaded.image.geometry.spacing,
                np.bincount(labels, minlength=num_classes),
                match_components(mine, objects, loaded.instances.ids, labels, num_classes),
            )  # fmt: skip
        progress("evaluate", done, len(cases))
    groups = {case.id: case.group or case.id for case in cases}
    classes = FOREGROUND if as_one else tuple(data.classes)
    return SegmentationInputs(sets, classes, groups, tuple(one.files for one in maps))


def _list_label_maps(folder: Path, data: Dataset) -> _LabelMaps:
    """`CASE_seg.nii.gz` of `boxel predict`; in a folder without such files, `CASE.nii.gz` of another tool."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; give the one that holds the label maps")
    known = {case.id for case in data.cases}
    every = {file.name.removesuffix(SUFFIX): file for file in list_files(folder, SUFFIX)}
    own = {name.removesuffix("_seg"): file for name, file in every.items()
           if file.name.endswith(OWN_SUFFIX) and name not in known}  # fmt: skip
    files = own or every
    others = [name for name in sorted((every.keys() & known) - own.keys()) if not _json_beside(every[name]).exists()]
    if own and others:
        raise ValueError(
            f"{folder}: holds {next(iter(own.values())).name} of `boxel predict` and {every[others[0]].name} of "
            "another tool; put the label maps of each into a folder of its own"
        )
    if not files:
        raise ValueError(
            f"{folder}: no label maps (CASE{OWN_SUFFIX} or CASE{SUFFIX}), which protocol segmentation needs; predict "
            "with --segmentation"
        )
    records = {name: _record(_json_beside(file)) for name, file in files.items()} if own else {}
    names = names_by_files({name: tuple(map(Path, one.get("images") or ())) for name, one in records.items()}, data)
    among = known if not names else None
    if warning := unfinished(folder, set(files), among):
        warnings.warn(warning, stacklevel=2)
    kinds = {name: _classes(files[name], one, data) for name, one in records.items()}
    if len(set(kinds.values())) > 1:
        one_each = ", ".join({kind: name for name, kind in kinds.items()}.values())
        raise ValueError(f"{folder}: the label maps have different values ({one_each}); predict with one model")
    by_case: dict[str, Path] = {}
    for name, file in files.items():
        case = names.get(name, name)
        if case in by_case:
            raise ValueError(f"{folder}: {by_case[case].name} and {file.name} are of case {case!r}; remove one of them")
        by_case[case] = file
    check_names(by_case, data)
    by_case = only_annotated(by_case, data)
    return _LabelMaps(folder, by_case, FOREGROUND in kinds.values())


def _json_beside(label_map: Path) -> Path:
    """What Boxel wrote with its label map."""
    return label_map.with_name(f"{label_map.name.removesuffix(OWN_SUFFIX).removesuffix(SUFFIX)}.json")


class _Record(TypedDict):
    images: NotRequired[list[str]]
    extra: NotRequired[dict[str, Any] | None]


def _record(path: Path) -> dict[str, Any]:
    """What Boxel wrote beside a label map; empty if there is no such file."""
    record = read_json(path) if path.exists() else {}
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        return {}
    return check_shape(record, _Record, path, "predict the case again")


def _classes(file: Path, record: Mapping[str, Any], data: Dataset) -> tuple[str, ...]:
    """The classes of the values from 1 upwards, which must be those of the data set, or "foreground"."""
    _, classes = read_segmentation(record, _json_beside(file))
    if classes and classes not in (FOREGROUND, tuple(data.classes)):
        raise ValueError(
            f"{file}: segments the classes {', '.join(classes)}; the data set has {', '.join(data.classes)}: names and "
            "order must match: open the data set with the --option it was prepared with, or rename those of one of them"
        )
    return classes or tuple(data.classes)


def _check_complete(maps: _LabelMaps, cases: Sequence[Case]) -> None:
    if missing := [case.id for case in cases if case.id not in maps.files]:
        number = counted_of(len(missing), len(cases), "case", "has", "have")
        raise ValueError(
            f"case {missing[0]!r} has no label map in {maps.folder} ({number} none); predict it, or write a map of "
            "zeros if nothing was segmented"
        )


def _expected(case: Case, loaded: LoadedCase, as_one: bool) -> np.ndarray:
    """The label map of the classes on the grid of the image: 1 + k for class k, or 1 for every object."""
    objects = loaded.instances
    if not objects.has_mask.all():
        raise ValueError(
            f"{case.file}: case {case.id!r} is data without masks: object {some(objects.ids[~objects.has_mask])} has "
            "only a box, or its mask is covered; add masks, or evaluate boxes (without --protocol segmentation)"
        )
    if loaded.ignored is not None and len(loaded.ignored):
        raise ValueError(
            f"{case.file}: case {case.id!r} has ignored objects or regions, whose voxels are neither background nor "
            "object; protocol segmentation needs cases without them: predict only the others, or annotate these"
        )
    if loaded.label_map is None:
        return np.zeros(loaded.image.geometry.shape, np.uint8)
    highest = max(int(loaded.label_map.max(initial=0)), int(objects.ids.max(initial=0)))
    values = np.zeros(highest + 1, np.min_scalar_type(int(objects.labels.max(initial=0)) + 1))
    values[objects.ids] = 1 if as_one else objects.labels + 1
    return values[loaded.label_map]


def _read(file: Path, case: Case, loaded: LoadedCase, num_classes: int) -> np.ndarray:
    """The predicted label map, on the grid of the image."""
    image, shape = read_label_map(file), loaded.image.geometry.shape
    if image.array.shape != shape:
        raise ValueError(
            f"{file}: this label map has shape {image.array.shape}, but the image {case.channels[0]} has {shape}; "
            "resample it to the voxel grid of the image"
        )
    check_same_grid(file, image.geometry, case.channels[0], loaded.image.geometry)
    if (highest := int(image.array.max(initial=0))) > num_classes:
        raise ValueError(
            f"{file}: value {highest} in a label map of {num_classes} classes; write 0 for background and 1 to "
            f"{num_classes} for the classes in their order"
        )
    return image.array
