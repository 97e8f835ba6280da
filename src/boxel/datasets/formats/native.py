"""The native layout: nnDetection's raw data set, in 2D and 3D.

    dataset.json (or .yaml)    {"name": "x", "dim": 3, "labels": {"0": "nodule"}, "modalities": {"0": "CT"}}
    imagesTr/CASE_0000.nii.gz  one file per channel: _0000, _0001, ...; any suffix that `boxel.io` reads;
                               a colour picture has all its channels in one file
    labelsTr/CASE.nii.gz       instance ids, 0 is background; not needed without masks
    labelsTr/CASE.json         {"instances": {"1": 0}}, and for objects without a mask
                               {"boxes": [{"id": 2, "label": 0, "lower": [4, 8, 8], "upper": [9, 20, 20]}]}
    imagesTs/ labelsTs/        the test cases; without labelsTs the images can be used by `predict` only
    splits.json                optional, a list of folds: [{"train": [ids], "val": [ids], "test": [ids]}]

The four folders may lie under `raw_splitted/`. "instances" gives the class of each id in the label map.
"boxes" are objects without a mask: corners in voxels, half-open, axes in array order (plane, row, column).
A case without objects has `{"instances": {}}`. Points with diameters, ellipsoids, RECIST pairs and ignored objects are
"shapes", see `boxel.datasets.formats.shapes_json`. Optional: "attributes": {"1": {"diameter_mm": 8.5}} in
CASE.json, and "groups": {"CASE": "patient"} in dataset.json. nnDetection's "annotation_style": "weak" means that
the label maps show boxes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from boxel.datasets.annotations import Shapes
from boxel.datasets.cases import Case, Dataset, InputError, Report
from boxel.datasets.formats.registry import register_format
from boxel.datasets.formats.shapes_json import MOST, read_shapes
from boxel.datasets.names import as_id
from boxel.datasets.problems import as_input_error, some
from boxel.inputs.folders import listing
from boxel.inputs.texts import read_mapping
from boxel.io import SUFFIXES, has_geometry, split_suffix
from boxel.io.channels import group_channels, in_order, split_channel
from boxel.types import Instances
from boxel.wording import counted

__all__ = ["detect", "read"]

HEADS = ("dataset.json", "dataset.yaml", "dataset.yml")
DIGITS = 12  # no number of an object is longer, with its .0
COMPANIONS = (".raw", ".zraw")  # voxels of a .mhd header


def detect(path: Path) -> bool:
    return _images_root(path) is not None and any((path / name).exists() for name in HEADS)


def read(path: Path, report: Report) -> Dataset:
    """The data set in folder `path`; problems of single cases go to `report`.

    Raises:
        ValueError: dataset.json cannot be used.
    """
    head = next((path / name for name in HEADS if (path / name).exists()), path / HEADS[0])
    values = read_mapping(head, report)
    if not isinstance(values, dict):
        raise InputError(head, "not a JSON object", 'see the layout: {"dim": ..., "labels": ..., "modalities": ...}')
    classes, channels = _names(head, values, "labels"), _names(head, values, "modalities")
    ndim = values.get("dim")
    if not isinstance(ndim, int) or ndim not in (2, 3):
        raise InputError(head, f'"dim" is {ndim!r}', 'write "dim": 2 or "dim": 3, the number of axes of the images')
    groups = values.get("groups", {})
    if not isinstance(groups, dict):
        raise InputError(head, f'"groups" is {groups!r}', 'write "groups": {"CASE": "patient"}, or leave it out')
    weak = values.get("annotation_style") == "weak"
    common = _Common(ndim, len(channels), groups, bool(values.get("session_id")), weak)
    root = _images_root(path) or path
    cases = [case for part in ("Tr", "Ts") for case in _read_part(root, part, common, report)]
    name = str(values.get("name") or values.get("task") or path.resolve().name)
    return Dataset(path, name, ndim, classes, channels, tuple(cases))


def _images_root(path: Path) -> Path | None:
    return next((root for root in (path, path / "raw_splitted") if (root / "imagesTr").is_dir()), None)


def _names(head: Path, values: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """The names under consecutive numbers from 0, such as `{"0": "nodule", "1": "mass"}`."""
    names = values.get(key)
    rule = f'number the names from 0: "{key}": {{"0": "name", "1": "name"}}'
    foreign = any(other in values for other in ("channel_names", "file_ending", "modality", "numTraining"))
    if foreign or (isinstance(names, dict) and "background" in [*names, *names.values()]):
        raise InputError(
            head,
            "this is a dataset.json of nnU-Net or the Medical Segmentation Decathlon (with a background class)",
            "open it with --format nnunet, which needs the folders imagesTr and labelsTr",
        )
    if not isinstance(names, dict) or not names or sorted(names) != sorted(map(str, range(len(names)))):
        raise InputError(head, f'"{key}" is {names!r}', rule)
    return tuple(str(names[str(i)]) for i in range(len(names)))


def _read_part(root: Path, part: str, common: "_Common", report: Report) -> list[Case]:
    """The cases of `imagesTr` and `labelsTr`, or of `imagesTs` and `labelsTs`."""
    images, labels = root / f"images{part}", root / f"labels{part}"
    named, others = [], []
    for path in _files(images):
        if not (split_suffix(path)[1] or path.is_dir()):
            others.append(path.name)
        elif split_channel(path)[1] is not None:
            named.append(path)
        else:
            report(InputError(path, "not an image name", f"name it CASE_0000 followed by one of {' '.join(SUFFIXES)}"))
    if others:
        problem = f"{counted(len(others), 'file is no image and', 'files are no images and')} left out: {some(others)}"
        report(InputError(images, problem, "nothing to do if this is correct", severity="note"))
    images_of = group_channels(named)
    label_maps: dict[str, list[Path]] = {}
    annotations: dict[str, Path] = {}
    for path in _files(labels):
        stem, suffix = split_suffix(path)
        if suffix:
            label_maps.setdefault(stem, []).append(path)
        elif path.suffix == ".json":
            annotations[path.stem] = path
    for case_id in sorted((label_maps.keys() | annotations.keys()) - images_of.keys()):
        path = annotations.get(case_id) or label_maps[case_id][0]
        fix = f"add {images.name}/{case_id}_0000, or remove it"
        report(InputError(path, "the annotation has no image", fix, case_id))
    if part == "Ts" and not labels.is_dir():
        return []
    cases = []
    for case_id, files in sorted(images_of.items()):
        annotation = annotations.get(case_id, labels / f"{case_id}.json")
        try:
            cases.append(_read_case(case_id, files, label_maps.get(case_id, []), annotation, part, common, report))
        except InputError as problem:
            report(problem.of(case_id))
        except ValueError as error:
            report(as_input_error(error, case_id))
    return cases


class _Common(NamedTuple):
    """The contents of dataset.json that concern all cases."""

    ndim: int
    num_channels: int
    groups: Mapping[str, str]
    sessions: bool  # nnDetection 2: CASE is PATIENT_SESSION
    weak: bool  # nnDetection 2: the label maps show boxes


def _read_case(
    case_id: str,
    files: Mapping[int, list[Path]],
    label_maps: list[Path],
    annotation: Path,
    part: str,
    common: _Common,
    report: Report,
) -> Case:
    channels, labels = in_order(files), in_order({0: label_maps} if label_maps else {})
    colours = list(files) == [0] and not has_geometry(channels[0])  # one picture with several channels
    if sorted(files) != list(range(common.num_channels)) and not colours:
        names = ", ".join(f"_{channel:04d}" for channel in sorted(files))
        problem = f'channels {names} but "modalities" of dataset.json lists {common.num_channels}'
        fix = f"name the files of a case _0000 to _{common.num_channels - 1:04d}"
        raise InputError(channels[0], problem, fix, case_id)
    if not annotation.exists():
        fix = 'add it; write {"instances": {}} if the image has no objects'
        raise InputError(annotation, "the image has no annotation", fix, case_id)
    mask_labels, boxes, shapes, attributes = _read_annotation(annotation, case_id, common.ndim, report)
    if mask_labels and not label_maps:
        label_map = annotation.with_name(f"{case_id}.nii.gz")
        raise InputError(label_map, "the label map does not exist", f"add it, or empty {annotation.name}", case_id)
    return Case(
        case_id,
        channels,
        labels[0] if labels else None,
        mask_labels,
        boxes,
        str(common.groups.get(case_id, case_id.rpartition("_")[0] if common.sessions else "")),
        "train" if part == "Tr" else "test",
        annotation,
        shapes,
        attributes=attributes,
        weak=common.weak,
    )


def _files(folder: Path) -> list[Path]:
    return [path for path in listing(folder) if path.suffix not in COMPANIONS]


def _read_annotation(
    path: Path, case_id: str, ndim: int, report: Report
) -> tuple[dict[int, int], Instances | None, Shapes | None, dict[int, dict[str, float]]]:
    values = read_mapping(path, report)
    if not isinstance(values, dict) or not isinstance(values.get("instances", {}), dict):
        raise InputError(path, "not an annotation", 'write {"instances": {"1": 0}}: class 0 for object 1', case_id)
    if not values.keys() & {"instances", "boxes", "shapes"}:
        raise InputError(
            path, 'no "instances", "boxes" or "shapes"', 'write {"instances": {}} if there are no objects', case_id
        )
    mask_labels = {}
    for key, label in values.get("instances", {}).items():
        number, label_number = _number(key), as_id(label)
        if not 0 < number < MOST or not isinstance(label_number, int) or number in mask_labels:
            raise InputError(
                path,
                f'"instances" has {key!r}: {label!r}',
                'object numbers from "1", class numbers from 0',
                case_id,
            )
        mask_labels[number] = label_number
    boxes = _read_boxes(path, case_id, values.get("boxes", []), ndim, max(mask_labels, default=0))
    last = max([*mask_labels, *(boxes.ids.tolist() if boxes else ())], default=0)
    shapes = read_shapes(path, values.get("shapes", []), ndim, last)
    return mask_labels, boxes, shapes, _read_attributes(path, case_id, values.get("attributes", {}))


def _read_attributes(path: Path, case_id: str, entries: Any) -> dict[int, dict[str, float]]:
    rule = 'write "attributes": {"1": {"diameter_mm": 8.5}}: numbers about object 1'
    if not isinstance(entries, dict):
        raise InputError(path, '"attributes" is not a mapping', rule, case_id)
    for number, known in entries.items():
        if not 0 < _number(number) < MOST or not isinstance(known, dict) or not all(map(_is_number, known.values())):
            raise InputError(path, f'"attributes" has {number!r}: {str(known)[:80]}', rule, case_id)
    return {_number(number): known for number, known in entries.items()}


def _read_boxes(path: Path, case_id: str, entries: Any, ndim: int, last_id: int) -> Instances | None:
    rule = f'{{"id": 1, "label": 0, "lower": [{ndim} numbers], "upper": [{ndim} numbers]}}'
    if not isinstance(entries, list):
        raise InputError(path, '"boxes" is not a list', f"list entries such as {rule}", case_id)
    corners, labels, ids = [], [], []
    for number, entry in enumerate(entries, start=last_id + 1):
        entry = entry if isinstance(entry, dict) else {}
        lower, upper = entry.get("lower"), entry.get("upper")
        label, own = as_id(entry.get("label")), as_id(entry.get("id", number))
        try:
            corners.append(np.array([lower, upper], dtype=np.float32).reshape(2, ndim))
        except (ValueError, TypeError):
            raise InputError(path, f'entry {number - last_id} of "boxes" has no valid corners', rule, case_id) from None
        if not isinstance(label, int) or not isinstance(own, int) or not abs(own) < MOST:
            raise InputError(path, f'entry {number - last_id} of "boxes" lacks a whole number', rule, case_id)
        labels.append(label)
        ids.append(own)
    if not corners:
        return None
    return Instances(np.stack(corners), np.array(labels), np.array(ids), np.zeros(len(ids), bool))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(key: str) -> int:
    """The number of an object, also from `1.0`; -1 if it is none."""
    number = (int(key) if key.isdecimal() else as_id(key)) if len(key) <= DIGITS else -1
    return number if isinstance(number, int) else -1


register_format(
    "native",
    detect,
    read,
    "Boxel and nnDetection: dataset.json, imagesTr/CASE_0000.nii.gz, labelsTr/CASE.nii.gz and labelsTr/CASE.json",
    order=40,
)  # after nnU-Net, whose dataset.json has the same name
