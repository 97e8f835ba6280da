"""MONAI's datalist: `{"training": [{"image": "a.nii.gz", "box": [[...]], "label": [0]}], "validation": []}`.

By default boxes are in world mm (LPS, as with MONAI's `affine_lps_to_ras`) and mode cccwhd, as in its lung nodule
tutorial; other modes and frames are options. Images lie beside the JSON or below the folder `images`.
"""

import itertools
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from boxel.datasets.annotations import Shape, Shapes
from boxel.datasets.cases import Case, Dataset
from boxel.datasets.formats.files import class_names, numbers, pictures_layout, report_bare_parts
from boxel.datasets.formats.options import ImageOptions, Names
from boxel.datasets.formats.registry import register_format
from boxel.datasets.formats.text_kinds import text_kind, texts_in
from boxel.datasets.lookup import Lookup, root_of
from boxel.datasets.names import as_id, case_ids, part_named
from boxel.datasets.problems import InputError, Report, some
from boxel.inputs.texts import read_mapping
from boxel.io import has_geometry, split_suffix
from boxel.wording import counted

__all__ = ["Options", "detect", "read"]

DESCRIPTION = 'MONAI datalist: a JSON with "training": [{"image": ..., "box": ..., "label": ...}]'
PARTS = ("train", "val", "test")


class Options(ImageOptions):
    """Settings of the reader.

    Attributes:
        mode: order of the numbers of a box; x is the first axis of the NIfTI file (or of the world).
        frame: whether boxes are in world mm (LPS or RAS) or in voxels.
        classes: names of the labels 0, 1, ...
        modality: name of the image channel.
    """

    mode: Literal["cccwhd", "xyzwhd", "xyzxyz", "xxyyzz", "xyxyzz"] = "cccwhd"
    frame: Literal["lps", "ras", "voxel"] = "lps"
    classes: Names = ()
    modality: str = "CT"


def detect(path: Path) -> bool:
    return bool(texts_in(path, (".json",), _is_datalist))


@text_kind
def _is_datalist(text: str) -> bool:
    return all(f'"{key}"' in text for key in ("training", "image", "box"))


def read(path: Path, report: Report, options: Options) -> Dataset:
    """Open the data set of the JSON at (or in) `path`; problems of single cases go to `report`."""
    file, *others = texts_in(path, (".json",), _is_datalist) or [path]
    if file.is_dir():
        raise InputError(file, "no datalist", f"add one: {DESCRIPTION.partition(': ')[2]}")
    if others:
        problem = f"this datalist is used, not {some(other.name for other in others)}"
        report(InputError(file, problem, "give another file instead of the folder", severity="note"))
    values = read_mapping(file, report)
    if not isinstance(values, dict):
        raise InputError(file, "not a JSON object", f"a {DESCRIPTION}")
    root = root_of(path)
    lookup = Lookup(root, report, options.images)
    found: list[tuple[str, Path, tuple[Shape, ...]]] = []
    for key, entries in values.items():
        part = part_named(key)
        if not part:
            if isinstance(entries, list) and any(isinstance(entry, dict) and "image" in entry for entry in entries):
                problem = f"the list {key!r} of {counted(len(entries), 'image')} is no part of a split and is not used"
                report(InputError(file, problem, "call it training, validation or testing", severity="warning"))
            continue
        entries = [] if entries is None else entries
        if not isinstance(entries, list):
            raise InputError(file, f'"{key}" is not a list', f"a {DESCRIPTION}")
        plain = [entry for entry in entries if isinstance(entry, str) and part == "test"]
        if plain:
            problem = f"{counted(len(plain), 'image has', 'images have')} no annotation in {key!r}: {some(plain)}"
            report(InputError(file, problem, "predict them by their paths", severity="note"))
        for number, entry in enumerate(entry for entry in entries if entry not in plain):
            name = entry.get("image", "") if isinstance(entry, dict) else ""
            case = split_suffix(Path(str(name)))[0] or f"{key} {number}"
            try:
                if not isinstance(name, str):
                    fix = "write one file; data sets with several channels can be opened as nnunet or native"
                    raise InputError(file, f"image {str(name)[:80]} is not a file name", fix)
                found.append((part, lookup.find(name, file), tuple(_shapes(file, case, entry, options, report))))
            except InputError as problem:
                report(problem.of(case))
    lookup.report_unused()
    cases: list[Case] = []
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    counts: dict[str, list[int]] = defaultdict(list)
    for (part, image, shapes), case in zip(found, case_ids([image for _, image, _ in found], root), strict=True):
        split = "test" if part == "test" else "train"
        cases.append(Case(case, (image,), split=split, annotation=file, annotate=Shapes(shapes)))
        parts[part].append(case)
        counts[part].append(len(shapes))
    report_bare_parts(counts, file, report)
    labels = {label for case in cases for label in case.labels}
    classes = class_names(options.classes, values.get("labels"), labels, file)
    ndim, _ = pictures_layout(case.channels[0] for case in cases)
    flat = next((image for _, image, shapes in found if shapes and not has_geometry(image)), None)
    if flat and options.frame != "voxel":
        in_mm = f"the boxes are in mm (frame={options.frame}), but {flat.name} stores no patient coordinates"
        raise InputError(file, in_mm, "if the boxes are in pixels, use --option frame=voxel")
    folds = ({part: tuple(ids) for part, ids in parts.items()},) if parts["train"] and parts["val"] else None
    return Dataset(path, file.stem, ndim, classes, (options.modality,), tuple(cases), folds)


def _corners(mode: str, ndim: int) -> np.ndarray:
    """Positions `(2, d)` of the lower and the upper corner in the numbers of a box; in 2D the mode has no z."""
    letters = np.array([letter for letter in mode if letter in "xyz"[:ndim]])
    return np.stack([np.flatnonzero(letters == axis) for axis in "xyz"[:ndim]], axis=1)


def _shapes(file: Path, case: str, entry: Mapping[str, Any], options: Options, report: Report) -> list[Shape]:
    boxes, labels = entry.get("box") or [], entry.get("label") or []
    if not isinstance(boxes, list) or not isinstance(labels, list) or len(boxes) != len(labels):
        raise InputError(file, f'"box" and "label" of {case} do not match', "write one label per box")
    shapes = []
    for box, label in zip(boxes, labels, strict=True):
        values = np.array(numbers(box, file, f"box of {case}"))
        number = as_id(label)
        if len(values) not in (4, 6) or not isinstance(number, int) or number < 0:
            raise InputError(file, f"box {box} with label {label!r} of {case}", "write 4 or 6 numbers, labels from 0")
        if options.mode in ("cccwhd", "xyzwhd"):
            first, extent = values.reshape(2, -1)
            lower = first - extent / 2 if options.mode == "cccwhd" else first
            upper = lower + extent
        else:
            lower, upper = values[_corners(options.mode, len(values) // 2)]
        if not (lower < upper).all():
            problem = f"box {box} has no extent; the object is left out"
            report(InputError(file, problem, "correct it, or check the mode", case, "warning"))
            continue
        if options.frame == "voxel":
            shapes.append(Shape(number, (tuple(lower[::-1].tolist()), tuple(upper[::-1].tolist()))))
            continue
        if options.frame == "ras":
            lower[:2], upper[:2] = -upper[:2], -lower[:2].copy()
        points = tuple(itertools.product(*np.stack([lower, upper], axis=1).tolist()))
        shapes.append(Shape(number, points, frame="world"))
    return shapes


register_format("monai", detect, read, DESCRIPTION, Options, order=90)
